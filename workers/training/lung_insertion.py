"""Synthetic nodules put into real lung, each with the exact mask of what was put there."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.measurements import Box, Region
from workers.pipelines.lung_candidates import COARSE_MM, Coarse, Lungs
from workers.volume import Volume

DIAMETER_MM = (4.0, 30.0)
FINE_MM = 0.8  # a nodule is drawn on cells of at most this edge, then averaged to the voxels
SPICULE_MM = 8.0
REACH = 1.6  # of the radius: lobes and axes of unlike length stay within
GAP_MM = 8.0  # of lung between two nodules
WALL_HU = -300.0  # what was denser before was no lung: the mask leaves it out
VESSEL_HU = -500.0
# Windpipe and large bronchi: as dark as air, and at least as wide as this opening leaves; their wall is 2 mm.
AIRWAY_HU = -950.0
AIRWAY_MIN_ML = 0.4
# What is dense and thicker than two of these is no vessel in the lung but hilum, mediastinum or chest wall.
THICK_MM = 6.0
MIN_INSIDE = 0.6  # of the nodule must lie in the lung
TRIES = 60

FloatArray = NDArray[np.float32]
Vector = NDArray[np.float64]
MaskArray = NDArray[np.bool_]


class Kind(StrEnum):
    """What a nodule is made of."""

    SOLID = "solid"
    PART_SOLID = "part-solid"
    GROUND_GLASS = "ground glass"
    SPICULATED = "spiculated"


class Site(StrEnum):
    """What a nodule lies at."""

    FREE = "free"
    PLEURAL = "pleural"
    VESSEL = "vessel"


KINDS = (Kind.SOLID, Kind.PART_SOLID, Kind.GROUND_GLASS, Kind.SPICULATED)
KIND_SHARES = (0.45, 0.2, 0.15, 0.2)
SITES = (Site.FREE, Site.PLEURAL, Site.VESSEL)
SITE_SHARES = (0.45, 0.3, 0.25)
Shares = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """A ball that nothing is put into, and in which nothing counts as false.

    Attributes
    ----------
    center_mm
        LPS, mm.
    radius_mm
        > 0.
    diameter_mm
        Of the nodule in its middle, where one of known size is there.
    """

    center_mm: tuple[float, float, float]
    radius_mm: float
    diameter_mm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inserted:
    """One nodule as it was put there.

    Attributes
    ----------
    index
        (3,) native (slice, row, column) of its middle.
    diameter_mm
        Mean of its three axes, mm.
    region
        The voxels of which it covers half or more, without its spicules.
    """

    index: Vector
    diameter_mm: float
    kind: Kind
    site: Site
    region: Region


@dataclass(frozen=True, slots=True, kw_only=True)
class LungScan:
    """A chest CT with its lungs found, ready to take nodules.

    Attributes
    ----------
    name
        Patient key.
    keep
        Places that hold, or may hold, a nodule of the patient's own.
    """

    name: str
    volume: Volume
    coarse: Coarse
    lungs: Lungs
    keep: tuple[Keep, ...] = ()

    def keep_index(self) -> list[tuple[Vector, float]]:
        """Return the places of `keep` as native indices, with their radii in mm."""
        return [(np.array(self.volume.to_index(ball.center_mm)), ball.radius_mm) for ball in self.keep]


def insert_nodules(
    scan: LungScan,
    rng: np.random.Generator,
    *,
    count: int,
    diameter_mm: tuple[float, float] = DIAMETER_MM,
    site_shares: Shares = SITE_SHARES,
) -> tuple[Volume, list[Inserted]]:
    """Return a copy of the scan's volume with about `count` nodules, and what they are.

    Diameters are spread evenly over their logarithm. The middle of each lies in airy lung: none is put into the
    windpipe, a large bronchus or the mediastinum. A nodule that finds no room is left out.

    Parameters
    ----------
    count
        > 0.
    diameter_mm
        Smallest and largest, mm.
    site_shares
        How many lie free, on the pleura and on a vessel; their sum is 1.
    """
    volume = Volume(
        voxels=scan.volume.voxels.copy(),
        affine=scan.volume.affine,
        spacing_mm=scan.volume.spacing_mm,
        frame_of_reference_uid=scan.volume.frame_of_reference_uid,
        datasets=(),
    )
    spacing = np.asarray(volume.spacing_mm)
    places = _Places(scan)
    taken = scan.keep_index()
    nodules: list[Inserted] = []
    for _ in range(TRIES * count):
        if len(nodules) == count:
            break
        radius = 0.5 * float(np.exp(rng.uniform(*np.log(diameter_mm))))
        site = SITES[rng.choice(len(SITES), p=site_shares)]
        index = places.draw(rng, site, radius)
        if index is None or any(np.linalg.norm((index - o) * spacing) < radius + r + GAP_MM for o, r in taken):
            continue
        nodule = insert_nodule(volume, rng, index=index, radius_mm=radius, site=site)
        if nodule is not None:
            nodules.append(nodule)
            taken.append((index, radius))
    return volume, nodules


class _Places:
    """Where in the lungs of one scan a nodule may lie."""

    def __init__(self, scan: LungScan) -> None:
        self._coarse = scan.coarse
        mask, voxels = scan.lungs.mask, scan.coarse.voxels
        depth_mm = _gap_mm(mask)
        airways = find_airways(voxels, mask)
        thick = find_thick(voxels)
        self._airway_gap_mm = _gap_mm(~airways)
        self._airy = mask & (voxels < VESSEL_HU) & ~airways
        self._inside, self._depths_mm = np.argwhere(self._airy), depth_mm[self._airy]
        vessels = mask & (voxels > VESSEL_HU) & ~thick & (depth_mm > 3 * COARSE_MM)
        self._vessels = np.argwhere(vessels & (self._airway_gap_mm > 2 * COARSE_MM))
        self._slices = scan.volume.voxels.shape[0]
        self._spacing = np.asarray(scan.volume.spacing_mm)

    def draw(self, rng: np.random.Generator, site: Site, radius_mm: float) -> Vector | None:
        """Return a native index, or None where the lungs hold no such place."""
        low, high = {
            Site.FREE: (0.8 * radius_mm + 2, np.inf),
            Site.PLEURAL: (max(1.0, 0.2 * radius_mm), max(COARSE_MM + 0.1, 0.8 * radius_mm)),
            Site.VESSEL: (0.0, np.inf),
        }[site]
        if site is Site.VESSEL:
            pool = self._vessels
        else:
            pool = self._inside[(self._depths_mm > low) & (self._depths_mm <= high)]
        if not len(pool):
            return None
        place = pool[rng.integers(len(pool))] + rng.uniform(-0.5, 0.5, 3)
        if site is Site.VESSEL:
            away = rng.normal(0, 1, 3)
            place = place + away / np.linalg.norm(away) * radius_mm * rng.uniform(0.6, 1.1) / COARSE_MM
        if not self._is_lung(place, radius_mm):
            return None
        index = self._coarse.to_native(place)
        room = radius_mm / self._spacing[0]
        return index if room <= index[0] <= self._slices - 1 - room else None

    def _is_lung(self, place: Vector, radius_mm: float) -> bool:
        """Tell whether a middle lies in airy lung, and the nodule beside the airways."""
        cell = tuple(np.clip(np.rint(place).astype(int), 0, np.array(self._airy.shape) - 1))
        return bool(self._airy[cell]) and float(self._airway_gap_mm[cell]) > radius_mm


def find_airways(voxels: FloatArray, mask: MaskArray) -> MaskArray:
    """Return windpipe and large bronchi with their walls, on the coarse grid; also large bullae, where none grows.

    Parameters
    ----------
    voxels, mask
        (slices, rows, columns): HU of cells of 2 mm, and the closed lungs.
    """
    wide = ndimage.binary_opening(mask & (voxels < AIRWAY_HU))
    labels, _ = ndimage.label(wide)
    large = np.bincount(labels.ravel()) * COARSE_MM**3 / 1000 >= AIRWAY_MIN_ML
    large[0] = False
    airways: MaskArray = ndimage.binary_dilation(large[labels], iterations=2)
    return airways


def find_thick(voxels: FloatArray) -> MaskArray:
    """Return what is dense and too thick for a vessel in the lung, with 2 mm around it, on the coarse grid."""
    core = _gap_mm(voxels > VESSEL_HU) >= THICK_MM
    thick: MaskArray = _gap_mm(~core) <= THICK_MM + COARSE_MM
    return thick


def _gap_mm(mask: MaskArray) -> FloatArray:
    """Return how far each cell is from what is not marked; the scan's ends are no border."""
    if mask.all():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    padded = np.pad(mask, ((1, 1), (0, 0), (0, 0)), mode="edge")
    gap: FloatArray = ndimage.distance_transform_edt(padded, sampling=COARSE_MM)[1:-1].astype(np.float32)
    return gap


