"""From the voxels of a lesion to millimetres."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from workers.volume import Volume

TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner belong together
PIXEL_CORNERS = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionMeasures:
    """How large a lesion is and where.

    Attributes
    ----------
    center_mm
        Centroid in patient coordinates LPS, mm.
    key_slice
        Index of the slice with the largest area.
    values
        ``long_axis_mm``, ``short_axis_mm`` on the key slice, outer edge to outer edge, and ``volume_mm3``.
    """

    center_mm: tuple[float, float, float]
    key_slice: int
    values: dict[str, float]


def voxel_mm3(volume: Volume) -> float:
    """Return the volume of one voxel from the geometry, never from Slice Thickness; mm3."""
    return abs(float(np.linalg.det(volume.affine[:3, :3])))


def measure_lesion(volume: Volume, mask: NDArray[np.bool_]) -> LesionMeasures:
    """Return the measures of a mask.

    Parameters
    ----------
    mask
        (slices, rows, columns) on the volume's grid, not empty.
    """
    index = np.argwhere(mask)
    key_slice = int(np.bincount(index[:, 0]).argmax())
    long_axis, short_axis = measure_axes(mask[key_slice], (volume.spacing_mm[1], volume.spacing_mm[2]))
    return LesionMeasures(
        center_mm=volume.to_patient_mm([float(v) for v in index.mean(axis=0)]),
        key_slice=key_slice,
        values={
            "long_axis_mm": long_axis,
            "short_axis_mm": short_axis,
            "volume_mm3": len(index) * voxel_mm3(volume),
        },
    )


def measure_axes(plane: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """Return the longest diameter of a region and its width across that diameter, mm.

    Parameters
    ----------
    plane
        (rows, columns), not empty.
    spacing_mm
        Distance of rows and of columns.
    """
    corners = (np.argwhere(plane)[:, None, :] + PIXEL_CORNERS).reshape(-1, 2) * np.array(spacing_mm)
    hull = corners[ConvexHull(corners).vertices]
    distances = squareform(pdist(hull))
    first, second = np.unravel_index(int(distances.argmax()), distances.shape)
    along = (hull[second] - hull[first]) / distances[first, second]
    across = hull @ np.array([-along[1], along[0]])
    return float(distances.max()), float(across.max() - across.min())


def drop_specks(mask: NDArray[np.bool_], *, min_voxels: float) -> NDArray[np.bool_]:
    """Return the mask without its connected pieces of fewer than `min_voxels` voxels."""
    if not mask.any():
        return mask
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(mask))
    labels, _ = ndimage.label(mask[box], structure=TOUCHING)
    large = np.bincount(labels.ravel()) >= min_voxels
    large[0] = False
    kept = np.zeros_like(mask)
    kept[box] = large[labels]
    return kept
