"""Labelled patches for the nodule classifier: what the candidate finder proposes, and what it is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from node.errors import WrongBodyPart
from node.rehearsal.chest import Nodule, draw_chest, draw_nodules
from node.rehearsal.chest_ct import CtScan, chest_ct_voxels
from workers.networks.nodule_classifier import PATCH_VOXELS, SCALES
from workers.pipelines.lung_candidates import Coarse, coarsen, find_candidates, find_lungs
from workers.pipelines.lung_patches import cut_patches
from workers.training.chest_phantoms import Phantom, draw_phantom
from workers.training.lung_insertion import LungScan, insert_nodules
from workers.volume import Volume

CANDIDATES = 450
JITTERED = 4  # further patches a nodule, off its middle
JITTER_MM = 1.2
NEAR_MIN_MM = 3.0
NEAR_SHARE = 0.75  # of the radius: so far off its middle a candidate still means the nodule
CLEAR_MM = 6.0  # beyond the radius: a candidate nearer than this is neither
BYTE = 255


class Source(IntEnum):
    """Where a sample comes from."""

    SLAB = 0
    CHEST = 1
    SCAN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Patches with their labels.

    Attributes
    ----------
    patches
        (n, 2, 24, 24, 24) uint8: 0..1 times 255.
    is_nodule
        (n,) bool.
    source
        (n,) uint8, a `Source`.
    """

    patches: NDArray[np.uint8]
    is_nodule: NDArray[np.bool_]
    source: NDArray[np.uint8]


def _no_samples() -> Samples:
    shape = (0, SCALES, PATCH_VOXELS, PATCH_VOXELS, PATCH_VOXELS)
    return Samples(
        patches=np.empty(shape, dtype=np.uint8),
        is_nodule=np.empty(0, dtype=np.bool_),
        source=np.empty(0, dtype=np.uint8),
    )


def to_unit(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the patches as the network reads them, float32, 0..1."""
    return patches.astype(np.float32) / np.float32(BYTE)


def join_samples(parts: Iterable[Samples]) -> Samples:
    """Return all parts as one; of no parts, no samples."""
    held = [_no_samples(), *parts]
    return Samples(
        patches=np.concatenate([part.patches for part in held]),
        is_nodule=np.concatenate([part.is_nodule for part in held]),
        source=np.concatenate([part.source for part in held]),
    )


def sample_phantoms(*, count: int, seed: int, nodules: int = 14) -> Iterator[Samples]:
    """Yield the patches of `count` phantoms, drawn from consecutive seeds.

    A phantom whose slab holds too little lung is passed over.
    """
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        phantom = draw_phantom(rng, nodules=nodules)
        try:
            yield sample_phantom(phantom, rng, source=Source.SLAB)
        except WrongBodyPart:
            continue


def sample_rehearsals(*, seeds: range) -> Iterator[Samples]:
    """Yield the patches of the rehearsal's chest phantoms, one a seed; the demo uses other seeds."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        chest = draw_chest(seed)
        scan = CtScan(slices=int(rng.integers(90, 121)), slice_distance_mm=2.0)
        nodules = draw_nodules(chest, count=6)
        voxels, _ = chest_ct_voxels(seed=seed, nodules=nodules, scan=scan)
        yield sample_phantom(as_phantom(voxels, scan, nodules), rng, source=Source.CHEST)


def as_phantom(voxels: NDArray[np.float32], scan: CtScan, nodules: tuple[Nodule, ...]) -> Phantom:
    """Return a rehearsal's voxels and nodules in the form of the training phantoms."""
    x, y, z = scan.grid().origin_mm
    spacing_mm = (scan.slice_distance_mm, scan.pixel_spacing_mm, scan.pixel_spacing_mm)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing_mm)[:, ::-1].T
    affine[:3, 3] = x, y, z
    volume = Volume(voxels=voxels, affine=affine, spacing_mm=spacing_mm, frame_of_reference_uid="2.25.1", datasets=())
    return Phantom(
        volume=volume,
        index=np.array([volume.to_index(nodule.center_mm) for nodule in nodules]),
        radius_mm=np.array([nodule.diameter_mm / 2 for nodule in nodules]),
    )


def sample_phantom(phantom: Phantom, rng: np.random.Generator, *, source: Source) -> Samples:
    """Return the candidates of one phantom, and its nodules once more a little off their middles.

    Raises
    ------
    WrongBodyPart
        If the slab holds too little lung.
    """
    volume = phantom.volume
    coarse = coarsen(volume)
    found = find_candidates(coarse, find_lungs(coarse, volume.affine), limit=CANDIDATES).index
    spacing = np.asarray(volume.spacing_mm)
    hit, miss = _sort_out(found, phantom.index, phantom.radius_mm, spacing)
    around = _jitter(phantom.index, spacing, rng, times=JITTERED)
    return _label(volume, coarse, np.concatenate([hit, around]), miss, source)


def sample_scan(scan: LungScan, rng: np.random.Generator, *, nodules: int, candidates: int = CANDIDATES) -> Samples:
    """Return the candidates of a real scan with about `nodules` inserted.

    Parameters
    ----------
    candidates
        At most so many places are looked at.
    """
    volume, inserted = insert_nodules(scan, rng, count=nodules)
    coarse = coarsen(volume)
    found = find_candidates(coarse, find_lungs(coarse, volume.affine), limit=candidates).index
    spacing = np.asarray(volume.spacing_mm)
    index = np.array([nodule.index for nodule in inserted]).reshape(-1, 3)
    hit, miss = _sort_out(found, index, np.array([nodule.diameter_mm / 2 for nodule in inserted]), spacing)
    for place, radius_mm in scan.keep_index():
        miss = miss[np.linalg.norm((miss - place) * spacing, axis=1) > radius_mm]
    around = _jitter(index, spacing, rng, times=JITTERED)
    return _label(volume, coarse, np.concatenate([hit, around]), miss, Source.SCAN)


def _sort_out(
    found: NDArray[np.float64], index: NDArray[np.float64], radius_mm: NDArray[np.float64], spacing: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the candidates that mean a nodule, and those that are clear of any."""
    gap = np.linalg.norm((found[:, None] - index[None]) * spacing, axis=2)
    near = gap <= np.maximum(NEAR_MIN_MM, NEAR_SHARE * radius_mm)
    close = gap <= radius_mm + CLEAR_MM
    return found[near.any(axis=1)], found[~close.any(axis=1)]


def _jitter(
    index: NDArray[np.float64], spacing: NDArray[np.float64], rng: np.random.Generator, *, times: int
) -> NDArray[np.float64]:
    around = np.repeat(index, times, axis=0)
    moved: NDArray[np.float64] = around + rng.normal(0, JITTER_MM, around.shape) / spacing
    return moved


def _label(
    volume: Volume, coarse: Coarse, yes: NDArray[np.float64], no: NDArray[np.float64], source: Source
) -> Samples:
    patches = cut_patches(volume, coarse, np.concatenate([yes, no]))
    count = len(yes) + len(no)
    return Samples(
        patches=np.round(patches * BYTE).astype(np.uint8),
        is_nodule=np.arange(count) < len(yes),
        source=np.full(count, source, dtype=np.uint8),
    )
