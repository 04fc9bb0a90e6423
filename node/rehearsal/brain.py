"""The head that the MR phantom images: a tissue at each place, and one lesion whose truth is known."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from node.errors import Misconfigured
from node.rehearsal.shapes import Floats, Grid, Mask, Point, cloud, ellipsoid_level

Labels = npt.NDArray[np.uint8]


# Tissues, as numbered in the label volume.
(AIR, FAT, BONE, DIPLOE, CSF, GRAY, WHITE, MUSCLE, SINUS, PLEXUS, EYE, EDEMA, RIM, CORE) = range(14)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """What is abnormal on FLAIR: edema, enhancing rim and core together.

    Attributes
    ----------
    mask
        (slices, rows, columns) bool, in the order of the Instances.
    enhancing
        The same shape: the part that takes up contrast.
    center_mm
        Centroid of the mask (x, y, z) in patient coordinates LPS, mm.
    volume_mm3
        Volume of the mask, mm3.
    """

    mask: Mask
    enhancing: Mask
    center_mm: Point
    volume_mm3: float


def draw_head(grid: Grid, rng: np.random.Generator) -> tuple[Labels, Floats]:
    """Return the tissue of each voxel and its depth under the brain's surface, mm."""
    scale = float(rng.uniform(0.96, 1.04))
    level = _head_level(grid, scale)
    wobble = cloud(rng, spacing_mm=34.0, reach_mm=190.0).sample(grid)
    under_skin = (1 - level) * np.float32(82.0) + wobble * np.float32(0.9)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for tissue, from_mm in ((FAT, 0.0), (BONE, 6.0), (DIPLOE, 8.2), (BONE, 10.6), (CSF, 12.6)):
        labels[under_skin > from_mm] = tissue
    depth = under_skin - np.float32(15.0)
    brain = depth > 0
    labels[brain] = WHITE
    _fold_cortex(labels, depth, grid, rng)
    _draw_midline(labels, depth, grid)
    _draw_deep_structures(labels, grid)
    _draw_skull_base(labels, under_skin, grid)
    return labels, depth


def _head_level(grid: Grid, scale: float) -> Floats:
    """Return the level of the head, below 1 inside; the lower half is longer, as a neck needs."""
    x = (grid.x / np.float32(80.0 * scale))[None, None, :]
    y = (grid.y / np.float32(101.0 * scale))[None, :, None]
    z = grid.z - np.float32(12.0)
    z = (z / np.where(z > 0, np.float32(92.0 * scale), np.float32(170.0)))[:, None, None]
    level: Floats = np.sqrt(x**2 + y**2 + z**2)
    return level


def _fold_cortex(labels: Labels, depth: Floats, grid: Grid, rng: np.random.Generator) -> None:
    """Fold gray matter and CSF along the zero lines of a smooth texture, in place."""
    folds = cloud(rng, spacing_mm=6.2, reach_mm=190.0).sample(grid)
    reach = cloud(rng, spacing_mm=16.0, reach_mm=190.0).sample(grid)
    slope_y = np.gradient(folds, axis=1)
    slope_x = np.gradient(folds, axis=2)
    slope = np.sqrt(slope_x**2 + slope_y**2) / (grid.x[1] - grid.x[0])
    gap_mm = np.abs(folds) / np.maximum(slope, np.float32(0.06))
    # A sulcus is as deep as a second texture says, and narrows toward its floor.
    floor = np.float32(16.0) + np.float32(5.0) * reach
    open_mm = np.float32(1.25) * np.clip(1 - depth / np.maximum(floor, 3), 0, 1)
    brain = depth > 0
    near_fold = (gap_mm < open_mm + 2.7) & (depth < floor + 2.5)
    labels[brain & (near_fold | (depth < 3.2))] = GRAY
    labels[brain & (gap_mm < open_mm) & (open_mm > 0.25)] = CSF


def _draw_midline(labels: Labels, depth: Floats, grid: Grid) -> None:
    """Part the hemispheres, with the sagittal sinus above and behind, in place."""
    across = np.abs(grid.x)[None, None, :]
    callosum = _level(grid, (0.0, 2.0, 14.0), (34.0, 50.0, 22.0)) < 1
    parted = (depth > 0) & ~callosum & (grid.z > -6)[:, None, None]
    labels[parted & (across < 4.2)] = GRAY
    labels[parted & (across < 1.5)] = CSF
    behind = (grid.y > 10)[None, :, None] | (grid.z > 60)[:, None, None]
    labels[behind & (depth > -3.5) & (depth < 2.5) & (across < 4.0 - 0.5 * depth)] = SINUS


