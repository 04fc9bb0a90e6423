"""Where the slices of a Series lie: proven to be an even stack that can be measured, or refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.errors import MixedGeometry, NoFrameOfReference, SliceDoubled, SliceMissing

# Scanners round Image Position to 0.01 mm and Image Orientation to 1e-6; these bounds are ten times that.
POSITION_TOLERANCE_MM = 0.1
ORIENTATION_TOLERANCE = 1e-3
SPACING_TOLERANCE = 1e-3
# A step within this fraction of the median step is the same step.
STEP_TOLERANCE = 0.1
# Further than this fraction of a step from its place on the even grid, a slice would be taken for its neighbour.
PLACE_TOLERANCE = 0.5
# What places a slice, and how many numbers each holds.
GEOMETRY = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
MATRIX = ("Rows", "Columns")

Numbers = NDArray[np.float64]


class Slices(Protocol):
    """The slices of one Series, by number: what a header says, and pixels as they are asked for.

    A slice is an Instance, or one Frame of a multi-frame Instance.
    """

    def __len__(self) -> int:
        """Return how many there are."""

    def values(self, keyword: str) -> Sequence[Any]:
        """Return the value of an attribute in each; None where it is absent."""

    def frame_number(self, number: int) -> int | None:
        """Return which Frame of its Instance a slice is, from 1; None where it is the whole Instance."""

    def prove_decodable(self, number: int) -> None:
        """Raise PixelsUndecodable if the pixels of a slice cannot be read."""

    def read(self, order: Sequence[int], voxels: NDArray[np.float32]) -> None:
        """Write the slices of this order into `voxels`, (slices, rows, columns), after the Modality LUT.

        Raises
        ------
        PixelsUndecodable
            If one of them cannot be decoded; the first is named.
        """

    def arrange(self, order: Sequence[int]) -> Sequence[Dataset]:
        """Return the headers of the slices in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """An even stack of slices.

    Attributes
    ----------
    order
        Numbers of the slices along the normal of Image Orientation.
    shape
        Slices, rows, columns.
    affine
        4 × 4 float64; (slice, row, column, 1) to patient coordinates LPS, mm.
    spacing_mm
        Distance between slices along their normal, between rows, between columns; mm.
    frame_of_reference_uid
        Frame of Reference UID (0020,0052).
    """

    order: tuple[int, ...]
    shape: tuple[int, int, int]
    affine: Numbers
    spacing_mm: tuple[float, float, float]
    frame_of_reference_uid: str


def name_series(slices: Slices, number: int = 0) -> str:
    """Return what messages call the Series of an Instance."""
    return f"series {slices.values('SeriesInstanceUID')[number] or 'without UID'}"


def name_instance(slices: Slices, number: int) -> str:
    """Return what messages call a slice: the SOP Instance UID, and the Frame where it is one of several."""
    uid, frame = str(slices.values("SOPInstanceUID")[number] or "without UID"), slices.frame_number(number)
    return uid if frame is None else f"{uid} frame {frame}"


def prove_geometry(slices: Slices) -> Geometry:
    """Sort slices along their normal, and prove that they lie evenly.

    Parameters
    ----------
    slices
        Two at least.

    Raises
    ------
    SliceMissing, SliceDoubled, MixedGeometry, NoFrameOfReference
        If they do not form an evenly spaced stack that can be measured.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1, C.7.4.1
    """
    frame_of_reference_uid = _read_frame_of_reference(slices)
    _require_present(slices)
    rows, columns = _prove_matrix(slices)
    _prove_frame_of_reference(slices, frame_of_reference_uid)
    spacings, orientations = _prove_spacing(slices), _prove_orientation(slices)
    positions = _read_numbers(slices, "ImagePositionPatient")
    order, step = _prove_places(slices, positions, np.cross(*orientations[0].reshape(2, 3)))
    affine = np.eye(4)
    # Image Orientation gives the direction of a row (along columns) first (PS3.3 C.7.6.2.1.1).
    along_columns, down_rows = orientations[order[0]].reshape(2, 3)
    row_mm, column_mm = spacings[order[0]].tolist()
    affine[:3, 0] = step
    affine[:3, 1] = down_rows * row_mm
    affine[:3, 2] = along_columns * column_mm
    affine[:3, 3] = positions[order[0]]
    distance_mm = abs(float(np.linalg.det(affine[:3, :3]))) / (row_mm * column_mm)
    return Geometry(
        order=order,
        shape=(len(slices), rows, columns),
        affine=affine,
        spacing_mm=(distance_mm, row_mm, column_mm),
        frame_of_reference_uid=frame_of_reference_uid,
    )


def _read_frame_of_reference(slices: Slices) -> str:
    uid = slices.values("FrameOfReferenceUID")[0]
    if not uid or not isinstance(uid, str):
        raise NoFrameOfReference(
            f"{name_series(slices)}: Frame of Reference UID is absent or not one UID, a SEG could not be placed; "
            "correct what removed it (often a de-identifier) and send the Series again"
        )
    return str(uid)


def _require_present(slices: Slices) -> None:
    for keyword in (*GEOMETRY, *MATRIX):
        for number, value in enumerate(slices.values(keyword)):
            if not value:
                raise MixedGeometry(
                    f"{name_series(slices, number)}: {keyword} is absent in {name_instance(slices, number)} and the "
                    "volume unknown; correct it at the sender"
                )


