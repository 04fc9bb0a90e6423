"""What both networks of the lung nodule Pipeline learn from.

Patches for the one that tells a nodule from a vessel: what the candidate finder proposes, and what it is. Scenes for
the one that outlines: the surroundings of each nodule put in, and its exact mask.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from node.errors import WrongBodyPart
from node.rehearsal.chest import Nodule, draw_chest, draw_nodules
from node.rehearsal.chest_ct import CtScan, chest_ct_voxels
from workers.networks.nodule_classifier import PATCH_VOXELS, SCALES
from workers.networks.nodule_outliner import INPUTS, SCENE_VOXELS
from workers.pipelines.lung_candidates import Coarse, Lungs, coarsen, find_candidates, find_lungs
from workers.pipelines.lung_patches import cut_patches
from workers.pipelines.nodule_scene import CELL_MM, cut_marks, cut_scene
from workers.training.chest_phantoms import Phantom, draw_phantom
from workers.training.lung_insertion import SITE_SHARES, Inserted, Keep, LungScan, Shares, insert_nodules
from workers.volume import Volume

CANDIDATES = 450
IN_SLAB, IN_CHEST = 12, 8  # nodules put into a drawn one
# What leans on the pleura or a vessel is hard to outline: more of it is learned from than lungs hold.
LEANING_SHARES = (0.3, 0.35, 0.35)
JITTERED = 4  # further patches a nodule, off its middle
JITTER_MM = 1.2
NEAR_MIN_MM = 3.0
NEAR_SHARE = 0.75  # of the radius: so far off its middle a candidate still means the nodule
CLEAR_MM = 6.0  # beyond the radius: a candidate nearer than this is neither
BYTE = 255
# A nodule without a mask may not lie in a scene: it would be taught to be none.
UNMASKED_MM = 42.0  # half the diagonal of a scene
# How the rehearsal's chests are scanned: coarse pixels and thick slices have noise and edges of their own.
MATRICES = (256, 256, 320, 384, 512)
CHEST_MATRICES = (256, 384, 512)
WHOLE_SLICES, SHORT_SLICES = (90, 121), (40, 64)
SLICE_DISTANCES_MM = (1.0, 1.5, 2.0, 2.0, 2.5, 3.0)
EXTENT_MM = (90.0, 230.0)
MAX_SLICES = 120
OFF_CENTER_MM = 70.0
NOISE = (0.6, 1.6)


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


# (n, 3, 48, 48, 48) uint8: density and lung, times 255, and 1 in each nodule.
Scenes = NDArray[np.uint8]
SCENE_SHAPE = (INPUTS + 1, SCENE_VOXELS, SCENE_VOXELS, SCENE_VOXELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What the two networks learn from one volume, or from many."""

    samples: Samples
    scenes: Scenes


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


def join_scenes(parts: Iterable[Scenes]) -> Scenes:
    """Return all parts as one; of no parts, no scenes."""
    return np.concatenate([np.empty((0, *SCENE_SHAPE), dtype=np.uint8), *parts])


def sample_phantoms(*, count: int, seed: int, nodules: int = 14) -> Iterator[Samples]:
    """Yield the patches of `count` phantoms with nodules of their own, drawn from consecutive seeds.

    A phantom whose slab holds too little lung is passed over.
    """
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        phantom = draw_phantom(rng, nodules=nodules)
        try:
            yield sample_scan(as_lung_scan(phantom), rng, nodules=0, source=Source.SLAB).samples
        except WrongBodyPart:
            continue


def sample_chests(*, seeds: range) -> Iterator[Samples]:
    """Yield the patches of the rehearsal's chests, one a seed: in turns whole ones with six nodules, and short stacks.

    A short stack about the hila is nearly all vessels, and holds two nodules.
    """
    for seed in seeds:
        rng = np.random.default_rng(seed)
        is_whole = seed % 2 == 0
        slices = int(rng.integers(*(WHOLE_SLICES if is_whole else SHORT_SLICES)))
        scan = CtScan(slices=slices, slice_distance_mm=2.0, matrix=int(rng.choice(CHEST_MATRICES)))
        nodules = draw_nodules(draw_chest(seed), count=6) if is_whole else None
        voxels, drawn = chest_ct_voxels(seed=seed, nodules=nodules, scan=scan)
        lungs = as_lung_scan(as_phantom(voxels, scan, drawn))
        yield sample_scan(lungs, rng, nodules=0, source=Source.CHEST).samples


def draw_slab_scenes(*, count: int, seed: int) -> Iterator[Scenes]:
    """Yield the scenes of `count` healthy phantoms that nodules are put into as into real lungs."""
    for number in range(count):
        rng = np.random.default_rng([seed, 1, number])
        phantom = draw_phantom(rng, nodules=0)
        try:
            yield sample_scan(
                as_lung_scan(phantom), rng, nodules=IN_SLAB, candidates=0, site_shares=LEANING_SHARES
            ).scenes
        except WrongBodyPart:
            continue


