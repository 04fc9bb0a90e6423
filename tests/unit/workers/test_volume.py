"""Slices become a Volume whose geometry is proven, or are refused with the reason."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.config import IGNORE
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from node.errors import (
    InputMissing,
    MixedGeometry,
    NodeError,
    NoFrameOfReference,
    NotEligible,
    PixelsUndecodable,
    SliceDoubled,
    SliceMissing,
    TooFewSlices,
)
from workers.volume import read_volume

ROWS, COLUMNS = 3, 4
ROW_MM, COLUMN_MM = 0.5, 0.75
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
ORIGIN = (-10.0, -20.0, 30.0)


def make_slice(position: NDArray[np.float64], number: int, orientation: NDArray[np.float64]) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"1.2.3.{number}", "1.2.3", "1.2.9"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelSpacing = [ROW_MM, COLUMN_MM]
    ds.ImagePositionPatient = [round(float(v), 6) for v in position]
    ds.ImageOrientationPatient = [round(float(v), 9) for v in orientation.ravel()]
    ds.PixelData = np.full((ROWS, COLUMNS), number, np.int16).tobytes()
    return ds


def make_stack(
    steps_mm: list[float] | None = None,
    *,
    orientation: tuple[tuple[float, ...], tuple[float, ...]] = AXIAL,
    drift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> list[Dataset]:
    """Return slices in order along the normal; slice n holds the value n."""
    steps = [2.0] * 5 if steps_mm is None else steps_mm
    directions = np.asarray(orientation, float)
    normal = np.cross(*directions)
    offsets = np.concatenate([[0.0], np.cumsum(steps)])
    return [
        make_slice(np.asarray(ORIGIN) + offset * normal + number * np.asarray(drift_mm), number, directions)
        for number, offset in enumerate(offsets)
    ]


def test_slices_in_any_order_become_a_sorted_stack() -> None:
    stack = make_stack()
    random.Random(3).shuffle(stack)
    volume = read_volume(stack)
    assert volume.voxels.dtype == np.float32
    assert volume.voxels[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert [ds.SOPInstanceUID for ds in volume.datasets] == [f"1.2.3.{n}" for n in range(6)]
    assert volume.spacing_mm == (2.0, ROW_MM, COLUMN_MM)
    assert volume.frame_of_reference_uid == "1.2.9"


def test_reversed_slices_are_the_same_volume() -> None:
    forward, backward = read_volume(make_stack()), read_volume(make_stack()[::-1])
    assert np.array_equal(forward.voxels, backward.voxels)
    assert np.array_equal(forward.affine, backward.affine)


def test_an_index_lies_where_the_standard_says() -> None:
    """PS3.3 C.7.6.2.1.1: rows run along the second, columns along the first direction of Image Orientation."""
    volume = read_volume(make_stack())
    assert volume.to_patient_mm((0, 0, 0)) == ORIGIN
    assert volume.to_patient_mm((3, 2, 1)) == (-10.0 + 1 * COLUMN_MM, -20.0 + 2 * ROW_MM, 30.0 + 3 * 2.0)


def test_slice_thickness_is_not_trusted() -> None:
    stack = make_stack()
    for ds in stack:
        ds.SliceThickness, ds.SpacingBetweenSlices = 5.0, 9.0
    assert read_volume(stack).spacing_mm[0] == 2.0


angles = st.floats(-3.1, 3.1)


@given(angles, angles, angles, st.tuples(*[st.floats(-50, 50)] * 3))
def test_index_and_point_agree_for_any_orientation(a: float, b: float, c: float, index: tuple[float, ...]) -> None:
    def turn(angle: float, first: int, second: int) -> NDArray[np.float64]:
        matrix = np.eye(3)
        matrix[first, first] = matrix[second, second] = np.cos(angle)
        matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
        return matrix

    rotation = turn(a, 0, 1) @ turn(b, 1, 2) @ turn(c, 0, 2)
    row, column = rotation[:, 0], rotation[:, 1]
    volume = read_volume(make_stack(orientation=(tuple(row), tuple(column))))
    assert np.allclose(volume.to_index(volume.to_patient_mm(index)), index, atol=1e-4)
    expected = (
        np.asarray(ORIGIN)
        + index[0] * 2.0 * np.cross(row, column)
        + index[1] * ROW_MM * column
        + index[2] * COLUMN_MM * row
    )
    assert np.allclose(volume.to_patient_mm(index), expected, atol=1e-3)


def test_each_slice_has_its_own_rescale() -> None:
    stack = make_stack()
    for number, ds in enumerate(stack):
        ds.RescaleSlope, ds.RescaleIntercept = number + 1, -1000 + number
    values = read_volume(stack).voxels[:, 0, 0].tolist()
    assert values == [n * (n + 1) - 1000 + n for n in range(6)]


@pytest.mark.parametrize("steps", [[2.0, 2.0, 4.0, 2.0, 2.0], [2.0, 2.0, 2.0, 2.4], [1.0, 1.0, 1.0, 30.0]])
def test_a_missing_slice_is_refused(steps: list[float]) -> None:
    with pytest.raises(SliceMissing, match=r"gap.*Resend"):
        read_volume(make_stack(steps))


def test_the_gap_is_told_in_mm() -> None:
    with pytest.raises(SliceMissing, match=r"series 1\.2\.3: 1 gaps of up to 5\.0 mm among 2\.5 mm slices"):
        read_volume(make_stack([2.5, 2.5, 5.0, 2.5]))


def test_a_doubled_slice_is_refused() -> None:
    with pytest.raises(SliceDoubled, match="1 slice positions"):
        read_volume(make_stack([2.0, 2.0, 0.0, 2.0, 2.0]))


def test_a_changing_slice_distance_is_refused() -> None:
    with pytest.raises(MixedGeometry, match="slice distance"):
        read_volume(make_stack([2.0, 2.0, 2.0, 2.0, 1.0]))


def test_small_deviations_that_add_up_are_refused() -> None:
    """Each step is within a tenth of the median; the middle slice lies 3 mm from where an even grid says."""
    with pytest.raises(MixedGeometry, match="slice distance"):
        read_volume(make_stack([1.06] * 50 + [0.94] * 50))


def test_rounded_positions_are_the_same_distance() -> None:
    stack = make_stack([0.625] * 80)
    for ds in stack:
        ds.ImagePositionPatient = [round(float(v), 1) for v in ds.ImagePositionPatient]
    assert read_volume(stack).spacing_mm[0] == pytest.approx(0.625, abs=0.002)


def test_gantry_tilt_is_refused() -> None:
    with pytest.raises(MixedGeometry, match="gantry tilt"):
        read_volume(make_stack(drift_mm=(0.0, 0.6, 0.0)))


def test_slices_that_wander_sideways_are_refused() -> None:
    stack = make_stack()
    stack[3].ImagePositionPatient = [ORIGIN[0] + 40.0, *list(stack[3].ImagePositionPatient)[1:]]
    with pytest.raises(MixedGeometry):
        read_volume(stack)


@pytest.mark.parametrize(
    ("keyword", "value", "kind"),
    [
        ("Rows", ROWS + 1, MixedGeometry),
        ("PixelSpacing", [ROW_MM, ROW_MM], MixedGeometry),
        ("ImageOrientationPatient", [0, 1, 0, 0, 0, -1], MixedGeometry),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.99, 0.14], MixedGeometry),
        ("FrameOfReferenceUID", "1.2.8", MixedGeometry),
        ("NumberOfFrames", 2, NotEligible),
        ("ImagePositionPatient", None, MixedGeometry),
        ("PixelSpacing", None, MixedGeometry),
    ],
)
def test_one_slice_unlike_the_others_is_refused(keyword: str, value: object, kind: type[NodeError]) -> None:
    stack = make_stack()
    setattr(stack[2], keyword, value)
    with pytest.raises(kind):
        read_volume(stack)


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_frame_of_reference_is_refused(value: str | None) -> None:
    stack = make_stack()
    for ds in stack:
        ds.FrameOfReferenceUID = value
    with pytest.raises(NoFrameOfReference):
        read_volume(stack)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", [1.0, 2.0]),
        ("ImagePositionPatient", [1.0, 2.0, float("nan")]),
        ("ImagePositionPatient", 3.0),
        ("ImageOrientationPatient", [1, 0, 0]),
        ("ImageOrientationPatient", [2, 0, 0, 0, 0.5, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 0.6, 0.8, 0]),
        ("PixelSpacing", 0.5),
        ("PixelSpacing", [0.0, 0.5]),
        ("PixelSpacing", [-0.5, 0.5]),
        ("PixelSpacing", [float("nan"), 0.5]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*nan.*:UserWarning")
def test_geometry_that_is_no_geometry_is_refused(keyword: str, value: object) -> None:
    stack = make_stack()
    for ds in stack:
        setattr(ds, keyword, value)
    with pytest.raises(MixedGeometry):
        read_volume(stack)


def test_a_single_position_that_is_no_number_is_refused() -> None:
    stack = make_stack()
    stack[2].add(DataElement("ImagePositionPatient", "DS", ["1", "2", "nan"], validation_mode=IGNORE))
    with pytest.raises(MixedGeometry):
        read_volume(stack)


def test_too_few_slices_are_refused() -> None:
    with pytest.raises(InputMissing):
        read_volume([])
    with pytest.raises(TooFewSlices, match="2 slices where at least 3"):
        read_volume(make_stack([2.0]))
    assert read_volume(make_stack([2.0]), min_slices=2).voxels.shape == (2, ROWS, COLUMNS)


def test_a_slice_with_cut_pixels_is_refused() -> None:
    stack = make_stack()
    stack[4].PixelData = stack[4].PixelData[:-4]
    with pytest.raises(PixelsUndecodable, match=r"1\.2\.3\.4"):
        read_volume(stack)
