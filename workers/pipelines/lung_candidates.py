"""Where in a chest CT a nodule could be: the lungs, and round things in them."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from node.errors import WrongBodyPart
from workers.resampling import average_cells, enlarge_cells, resample
from workers.volume import Volume

COARSE_MM = 2.0  # lungs and candidates need no finer grid; patches are cut from the native one
AIR_HU = -400.0
AIR_FLOOR_HU = -1024.0
# Trapped air (trachea, bowel, between patient and table) is darker than any lung, even an emphysematous one.
LUNG_MEAN_HU = (-960.0, -450.0)
LUNG_PART_MIN_ML = 50.0
LUNG_MIN_ML = 200.0
LUNG_MAX_ML = 12_000.0
LUNG_FILL_HU = -850.0
# 12 mm along the axes, 17 across: a nodule on the pleura belongs to the lung.
CLOSING_STEPS = 6
CLOSING_SHAPE = ndimage.generate_binary_structure(3, 2)
SIGMAS_MM = (2.4, 4.0, 6.4)
DENSE_HU = (-1000.0, 200.0)
# Ground glass is faint beside a vessel: it is looked for where a vessel is no denser than glass, and in larger blobs.
GLASS_SIGMAS_MM = (4.0, 6.4, 9.0)
GLASS_HU = (-950.0, -500.0)
GLASS_SHARE = 1 / 3  # of all candidates
APART_MM = 3.0
MIN_RESPONSE_HU = 60.0
PEAK_REACH = 5  # coarse voxels
BALL_RADIUS_PER_SIGMA = sqrt(3.0)  # the Laplacian of a Gaussian is largest for a ball of this radius

FloatArray = NDArray[np.float32]
MaskArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coarse:
    """A Volume on a grid of about 2 mm.

    Attributes
    ----------
    voxels
        (slices, rows, columns) float32, HU.
    step
        Native voxels in one coarse voxel, per axis; cells share their outer corner with the native grid.
    """

    voxels: FloatArray
    step: NDArray[np.float64]

    def to_native(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return native indices of coarse ones, (..., 3)."""
        return (index + 0.5) * self.step - 0.5

    def place(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the 4 × 4 affine of this grid, given that of the native one."""
        return enlarge_cells(affine, self.step.tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Lungs:
    """The lungs on the coarse grid.

    Attributes
    ----------
    mask
        (slices, rows, columns) bool; closed, so that vessels and nodules on the pleura are inside.
    volume_ml
        Of `mask`, > 0.
    midline_mm
        x in patient coordinates (LPS) that parts the right from the left side, mm.
    """

    mask: MaskArray
    volume_ml: float
    midline_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Round things in the lungs, most prominent first.

    Attributes
    ----------
    index
        (n, 3) float64, native (slice, row, column).
    radius_mm
        (n,) float64, of the ball that would answer strongest.
    response
        (n,) float64, scale-normalized Laplacian of Gaussian, HU.
    """

    index: NDArray[np.float64]
    radius_mm: NDArray[np.float64]
    response: NDArray[np.float64]


def coarsen(volume: Volume) -> Coarse:
    """Return the Volume averaged to cells of about 2 mm."""
    spacing = np.asarray(volume.spacing_mm, dtype=np.float64)
    whole = np.maximum(1, np.floor(COARSE_MM / spacing + 1e-6)).astype(int)
    cells = average_cells(volume.voxels, volume.affine, whole=whole.tolist())
    # Outside the reconstructed circle GE writes -2000 or -3024.
    np.maximum(cells.voxels, np.float32(AIR_FLOOR_HU), out=cells.voxels)
    made = resample(cells.voxels, cells.affine, scale=(spacing * whole / COARSE_MM).tolist())
    return Coarse(voxels=made.voxels, step=COARSE_MM / spacing)


def find_lungs(coarse: Coarse, affine: NDArray[np.float64]) -> Lungs:
    """Return the lungs, or refuse what is no chest.

    The first and the last slice are no border: a slab that begins and ends inside the lungs is read too.

    Raises
    ------
    WrongBodyPart
        If there is no lung of a plausible size.
    """
    parts = _lung_parts(coarse.voxels)
    cell_ml = COARSE_MM**3 / 1000
    volume_ml = float(parts.sum()) * cell_ml
    if not LUNG_MIN_ML <= volume_ml <= LUNG_MAX_ML:
        msg = (
            f"expected {LUNG_MIN_ML:.0f} to {LUNG_MAX_ML:.0f} mL of lung, found {volume_ml:.0f}: "
            "the Series is no chest CT or covers too little of it. Route chest CT only."
        )
        raise WrongBodyPart(msg)
    mask = close_lungs(parts)
    return Lungs(
        mask=mask,
        volume_ml=float(mask.sum()) * cell_ml,
        midline_mm=_midline(coarse, affine),
    )


def find_candidates(coarse: Coarse, lungs: Lungs, *, limit: int) -> Candidates:
    """Return at most `limit` blobs inside the lungs.

    A vessel is bright across two directions and long in the third; a nodule is bright across all three. Peaks
    are ranked by the flattest of the three, so that branching points of vessels come last. What is as dense as
    soft tissue comes first, then what is no denser than ground glass.

    Parameters
    ----------
    limit
        > 0.
    """
    box = _box(lungs.mask, margin=4)
    inside, voxels = lungs.mask[box], coarse.voxels[box]
    glassy = int(GLASS_SHARE * limit)
    dense = _rank(voxels, inside, window_hu=DENSE_HU, sigmas_mm=SIGMAS_MM)
    glass = _rank(voxels, inside, window_hu=GLASS_HU, sigmas_mm=GLASS_SIGMAS_MM)
    found = _take_apart(dense, limit - glassy)
    found = _take_apart(np.concatenate([found, glass]), limit)
    corner = np.array([part.start for part in box], dtype=np.float64)
    return Candidates(
        index=coarse.to_native(found[:, :3] + corner),
        radius_mm=found[:, 3],
        response=found[:, 4],
    )


def _lung_parts(voxels: FloatArray) -> MaskArray:
    labels, count = ndimage.label(voxels < AIR_HU)
    border = np.unique(
        np.concatenate([labels[:, edge].ravel() for edge in (0, -1)] + [labels[:, :, edge].ravel() for edge in (0, -1)])
    )
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sums = np.bincount(labels.ravel(), weights=voxels.ravel(), minlength=count + 1)
    means = sums / np.maximum(sizes, 1)
    good = sizes * COARSE_MM**3 / 1000 >= LUNG_PART_MIN_ML
    good &= (means > LUNG_MEAN_HU[0]) & (means < LUNG_MEAN_HU[1])
    good[border] = False
    good[0] = False
    chosen: MaskArray = good[labels]
    return chosen


def close_lungs(parts: MaskArray) -> MaskArray:
    """Return the airy parts with what they enclose or nearly enclose: vessels, nodules, nodules on the pleura."""
    # End slices are repeated: otherwise the closing would eat a slab's first and last 10 mm.
    padded = np.pad(parts, CLOSING_STEPS + 1, mode="edge")
    closed = ndimage.binary_closing(padded, CLOSING_SHAPE, iterations=CLOSING_STEPS)
    inner = slice(CLOSING_STEPS + 1, -CLOSING_STEPS - 1)
    mask: MaskArray = closed[inner, inner, inner]
    for plane in mask:
        ndimage.binary_fill_holes(plane, output=plane)
    return mask


def _midline(coarse: Coarse, affine: NDArray[np.float64]) -> float:
    # The body's centre, not the lungs': with one lung collapsed the lungs' centre lies inside the other.
    labels, _ = ndimage.label(coarse.voxels > AIR_HU)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    index = np.argwhere(labels == int(sizes.argmax())).mean(axis=0)
    native = coarse.to_native(index)
    return float((affine @ np.append(native, 1.0))[0])


def _box(mask: MaskArray, *, margin: int) -> tuple[slice, slice, slice]:
    (found,) = ndimage.find_objects(mask.astype(np.uint8))
    z, y, x = (
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, size in zip(found, mask.shape, strict=True)
    )
    return z, y, x


def _rank(
    voxels: FloatArray, inside: MaskArray, *, window_hu: tuple[float, float], sigmas_mm: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the blobs of one window, most prominent first: index, radius in mm and response, (n, 5)."""
    # The chest wall is taken away, so that a nodule that leans on it stands alone.
    scene = np.where(inside, np.clip(voxels, *window_hu), np.float32(LUNG_FILL_HU))
    found = np.concatenate([_peaks(scene, inside, sigma_mm) for sigma_mm in sigmas_mm])
    ranked: NDArray[np.float64] = found[np.argsort(-found[:, 5], kind="stable"), :5]
    return ranked


def _take_apart(ranked: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """Return the first `limit` of those that lie apart from every one before them."""
    ranked = ranked[: 4 * limit]  # of one thing each sigma finds a peak
    pairs = cKDTree(ranked[:, :3]).query_pairs(APART_MM / COARSE_MM, output_type="ndarray")
    dropped = np.zeros(len(ranked), dtype=bool)
    for first, later in sorted(pairs.tolist()):
        dropped[later] |= not dropped[first]
    return ranked[~dropped][:limit]


def _peaks(scene: FloatArray, inside: MaskArray, sigma_mm: float) -> NDArray[np.float64]:
    """Return index, radius in mm, response and blobness of each peak, (n, 6)."""
    sigma = sigma_mm / COARSE_MM
    smooth = ndimage.gaussian_filter(scene, sigma, truncate=3.0, mode="nearest")
    response = -ndimage.laplace(smooth, mode="nearest") * sigma**2
    peak = (response == ndimage.maximum_filter(response, PEAK_REACH, mode="nearest")) & inside
    index = np.argwhere(peak & (response > MIN_RESPONSE_HU))
    flattest = _curvatures(smooth, index)[:, 2] * sigma**2
    radius = np.full(len(index), sigma_mm * BALL_RADIUS_PER_SIGMA)
    found = np.column_stack([index, radius, response[tuple(index.T)], -flattest])
    round_ones: NDArray[np.float64] = found[flattest < 0]
    return round_ones


def _curvatures(smooth: FloatArray, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the three principal curvatures at each index, ascending, (n, 3)."""
    padded = np.pad(smooth, 1, mode="edge")
    middle = index + 1
    unit = np.eye(3, dtype=np.int64)

    def at(offset: NDArray[np.int64]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = padded[tuple((middle + offset).T)].astype(np.float64)
        return values

    hessian = np.empty((len(index), 3, 3))
    for a in range(3):
        hessian[:, a, a] = at(unit[a]) - 2 * at(0 * unit[a]) + at(-unit[a])
        for b in range(a):
            cross = at(unit[a] + unit[b]) + at(-unit[a] - unit[b])
            cross -= at(unit[a] - unit[b]) + at(unit[b] - unit[a])
            hessian[:, a, b] = hessian[:, b, a] = cross / 4
    curvatures: NDArray[np.float64] = np.linalg.eigvalsh(hessian).astype(np.float64)
    return curvatures