def _prove_matrix(slices: Slices) -> tuple[int, int]:
    matrices = list(zip(*(slices.values(keyword) for keyword in MATRIX), strict=True))
    rows, columns = matrices[0]
    for number, (other_rows, other_columns) in enumerate(matrices):
        if (other_rows, other_columns) != (rows, columns):
            found = f"{other_rows} x {other_columns} beside {rows} x {columns}"
            raise MixedGeometry(f"{name_series(slices, number)}: matrices of {found}; send one reconstruction a Series")
    return int(rows), int(columns)


def _prove_frame_of_reference(slices: Slices, uid: str) -> None:
    for number, other in enumerate(slices.values("FrameOfReferenceUID")):
        if other != uid:
            raise MixedGeometry(
                f"{name_series(slices, number)}: more than one Frame of Reference; send one acquisition a Series"
            )


def _prove_spacing(slices: Slices) -> Numbers:
    spacings = _read_numbers(slices, "PixelSpacing")
    if not np.isclose(spacings, spacings[0], rtol=SPACING_TOLERANCE).all():
        raise MixedGeometry(
            f"{name_series(slices)}: Pixel Spacing changes within the Series; send one reconstruction a Series"
        )
    if (spacings[0] <= 0).any():
        raise MixedGeometry(f"{name_series(slices)}: Pixel Spacing is not above 0 mm; correct it at the sender")
    return spacings


def _prove_orientation(slices: Slices) -> Numbers:
    orientations = _read_numbers(slices, "ImageOrientationPatient")
    if not np.isclose(orientations, orientations[0], atol=ORIENTATION_TOLERANCE).all():
        raise MixedGeometry(
            f"{name_series(slices)}: Image Orientation changes within the Series; send one orientation a Series"
        )
    directions = orientations[0].reshape(2, 3)
    if not np.allclose(directions @ directions.T, np.eye(2), atol=ORIENTATION_TOLERANCE):
        raise MixedGeometry(
            f"{name_series(slices)}: Image Orientation is not two perpendicular unit vectors; correct it at the sender"
        )
    return orientations


def _read_numbers(slices: Slices, keyword: str) -> Numbers:
    """Return the numbers of each slice, (slices, numbers)."""
    read = [_to_numbers(value, GEOMETRY[keyword]) for value in slices.values(keyword)]
    for number, numbers in enumerate(read):
        if not numbers:
            raise MixedGeometry(
                f"{name_series(slices, number)}: {keyword} of {name_instance(slices, number)} is not "
                f"{GEOMETRY[keyword]} numbers; correct the sender"
            )
    return np.array(read, np.float64)


def _to_numbers(value: Any, length: int) -> tuple[float, ...]:
    """Return finite numbers; empty where `value` does not hold so many."""
    try:
        numbers = tuple(map(float, value))
    except (TypeError, ValueError):
        return ()
    return numbers if len(numbers) == length and all(map(isfinite, numbers)) else ()


def _prove_places(slices: Slices, positions: Numbers, normal: Numbers) -> tuple[tuple[int, ...], Numbers]:
    """Return the order along the normal, and the step from slice to slice, mm."""
    order = np.argsort(positions @ normal, kind="stable")
    placed = positions[order]
    numbers = tuple(order.tolist())
    _prove_steps(slices, np.diff(placed @ normal), numbers)
    step = (placed[-1] - placed[0]) / (len(placed) - 1)
    shear = float(np.linalg.norm(step - normal * float(step @ normal))) / float(step @ normal)
    if shear > STEP_TOLERANCE:
        raise MixedGeometry(
            f"{name_series(slices)}: the stack is sheared by {np.degrees(np.arctan(shear)):.1f} degrees (gantry tilt), "
            "which this version does not correct; send an untilted reconstruction"
        )
    even = placed[0] + np.arange(len(placed))[:, None] * step
    off_mm = float(np.linalg.norm(placed - even, axis=1).max())
    if off_mm > PLACE_TOLERANCE * float(step @ normal):
        raise MixedGeometry(
            f"{name_series(slices)}: the slice distance changes within the Series, slices lie up to {off_mm:.1f} mm "
            "from an even grid; send one reconstruction a Series"
        )
    return numbers, step


def _prove_steps(slices: Slices, steps: Numbers, order: Sequence[int]) -> None:
    name, median = name_series(slices), float(np.median(steps))
    doubled = np.flatnonzero(steps < POSITION_TOLERANCE_MM / 2)
    # Also where both have the same pixels: viewers stack both, and a SEG would lie on one of them only.
    if doubled.size:
        first, second = (name_instance(slices, order[int(doubled[0]) + n]) for n in (0, 1))
        raise SliceDoubled(
            f"{name}: {doubled.size} slice positions are taken twice, one by {first} and {second}; "
            "send each slice once, and one phase a Series"
        )
    gaps = steps[steps > median * (1 + STEP_TOLERANCE) + POSITION_TOLERANCE_MM / 2]
    if gaps.size:
        found = f"{gaps.size} gaps of up to {gaps.max():.1f} mm among {median:.1f} mm slices"
        raise SliceMissing(f"{name}: {found}; a slice is missing. Resend the Series")
    if (steps < median * (1 - STEP_TOLERANCE) - POSITION_TOLERANCE_MM / 2).any():
        raise MixedGeometry(f"{name}: the slice distance changes within the Series; send one reconstruction a Series")
