"""Each condition on what headers really hold."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.decision import Outcome
from node.domain.study import KEPT_KEYWORDS, SeriesFacts
from node.errors import RuleInvalid
from node.rules.anatomy import WORDS
from node.rules.conditions import CONDITIONS
from node.rules.text import normalize
from tests.studies import AXIAL, CORONAL, CT, SAGITTAL, make_series

YES, NO, OPEN = Outcome.MATCH, Outcome.NO_MATCH, Outcome.UNDETERMINED
# A head that nods by 10.8 degrees, as in the reference brain MR, and one between axial and coronal.
NODDING = [1.0, 0.0, 0.0, 0.0, 0.98229, -0.18738]
HALFWAY = [1.0, 0.0, 0.0, 0.0, 0.7071, -0.7071]


def ask(key: str, raw: Any, series: SeriesFacts) -> tuple[Outcome, str]:
    condition = CONDITIONS[key]
    return condition.ask([condition.parse_operand(one) for one in (raw if isinstance(raw, list) else [raw])], series)


@pytest.mark.parametrize(
    ("key", "raw", "attributes", "outcome", "found"),
    [
        ("modality", "ct", {"Modality": "CT"}, YES, "CT"),
        ("modality", ["DX", "CR"], {"Modality": "CT"}, NO, "CT"),
        ("modality", "CT", {}, OPEN, "absent"),
        ("body_part", "CHEST", {"BodyPartExamined": "Chest "}, YES, "Chest"),
        ("body_part", "CHEST", {"BodyPartExamined": "TH CT CHEST WO C"}, NO, "TH CT CHEST WO C"),
        ("body_part", "CHEST", {"BodyPartExamined": "Brustkorb"}, YES, "Brustkorb"),
        ("body_part", "Thorax", {"BodyPartExamined": "CHEST"}, YES, "CHEST"),
        ("body_part", "head", {"BodyPartExamined": "SCHÄDEL"}, YES, "SCHÄDEL"),
        ("body_part", "51185008", {"BodyPartExamined": "Thorax"}, YES, "Thorax"),
        ("body_part", "SCT:51185008", {"BodyPartExamined": "Thorax"}, YES, "Thorax"),
        ("body_part", "CHEST", {"AnatomicRegionSequence": ["SRT:T-D3000"]}, YES, "SRT:T-D3000"),
        ("body_part", "CHEST", {"AnatomicRegionSequence": ["99LOCAL:51185008"]}, NO, "99LOCAL:51185008"),
        ("procedure_code", "CTCH2", {"ProcedureCodeSequence": ["99LOCAL:CTCH2"]}, YES, "99LOCAL:CTCH2"),
        ("procedure_code", "99LOCAL:C", {"RequestedProcedureCodeSequence": ["99LOCAL:C"]}, YES, "99LOCAL:C"),
        ("procedure_code", "LN:CTCH2", {"ProcedureCodeSequence": ["99LOCAL:CTCH2"]}, NO, "99LOCAL:CTCH2"),
        ("procedure_code", "CTCH2", {}, OPEN, "absent"),
        ("body_part", "CHEST", {"BodyPartExamined": "LUNG"}, NO, "LUNG"),
        ("body_part", "Left thumb", {"BodyPartExamined": "LEFT_THUMB"}, YES, "LEFT_THUMB"),
        ("body_part", "absent", {}, YES, "absent"),
        ("time_of_day", "18:00 .. 07:00", {"AcquisitionTime": "231502.12"}, YES, "23:15"),
        ("time_of_day", "18:00 .. 07:00", {"AcquisitionTime": "065959"}, YES, "06:59"),
        ("time_of_day", "18:00 .. 07:00", {"AcquisitionTime": "07"}, NO, "07:00"),
        ("time_of_day", "07:00 .. 18:00", {"SeriesTime": "0700", "StudyTime": "2300"}, YES, "07:00"),
        ("time_of_day", "07:00 .. 18:00", {"StudyTime": "18:00"}, OPEN, "18:00 (no time)"),
        ("time_of_day", "07:00 .. 18:00", {}, OPEN, "absent"),
        ("weekday", ["Saturday", "sunday"], {"StudyDate": "20250112"}, YES, "sunday"),
        ("weekday", "monday", {"AcquisitionDate": "20250112"}, NO, "sunday"),
        ("weekday", "monday", {"StudyDate": "20251399"}, OPEN, "20251399 (no date)"),
        ("coverage", ">= 4 cm", {}, YES, "40 mm"),
        ("coverage", "> 40 mm", {}, NO, "40 mm"),
        ("device", "SN-12", {"DeviceSerialNumber": "sn 12"}, YES, "sn 12"),
        ("cardiac_phase", "70 .. 80 %", {"NominalPercentageOfCardiacPhase": 75.0}, YES, "75 %"),
        ("temporal_position", "> 1", {"TemporalPositionIdentifier": 1}, NO, "1"),
        ("requesting_service", "Emergency", {"RequestingService": "EMERGENCY"}, YES, "EMERGENCY"),
        ("body_part", "present", {}, NO, "absent"),
        ("body_part", ["CHEST", "absent"], {}, YES, "absent"),
        ("sop_class", "CT Image Storage", {}, YES, "CT Image Storage"),
        ("sop_class", CT, {}, YES, "CT Image Storage"),
        ("sop_class", "MR Image Storage", {}, NO, "CT Image Storage"),
        ("description", "thorax|lung", {"ProtocolName": "Lung_LowDose"}, YES, "Lung_LowDose"),
        ("description", "thorax", {"SeriesDescription": "Abdomen"}, NO, "Abdomen"),
        ("description", "thorax", {}, OPEN, "absent"),
        ("description", "t1.*ce", {"SeriesDescription": "T1", "StudyDescription": "Sequence"}, NO, "T1 / Sequence"),
        ("series_description", "schädel", {"SeriesDescription": "SCHÄDEL"}, YES, "SCHÄDEL"),
        ("protocol", "^ax", {"ProtocolName": "AX T2"}, YES, "AX T2"),
        ("image_type", ["ORIGINAL", "PRIMARY"], {"ImageType": ["PRIMARY", "ORIGINAL"]}, YES, "PRIMARY / ORIGINAL"),
        ("image_type", ["ORIGINAL", "MIP"], {"ImageType": ["ORIGINAL", "PRIMARY"]}, NO, "ORIGINAL / PRIMARY"),
        ("image_type", "ORIGINAL", {}, OPEN, "absent"),
        ("view", ["PA", "AP"], {"ViewPosition": "pa"}, YES, "pa"),
        ("orientation", "axial", {"ImageOrientationPatient": NODDING}, YES, "axial, tilted by 10.8 deg"),
        ("orientation", "axial", {"ImageOrientationPatient": list(CORONAL)}, NO, "coronal"),
        ("orientation", "sagittal", {"ImageOrientationPatient": list(SAGITTAL)}, YES, "sagittal"),
        ("orientation", "oblique", {"ImageOrientationPatient": HALFWAY}, YES, "oblique, tilted by 45.0 deg"),
        ("orientation", "axial", {"ImageOrientationPatient": None}, OPEN, "absent"),
        ("orientation", "axial", {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, OPEN, "unreadable direction cosines"),
        ("orientation", "absent", {"ImageOrientationPatient": [1, 0]}, NO, "unreadable direction cosines"),
        ("slice_count", ">= 40", {}, YES, "40"),
        ("slice_spacing", "<= 3 mm", {}, YES, "1 mm"),
        ("slice_spacing", "> 1 mm", {}, NO, "1 mm"),
        ("slice_thickness", "<= 3 mm", {"SliceThickness": 5.0}, NO, "5 mm"),
        ("slice_thickness", "<= 3 mm", {"SliceThickness": "2.5"}, YES, "2.5 mm"),
        ("slice_thickness", "<= 3 mm", {}, OPEN, "absent"),
        ("slice_thickness", "<= 3 mm", {"SliceThickness": "thin"}, OPEN, "thin (no number)"),
        ("pixel_spacing", "< 1 mm", {"PixelSpacing": [0.7, 0.8]}, YES, "0.8 mm"),
        ("rows", 512, {"Rows": 512.0}, YES, "512"),
        ("columns", "256 .. 512", {"Columns": 1024.0}, NO, "1024"),
        ("echo_time", "> 80 ms", {"EchoTime": 90.0}, YES, "90 ms"),
        ("repetition_time", "> 5 s", {"RepetitionTime": 4000.0}, NO, "4000 ms"),
        ("inversion_time", "1.5 .. 3 s", {"InversionTime": 2500.0}, YES, "2500 ms"),
        ("kvp", "80 .. 140 kV", {"KVP": 120.0}, YES, "120 kV"),
        ("age", ">= 18 years", {"PatientAge": "045Y"}, YES, "45 years"),
        ("age", "< 1 year", {"PatientAge": "006M"}, YES, "0.5 years"),
        ("age", ">= 18 years", {"PatientAge": "77"}, OPEN, "77 (no unit)"),
        ("age", ">= 18 years", {}, OPEN, "absent"),
        ("sex", "f", {"PatientSex": "F"}, YES, "F"),
        ("contrast", "present", {"ContrastBolusAgent": "10ml multihance"}, YES, "10ml multihance"),
        ("contrast", "absent", {}, YES, "absent"),
        ("contrast", "absent", {"ContrastBolusAgent": "NONE"}, YES, "absent"),
        ("kernel", "^b[3-7]", {"ConvolutionKernel": "B31f"}, YES, "B31f"),
        ("kernel", "lung", {"ConvolutionKernel": ["Br40", "LUNG"]}, YES, "Br40 / LUNG"),
        ("manufacturer", "siemens", {"Manufacturer": "SIEMENS Healthineers"}, YES, "SIEMENS Healthineers"),
        ("laterality", "L", {"ImageLaterality": "R", "Laterality": "L"}, NO, "R"),
        ("calling_aet", "MODALITY", {}, YES, "MODALITY"),
        ("scan_options", "FS", {"ScanOptions": ["PFP", "FS"]}, YES, "PFP / FS"),
    ],
)  # fmt: skip
def test_condition(key: str, raw: Any, attributes: dict[str, Any], outcome: Outcome, found: str) -> None:
    assert ask(key, raw, make_series(1, **attributes)) == (outcome, found)


@pytest.mark.parametrize(
    ("key", "keyword"),
    [
        ("patient_id", "PatientID"),
        ("accession_number", "AccessionNumber"),
        ("institution", "InstitutionName"),
        ("referring_physician", "ReferringPhysicianName"),
    ],
)
def test_identifying_values_are_never_shown(key: str, keyword: str) -> None:
    attributes: dict[str, Any] = {keyword: "CANARY"}
    series = make_series(1, **attributes)
    assert ask(key, "CANARY", series) == (YES, "present")
    assert ask(key, "other", series) == (NO, "present")
    assert ask(key, "CANARY", make_series(1)) == (OPEN, "absent")


def test_a_pattern_with_more_ways_than_time_leaves_its_question_open_and_says_so() -> None:
    series = make_series(1, SeriesDescription="a" * 63 + "b", ProtocolName="lung")
    for pattern in ("^(a|aa)+$", ["^(a|aa)+$", "chest"]):
        outcome, found = ask("description", pattern, series)
        assert outcome is OPEN
        assert found.endswith(" (the pattern takes too long)")
    assert ask("description", ["^(a|aa)+$", "lung"], series)[0] is YES


@pytest.mark.parametrize("raw", ["18:00", "25:00 .. 07:00", "07:60 .. 08:00", "7 .. 18", "07:00 .. 07:00", 7])
def test_hours_that_are_none_are_refused(raw: Any) -> None:
    with pytest.raises(RuleInvalid, match=re.escape(repr(raw))):
        CONDITIONS["time_of_day"].parse_operand(raw)


def test_no_word_means_two_parts_of_the_body() -> None:
    words = [normalize(word) for term, others in WORDS.items() for word in (term, *others)]
    assert len(words) == len(set(words))


def test_a_multi_frame_instance_counts_its_frames() -> None:
    assert ask("slice_count", 120, make_series(1, count=1, NumberOfFrames=120.0)) == (YES, "120")


def test_a_series_of_one_slice_has_no_spacing() -> None:
    assert ask("slice_spacing", "<= 3 mm", make_series(1, count=1)) == (OPEN, "absent")


def test_the_table_is_named_by_its_keys() -> None:
    assert all(key == condition.key for key, condition in CONDITIONS.items())


single = st.none() | st.booleans() | st.integers() | st.floats() | st.text("aT1 +-_/.^\\Äß\u30ac\x00", max_size=12)
anything = single | st.lists(single, max_size=7)


@given(st.sampled_from(sorted(CONDITIONS)), st.dictionaries(st.sampled_from(KEPT_KEYWORDS), anything, max_size=8))
def test_no_header_makes_a_condition_fail(key: str, attributes: dict[str, Any]) -> None:
    condition = CONDITIONS[key]
    series = make_series(1, **attributes)
    reading = condition.read(series)
    assert condition.ask([condition.parse_operand("absent")], series)[0] is (YES if reading is None else NO)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=7) | st.just(list(AXIAL)))
def test_no_orientation_makes_reading_fail(cosines: list[float]) -> None:
    outcome, _ = ask("orientation", "axial", make_series(1, ImageOrientationPatient=cosines))
    assert outcome in Outcome
