"""A head volume as axial slices of one pixel size, and the way back to its own grid."""

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.resampling import Grid, lay_on, resize_planes
from workers.volume import Volume

Voxels = NDArray[np.float32]

# Unit vectors that slices, rows and columns of a stack follow: to the head, to the back, to the patient's left (LPS).
TOWARD = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
# Between background and the typical tissue: below it lie air, bone and liquor.
FOREGROUND_LEVEL = 0.3
HISTOGRAM_BINS = 256
# A stack holds background 0, typical tissue 1; three spreads apart they are.
SPREADS = 3.0
CEILING = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AxialStack:
    """Voxels whose axes run to the head, to the back and to the patient's left, as nearly as their grid allows.

    Attributes
    ----------
    voxels
        (slices, rows, columns) float32.
    affine
        4 × 4 float64; (slice, row, column, 1) to patient coordinates LPS, mm.
    """

    voxels: Voxels
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Return the distance of slices, rows and columns, mm."""
        slices, rows, columns = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slices), float(rows), float(columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Which axes of a Volume became slices, rows and columns, and which of them were reversed."""

    order: tuple[int, int, int]
    reversed_axes: tuple[int, ...]

    def undo(self, voxels: Voxels) -> Voxels:
        """Return voxels of the stack on the axes of the Volume."""
        return np.flip(voxels, self.reversed_axes).transpose(np.argsort(self.order))


def find_turn(affine: NDArray[np.float64]) -> Turn:
    """Return the turn that brings an affine closest to axial slices, without resampling."""
    cosines = TOWARD @ (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosines[i, p[i]]) for i in range(3)))
    backwards = tuple(i for i in range(3) if cosines[i, order[i]] < 0)
    return Turn(order=(order[0], order[1], order[2]), reversed_axes=backwards)


def turn_volume(volume: Volume) -> tuple[AxialStack, Turn]:
    """Return the voxels of a Volume as axial slices, and how to turn a mask back."""
    turn = find_turn(volume.affine)
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, list(turn.order)]
    voxels = volume.voxels.transpose(turn.order)
    for axis in turn.reversed_axes:
        affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
        affine[:3, axis] *= -1
    voxels = np.ascontiguousarray(np.flip(voxels, turn.reversed_axes))
    return AxialStack(voxels=voxels, affine=affine), turn


def shrink_stack(stack: AxialStack, *, pixel_mm: float) -> AxialStack:
    """Return the stack with pixels as close to `pixel_mm` as whole rows and columns allow; slices stay."""
    _, rows, columns = stack.voxels.shape
    _, row_mm, column_mm = stack.spacing_mm
    shape = max(1, round(rows * row_mm / pixel_mm)), max(1, round(columns * column_mm / pixel_mm))
    small = resize_planes(stack.voxels, stack.affine, shape)
    return AxialStack(voxels=small.voxels, affine=small.affine)


def place_on(stack: AxialStack, grid: AxialStack) -> tuple[AxialStack, float]:
    """Return the stack resampled on another's grid, and the fraction of that grid it covers (0..1)."""
    voxels = lay_on(stack.voxels, stack.affine, on=Grid(voxels=grid.voxels, affine=grid.affine))
    covered = np.isfinite(voxels)
    filled = np.where(covered, voxels, stack.voxels.min()).astype(np.float32)
    return replace(grid, voxels=filled), float(covered.mean())


def otsu_level(voxels: Voxels) -> float:
    """Return the gray level that parts dark from bright best (Otsu), outliers left aside."""
    low, high = np.percentile(voxels, (0.1, 99.5))
    counts, edges = np.histogram(np.clip(voxels, low, high), bins=HISTOGRAM_BINS)
    centers = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts).astype(float)
    above = below[-1] - below
    mass = np.cumsum(counts * centers)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = mass / below - (mass[-1] - mass) / above
        between = np.nan_to_num(below * above * gap**2)
    return float(centers[int(np.argmax(between))])


