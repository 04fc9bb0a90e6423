"""From a candidate to the voxels of the nodule."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.measurements import Box, Region
from workers.pipelines.lung_candidates import Coarse, Lungs
from workers.volume import Volume

REACH_MM = 24.0
SMOOTH_MM = 0.5
LUNG_HU = -850.0
# Where the edge of a nodule lies between lung and core. Half way would cut the ground-glass rim off a part-solid one.
EDGE_SHARE = 0.42
EDGE_HU = (-700.0, -420.0)
STRICTER = (0.0, 0.15, 0.3)  # added to EDGE_SHARE, in turn, when the region leaks into its surroundings
# A vessel that is thinner than this share of the nodule is cut off where it joins.
OPENING_SHARE = 0.55
# Nothing farther from the deepest point than this many depths: so a nodule on the pleura does not spread along it.
SPREAD = 2.0
# A part-solid nodule is measured with its ground glass; a solid one has nothing this dense so far outside.
GLASS_HU = -750.0
GLASS_SMOOTH_MM = 0.7
RIM_FROM_MM, RIM_TO_MM = 1.5, 6.0
RIM_FROM_STEPS = 1.25  # of the coarsest spacing: the neighbour slice of a solid nodule holds part of it
RIM_OPENING_MM = 1.0
RIM_SHELL_MM = 1.5
RIM_COVER = 0.35  # of that shell around the solid part: a vessel beside it covers less, ground glass more
MAX_EXTENT_MM = 36.0
MAX_ELONGATION = 4.0

MaskArray = NDArray[np.bool_]


def outline_nodule(
    volume: Volume, coarse: Coarse, lungs: Lungs, *, index: NDArray[np.float64], radius_mm: float
) -> Region | None:
    """Return the nodule grown from `index`, connected, or None where no compact region ends inside the lung.

    Parameters
    ----------
    index
        Native (slice, row, column) of the candidate.
    radius_mm
        Rough radius, mm, > 0.
    """
    box = _box_around(volume, index)
    spacing = np.asarray(volume.spacing_mm)
    smooth = ndimage.gaussian_filter(volume.voxels[box], SMOOTH_MM / spacing, mode="nearest")
    inside = _inside(coarse, lungs, box)
    from_middle = _distances(box, index, spacing)
    core_ball = from_middle <= max(2.0, 0.5 * radius_mm)
    if not core_ball.any():
        return None
    core_hu = float(np.percentile(smooth[core_ball], 75))
    for stricter in STRICTER:
        edge_hu = LUNG_HU + (EDGE_SHARE + stricter) * (core_hu - LUNG_HU)
        if stricter == 0:
            edge_hu = float(np.clip(edge_hu, *EDGE_HU))
        dense = (smooth > edge_hu) & inside & (from_middle < REACH_MM)
        mask = _compact_part(dense, core_ball, spacing)
        if mask is not None and not _leaks(mask, from_middle, spacing):
            glass = ndimage.gaussian_filter(volume.voxels[box], GLASS_SMOOTH_MM / spacing)
            hazy = (glass > GLASS_HU) & inside & (from_middle < REACH_MM)
            return Region(box=box, mask=_with_rim(mask, hazy, inside, spacing))
    return None


def find_core(volume: Volume, outline: Region) -> NDArray[np.float64]:
    """Return the centroid of the denser half as native (slice, row, column).

    Haze and partial volume at the rim move it less than the centroid of all.
    """
    hu = volume.voxels[outline.box]
    core = outline.mask & (hu >= np.median(hu[outline.mask]))
    return Region(box=outline.box, mask=core).center_index()


def _box_around(volume: Volume, index: NDArray[np.float64]) -> Box:
    z, y, x = (
        slice(
            max(0, int(middle - (REACH_MM + 1) / step)),
            min(size, int(middle + (REACH_MM + 1) / step) + 2),
        )
        for middle, step, size in zip(index, volume.spacing_mm, volume.voxels.shape, strict=True)
    )
    return z, y, x


def _distances(box: Box, index: NDArray[np.float64], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    z, y, x = (
        (np.arange(part.start, part.stop) - middle) * step
        for part, middle, step in zip(box, index, spacing, strict=True)
    )
    distances: NDArray[np.float64] = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    return distances


def _inside(coarse: Coarse, lungs: Lungs, box: Box) -> MaskArray:
    index = []
    for axis, part in enumerate(box):
        native = np.arange(part.start, part.stop, dtype=np.float64)
        cell = np.round((native + 0.5) / coarse.step[axis] - 0.5).astype(int)
        index.append(np.clip(cell, 0, lungs.mask.shape[axis] - 1))
    inside: MaskArray = lungs.mask[np.ix_(*index)]
    return inside


def _compact_part(dense: MaskArray, core_ball: MaskArray, spacing: NDArray[np.float64]) -> MaskArray | None:
    """Return the part of `dense` around the candidate, without the vessels that enter it."""
    # Repeated end slices: the volume's end is no edge of the nodule.
    padded = np.pad(dense, ((2, 2), (0, 0), (0, 0)), mode="edge")
    depth = ndimage.distance_transform_edt(padded, sampling=spacing)[2:-2]
    deepest = float(depth[core_ball].max())
    if deepest <= 0:
        return None
    opening_mm = OPENING_SHARE * deepest
    labels, _ = ndimage.label(depth > opening_mm)
    chosen = labels[core_ball & (depth == deepest)][0]
    if chosen == 0:
        return None
    to_kernel = ndimage.distance_transform_edt(labels != chosen, sampling=spacing)
    middle = np.argwhere(core_ball & (depth == deepest))[0]
    places = [(np.arange(size) - at) * step for size, at, step in zip(dense.shape, middle, spacing, strict=True)]
    far = np.sqrt(sum(np.meshgrid(*(p**2 for p in places), indexing="ij", sparse=True)))
    reach_mm = opening_mm + 0.5 * float(spacing.min())
    grown: MaskArray = dense & (to_kernel <= reach_mm) & (far <= SPREAD * deepest + 1.0)
    return grown


def _with_rim(mask: MaskArray, hazy: MaskArray, inside: MaskArray, spacing: NDArray[np.float64]) -> MaskArray:
    """Return the mask with the ground glass around it, where there is enough of it."""
    away = ndimage.distance_transform_edt(~mask, sampling=spacing)
    near = (hazy | mask) & (away <= RIM_TO_MM)
    thick = ndimage.distance_transform_edt(near, sampling=spacing) > RIM_OPENING_MM
    whole = near & (ndimage.distance_transform_edt(~thick, sampling=spacing) <= RIM_OPENING_MM)
    labels, _ = ndimage.label(whole | mask)
    joined = np.isin(labels, np.unique(labels[mask]))
    clear_mm = max(RIM_FROM_MM, RIM_FROM_STEPS * float(spacing.max()))
    shell = inside & (away > clear_mm) & (away <= clear_mm + RIM_SHELL_MM)
    if (joined & shell).sum() < RIM_COVER * shell.sum():
        return mask
    return joined


def _leaks(mask: MaskArray, from_middle: NDArray[np.float64], spacing: NDArray[np.float64]) -> bool:
    """Tell whether the region is no nodule's: it reaches the search's end, or is a tube."""
    if float(from_middle[mask].max()) > REACH_MM - 2.0:
        return True
    places = np.argwhere(mask) * spacing
    extent = np.ptp(places, axis=0) + spacing
    if float(extent.max()) > MAX_EXTENT_MM:
        return True
    if len(places) < 4:
        return False
    # Variance of a voxel itself is added, so that a nodule of two slices is not a flat one.
    variances = np.linalg.eigvalsh(np.cov(places.T) + np.diag(spacing**2 / 12))
    return float(np.sqrt(variances[2] / variances[1])) > MAX_ELONGATION
