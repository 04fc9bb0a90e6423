"""Slices become a Volume with a proven geometry, or are refused."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.errors import (
    InputMissing,
    MixedGeometry,
    NoFrameOfReference,
    NotEligible,
    SliceDoubled,
    SliceMissing,
    TooFewSlices,
)
from workers.pixels import decode_pixels, rescale_pixels

# Scanners round Image Position to 0.01 mm and Image Orientation to 1e-6; these bounds are ten times that.
POSITION_TOLERANCE_MM = 0.1
ORIENTATION_TOLERANCE = 1e-3
# A step within this fraction of the median step is the same step.
STEP_TOLERANCE = 0.1
# Further than this fraction of a step from its place on the even grid, a slice would be taken for its neighbour.
PLACE_TOLERANCE = 0.5
MIN_SLICES = 3
FEWEST_FOR_GEOMETRY = 2
# What places a slice, and how many numbers each holds.
GEOMETRY = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A stack of parallel, evenly spaced slices.

    Attributes
    ----------
    voxels
        (slices, rows, columns) float32; HU for CT. Slices run along the normal of Image Orientation.
    affine
        4 × 4 float64; (slice, row, column, 1) to patient coordinates LPS, mm.
    spacing_mm
        Distance between slices (along their normal, from Image Position, never Slice Thickness), rows, columns; mm.
    frame_of_reference_uid
        Frame of Reference UID (0020,0052).
    datasets
        The source Instances in slice order.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    frame_of_reference_uid: str
    datasets: tuple[Dataset, ...]

    @property
    def voxel_mm3(self) -> float:
        """Return the volume of one voxel, mm³."""
        return abs(float(np.linalg.det(self.affine[:3, :3])))

    def to_patient_mm(self, index: Sequence[float]) -> tuple[float, float, float]:
        """Return where (slice, row, column) lies, in LPS mm."""
        x, y, z = (self.affine @ np.array([*index, 1.0]))[:3]
        return float(x), float(y), float(z)

    def to_index(self, point_mm: Sequence[float]) -> tuple[float, float, float]:
        """Return the fractional (slice, row, column) of a point in LPS mm."""
        s, r, c = (np.linalg.inv(self.affine) @ np.array([*point_mm, 1.0]))[:3]
        return float(s), float(r), float(c)


def read_volume(datasets: Sequence[Dataset], *, min_slices: int = MIN_SLICES) -> Volume:
    """Sort, prove and stack the slices of one Series.

    Parameters
    ----------
    datasets
        Single-frame Instances of one Series, any order, Pixel Data present.
    min_slices
        Fewer are refused; > 1.

    Raises
    ------
    NotEligible
        If an Instance holds more than one Frame (Enhanced CT, Enhanced MR).
    TooFewSlices, SliceMissing, SliceDoubled, MixedGeometry, NoFrameOfReference
        If the slices do not form an evenly spaced stack that can be measured.
    PixelsUndecodable
        If one slice cannot be decoded.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1, C.7.4.1
    """
    if not datasets:
        raise InputMissing("the Series holds no Instances; send it again")
    _check_single_frames(datasets)
    if len(datasets) < FEWEST_FOR_GEOMETRY:
        raise TooFewSlices(_too_few(datasets, FEWEST_FOR_GEOMETRY))
    # A Series that cannot be decoded at all is told so, whatever else is wrong with it.
    decode_pixels(datasets[0])
    _check_same_grid(datasets)
    ordered, step = _sort_slices(datasets)
    first = ordered[0]
    row_mm, column_mm = _numbers(first, "PixelSpacing").tolist()
    voxels = np.empty((len(ordered), first.Rows, first.Columns), dtype=np.float32)
    for number, ds in enumerate(ordered):
        voxels[number] = rescale_pixels(ds)
    # Asked last: of a short Series that is damaged too, the damage is what a person must know.
    if len(datasets) < min_slices:
        raise TooFewSlices(_too_few(datasets, min_slices))
    affine = np.eye(4)
    affine[:3, 0] = step
    # Image Orientation gives the direction of a row (along columns) first (PS3.3 C.7.6.2.1.1).
    along_columns, down_rows = _numbers(first, "ImageOrientationPatient").reshape(2, 3)
    affine[:3, 1] = down_rows * row_mm
    affine[:3, 2] = along_columns * column_mm
    affine[:3, 3] = _numbers(first, "ImagePositionPatient")
    return Volume(
        voxels=voxels,
        affine=affine,
        spacing_mm=(abs(float(np.linalg.det(affine[:3, :3]))) / (row_mm * column_mm), row_mm, column_mm),
        frame_of_reference_uid=str(first.FrameOfReferenceUID),
        datasets=tuple(ordered),
    )


def _too_few(datasets: Sequence[Dataset], needed: int) -> str:
    found = f"{_name(datasets[0])}: {len(datasets)} slices where at least {needed} are needed"
    return f"{found}; send the whole Series"


def _name(ds: Dataset) -> str:
    return f"series {ds.get('SeriesInstanceUID', 'without UID')}"


def _check_single_frames(datasets: Sequence[Dataset]) -> None:
    for ds in datasets:
        # An Enhanced Instance of one Frame keeps its geometry in functional groups too (PS3.3 C.7.6.16).
        if "PerFrameFunctionalGroupsSequence" in ds or str(ds.get("NumberOfFrames") or 1) != "1":
            raise NotEligible(
                f"{_name(ds)}: {ds.SOPInstanceUID} is a multi-frame Instance (Enhanced CT or MR), which this version "
                "does not read; let the sender convert the Series to single-frame Instances"
            )


def _check_same_grid(datasets: Sequence[Dataset]) -> None:
    first = datasets[0]
    uid = first.get("FrameOfReferenceUID")
    if not uid or not isinstance(uid, str):
        raise NoFrameOfReference(
            f"{_name(first)}: Frame of Reference UID is absent or not one UID, a SEG could not be placed; correct what "
            "removed it (often a de-identifier) and send the Series again"
        )
    for ds in datasets:
        for keyword in (*GEOMETRY, "Rows", "Columns"):
            if not ds.get(keyword):
                raise MixedGeometry(
                    f"{_name(ds)}: {keyword} is absent in {ds.SOPInstanceUID} and the volume unknown; "
                    "correct it at the sender"
                )
        _check_like_first(ds, first)
    if (_numbers(first, "PixelSpacing") <= 0).any():
        raise MixedGeometry(f"{_name(first)}: Pixel Spacing is not above 0 mm; correct it at the sender")


def _check_like_first(ds: Dataset, first: Dataset) -> None:
    if (ds.Rows, ds.Columns) != (first.Rows, first.Columns):
        found = f"{ds.Rows} x {ds.Columns} beside {first.Rows} x {first.Columns}"
        raise MixedGeometry(f"{_name(ds)}: matrices of {found}; send one reconstruction a Series")
    if ds.get("FrameOfReferenceUID") != first.FrameOfReferenceUID:
        raise MixedGeometry(f"{_name(ds)}: more than one Frame of Reference; send one acquisition a Series")
    if not np.allclose(_numbers(ds, "PixelSpacing"), _numbers(first, "PixelSpacing"), rtol=1e-3):
        raise MixedGeometry(f"{_name(ds)}: Pixel Spacing changes within the Series; send one reconstruction a Series")
    orientation = _numbers(ds, "ImageOrientationPatient")
    if not np.allclose(orientation, _numbers(first, "ImageOrientationPatient"), atol=ORIENTATION_TOLERANCE):
        raise MixedGeometry(f"{_name(ds)}: Image Orientation changes within the Series; send one orientation a Series")


def _numbers(ds: Dataset, keyword: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray([float(v) for v in ds[keyword].value], float)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.size != GEOMETRY[keyword] or not np.isfinite(numbers).all():
        raise MixedGeometry(
            f"{_name(ds)}: {keyword} of {ds.SOPInstanceUID} is not {GEOMETRY[keyword]} numbers; correct the sender"
        )
    return numbers


def _sort_slices(datasets: Sequence[Dataset]) -> tuple[list[Dataset], NDArray[np.float64]]:
    directions = _numbers(datasets[0], "ImageOrientationPatient").reshape(2, 3)
    if not np.allclose(directions @ directions.T, np.eye(2), atol=ORIENTATION_TOLERANCE):
        raise MixedGeometry(
            f"{_name(datasets[0])}: Image Orientation is not two perpendicular unit vectors; correct it at the sender"
        )
    normal = np.cross(*directions)
    positions = np.stack([_numbers(ds, "ImagePositionPatient") for ds in datasets])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    ordered = [datasets[i] for i in order]
    _check_steps(np.diff(positions @ normal), ordered)
    step = (positions[-1] - positions[0]) / (len(datasets) - 1)
    shear = float(np.linalg.norm(step - normal * float(step @ normal))) / float(step @ normal)
    if shear > STEP_TOLERANCE:
        raise MixedGeometry(
            f"{_name(datasets[0])}: the stack is sheared by {np.degrees(np.arctan(shear)):.1f} degrees (gantry tilt), "
            "which this version does not correct; send an untilted reconstruction"
        )
    even = positions[0] + np.arange(len(positions))[:, None] * step
    off_mm = float(np.linalg.norm(positions - even, axis=1).max())
    if off_mm > PLACE_TOLERANCE * float(step @ normal):
        raise MixedGeometry(
            f"{_name(datasets[0])}: the slice distance changes within the Series, slices lie up to {off_mm:.1f} mm "
            "from an even grid; send one reconstruction a Series"
        )
    return ordered, step


def _check_steps(steps: NDArray[np.float64], ordered: Sequence[Dataset]) -> None:
    ds = ordered[0]
    median = float(np.median(steps))
    doubled = np.flatnonzero(steps < POSITION_TOLERANCE_MM / 2)
    # Also where both have the same pixels: viewers stack both, and a SEG would lie on one of them only.
    if doubled.size:
        first, second = (ordered[int(doubled[0]) + n].SOPInstanceUID for n in (0, 1))
        raise SliceDoubled(
            f"{_name(ds)}: {doubled.size} slice positions are taken twice, one by {first} and {second}; "
            "send each slice once, and one phase a Series"
        )
    gaps = steps[steps > median * (1 + STEP_TOLERANCE) + POSITION_TOLERANCE_MM / 2]
    if gaps.size:
        found = f"{gaps.size} gaps of up to {gaps.max():.1f} mm among {median:.1f} mm slices"
        raise SliceMissing(f"{_name(ds)}: {found}; a slice is missing. Resend the Series")
    if (steps < median * (1 - STEP_TOLERANCE) - POSITION_TOLERANCE_MM / 2).any():
        raise MixedGeometry(
            f"{_name(ds)}: the slice distance changes within the Series; send one reconstruction a Series"
        )