def draw_chest_scenes(*, seeds: range) -> Iterator[Scenes]:
    """Yield the scenes of the rehearsal's chests, one a seed, scanned in many ways; the demo uses other seeds."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        distance_mm = float(rng.choice(SLICE_DISTANCES_MM))
        # Every other one has the rehearsal's own two nodules, which only a scan about the hila is sure to hold.
        is_own = seed % 2 == 0
        scan = CtScan(
            slices=min(MAX_SLICES, round(rng.uniform(*EXTENT_MM) / distance_mm)),
            slice_distance_mm=distance_mm,
            matrix=int(rng.choice(MATRICES)),
            center_z_mm=0.0 if is_own else float(rng.uniform(-OFF_CENTER_MM, OFF_CENTER_MM)),
            noise=float(rng.uniform(*NOISE)),
        )
        voxels, nodules = chest_ct_voxels(seed=seed, nodules=None if is_own else (), scan=scan)
        try:
            lungs = as_lung_scan(as_phantom(voxels, scan, nodules))
        except WrongBodyPart:
            continue
        yield sample_scan(lungs, rng, nodules=IN_CHEST, candidates=0, site_shares=LEANING_SHARES).scenes


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
        index=np.array([volume.to_index(nodule.center_mm) for nodule in nodules]).reshape(-1, 3),
        radius_mm=np.array([nodule.diameter_mm / 2 for nodule in nodules]),
    )


def as_lung_scan(phantom: Phantom) -> LungScan:
    """Return a phantom as a scan that nodules can be put into, beside its own.

    Raises
    ------
    WrongBodyPart
        If it holds too little lung.
    """
    volume = phantom.volume
    coarse = coarsen(volume)
    own = tuple(
        Keep(
            center_mm=volume.to_patient_mm(index.tolist()), radius_mm=float(radius_mm), diameter_mm=2 * float(radius_mm)
        )
        for index, radius_mm in zip(phantom.index, phantom.radius_mm, strict=True)
    )
    lungs = find_lungs(coarse, volume.affine)
    return LungScan(name="drawn", volume=volume, coarse=coarse, lungs=lungs, keep=own)


def sample_scan(
    scan: LungScan,
    rng: np.random.Generator,
    *,
    nodules: int,
    candidates: int = CANDIDATES,
    source: Source = Source.SCAN,
    site_shares: Shares = SITE_SHARES,
) -> Lesson:
    """Return the candidates of a scan with about `nodules` inserted, and the scenes around these.

    Parameters
    ----------
    candidates
        At most so many places are looked at; 0: none, for those who want the scenes.
    site_shares
        As `insert_nodules`.

    Raises
    ------
    WrongBodyPart
        If the scan with its nodules holds too little lung.
    """
    volume, inserted = (
        insert_nodules(scan, rng, count=nodules, site_shares=site_shares) if nodules else (scan.volume, [])
    )
    coarse = coarsen(volume)
    lungs = find_lungs(coarse, volume.affine)
    found = find_candidates(coarse, lungs, limit=candidates).index if candidates else np.empty((0, 3))
    spacing = np.asarray(volume.spacing_mm)
    own = [
        (place, ball.radius_mm)
        for (place, _), ball in zip(scan.keep_index(), scan.keep, strict=True)
        if ball.diameter_mm
    ]
    known = [*own, *((nodule.index, nodule.diameter_mm / 2) for nodule in inserted)]
    index = np.array([place for place, _ in known]).reshape(-1, 3)
    hit, miss = _sort_out(found, index, np.array([radius_mm for _, radius_mm in known]), spacing)
    for place, radius_mm in scan.keep_index():
        miss = miss[np.linalg.norm((miss - place) * spacing, axis=1) > radius_mm]
    around = _jitter(index, spacing, rng, times=JITTERED)
    return Lesson(
        samples=_label(volume, coarse, np.concatenate([hit, around]), miss, source),
        scenes=_cut_scenes(volume, coarse, lungs, inserted, unmasked=own),
    )


def _cut_scenes(
    volume: Volume,
    coarse: Coarse,
    lungs: Lungs,
    inserted: Sequence[Inserted],
    *,
    unmasked: Sequence[tuple[NDArray[np.float64], float]],
) -> Scenes:
    """Return the surroundings of each nodule with the masks of all that lie there."""
    spacing = np.asarray(volume.spacing_mm)
    marks = np.zeros(volume.voxels.shape, dtype=np.bool_)
    for nodule in inserted:
        marks[nodule.region.box] |= nodule.region.mask
    scenes = []
    truth = np.empty((SCENE_VOXELS,) * 3, dtype=np.float32)
    for nodule in inserted:
        middle = nodule.region.center_index()
        if any(np.linalg.norm((middle - place) * spacing) < UNMASKED_MM + radius for place, radius in unmasked):
            continue
        scene = np.round(cut_scene(volume, coarse, lungs, middle) * BYTE)
        cut_marks(marks, middle, spacing / CELL_MM, output=truth)
        scenes.append(np.concatenate([scene, (truth >= 0.5)[None]]).astype(np.uint8))
    return join_scenes(scene[None] for scene in scenes)


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
