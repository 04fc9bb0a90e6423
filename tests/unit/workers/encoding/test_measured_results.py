"""What SEG and SR say, read again from their bytes, is what was drawn: in any geometry, in mm and on the right side."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from node.domain.codes import LEFT, LUNG, NODULE, RIGHT, Code
from node.domain.finding import Finding
from node.domain.result import ResultKind
from tests.analyses import Case, make_provenance, read_results
from tests.reports import walk
from tests.solids import Ellipsoid, Scan, acquire
from workers.measurements import cut_region, find_side, measure_region
from workers.pipelines.base import Analysis
from workers.proving.check import check_results
from workers.volume import read_volume

BONE_WINDOW_HU = -400.0
# A ball of this radius is drawn true to 2 %.
EDGES = 9
LONG_AXIS, SHORT_AXIS, VOLUME, ATTENUATION = "103339001", "103340004", "118565006", "112031"
AXIAL, PRONE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
FEET_FIRST, CORONAL, SAGITTAL = (
    (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
)
# Turned about two axes; rows and columns are none of the patient's.
OBLIQUE = (0.82, 0.48, -0.312, -0.573, 0.687, -0.447)
CENTER_MM = (-57.0, -31.0, 44.5)


def straighten(orientation: tuple[float, ...]) -> tuple[float, ...]:
    """Return the nearest pair of perpendicular unit vectors."""
    left, _, right = np.linalg.svd(np.array(orientation).reshape(2, 3), full_matrices=False)
    return tuple((left @ right).ravel().tolist())


@dataclass(frozen=True, kw_only=True)
class SegmentRead:
    """The one Segment of a SEG, as its Frames tell it."""

    volume_mm3: float
    center_mm: NDArray[np.float64]


def make_case(ball: Ellipsoid, scan: Scan) -> Case:
    """Return what a Pipeline would hand to the encoder that outlines a ball by its density."""
    inputs = {"ct": acquire(ball, scan)}
    volume = read_volume(inputs["ct"])
    region = cut_region(volume, volume.voxels > BONE_WINDOW_HU)
    measures = measure_region(volume, region)
    mask = np.zeros(volume.voxels.shape, np.uint8)
    mask[region.box][region.mask] = 1
    finding = Finding(
        label="Nodule 1",
        code=NODULE,
        confidence=0.9,
        center_mm=measures.center_mm,
        measurements=measures.values,
        site=LUNG,
        laterality=find_side(volume, region, midline_mm=0.0),
        segment_number=1,
        key_slice=measures.key_slice,
    )
    return Case(
        analysis=Analysis(findings=(finding,), reference=volume, mask=mask, threshold=0.5),
        inputs=inputs,
        provenance=make_provenance("lung_nodules", inputs, series_offset=1),
    )


def make_results(ball: Ellipsoid, scan: Scan) -> dict[ResultKind, Dataset]:
    """Return the Results that passed the gate, read from their bytes."""
    case = make_case(ball, scan)
    results = case.encode()
    check_results(results, case.analysis, case.inputs)
    return read_results(results)


def read_segment(seg: Dataset) -> SegmentRead:
    """Return what a viewer that knows nothing but the SEG sees of its Segment."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    along_columns, down_rows = np.array(
        [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    ).reshape(2, 3)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    origins = np.array(
        [
            [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
            for group in seg.PerFrameFunctionalGroupsSequence
        ]
    )
    heights = np.sort(origins @ np.cross(along_columns, down_rows))
    number, row, column = np.nonzero(frames)
    places = origins[number] + np.outer(row * row_mm, down_rows) + np.outer(column * column_mm, along_columns)
    distance_mm = float(np.median(np.diff(heights)))
    return SegmentRead(volume_mm3=int(frames.sum()) * row_mm * column_mm * distance_mm, center_mm=places.mean(axis=0))


def read_numbers(sr: Dataset) -> dict[str, set[float]]:
    """Return all values of each measurement, whatever group they stand in."""
    numbers: dict[str, set[float]] = {}
    for item in walk(sr):
        if item.ValueType == "NUM":
            code = str(item.ConceptNameCodeSequence[0].CodeValue)
            numbers.setdefault(code, set()).add(float(item.MeasuredValueSequence[0].NumericValue))
    return numbers


def check_results_against_truth(ball: Ellipsoid, scan: Scan) -> None:
    objects = make_results(ball, scan)
    segment, numbers = read_segment(objects[ResultKind.SEG]), read_numbers(objects[ResultKind.SR])
    assert segment.volume_mm3 == pytest.approx(ball.volume_mm3, rel=0.02)
    assert np.linalg.norm(segment.center_mm - np.array(ball.center_mm)) < 0.1 * max(scan.spacing_mm)
    (volume_mm3,) = numbers[VOLUME]
    assert volume_mm3 == pytest.approx(ball.volume_mm3, rel=0.02)
    assert volume_mm3 == pytest.approx(segment.volume_mm3, rel=1e-3)
    for axis in (LONG_AXIS, SHORT_AXIS):
        # The volumetric and the planar group say the same.
        (diameter_mm,) = numbers[axis]
        assert diameter_mm == pytest.approx(2 * ball.semi_axes_mm[0], abs=max(scan.spacing_mm))
    assert (ATTENUATION in numbers) == (scan.sop_class_uid == CTImageStorage)


scans = st.builds(
    Scan,
    orientation=st.sampled_from([AXIAL, PRONE, FEET_FIRST, CORONAL, SAGITTAL, straighten(OBLIQUE)]),
    spacing_mm=st.tuples(st.floats(0.6, 5.0), st.floats(0.5, 1.2), st.floats(0.5, 1.2)),
    shift=st.tuples(*[st.floats(0.1, 0.4)] * 3),
    slice_thickness=st.sampled_from(["2.0", "5.0", "0.5", "99", None]),
    order=st.sampled_from(["forward", "reversed", "shuffled"]),
    sop_class_uid=st.sampled_from([CTImageStorage, MRImageStorage]),
)


# Shrinking a failure to its simplest form would take minutes.
@settings(derandomize=True, max_examples=6, deadline=None, database=None, phases=(Phase.explicit, Phase.generate))
@given(scan=scans)
def test_seg_and_sr_tell_the_truth_in_any_geometry(scan: Scan) -> None:
    radius_mm = EDGES * max(scan.spacing_mm)
    ball = Ellipsoid(center_mm=CENTER_MM, semi_axes_mm=(radius_mm, radius_mm, radius_mm))
    check_results_against_truth(ball, scan)


@pytest.mark.parametrize(
    ("orientation", "x_mm", "side"),
    [
        (AXIAL, 30.0, LEFT),
        (AXIAL, 0.0, None),
        (PRONE, 30.0, LEFT),
        (FEET_FIRST, -30.0, RIGHT),
        (CORONAL, 30.0, LEFT),
        (SAGITTAL, -30.0, RIGHT),
        (straighten(OBLIQUE), -30.0, RIGHT),
    ],
)
def test_seg_and_sr_name_the_patients_side(orientation: tuple[float, ...], x_mm: float, side: Code | None) -> None:
    ball = Ellipsoid(center_mm=(x_mm, -31.0, 44.5), semi_axes_mm=(6.0, 6.0, 6.0))
    objects = make_results(ball, Scan(orientation=orientation))
    expected = set() if side is None else {side.value}
    region = objects[ResultKind.SEG].SegmentSequence[0].AnatomicRegionSequence[0]
    assert {str(item.CodeValue) for item in region.get("AnatomicRegionModifierSequence") or ()} == expected
    sites = [item for item in walk(objects[ResultKind.SR]) if item.ValueType == "CODE"]
    said = {
        str(modifier.ConceptCodeSequence[0].CodeValue)
        for item in sites
        for modifier in item.get("ContentSequence") or ()
        if modifier.ValueType == "CODE"
    }
    assert said & {LEFT.value, RIGHT.value} == expected


@pytest.mark.parametrize("part", [np.s_[-4:], np.s_[:, :4], np.s_[:, :, -4:]])
def test_a_mask_at_the_border_of_the_images_becomes_results_that_pass_the_gate(part: tuple[slice, ...] | slice) -> None:
    """A ball that the field of view cuts off is measured as far as it is seen."""
    whole = make_case(Ellipsoid(center_mm=CENTER_MM, semi_axes_mm=(8.0, 8.0, 8.0)), Scan())
    volume = whole.analysis.reference
    assert volume is not None
    mask = np.zeros(volume.voxels.shape, np.uint8)
    mask[part] = 1
    mask[:, :2, :2] = 0
    measures = measure_region(volume, cut_region(volume, mask))
    finding = replace(
        whole.analysis.findings[0],
        measurements=measures.values,
        center_mm=measures.center_mm,
        key_slice=measures.key_slice,
    )
    case = replace(whole, analysis=replace(whole.analysis, findings=(finding,), mask=mask))
    assert measures.is_cut
    results = case.encode()
    check_results(results, case.analysis, case.inputs)
    (volume_mm3,) = read_numbers(read_results(results)[ResultKind.SR])[VOLUME]
    assert volume_mm3 == pytest.approx(float(mask.sum()) * volume.voxel_mm3, rel=1e-5)