def _draw_deep_structures(labels: Labels, grid: Grid) -> None:
    """Draw deep gray matter, ventricles and choroid plexus, in place."""
    for side in (-1.0, 1.0):
        _fill(labels, grid, (side * 12.0, 8.0, 10.0), (9.0, 15.0, 9.0), GRAY)
        _fill(labels, grid, (side * 26.0, -3.0, 8.0), (6.5, 18.0, 11.0), GRAY)
        _fill(labels, grid, (side * 15.0, -22.0, 16.0), (6.0, 10.0, 11.0), GRAY)
        _fill(labels, grid, (side * 9.0, -24.0, 20.0), (5.0, 16.0, 8.5), CSF)
        _fill(labels, grid, (side * 12.0, 2.0, 26.0), (6.0, 28.0, 7.5), CSF)
        _fill(labels, grid, (side * 22.0, 34.0, 16.0), (7.5, 17.0, 9.5), CSF)
        _fill(labels, grid, (side * 22.0, 31.0, 15.0), (3.2, 6.5, 5.0), PLEXUS)
    _fill(labels, grid, (0.0, 2.0, 6.0), (2.4, 13.0, 9.0), CSF)


def _draw_skull_base(labels: Labels, under_skin: Floats, grid: Grid) -> None:
    """Draw what lies under the brain: face, eyes, brain stem, cerebellum, in place."""
    low = (grid.z < -14)[:, None, None] & (under_skin > 4)
    face = low & (grid.y < -34)[None, :, None]
    labels[face] = MUSCLE
    _fill(labels, grid, (0.0, -74.0, -26.0), (13.0, 16.0, 15.0), AIR)
    for side in (-1.0, 1.0):
        _fill(labels, grid, (side * 33.0, -62.0, -26.0), (19.0, 24.0, 14.0), FAT)
        _fill(labels, grid, (side * 33.0, -70.0, -26.0), (12.0, 12.0, 12.0), EYE)
        _fill(labels, grid, (side * 52.0, 14.0, -34.0), (15.0, 22.0, 16.0), BONE)
    _fill(labels, grid, (0.0, 12.0, -30.0), (19.0, 18.0, 34.0), CSF)
    _fill(labels, grid, (0.0, 10.0, -30.0), (14.5, 13.0, 36.0), WHITE)
    _fill(labels, grid, (0.0, 27.0, -26.0), (6.0, 5.0, 10.0), CSF)


def _level(grid: Grid, center: Point, axes: Point) -> Floats:
    """Return the level of an ellipsoid on the whole grid, below 1 inside."""
    level = np.full(grid.shape, np.float32(2.0))
    found = ellipsoid_level(grid, center=center, axes=axes)
    if found is not None:
        level[found[0]] = found[1]
    return level


def _fill(labels: Labels, grid: Grid, center: Point, axes: Point, tissue: int) -> None:
    """Fill an ellipsoid with a tissue, in place."""
    found = ellipsoid_level(grid, center=center, axes=axes)
    if found is not None:
        labels[found[0]][found[1] < 1] = tissue


def draw_lesion(labels: Labels, depth: Floats, grid: Grid, rng: np.random.Generator) -> Lesion:
    """Grow a lesion into one hemisphere, in place, and return the truth about it."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    across, back, up = (float(v) for v in rng.uniform((31, -34, 26), (40, 34, 46)))
    center = (side * across, back, up)
    wide, deep, high = (float(v) for v in rng.uniform((17, 19, 15), (23, 27, 20)))
    rough = cloud(rng, spacing_mm=9.0, reach_mm=190.0)
    mask = np.zeros(grid.shape, dtype=bool)
    found = ellipsoid_level(grid, center=center, axes=(wide, deep, high), reach=1.6)
    if found is None:
        raise Misconfigured(
            f"{len(grid.z)} slices from {grid.z[0]:.1f} to {grid.z[-1]:.1f} mm do not reach the lesion at "
            f"{center[2]:.1f} mm; scan more slices"
        )
    box, level = found
    part = Grid(z=grid.z[box[0]], y=grid.y[box[1]], x=grid.x[box[2]])
    texture = rough.sample(part)
    # The lesion keeps to its hemisphere and spares the ventricle, as infiltrating tumors mostly do.
    here = labels[box]
    ventricle = (here == CSF) & (depth[box] > 24)
    allowed = (depth[box] > 1.2) & ~ventricle & (part.x * side > 3)[None, None, :]
    whole = allowed & (level + np.float32(0.13) * texture < 1)
    heart = level + np.float32(0.07) * texture
    here[whole] = EDEMA
    here[whole & (heart < 0.64)] = RIM
    here[whole & (heart < 0.42)] = CORE
    mask[box] = whole
    return _truth(mask, labels == RIM, grid)


def _truth(mask: Mask, enhancing: Mask, grid: Grid) -> Lesion:
    """Return centroid and volume of a mask."""
    slices, rows, columns = np.nonzero(mask)
    axes = ((grid.x, columns), (grid.y, rows), (grid.z, slices))
    x, y, z = (float(axis[index].mean()) for axis, index in axes)
    voxel_mm3 = float(np.prod([axis[1] - axis[0] for axis, _ in axes]))
    volume = float(mask.sum()) * voxel_mm3
    return Lesion(mask=mask, enhancing=enhancing, center_mm=(x, y, z), volume_mm3=volume)
