"""Voxels on another grid: whatever makes them says where they lie, so that shape and affine cannot part.

An affine is 4 × 4 float64, from (slice, row, column, 1) to patient coordinates LPS, mm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import avg_pool3d, interpolate

Voxels = NDArray[np.float32]
Affine = NDArray[np.float64]

CPU = torch.device("cpu")
# Of an index: what a product of affines is exact to.
DECIMALS = 9
PLANES_NDIM = 4  # (batch, channels, rows, columns)
# Some megabytes, and few enough calls that threads need not wait for each other all the time.
PLANES_AT_ONCE = 4
# New pixels for one of a plane, from which interpolating plane by plane takes less than trilinear at once: 0.6 of it at
# one for two, and 1.2 of it at one for eight.
DENSE_PLANES = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Voxels and where they lie.

    Attributes
    ----------
    voxels
        (slices, rows, columns) float32.
    affine
        Of these voxels.
    """

    voxels: Voxels
    affine: Affine


def resample(voxels: Voxels, affine: Affine, *, scale: Sequence[float], device: torch.device = CPU) -> Grid:
    """Return a volume with voxels of another size, interpolated linearly; both grids begin at one outer corner.

    The edges of a voxel become exactly 1 / `scale` as long: a new voxel that would reach beyond the end is left out,
    instead of stretching the others. Where voxels become much larger, average them first (`average_cells`).

    Parameters
    ----------
    voxels
        (slices, rows, columns) float32.
    scale
        New voxels in one old voxel, per axis, > 0.
    device
        Where it is computed.
    """
    factors = [float(factor) for factor in scale]
    given = torch.from_numpy(np.ascontiguousarray(voxels, np.float32)).to(device)
    is_dense = factors[1] * factors[2] >= DENSE_PLANES
    made = _interpolate_planes(given, factors) if is_dense else _interpolate(given[None, None], factors)[0, 0]
    return Grid(voxels=made.cpu().numpy(), affine=enlarge_cells(affine, [1 / factor for factor in factors]))


def average_cells(voxels: Voxels, affine: Affine, *, whole: Sequence[int], device: torch.device = CPU) -> Grid:
    """Return the means of so many whole voxels per axis; what is left over at the ends is left out.

    Parameters
    ----------
    whole
        Old voxels in one new voxel, per axis, >= 1.
    """
    given = torch.from_numpy(np.ascontiguousarray(voxels, np.float32)).to(device)
    pooled = avg_pool3d(given[None, None], tuple(whole))
    return Grid(voxels=pooled[0, 0].cpu().numpy(), affine=enlarge_cells(affine, whole))


def resize_planes(voxels: Voxels, affine: Affine, shape: tuple[int, int], *, smooth: bool = True) -> Grid:
    """Return each slice at another matrix over the same field of view; see `resize_images`."""
    made = resize_images(voxels, shape, smooth=smooth)
    factors = (1.0, voxels.shape[1] / shape[0], voxels.shape[2] / shape[1])
    return Grid(voxels=made, affine=enlarge_cells(affine, factors))


def resize_images(images: Voxels, shape: tuple[int, int], *, smooth: bool = True) -> Voxels:
    """Return images at another matrix: their outer edges stay where they are.

    Parameters
    ----------
    images
        (images, rows, columns) float32.
    smooth
        Whether what shrinks is averaged, so that nothing finer than the new pixels is left over as a pattern.
    """
    batch = torch.from_numpy(np.ascontiguousarray(images))[:, None]
    made: Voxels = interpolate(batch, size=shape, mode="bilinear", align_corners=False, antialias=smooth)[:, 0].numpy()
    return made


def enlarge_cells(affine: Affine, factors: Sequence[float]) -> Affine:
    """Return the affine of a grid that begins at the same outer corner, with voxels so many times as large per axis."""
    enlarged = affine.copy()
    for axis, factor in enumerate(factors):
        if factor != 1:
            enlarged[:3, 3] += affine[:3, axis] * (factor - 1) / 2
            enlarged[:3, axis] *= factor
    return enlarged


