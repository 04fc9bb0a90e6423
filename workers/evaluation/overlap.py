"""How well one mask covers another: Dice, Jaccard, surface distances and volume."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from numpy.typing import NDArray

PERCENTILE = 95.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What two masks have in common.

    Where both are empty, Dice, Jaccard and surface Dice are 1 and the distance is 0: nothing is there, and nothing was
    marked. Where one is empty they are 0, and the distance is not defined (NaN).

    Attributes
    ----------
    dice, jaccard
        0..1.
    hd95_mm
        The larger of the two directed 95th percentiles of surface distances, mm.
    surface_dice
        Share of both surfaces that lies within the tolerance of the other, 0..1.
    truth_mm3, found_mm3
        Volumes.
    """

    dice: float
    jaccard: float
    hd95_mm: float
    surface_dice: float
    truth_mm3: float
    found_mm3: float

    @property
    def volume_error(self) -> float:
        """Found minus true volume over true volume; NaN without a true one."""
        return (self.found_mm3 - self.truth_mm3) / self.truth_mm3 if self.truth_mm3 else math.nan


def measure_overlap(
    found: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    spacing_mm: tuple[float, float, float],
    voxel_mm3: float,
    tolerance_mm: float,
) -> Overlap:
    """Return how well `found` covers `truth`.

    Surfaces are the voxels of a mask that touch one outside of it (MONAI's); their distances are those of the voxels'
    middles.

    Parameters
    ----------
    found, truth
        (slices, rows, columns).
    spacing_mm
        Distance between slices, rows and columns.
    tolerance_mm
        Surfaces nearer than this agree; > 0.
    """
    common, marked, drawn = (int(np.count_nonzero(mask)) for mask in (found & truth, found, truth))
    volumes = {"truth_mm3": drawn * voxel_mm3, "found_mm3": marked * voxel_mm3}
    if not marked or not drawn:
        alike = float(marked == drawn)
        distance_mm = 0.0 if marked == drawn else math.nan
        return Overlap(dice=alike, jaccard=alike, hd95_mm=distance_mm, surface_dice=alike, **volumes)
    box = _enclose(found | truth)
    pair = [torch.from_numpy(np.pad(mask[box], 1))[None, None] for mask in (found, truth)]
    spacing = list(spacing_mm)
    with warnings.catch_warnings():
        # MONAI 1.6 calls itself with an argument that it has deprecated.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        distance = compute_hausdorff_distance(
            pair[0], pair[1], include_background=True, percentile=PERCENTILE, spacing=spacing
        )
        surface = compute_surface_dice(
            pair[0], pair[1], class_thresholds=[tolerance_mm], include_background=True, spacing=spacing
        )
    return Overlap(
        dice=2 * common / (marked + drawn),
        jaccard=common / (marked + drawn - common),
        hd95_mm=float(distance[0, 0]),
        surface_dice=float(surface[0, 0]),
        **volumes,
    )


def _enclose(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box around what is marked."""
    box = []
    for axis in range(mask.ndim):
        seen = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(seen[0]), int(seen[-1]) + 1))
    return tuple(box)
