"""What is really there: labels on a Volume's grid, lesions as points, or what a film shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.errors import TruthInvalid
from workers.volume import Volume

Labels = NDArray[np.uint16]
# Names of labels that stand for another: the one that the model has, and each that is not named.
ONLY, OTHERS = "", "*"
TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner belong together


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One thing that is to be found.

    Attributes
    ----------
    center_mm
        LPS.
    diameter_mm
        > 0.
    mask
        bool, on the grid of its Volume within `box`; None where only the point is known.
    """

    center_mm: tuple[float, float, float]
    diameter_mm: float
    box: tuple[slice, slice, slice] | None = None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is known of one case; what it says nothing of is None or empty.

    Attributes
    ----------
    marks
        From the Volume that was read to (slices, rows, columns) on its grid, 0 is background.
    lesions
        From the Volume to lesions known as points; an empty tuple says that there are none.
    labels
        Whether the film shows each of these, by name in lower case, `ONLY` or `OTHERS`.
    columns
        Further columns of the table that it stands in, for subgroups.
    """

    marks: Callable[[Volume], Labels] | None = None
    lesions: Callable[[Volume], tuple[Lesion, ...]] | None = None
    labels: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def find_label(self, name: str) -> bool | None:
        """Return whether the film shows what a model calls `name`; None where that is not known."""
        for key in (name.lower(), ONLY, OTHERS):
            if key in self.labels:
                return self.labels[key]
        return None


def join_truths(found: Sequence[Truth]) -> Truth:
    """Return what several sources say of one case together; of two that mark a voxel the later one counts."""
    marks = [one.marks for one in found if one.marks is not None]
    points = [one.lesions for one in found if one.lesions is not None]
    return Truth(
        marks=(lambda volume: _overlay([mark(volume) for mark in marks])) if marks else None,
        lesions=(lambda volume: tuple(lesion for point in points for lesion in point(volume))) if points else None,
        labels={name: value for one in found for name, value in one.labels.items()},
        columns={name: value for one in found for name, value in one.columns.items()},
    )


def _overlay(labels: Sequence[Labels]) -> Labels:
    whole = labels[0]
    for one in labels[1:]:
        whole = np.where(one > 0, one, whole).astype(np.uint16)
    return whole


def place_labels(labels: NDArray[np.generic], affine: NDArray[np.float64], volume: Volume) -> Labels:
    """Return labels of any grid on that of a Volume, each voxel that of the nearest; outside there are none.

    Parameters
    ----------
    labels
        (i, j, k), whole numbers from 0.
    affine
        4 × 4: (i, j, k, 1) to LPS, mm.
    """
    path = np.linalg.inv(affine) @ volume.affine
    placed: Labels = ndimage.affine_transform(
        np.asarray(labels, np.uint16), path, output_shape=volume.voxels.shape, order=0, mode="constant"
    )
    return placed


def require_grid(labels: NDArray[np.generic], volume: Volume, *, name: str) -> Labels:
    """Return labels that come without a place and must have the grid of the Volume.

    Raises
    ------
    TruthInvalid
        If they have another one.
    """
    if labels.shape != volume.voxels.shape:
        found, wanted = (" x ".join(str(n) for n in shape) for shape in (labels.shape, volume.voxels.shape))
        raise TruthInvalid(
            f"{name}: a mask of {found} voxels without a place, where the Series has {wanted} slices, rows and "
            "columns; give it the array affine (index to LPS mm), or cut it to the Series"
        )
    return np.asarray(labels, np.uint16)


def split_lesions(marks: Labels, volume: Volume) -> tuple[Lesion, ...]:
    """Return each connected piece of each label as a lesion; its diameter is that of the ball of its volume, mm."""
    lesions = []
    for value in np.flatnonzero(np.bincount(marks.ravel())).tolist():
        if not value:
            continue
        pieces, _ = ndimage.label(marks == value, structure=TOUCHING)
        for number, box in enumerate(ndimage.find_objects(pieces), start=1):
            mask = pieces[box] == number
            middle = np.argwhere(mask).mean(axis=0) + [part.start for part in box]
            volume_mm3 = float(mask.sum()) * volume.voxel_mm3
            lesions.append(
                Lesion(
                    center_mm=volume.to_patient_mm(middle.tolist()),
                    diameter_mm=(6 * volume_mm3 / np.pi) ** (1 / 3),
                    box=(box[0], box[1], box[2]),
                    mask=mask,
                )
            )
    return tuple(lesions)