def lay_on(voxels: Voxels, affine: Affine, *, on: Grid) -> Voxels:
    """Return a volume on the voxels of another grid, interpolated linearly; NaN where it does not reach."""
    # An outermost voxel that a rounding error moves outward would be lost.
    matrix = np.round(np.linalg.inv(affine) @ on.affine, DECIMALS)
    placed: Voxels = ndimage.affine_transform(
        voxels, matrix[:3, :3], matrix[:3, 3], on.voxels.shape, order=1, mode="constant", cval=np.nan
    )
    return placed


def sample_along(voxels: Voxels, places: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return a volume at every combination of places along its axes, interpolated linearly; its ends are repeated.

    Parameters
    ----------
    voxels
        Three axes.
    places
        Of each axis, indices in `voxels` in ascending order, not empty; fractions lie between voxels.

    Returns
    -------
    ndarray
        As many along each axis as there are places of it.
    """
    inside = [np.clip(along, 0, size - 1) for along, size in zip(places, voxels.shape, strict=True)]
    below = [np.floor(along).astype(np.int64) for along in inside]
    # Only what lies around the places is looked at.
    box = tuple(slice(int(first[0]), int(first[-1]) + 2) for first in below)
    sampled = voxels[box].astype(np.float64)
    for axis, (along, first, part) in enumerate(zip(inside, below, box, strict=True)):
        share = (along - first).reshape([-1 if n == axis else 1 for n in range(sampled.ndim)])
        near = first - part.start
        far = np.minimum(near + 1, sampled.shape[axis] - 1)
        sampled = sampled.take(near, axis=axis) * (1 - share) + sampled.take(far, axis=axis) * share
    return sampled


def pick_nearest(labels: NDArray[Any], matrix: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Return the nearest voxel's value on another grid; 0 outside of the outermost voxels.

    Parameters
    ----------
    labels
        Three axes, any numbers.
    matrix
        4 × 4, from indices of the other grid to those of `labels`.
    shape
        Of the other grid.
    """
    turn, offset = np.round(matrix[:3, :3], DECIMALS), np.round(matrix[:3, 3], DECIMALS)
    axes = np.abs(turn).argmax(axis=0)
    is_turned = len(set(axes.tolist())) < len(shape) or np.count_nonzero(turn) > len(shape)
    if is_turned:
        made = np.empty(shape, labels.dtype)
        ndimage.affine_transform(labels, turn, offset, shape, output=made, order=0, mode="grid-constant")
        return made
    # Each axis follows one axis of the other grid: three lists of indices say it all.
    picked, target = labels.transpose(axes), []
    # The last axis first: the others are copied in whole rows then.
    for axis in reversed(range(len(shape))):
        of = int(axes[axis])
        nearest = np.floor(turn[of, axis] * np.arange(shape[axis]) + offset[of] + 0.5).astype(np.int64)
        inside = np.flatnonzero((nearest >= 0) & (nearest < labels.shape[of]))
        picked = picked.take(nearest[inside], axis=axis)
        target.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0))
    placed = np.zeros(shape, labels.dtype)
    placed[tuple(reversed(target))] = picked
    return placed


def _interpolate(given: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    mode = "bilinear" if given.ndim == PLANES_NDIM else "trilinear"
    return interpolate(given, scale_factor=list(factors), mode=mode, align_corners=False, recompute_scale_factor=False)


def _interpolate_planes(given: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Return what trilinear interpolation gives: first between slices, and then in each of these planes."""
    count, *matrix = (math.floor(size * factor) for size, factor in zip(given.shape, factors, strict=True))
    places = ((torch.arange(count, dtype=torch.float64) + 0.5) / factors[0] - 0.5).clamp(0, len(given) - 1).tolist()
    between = given.new_empty((PLANES_AT_ONCE, 1, *given.shape[1:]))
    made = given.new_empty((count, *matrix))
    for first in range(0, count, PLANES_AT_ONCE):
        chosen = places[first : first + PLANES_AT_ONCE]
        for plane, place in zip(between, chosen, strict=False):
            below = math.floor(place)
            above = min(below + 1, len(given) - 1)
            torch.lerp(given[below], given[above], place - below, out=plane[0])
        made[first : first + len(chosen)] = _interpolate(between[: len(chosen)], factors[1:])[:, 0]
    return made
