"""What the input autoencoder is shown of a radiograph, a head or a chest: coarse planes of one size.

They depend on millimetres and not on what the network beside it reads, so that a model may change its own matrix and
keep its autoencoder.
"""

import numpy as np
from numpy.typing import NDArray

from workers.networks.input_autoencoder import MATRIX
from workers.pipelines.axial_stack import (
    AxialStack,
    center_window,
    crop_plane,
    find_turn,
    mark_head,
    shrink_stack,
    standardize,
)
from workers.resampling import resize_images

Planes = NDArray[np.float32]

MAX_PLANES = 16  # of a volume, evenly spaced
HEAD_PIXEL_MM = 5.0
# Slices through the vertex show little; those with less than this of the largest slice are not looked at.
MIN_HEAD_SHARE = 0.3
CHEST_PIXEL_MM = 8.0
CHEST_WINDOW_HU = (-1000.0, 400.0)
BODY_HU = -300.0


def view_film(pixels: NDArray[np.float32]) -> Planes:
    """Return a radiograph (rows, columns), bright is dense, as one plane with mean 0 and spread 1."""
    rows, columns = pixels.shape
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    plane = resize_images(pixels[None, top : top + side, left : left + side], (MATRIX, MATRIX))
    return np.asarray((plane - plane.mean()) / (plane.std() + 1e-5), np.float32)


def view_head(stack: AxialStack) -> Planes:
    """Return up to 16 slices of a head, background 0 and typical tissue 1, the head in the middle of 240 mm."""
    small = shrink_stack(stack, pixel_mm=HEAD_PIXEL_MM)
    head = mark_head(small.voxels)
    areas = head.sum(axis=(1, 2))
    if not areas.any():
        return np.zeros((1, MATRIX, MATRIX), np.float32)
    seen = np.flatnonzero(areas >= MIN_HEAD_SHARE * areas.max())
    planes = crop_plane(standardize(small.voxels), center_window(head, MATRIX), MATRIX)
    return planes[_choose(seen)]


def view_chest(hu: NDArray[np.float32], affine: NDArray[np.float64]) -> Planes:
    """Return up to 16 axial slices of a body, -1000 to 400 HU as 0 to 1, the body in the middle of 384 mm.

    Parameters
    ----------
    hu
        (slices, rows, columns) float32, HU; any even pixel size.
    affine
        4 × 4, (slice, row, column, 1) of `hu` to patient coordinates LPS, mm; nearly axial.
    """
    backwards = tuple(axis for axis in find_turn(affine).reversed_axes if axis > 0)
    chosen = np.flip(hu[_choose(np.arange(len(hu)))], backwards)
    sizes_mm = np.array(hu.shape[1:]) * np.linalg.norm(affine[:3, 1:3], axis=0)
    rows, columns = (max(1, round(float(size_mm) / CHEST_PIXEL_MM)) for size_mm in sizes_mm)
    low, high = CHEST_WINDOW_HU
    small = resize_images(np.clip(chosen, low, high), (rows, columns))
    body = small > BODY_HU
    places = np.argwhere(body.any(axis=0)) if body.any() else np.argwhere(np.ones((rows, columns), bool))
    middle = np.round((places.min(axis=0) + places.max(axis=0) + 1 - MATRIX) / 2).astype(int)
    return crop_plane(np.asarray((small - low) / (high - low), np.float32), (int(middle[0]), int(middle[1])), MATRIX)


def _choose(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    places = np.linspace(0, len(numbers) - 1, min(MAX_PLANES, len(numbers)))
    chosen: NDArray[np.int64] = numbers[np.round(places).astype(int)]
    return chosen
