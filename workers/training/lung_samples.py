"""Labelled patches for the nodule classifier: what the candidate finder proposes, and what it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.errors import WrongBodyPart
from node.rehearsal.chest import Nodule, draw_chest, draw_nodules
from node.rehearsal.chest_ct import CtScan, chest_ct_voxels
from workers.pipelines.lung_candidates import coarsen, find_candidates, find_lungs
from workers.pipelines.lung_patches import cut_patches
from workers.training.chest_phantoms import Phantom, draw_phantom
from workers.volume import Volume

CANDIDATES = 400
JITTERED = 4  # further patches a nodule, off its middle
NEAR_MIN_MM = 3.0
NEAR_SHARE = 0.75  # of the radius: so far off its middle a candidate still means the nodule
CLEAR_MM = 6.0  # beyond the radius: a candidate nearer than this is neither


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Patches with their labels.

    Attributes
    ----------
    patches
        (n, 24, 24, 24) float16, 0..1.
    is_nodule
        (n,) bool.
    """

    patches: NDArray[np.float16]
    is_nodule: NDArray[np.bool_]


def join_samples(parts: list[Samples]) -> Samples:
    """Return all parts as one."""
    return Samples(
        patches=np.concatenate([part.patches for part in parts]),
        is_nodule=np.concatenate([part.is_nodule for part in parts]),
    )


def sample_phantoms(*, count: int, seed: int, nodules: int = 14) -> Samples:
    """Return the patches of `count` phantoms, drawn from consecutive seeds.

    A phantom whose slab holds too little lung is passed over.
    """
    parts = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        phantom = draw_phantom(rng, nodules=nodules)
        try:
            parts.append(sample_phantom(phantom, rng))
        except WrongBodyPart:
            continue
    return join_samples(parts)


def sample_rehearsals(*, seeds: range) -> Samples:
    """Return the patches of the rehearsal's chest phantoms, one a seed; the demo uses other seeds."""
    parts = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        chest = draw_chest(seed)
        scan = CtScan(slices=int(rng.integers(90, 121)), slice_distance_mm=2.0)
        nodules = draw_nodules(chest, count=6)
        voxels, _ = chest_ct_voxels(seed=seed, nodules=nodules, scan=scan)
        parts.append(sample_phantom(as_phantom(voxels, scan, nodules), rng))
    return join_samples(parts)


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


def sample_phantom(phantom: Phantom, rng: np.random.Generator) -> Samples:
    """Return the candidates of one phantom, and its nodules once more a little off their middles.

    Raises
    ------
    WrongBodyPart
        If the slab holds too little lung.
    """
    volume = phantom.volume
    coarse = coarsen(volume)
    lungs = find_lungs(coarse, volume.affine)
    found = find_candidates(coarse, lungs, limit=CANDIDATES).index
    spacing = np.asarray(volume.spacing_mm)
    gap = np.linalg.norm((found[:, None] - phantom.index[None]) * spacing, axis=2)
    near = gap <= np.maximum(NEAR_MIN_MM, NEAR_SHARE * phantom.radius_mm)
    close = gap <= phantom.radius_mm + CLEAR_MM
    hit, miss = near.any(axis=1), ~close.any(axis=1)
    extra = np.repeat(phantom.index, JITTERED, axis=0)
    extra = extra + rng.normal(0, 1.2, extra.shape) / spacing
    index = np.concatenate([found[hit], extra, found[miss]])
    positives = int(hit.sum()) + len(extra)
    return Samples(
        patches=cut_patches(volume, index).astype(np.float16),
        is_nodule=np.arange(len(index)) < positives,
    )
