"""From a candidate to the voxels of the nodule, and from the voxels to millimetres."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import pdist, squareform

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

Box = tuple[slice, slice, slice]
MaskArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """The voxels of one nodule in its box on the native grid.

    Attributes
    ----------
    box
        Slices, rows and columns of the Volume.
    mask
        bool, of the box's shape, connected, not empty.
    """

    box: Box
    mask: MaskArray

    def center_index(self) -> NDArray[np.float64]:
        """Return the centroid as native (slice, row, column)."""
        corner = np.array([part.start for part in self.box], dtype=np.float64)
        center: NDArray[np.float64] = np.argwhere(self.mask).mean(axis=0) + corner
        return center

    def core_index(self, volume: Volume) -> NDArray[np.float64]:
        """Return the centroid of the denser half as native (slice, row, column).

        Haze and partial volume at the rim move it less than the centroid of all.
        """
        corner = np.array([part.start for part in self.box], dtype=np.float64)
        hu = volume.voxels[self.box]
        core = self.mask & (hu >= np.median(hu[self.mask]))
        center: NDArray[np.float64] = np.argwhere(core).mean(axis=0) + corner
        return center

    def key_slice(self) -> int:
        """Return the index of the slice with the largest area."""
        return int(self.box[0].start + self.mask.sum(axis=(1, 2)).argmax())


def outline_nodule(
    volume: Volume, coarse: Coarse, lungs: Lungs, *, index: NDArray[np.float64], radius_mm: float
) -> Outline | None:
    """Return the nodule grown from `index`, or None where no compact region ends inside the lung.

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
            return Outline(box=box, mask=_with_rim(mask, hazy, inside, spacing))
    return None


def measure_outline(volume: Volume, outline: Outline) -> dict[str, float]:
    """Return ``long_axis_mm``, ``short_axis_mm``, ``volume_mm3`` and ``mean_hu``.

    The axes are taken in the slice with the largest area, outer edge to outer edge; the volume is voxels times
    the distance of slices, never Slice Thickness.
    """
    plane = outline.mask[outline.key_slice() - outline.box[0].start]
    long_mm, short_mm = _axes(plane, volume.spacing_mm[1:])
    voxel_mm3 = abs(float(np.linalg.det(volume.affine[:3, :3])))
    return {
        "long_axis_mm": long_mm,
        "short_axis_mm": short_mm,
        "volume_mm3": float(outline.mask.sum()) * voxel_mm3,
        "mean_hu": float(volume.voxels[outline.box][outline.mask].mean()),
    }


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


def _axes(plane: MaskArray, spacing: tuple[float, ...]) -> tuple[float, float]:
    rim = plane & ~ndimage.binary_erosion(plane)
    points = np.argwhere(rim) * np.asarray(spacing)
    pixel_mm = float(np.mean(spacing))
    if len(points) < 2:
        return pixel_mm, pixel_mm
    gaps = squareform(pdist(points))
    first, second = np.unravel_index(int(gaps.argmax()), gaps.shape)
    along = (points[second] - points[first]) / gaps[first, second]
    across = points @ np.array([-along[1], along[0]])
    # From outer edge to outer edge: the points are middles of pixels.
    return float(gaps[first, second]) + pixel_mm, float(np.ptp(across)) + pixel_mm
