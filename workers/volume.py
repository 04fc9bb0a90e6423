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
from workers.pixels import rescale_pixels

# Scanners round Image Position to 0.01 mm and Image Orientation to 1e-6; these bounds are ten times that.
POSITION_TOLERANCE_MM = 0.1
ORIENTATION_TOLERANCE = 1e-3
# A step within this fraction of the median step is the same step.
STEP_TOLERANCE = 0.1
MIN_SLICES = 3


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
        Distance between slices (from Image Position, never Slice Thickness), rows, columns; mm.
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
    if len(datasets) < min_slices:
        raise TooFewSlices(f"{_name(datasets[0])}: {len(datasets)} slices where at least {min_slices} are needed")
    _check_same_grid(datasets)
    ordered, step = _sort_slices(datasets)
    first = ordered[0]
    row_mm, column_mm = (float(v) for v in first.PixelSpacing)
    voxels = np.empty((len(ordered), first.Rows, first.Columns), dtype=np.float32)
    for number, ds in enumerate(ordered):
        voxels[number] = rescale_pixels(ds)
    affine = np.eye(4)
    affine[:3, 0] = step
    # Image Orientation gives the direction of a row (along columns) first (PS3.3 C.7.6.2.1.1).
    affine[:3, 1] = np.asarray(first.ImageOrientationPatient[3:], float) * row_mm
    affine[:3, 2] = np.asarray(first.ImageOrientationPatient[:3], float) * column_mm
    affine[:3, 3] = np.asarray(first.ImagePositionPatient, float)
    return Volume(
        voxels=voxels,
        affine=affine,
        spacing_mm=(float(np.linalg.norm(step)), row_mm, column_mm),
        frame_of_reference_uid=str(first.FrameOfReferenceUID),
        datasets=tuple(ordered),
    )


def _name(ds: Dataset) -> str:
    return f"series {ds.get('SeriesInstanceUID', 'without UID')}"


def _check_same_grid(datasets: Sequence[Dataset]) -> None:
    first = datasets[0]
    if not first.get("FrameOfReferenceUID"):
        raise NoFrameOfReference(f"{_name(first)}: Frame of Reference UID is absent; a SEG could not be placed")
    for ds in datasets:
        if int(ds.get("NumberOfFrames") or 1) != 1:
            raise NotEligible(f"{_name(ds)}: multi-frame Instances are not read by this version")
        for keyword in (
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
            "Rows",
            "Columns",
        ):
            if not ds.get(keyword):
                raise MixedGeometry(f"{_name(ds)}: {keyword} is absent in {ds.SOPInstanceUID}; the volume is unknown")
        _check_like_first(ds, first)


def _check_like_first(ds: Dataset, first: Dataset) -> None:
    if (ds.Rows, ds.Columns) != (first.Rows, first.Columns):
        found = f"{ds.Rows} x {ds.Columns} beside {first.Rows} x {first.Columns}"
        raise MixedGeometry(f"{_name(ds)}: matrices of {found}; send one reconstruction a Series")
    if ds.get("FrameOfReferenceUID") != first.FrameOfReferenceUID:
        raise MixedGeometry(f"{_name(ds)}: more than one Frame of Reference; send one acquisition a Series")
    if not np.allclose(_floats(ds.PixelSpacing), _floats(first.PixelSpacing), rtol=1e-3):
        raise MixedGeometry(f"{_name(ds)}: Pixel Spacing changes within the Series; send one reconstruction a Series")
    orientation = _floats(ds.ImageOrientationPatient)
    if not np.allclose(orientation, _floats(first.ImageOrientationPatient), atol=ORIENTATION_TOLERANCE):
        raise MixedGeometry(f"{_name(ds)}: Image Orientation changes within the Series; send one orientation a Series")


def _floats(value: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray([float(v) for v in value], float)


def _sort_slices(datasets: Sequence[Dataset]) -> tuple[list[Dataset], NDArray[np.float64]]:
    orientation = _floats(datasets[0].ImageOrientationPatient)
    normal = np.cross(orientation[:3], orientation[3:])
    if abs(float(np.linalg.norm(normal)) - 1.0) > ORIENTATION_TOLERANCE:
        raise MixedGeometry(f"{_name(datasets[0])}: Image Orientation is not two perpendicular unit vectors")
    positions = np.stack([_floats(ds.ImagePositionPatient) for ds in datasets])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    steps = np.diff(positions @ normal)
    _check_steps(steps, datasets[0])
    step = (positions[-1] - positions[0]) / (len(datasets) - 1)
    shear = step - normal * float(step @ normal)
    if float(np.linalg.norm(shear)) > STEP_TOLERANCE * float(step @ normal):
        raise MixedGeometry(
            f"{_name(datasets[0])}: the stack is sheared (gantry tilt), which this version does not correct; "
            "send an untilted reconstruction"
        )
    return [datasets[i] for i in order], step


def _check_steps(steps: NDArray[np.float64], ds: Dataset) -> None:
    median = float(np.median(steps))
    doubled = int((steps < POSITION_TOLERANCE_MM / 2).sum())
    if doubled:
        raise SliceDoubled(f"{_name(ds)}: {doubled} slice positions are taken twice; send each slice once")
    gaps = steps[steps > median * (1 + STEP_TOLERANCE) + POSITION_TOLERANCE_MM / 2]
    if gaps.size:
        found = f"{gaps.size} gaps of up to {gaps.max():.1f} mm among {median:.1f} mm slices"
        raise SliceMissing(f"{_name(ds)}: {found}; a slice is missing. Resend the Series")
    if (steps < median * (1 - STEP_TOLERANCE) - POSITION_TOLERANCE_MM / 2).any():
        raise MixedGeometry(
            f"{_name(ds)}: the slice distance changes within the Series; send one reconstruction a Series"
        )