def insert_nodule(
    volume: Volume, rng: np.random.Generator, *, index: Vector, radius_mm: float, site: Site = Site.FREE
) -> Inserted | None:
    """Put one nodule into `volume`, in place; None, and no change, where less than 60 % of it would lie in lung.

    What it adds is the difference between its own density and the blurred lung, so that the scan's noise stays.

    Parameters
    ----------
    index
        Native (slice, row, column).
    """
    kind = KINDS[rng.choice(len(KINDS), p=KIND_SHARES)]
    spacing = np.asarray(volume.spacing_mm)
    box = _box(volume, index, radius_mm * REACH + SPICULE_MM)
    if box is None:
        return None
    drawn = _Drawing(box, index, spacing, radius_mm, rng)
    body, density = _compose(drawn, kind, rng)
    before = volume.voxels[box]
    ground = ndimage.gaussian_filter(before, 1.0 / spacing, mode="nearest")
    in_lung = ground < WALL_HU
    mask = body >= 0.5
    if not mask.any() or (mask & in_lung).sum() < MIN_INSIDE * mask.sum():
        return None
    volume.voxels[box] = before + _added(density, ground, spacing, rng)
    labels, _ = ndimage.label(mask & in_lung)
    largest = labels == int(np.bincount(labels[labels > 0]).argmax())
    for plane in largest:
        ndimage.binary_fill_holes(plane, output=plane)  # vessels that run through it are part of it
    return Inserted(index=index, diameter_mm=2 * radius_mm, kind=kind, site=site, region=Region(box=box, mask=largest))


