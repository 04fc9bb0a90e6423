"""The heat map of a radiograph: what the classifier answered, no more, on the image that was read."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from node.domain.codes import LUNG, PNEUMOTHORAX
from node.domain.finding import Finding, Presence
from node.domain.result import OptionalResult, ResultKind
from node.domain.uids import derive_uid
from node.errors import ResultCheckFailed
from tests.analyses import Case, ct_case, known, make_radiograph, read_results, xray_case
from tests.changes import rewrite
from workers.proving.check import check_results

SEG, SR = ResultKind.SEG, ResultKind.SR
HEAT_MAP = OptionalResult.HEAT_MAP


def heat_of(case: Case) -> NDArray[np.float32]:
    assert case.analysis.heat is not None
    return case.analysis.heat


def read_heat_map(case: Case) -> Dataset:
    """Encode, prove and read the heat map of a Case."""
    results = case.encode(HEAT_MAP)
    check_results(results, case.analysis, case.inputs)
    return read_results(results)[SEG]


def test_fractions_are_the_answers_of_the_classifier_in_steps_of_1_255() -> None:
    case = xray_case()
    seg = read_heat_map(case)
    assert (seg.SegmentationType, seg.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert (seg.NumberOfFrames, seg.Rows, seg.Columns) == (1, 96, 80)
    shown = seg.pixel_array / seg.MaximumFractionalValue
    assert np.abs(shown - heat_of(case)).max() <= 0.5 / 255 + 1e-6
    assert shown.max() == 1.0


def test_the_one_segment_is_an_activation_and_no_disease() -> None:
    pneumothorax = Finding(label="Pneumothorax", code=PNEUMOTHORAX, confidence=0.7, site=LUNG)
    absent = Finding(label="Nodule", code=PNEUMOTHORAX, presence=Presence.ABSENT, confidence=0.1, site=LUNG)
    case = xray_case()
    findings = (*case.analysis.findings, pneumothorax, absent)
    (segment,) = read_heat_map(replace(case, analysis=replace(case.analysis, findings=findings))).SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Class activation"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Spatial and Relational Concept"
    assert segment.SegmentLabel == "AI attention: Pneumonia, Pneumothorax"
    assert "not an outline" in segment.SegmentDescription
    assert "AnatomicRegionSequence" not in segment


def test_it_names_the_radiograph_that_was_read_and_the_sr_does_not_name_it() -> None:
    case = xray_case()
    other = make_radiograph(SOPInstanceUID=derive_uid("test", "other"))
    results = read_results(replace(case, inputs={"image": [other, *case.inputs["image"]]}).encode(HEAT_MAP))
    group = results[SEG].PerFrameFunctionalGroupsSequence[0]
    source = group.DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == case.inputs["image"][0].SOPInstanceUID
    referred = {str(e.value) for e in results[SR].iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    assert results[SEG].SOPInstanceUID not in referred
    assert results[SEG].SeriesDescription == "AI Chest X-ray heat map (unverified)"


def test_it_stands_beside_the_same_sr_and_is_the_same_again() -> None:
    without = read_results(known("xray")[1])
    one, other = (xray_case().encode(HEAT_MAP) for _ in range(2))
    assert [result.content for result in one] == [result.content for result in other]
    assert read_results(one)[SR] == without[SR]
    assert SEG not in without


ODD_FILMS: dict[str, Callable[[], Case]] = {
    "no orientation": lambda: xray_case(PatientOrientation=None, ImagerPixelSpacing=None),
    "one letter of orientation": lambda: xray_case(PatientOrientation="L"),
    "pixel spacing": lambda: xray_case(PixelSpacing=["0.2", "0.2"]),
    "a spacing of zero": lambda: xray_case(PixelSpacing=["0", "0"]),
    "half a spacing": lambda: xray_case(PixelSpacing="0.2"),
    "a frame of reference": lambda: xray_case(FrameOfReferenceUID="1.2.3", PixelSpacing=["0.2", "0.2"]),
    "a place": lambda: xray_case(
        FrameOfReferenceUID="1.2.3",
        ImagePositionPatient=["0", "0", "0"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
    ),
    "digital X-ray": lambda: xray_case(SOPClassUID=DigitalXRayImageStorageForPresentation),
}


@pytest.mark.parametrize("name", ODD_FILMS)
def test_a_heat_map_has_no_place_in_the_patient_and_needs_none(name: str) -> None:
    case = ODD_FILMS[name]()
    seg = read_heat_map(case)
    assert seg.get("FrameOfReferenceUID") == case.inputs["image"][0].get("FrameOfReferenceUID")
    assert "PlanePositionSequence" not in seg.PerFrameFunctionalGroupsSequence[0]
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert "PlaneOrientationSequence" not in shared
    assert "PixelMeasuresSequence" not in shared
    assert (seg.PatientOrientation or []) in ([], ["L", "F"])


NOTHING_TO_SHOW: dict[str, Callable[[], Case]] = {
    "label absent": lambda: xray_case(Presence.ABSENT),
    "label undetermined": lambda: xray_case(Presence.UNDETERMINED),
    "a class whose images lie in the patient": lambda: xray_case(SOPClassUID=CTImageStorage),
    "a volume": ct_case,
}


@pytest.mark.parametrize("name", NOTHING_TO_SHOW)
def test_where_nothing_can_be_shown_there_is_none(name: str) -> None:
    case = NOTHING_TO_SHOW[name]()
    assert {result.kind for result in case.encode(HEAT_MAP)} == {result.kind for result in case.encode()}


def with_heat(heat: NDArray[np.float32]) -> Case:
    case = xray_case()
    return replace(case, analysis=replace(case.analysis, heat=heat))


def test_a_heat_map_below_half_a_step_is_left_out() -> None:
    results = with_heat(np.full((96, 80), 0.001, np.float32)).encode(HEAT_MAP)
    assert SEG not in {result.kind for result in results}


@pytest.mark.parametrize(
    "heat",
    [
        np.full((96, 80), np.nan, np.float32),
        np.where(np.eye(96, 80) > 0, np.nan, 0.5).astype(np.float32),
        np.full((96, 80), 1.01, np.float32),
        np.full((96, 80), -0.01, np.float32),
        np.full((96, 80), np.inf, np.float32),
        np.full((80, 96), 0.5, np.float32),
    ],
    ids=["NaN", "some NaN", "above 1", "below 0", "infinite", "another matrix"],
)
def test_a_heat_map_that_is_none_is_refused(heat: NDArray[np.float32]) -> None:
    with pytest.raises(ResultCheckFailed, match="heat map"):
        with_heat(heat).encode(HEAT_MAP)


def refer_elsewhere(seg: Dataset) -> None:
    group = seg.PerFrameFunctionalGroupsSequence[0]
    uid = derive_uid("test", "instance", "another")
    group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = uid


def claim_disease(seg: Dataset) -> None:
    code = seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "233604007", "SCT", "Pneumonia"


def upside_down(seg: Dataset) -> None:
    seg.PixelData = seg.pixel_array[::-1].tobytes()


def one_step_more(seg: Dataset) -> None:
    seg.PixelData = (seg.pixel_array + (seg.pixel_array == 7)).astype(np.uint8).tobytes()


DAMAGES: dict[str, Callable[[Dataset], None]] = {
    "upside down": upside_down,
    "some pixels one step more": one_step_more,
    "another scale": lambda seg: setattr(seg, "MaximumFractionalValue", 200),
    "occupancy": lambda seg: setattr(seg, "SegmentationFractionalType", "OCCUPANCY"),
    "cut pixels": lambda seg: setattr(seg, "PixelData", seg.PixelData[:-80]),
    "another image": refer_elsewhere,
    "a disease": claim_disease,
    "no segment": lambda seg: setattr(seg, "SegmentSequence", []),
    "another patient": lambda seg: setattr(seg, "PatientID", "T-2"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_heat_map_never_passes_the_gate(name: str) -> None:
    case = xray_case()
    results = case.encode(HEAT_MAP)
    damaged = [rewrite(result, DAMAGES[name]) if result.kind is SEG else result for result in results]
    with pytest.raises(ResultCheckFailed):
        check_results(damaged, case.analysis, case.inputs)


def test_a_heat_map_of_an_analysis_without_one_never_passes_the_gate() -> None:
    case = xray_case()
    results = case.encode(HEAT_MAP)
    with pytest.raises(ResultCheckFailed):
        check_results(results, replace(case.analysis, heat=None), case.inputs)
