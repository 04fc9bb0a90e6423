"""The chest that the CT and X-ray phantoms are taken from: Hounsfield units as a function of the place.

Coordinates are DICOM patient coordinates (LPS, mm): x to the patient's left, y to the back, z to the
head; the origin lies in the mediastinum at the height of the main bronchi.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from node.rehearsal.chest_bones import paint_bones
from node.rehearsal.chest_outlines import lies_in_lung
from node.rehearsal.chest_planes import VERTEBRA_MM, draw_plane
from node.rehearsal.chest_vessels import bronchi, grow_vessels, paint_airway
from node.rehearsal.hounsfield import AIR_HU, BLOOD_HU, CONSOLIDATION_HU, LUNG_GRADIENT_HU_MM, LUNG_HU
from node.rehearsal.shapes import Cloud, Floats, Grid, Mask, Point, Tube, cloud, ellipsoid_level, paint_tube

# Closer to the midline a nodule could be taken for a vessel of the hilum.
HILUM_MM = 48.0
# Spread of the smooth variation of normal lung.
TEXTURE_HU = 14.0
Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """A solid, slightly lobulated lung nodule.

    Attributes
    ----------
    center_mm
        Center (x, y, z) in patient coordinates LPS, mm.
    diameter_mm
        Diameter of the sphere of equal volume, mm, > 0.
    hu
        Its mean attenuation, HU; solid near 35, ground glass near -550.
    """

    center_mm: Point
    diameter_mm: float
    hu: float = 35.0

    @property
    def side(self) -> Side:
        """Return the lung in which it lies."""
        return "left" if self.center_mm[0] > 0 else "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opacity:
    """A patch of consolidated lung with soft edges.

    Attributes
    ----------
    center_mm
        Center (x, y, z) in patient coordinates LPS, mm.
    axes_mm
        Half axes along x, y, z, mm.
    density
        Share of the air that is replaced in its middle, 0..1.
    """

    center_mm: Point
    axes_mm: Point
    density: float = 0.85

    @property
    def side(self) -> Side:
        """Return the lung in which it lies."""
        return "left" if self.center_mm[0] > 0 else "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """One person's chest, drawn by a seed.

    Attributes
    ----------
    seed
        What it was drawn from.
    scale
        Size along x, y, z relative to the standard body.
    heart_scale
        Size of the heart relative to the standard heart.
    spine_phase_mm
        Height of one disc.
    vessels, airways
        Pulmonary vessels and bronchi in the standard body, mm.
    texture
        Smooth variation of the lung's density.
    patchiness
        Finer texture of consolidated lung.
    """

    seed: int
    scale: Point
    heart_scale: float
    spine_phase_mm: float
    vessels: tuple[Tube, ...]
    airways: tuple[Tube, ...]
    texture: Cloud
    patchiness: Cloud


def draw_chest(seed: int) -> Chest:
    """Return the chest that belongs to a seed: the same for the same seed, always."""
    rng = np.random.default_rng([seed, 0xC4E57])
    width, depth, height = (float(v) for v in rng.uniform((0.93, 0.92, 0.95), (1.05, 1.05, 1.03)))
    return Chest(
        seed=seed,
        scale=(width, depth, height),
        heart_scale=float(rng.uniform(0.92, 1.08)),
        spine_phase_mm=float(rng.uniform(0, VERTEBRA_MM)),
        vessels=tuple(grow_vessels(rng)),
        airways=tuple(bronchi()),
        texture=cloud(rng, spacing_mm=22.0, reach_mm=260.0),
        patchiness=cloud(rng, spacing_mm=8.0, reach_mm=260.0),
    )


def draw_nodules(chest: Chest, *, count: int, half_height_mm: float = 60.0) -> tuple[Nodule, ...]:
    """Return nodules at places that the chest's seed picks: in lung, off the wall and the vessels.

    Parameters
    ----------
    chest
        Where they lie.
    count
        How many, 0..6.
    half_height_mm
        They lie within this distance of the origin's height, mm.
    """
    rng = np.random.default_rng([chest.seed, 0x0D])
    nodules: list[Nodule] = []
    while len(nodules) < count:
        # Right and left take turns, so that two nodules prove that sides are not swapped.
        side = 1.0 if len(nodules) % 2 else -1.0
        x, y = side * rng.uniform(HILUM_MM, 125), rng.uniform(-75, 80)
        z = rng.uniform(-half_height_mm, half_height_mm)
        place = (round(float(x), 1), round(float(y), 1), round(float(z), 1))
        nodule = Nodule(center_mm=place, diameter_mm=round(float(rng.uniform(7, 14)), 1))
        if is_clear_of_anatomy(chest, nodule) and _keeps_apart(nodule, nodules):
            nodules.append(nodule)
    return tuple(nodules)


def _keeps_apart(nodule: Nodule, others: Sequence[Nodule], least_mm: float = 40.0) -> bool:
    """Return whether a nodule lies well away from others."""
    places = [np.subtract(nodule.center_mm, other.center_mm) for other in others]
    return all(float(np.linalg.norm(gap)) >= least_mm for gap in places)


def is_clear_of_anatomy(chest: Chest, nodule: Nodule, *, margin_mm: float = 5.0) -> bool:
    """Return whether a nodule lies in lung with a margin to the wall, and touches no larger vessel."""
    reach = nodule.diameter_mm / 2 + margin_mm
    shell = _sphere_points() * reach + np.array(nodule.center_mm)
    scale = np.array(chest.scale)
    if not bool(np.all(lies_in_lung(shell / scale, heart_scale=chest.heart_scale))):
        return False
    center = np.array(nodule.center_mm) / scale
    ends = np.array([(t.start, t.end) for t in (*chest.vessels, *chest.airways)])
    radii = np.array([t.start_radius_mm for t in (*chest.vessels, *chest.airways)])
    run = ends[:, 1] - ends[:, 0]
    along = np.einsum("ij,ij->i", center - ends[:, 0], run) / np.einsum("ij,ij->i", run, run)
    nearest = ends[:, 0] + run * np.clip(along, 0, 1)[:, None]
    gaps = np.linalg.norm(nearest - center, axis=1) - radii
    return bool(gaps.min() > nodule.diameter_mm / 2 + 2.0)


def _sphere_points() -> npt.NDArray[np.float64]:
    """Return 60 directions spread over the unit sphere, (60, 3)."""
    height = np.linspace(-0.99, 0.99, 60)
    angle = np.arange(60) * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), height], axis=1)


def draw_hu(grid: Grid, chest: Chest, *, nodules: Sequence[Nodule] = (), opacity: Opacity | None = None) -> Floats:
    """Return a chest in Hounsfield units, without noise.

    Parameters
    ----------
    grid
        Voxels, in patient coordinates.
    chest
        Whose chest.
    nodules
        What to put into the lungs.
    opacity
        Consolidation to put into a lung, or None.

    Returns
    -------
    numpy.ndarray
        (slices, rows, columns) float32, HU.
    """
    body = grid.scaled(chest.scale)
    volume = np.full(grid.shape, AIR_HU, dtype=np.float32)
    lung = np.zeros(grid.shape, dtype=bool)
    for k, z in enumerate(body.z):
        lung[k] = draw_plane(volume[k], body, float(z), heart_scale=chest.heart_scale, disc_z_mm=chest.spine_phase_mm)
    _draw_parenchyma(volume, lung, body, chest)
    edge = _edge_mm(grid)
    if opacity is not None:
        _paint_opacity(volume, lung, grid, chest, opacity)
    for vessel in chest.vessels:
        paint_tube(volume, body, vessel, value=BLOOD_HU, edge_mm=edge, mode="brighten")
    for airway in chest.airways:
        paint_airway(volume, body, airway, edge_mm=edge)
    for nodule in nodules:
        _paint_nodule(volume, grid, nodule, seed=chest.seed, edge_mm=edge)
    paint_bones(volume, body, edge_mm=edge)
    return volume


def _edge_mm(grid: Grid) -> float:
    """Return the width of soft edges that suits a grid: one voxel in the plane."""
    return float(max(0.5, grid.x[1] - grid.x[0]))


def _draw_parenchyma(volume: Floats, lung: Mask, body: Grid, chest: Chest) -> None:
    """Fill the lung in place: density falls toward the front and varies smoothly."""
    base = (body.y * np.float32(LUNG_GRADIENT_HU_MM) + np.float32(LUNG_HU))[:, None]
    for k, texture in enumerate(chest.texture.planes(body)):
        np.copyto(volume[k], texture * np.float32(TEXTURE_HU) + base, where=lung[k])


def _paint_opacity(volume: Floats, lung: Mask, grid: Grid, chest: Chest, opacity: Opacity) -> None:
    """Replace air by fluid inside an opacity, patchily, in place; only lung changes."""
    found = ellipsoid_level(grid, center=opacity.center_mm, axes=opacity.axes_mm, reach=1.9)
    if found is None:
        return
    box, level = found
    part = Grid(z=grid.z[box[0]], y=grid.y[box[1]], x=grid.x[box[2]])
    rough = level + np.float32(0.16) * chest.patchiness.sample(part)
    share = np.float32(opacity.density) / (1 + np.exp((rough - np.float32(0.95)) * np.float32(6.5)))
    hu = volume[box]
    hu += np.where(lung[box], share * (np.float32(CONSOLIDATION_HU) - hu), np.float32(0.0))


def _paint_nodule(volume: Floats, grid: Grid, nodule: Nodule, *, seed: int, edge_mm: float) -> None:
    """Draw a lobulated ball of the nodule's volume in place."""
    radius = nodule.diameter_mm / 2
    reach = radius * 1.3 + edge_mm
    low, high = (tuple(c + s * reach for c in nodule.center_mm) for s in (-1, 1))
    box = grid.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    if box is None:
        return
    z, y, x = grid.offsets(box, nodule.center_mm)
    gap = np.sqrt(x**2 + y**2 + z**2)
    rng = np.random.default_rng([seed, *(int(abs(c) * 10) for c in nodule.center_mm)])
    turns = rng.uniform(0, 2 * np.pi, 3)
    # Odd harmonics leave volume and centroid where the truth says they are, to first order.
    lobes = np.sin(3 * np.arctan2(y, x) + turns[0]) * np.sin(2 * np.arctan2(z, x) + turns[1])
    edge = np.float32(radius) * (1 + np.float32(0.05) * lobes.astype(np.float32))
    cover = np.clip((edge - gap) / np.float32(edge_mm) + np.float32(0.5), 0, 1)
    volume[box] += cover * (np.float32(nodule.hu) - volume[box])