def mark_tissue(voxels: Voxels) -> tuple[NDArray[np.bool_], float]:
    """Return where tissue is, and the level of the background."""
    level = otsu_level(voxels)
    dark, bright = voxels[voxels <= level], voxels[voxels > level]
    background = float(np.median(dark)) if dark.size else float(voxels.min())
    typical = float(np.median(bright)) if bright.size else background
    return voxels > background + FOREGROUND_LEVEL * (typical - background), background


def standardize(voxels: Voxels) -> Voxels:
    """Return voxels with background 0 and typical tissue 1, whatever the scanner's units are.

    Robust z-score over the tissue, moved and scaled; clipped to 0..3. Training and Pipeline share it.
    """
    tissue, _ = mark_tissue(voxels)
    values = voxels[tissue]
    if values.size == 0:
        return np.zeros_like(voxels)
    low, middle, high = (float(v) for v in np.percentile(values, (5, 50, 95)))
    spread = max((high - low) / 3.29, 1e-6)  # 5th to 95th percentile of a normal curve
    z = (voxels - middle) / spread
    return np.asarray(np.clip(z / SPREADS + 1, 0, CEILING), np.float32)


def mark_head(voxels: Voxels) -> NDArray[np.bool_]:
    """Return the head with everything inside it: the largest piece of tissue, holes of each slice filled."""
    tissue, _ = mark_tissue(voxels)
    tissue = ndimage.binary_opening(tissue, structure=np.ones((1, 3, 3), bool))
    labels, count = ndimage.label(tissue)
    if count == 0:
        return tissue
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    head = np.asarray(labels == int(sizes.argmax()), np.bool_)
    for number, plane in enumerate(head):
        head[number] = ndimage.binary_fill_holes(ndimage.binary_closing(plane, iterations=3) | plane)
    return head


def add_neighbours(voxels: Voxels, channel: int, *, away: int) -> Voxels:
    """Return slices with those below and above as two more channels; beyond the ends, the outermost is repeated.

    Parameters
    ----------
    voxels
        (slices, channels, rows, columns).
    channel
        The one that is shown of the neighbours.
    away
        How many slices lie between a slice and its neighbour, > 0.
    """
    numbers = np.arange(len(voxels))
    below, above = np.maximum(numbers - away, 0), np.minimum(numbers + away, len(voxels) - 1)
    return np.concatenate([voxels, voxels[below, channel, None], voxels[above, channel, None]], axis=1)


def crop_plane(voxels: Voxels, corner: tuple[int, int], matrix: int) -> Voxels:
    """Return a window of `matrix` rows and columns from each slice; zero where it lies outside."""
    window = np.zeros((len(voxels), matrix, matrix), voxels.dtype)
    source, target = _overlap(voxels.shape[1:], corner, matrix)
    window[:, target[0], target[1]] = voxels[:, source[0], source[1]]
    return window


def uncrop_plane(window: Voxels, corner: tuple[int, int], shape: tuple[int, int]) -> Voxels:
    """Return slices of `shape` with the window put back where it came from; zero elsewhere."""
    voxels = np.zeros((len(window), *shape), window.dtype)
    source, target = _overlap(shape, corner, window.shape[1])
    voxels[:, source[0], source[1]] = window[:, target[0], target[1]]
    return voxels


def center_window(head: NDArray[np.bool_], matrix: int) -> tuple[int, int]:
    """Return first row and first column of the window that has the head in its middle; may be negative."""
    corner = []
    for axis in (1, 2):
        seen = np.flatnonzero(head.any(axis=tuple(a for a in range(3) if a != axis)))
        corner.append(round(int(seen[0] + seen[-1] + 1 - matrix) / 2))
    return corner[0], corner[1]


def _overlap(
    shape: tuple[int, ...], corner: tuple[int, int], matrix: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    source, target = [], []
    for size, start in zip(shape, corner, strict=True):
        low, high = max(0, start), min(size, start + matrix)
        source.append(slice(low, max(low, high)))
        target.append(slice(low - start, max(low, high) - start))
    return (source[0], source[1]), (target[0], target[1])