class _Drawing:
    """The neighbourhood of one nodule on fine cells, in its own turned axes."""

    def __init__(self, box: Box, index: Vector, spacing: Vector, radius_mm: float, rng: np.random.Generator) -> None:
        self.radius_mm = radius_mm
        self.parts = np.maximum(1, np.ceil(spacing / FINE_MM)).astype(int)
        axes = []
        for part, middle, step, n in zip(box, index, spacing, self.parts, strict=True):
            cells = part.start + (np.arange((part.stop - part.start) * n) + 0.5) / n - 0.5
            axes.append(((cells - middle) * step).astype(np.float32))
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        turn, _ = np.linalg.qr(rng.normal(0, 1, (3, 3)))
        self.own = [row[0] * z + row[1] * y + row[2] * x for row in turn.astype(np.float32)]
        stretch = rng.uniform(0.8, 1.25, 3)
        stretch = (stretch / stretch.prod() ** (1 / 3)).astype(np.float32)
        level = np.sqrt(sum((own / a) ** 2 for own, a in zip(self.own, stretch, strict=True)))
        self.depth_mm: FloatArray = radius_mm - level - self._lobes(rng, rng.uniform(0.0, 0.12) * radius_mm)

    def _lobes(self, rng: np.random.Generator, height_mm: float) -> FloatArray:
        """Return bumps of the surface, mm: a few waves of about the nodule's own size."""
        bumps: FloatArray = np.zeros_like(self.own[0])
        for _ in range(5):
            wave = rng.normal(0, 1, 3)
            wave = wave / np.linalg.norm(wave) * 2 * np.pi / (self.radius_mm * rng.uniform(0.8, 2.0))
            phase = sum(np.float32(w) * own for w, own in zip(wave, self.own, strict=True))
            bumps += np.sin(phase + np.float32(rng.uniform(0, 2 * np.pi)))
        bumps *= np.float32(height_mm / np.sqrt(5))
        return bumps

    def cover(self, *, smaller_mm: float = 0.0, soft_mm: float = 0.8) -> FloatArray:
        """Return how much of each fine cell the body covers, 0..1."""
        covered: FloatArray = np.clip((self.depth_mm - np.float32(smaller_mm)) / np.float32(soft_mm) + 0.5, 0, 1)
        return covered

    def spicules(self, rng: np.random.Generator) -> FloatArray:
        """Return how much of each fine cell thin spikes cover that leave the body outwards, 0..1."""
        cover: FloatArray = np.zeros_like(self.own[0])
        for _ in range(int(rng.integers(6, 15))):
            way = rng.normal(0, 1, 3)
            way = (way / np.linalg.norm(way)).astype(np.float32)
            long, wide = rng.uniform(2.5, SPICULE_MM), rng.uniform(0.9, 2.2)
            along = sum(w * own for w, own in zip(way, self.own, strict=True))
            away = np.sqrt(np.maximum(sum(own**2 for own in self.own) - along**2, 0))
            left = 1 - (along - np.float32(0.6 * self.radius_mm)) / np.float32(0.4 * self.radius_mm + long)
            spike = np.clip((np.float32(wide) * left - away) / np.float32(0.6) + 0.5, 0, 1)
            cover = np.maximum(cover, np.where((along > 0.6 * self.radius_mm) & (left > 0), spike, 0))
        return cover

    def to_voxels(self, fine: FloatArray) -> FloatArray:
        """Return the mean of the fine cells of each voxel."""
        a, b, c = (int(n) for n in self.parts)
        z, y, x = (size // n for size, n in zip(fine.shape, (a, b, c), strict=True))
        cells: FloatArray = fine.reshape(z, a, y, b, x, c).mean(axis=(1, 3, 5), dtype=np.float32)
        return cells


def _box(volume: Volume, index: Vector, reach_mm: float) -> Box | None:
    sides = []
    for middle, step, size in zip(index, volume.spacing_mm, volume.voxels.shape, strict=True):
        start, stop = max(0, int(middle - reach_mm / step)), min(size, int(middle + reach_mm / step) + 2)
        if stop - start < 2:
            return None
        sides.append(slice(start, stop))
    return sides[0], sides[1], sides[2]


def _compose(
    drawn: _Drawing, kind: Kind, rng: np.random.Generator
) -> tuple[FloatArray, list[tuple[FloatArray, float]]]:
    """Return how much of each voxel the body covers, and its layers: how much each covers, and its HU."""
    hard = rng.uniform(0.6, 1.6)
    hazy = kind in (Kind.PART_SOLID, Kind.GROUND_GLASS)
    body = drawn.cover(soft_mm=2 * hard if hazy else hard)
    layers: list[tuple[FloatArray, float]] = []
    match kind:
        case Kind.SOLID | Kind.SPICULATED:
            hu = rng.uniform(150, 500) if rng.random() < 0.07 else rng.uniform(-60, 110)
            shown = np.maximum(body, drawn.spicules(rng)) if kind is Kind.SPICULATED else body
            layers = [(shown, hu)]
        case Kind.PART_SOLID:
            core = drawn.cover(smaller_mm=drawn.radius_mm * rng.uniform(0.3, 0.65), soft_mm=hard)
            layers = [(body, rng.uniform(-660, -380)), (core, rng.uniform(-100, 80))]
        case Kind.GROUND_GLASS:
            layers = [(body, rng.uniform(-690, -430))]
    return drawn.to_voxels(body), [(drawn.to_voxels(cover), hu) for cover, hu in layers]


def _added(
    layers: Sequence[tuple[FloatArray, float]], ground: FloatArray, spacing: Vector, rng: np.random.Generator
) -> FloatArray:
    """Return what to add to each voxel, HU, blurred as a scanner does; what is denser already stays as it is."""
    blur = np.array([0.35 * spacing[0], *([rng.uniform(0.3, 0.7)] * 2)]) / spacing
    added = np.zeros_like(ground)
    for cover, hu in layers:
        soft = ndimage.gaussian_filter(cover, blur, mode="nearest")
        added += soft * np.clip(np.float32(hu) - ground - added, 0, None)
    return added
