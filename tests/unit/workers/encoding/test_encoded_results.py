"""What a reader finds in the Results: true places, true volumes, the same names in SEG and SR, nothing random."""

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta, timezone
from io import BytesIO

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node.domain.codes import Code
from node.domain.finding import Presence
from node.domain.result import OWN_MANUFACTURER, OptionalResult, ResultKind
from node.domain.uids import derive_uid
from node.errors import ResultCheckFailed
from tests.analyses import (
    ACCEPTED,
    SPACING_MM,
    Case,
    ct_case,
    known,
    make_radiograph,
    read_results,
    resend,
    xray_case,
)
from tests.reports import walk
from workers.proving.check import check_results

SEG, SR, SC = ResultKind.SEG, ResultKind.SR, ResultKind.SC
LEFT_CODE, RIGHT_CODE = "7771000", "24028007"


def named(ds: Dataset, code: str) -> list[Dataset]:
    """Return the content items with this concept name."""
    return [item for item in walk(ds) if item.ConceptNameCodeSequence[0].CodeValue == code]


def numbers(group: Dataset) -> dict[str, float]:
    """Return the measurements of a group by the code of their name."""
    return {
        item.ConceptNameCodeSequence[0].CodeValue: float(item.MeasuredValueSequence[0].NumericValue)
        for item in walk(group)
        if item.ValueType == "NUM"
    }


def sentences(sr: Dataset) -> list[str]:
    return [item.TextValue for item in named(sr, "121106")]


def voxels_mm(seg: Dataset, segment: int) -> NDArray[np.float64]:
    """Return where the voxels of a Segment lie in LPS mm, by the SEG alone."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    places = []
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == segment:
            origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
            for row, column in np.argwhere(pixels):
                places.append(origin + column * column_mm * orientation[:3] + row * row_mm * orientation[3:])
    return np.array(places)


@pytest.mark.parametrize("name", ["ct", "tilted"])
def test_every_voxel_of_the_seg_lies_in_its_nodule(name: str) -> None:
    case, results = known(name)
    seg = read_results(results)[SEG]
    for number, ball in enumerate(case.balls, start=1):
        places = voxels_mm(seg, number)
        away = np.linalg.norm(places - np.array(ball.center_mm), axis=1)
        assert away.max() <= ball.radius_mm + 1e-3
        assert np.allclose(places.mean(axis=0), ball.center_mm, atol=0.3)


@pytest.mark.parametrize("name", ["ct", "tilted", "mr"])
def test_volumes_of_the_sr_are_voxels_by_slice_distance_not_by_thickness(name: str) -> None:
    results = read_results(known(name)[1])
    groups = [group for group in named(results[SR], "125007") if "118565006" in numbers(group)]
    assert len(groups) == 2
    for number, group in enumerate(groups, start=1):
        truth = len(voxels_mm(results[SEG], number)) * SPACING_MM[0] * SPACING_MM[1] * SPACING_MM[2]
        assert numbers(group)["118565006"] == pytest.approx(truth, rel=0.01)


def test_only_slices_with_a_nodule_become_frames_but_the_whole_series_is_listed() -> None:
    case, results = known("ct")
    seg = read_results(results)[SEG]
    assert case.analysis.mask is not None
    touched = sum(int((case.analysis.mask == number).any(axis=(1, 2)).sum()) for number in (1, 2))
    assert seg.NumberOfFrames == touched
    listed = {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert listed == {ds.SOPInstanceUID for ds in case.inputs["ct"]}
    assert seg.FrameOfReferenceUID == case.inputs["ct"][0].FrameOfReferenceUID


def test_segments_say_what_where_and_by_which_model() -> None:
    seg = read_results(known("ct")[1])[SEG]
    right, left = seg.SegmentSequence
    assert (right.SegmentLabel, right.TrackingID) == ("Nodule 1", "AI Nodule 1")
    assert right.SegmentedPropertyTypeCodeSequence[0].CodeValue == "27925004"
    assert right.SegmentAlgorithmType == "AUTOMATIC"
    region = right.AnatomicRegionSequence[0]
    assert (region.CodeValue, region.AnatomicRegionModifierSequence[0].CodeValue) == ("39607008", RIGHT_CODE)
    assert left.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeValue == LEFT_CODE
    algorithm = right.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("lung_nodules-model", "1.2.0")
    assert "3f9c" in algorithm.AlgorithmParameters
    assert len(right.RecommendedDisplayCIELabValue) == 3


def test_seg_and_sr_track_the_same_findings() -> None:
    results = read_results(known("ct")[1])
    tracked = [(item.TrackingID, item.TrackingUID) for item in results[SEG].SegmentSequence]
    for group in named(results[SR], "125007"):
        identifier = next(item.TextValue for item in walk(group) if item.ValueType == "TEXT")
        uid = next(item.UID for item in walk(group) if item.ValueType == "UIDREF")
        assert (identifier, uid) in tracked
    assert len({uid for _, uid in tracked}) == 2


def test_highdicom_reads_both_back() -> None:
    by_kind = {result.kind: result.content for result in known("tilted")[1]}
    seg = hd.seg.segread(BytesIO(by_kind[SEG]))
    volume = seg.get_volume(combine_segments=True)
    assert volume.spacing == pytest.approx(SPACING_MM)
    content = hd.sr.srread(BytesIO(by_kind[SR])).content
    assert isinstance(content, hd.sr.MeasurementReport)
    volumetric = content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in volumetric] == ["AI Nodule 1", "AI Nodule 2"]
    planar = content.get_planar_roi_measurement_groups()
    assert len(planar) == 2


def test_planar_group_outlines_the_key_slice() -> None:
    case, encoded = known("ct")
    results = read_results(encoded)
    assert case.analysis.reference is not None
    assert case.analysis.mask is not None
    outlines = [item for item in walk(results[SR]) if item.ValueType == "SCOORD"]
    for finding, outline in zip(case.analysis.findings, outlines, strict=True):
        assert finding.key_slice is not None
        image = outline.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        assert image == case.analysis.reference.datasets[finding.key_slice].SOPInstanceUID
        points = np.array(outline.GraphicData, float).reshape(-1, 2)
        rows, columns = np.nonzero(case.analysis.mask[finding.key_slice] == finding.segment_number)
        assert points.min(axis=0).tolist() == [columns.min(), rows.min()]
        assert points.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]
        assert points[0].tolist() == points[-1].tolist()


def test_nodule_group_holds_measurements_certainty_and_side() -> None:
    case, results = known("ct")
    sr = read_results(results)[SR]
    group = named(sr, "125007")[0]
    finding = case.analysis.findings[0]
    values = numbers(group)
    assert values["103339001"] == pytest.approx(finding.measurements["long_axis_mm"], abs=0.01)
    assert values["103340004"] == pytest.approx(finding.measurements["short_axis_mm"], abs=0.01)
    assert values["112031"] == pytest.approx(finding.measurements["mean_hu"], abs=0.1)
    assert values["111012"] == pytest.approx(97.0)
    sides = [item.ConceptCodeSequence[0].CodeValue for item in named(group, "272741003")]
    assert sides == [RIGHT_CODE]


def test_only_what_was_measured_is_stated() -> None:
    sr = read_results(known("mr")[1])[SR]
    assert all("112031" not in numbers(group) for group in named(sr, "125007"))


def test_summary_presence_and_disclaimer_stand_in_the_root_container() -> None:
    sr = read_results(known("ct")[1])[SR]
    container = next(item for item in sr.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "C0034375")
    assert [item.ConceptCodeSequence[0].CodeValue for item in named(container, "111017")] == ["111242"]
    assert [item.ConceptCodeSequence[0].CodeValue for item in named(container, "121052")] == ["121053"]
    said = sentences(sr)
    assert any("not verified by a physician" in sentence for sentence in said)
    assert "Reference model, not for diagnosis" in said
    assert "12 of 12 slices were read, 2.00 mm apart." in said


def test_sr_is_complete_unverified_and_preliminary() -> None:
    sr = read_results(known("ct")[1])[SR]
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    assert sr.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_nothing_found_is_an_sr_that_says_so_and_no_seg() -> None:
    case = ct_case(with_nodules=False)
    results = case.encode()
    check_results(results, case.analysis, case.inputs)
    assert [(result.kind, result.is_substitute) for result in results] == [(SR, False), (SC, True)]
    sr = read_results(results)[SR]
    assert [item.ConceptCodeSequence[0].CodeValue for item in named(sr, "111017")] == ["111241"]
    assert [item.ConceptCodeSequence[0].CodeValue for item in named(sr, "121052")] == ["121054"]
    assert [item.ConceptCodeSequence[0].CodeValue for item in named(sr, "121071")] == ["27925004"]


def test_all_roles_are_evidence() -> None:
    case, encoded = known("mr")
    results = read_results(encoded)
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in results[SR].CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    expected = {ds.SOPInstanceUID for datasets in case.inputs.values() for ds in datasets}
    assert evidence == expected | {results[SEG].SOPInstanceUID}


def test_every_label_of_a_radiograph_has_its_group_present_or_not() -> None:
    more = (Code("36118008", "SCT", "Pneumothorax"), Code("PT1", "99RADNODE", "Pleural thickening"))
    sr = read_results(xray_case(more=more).encode())[SR]
    said = {}
    for group in named(sr, "125007"):
        label = next(item.TextValue for item in walk(group) if item.ValueType == "TEXT")
        presence = named(group, "121052")[0].ConceptCodeSequence[0].CodeValue
        said[label] = (presence, numbers(group).get("111012"))
    assert said == {
        "AI summary": ("121053", None),
        "AI Pneumonia": ("121053", 86.0),
        "AI Pneumothorax": ("121054", 20.0),
        "AI Pleural thickening": ("121054", 20.0),
    }
    assert [item.CodingSchemeDesignator for item in sr.CodingSchemeIdentificationSequence] == ["99RADNODE"]


@pytest.mark.parametrize(
    ("presence", "summary", "code"),
    [
        (Presence.PRESENT, "111242", "121053"),
        (Presence.ABSENT, "111241", "121054"),
        (Presence.UNDETERMINED, "111245", "121059"),
    ],
)
def test_summary_of_a_radiograph_follows_its_labels(presence: Presence, summary: str, code: str) -> None:
    case = xray_case(presence)
    results = case.encode()
    check_results(results, case.analysis, case.inputs)
    sr = read_results(results)[SR]
    assert [item.ConceptCodeSequence[0].CodeValue for item in named(sr, "111017")] == [summary]
    assert {item.ConceptCodeSequence[0].CodeValue for item in named(sr, "121052")} == {code}


def test_the_report_is_about_the_radiograph_that_was_read_among_several() -> None:
    case = xray_case()
    other = make_radiograph(SOPInstanceUID=derive_uid("test", "other"))
    results = replace(case, inputs={"image": [other, *case.inputs["image"]]}).encode()
    report = next(dcmread(BytesIO(r.content)) for r in results if r.kind is ResultKind.SR)
    read = case.inputs["image"][0].SOPInstanceUID
    shown = {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images_of(report)}
    assert shown == {read}


def images_of(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        if child.ValueType == "IMAGE":
            yield child
        yield from images_of(child)


def test_analysis_that_does_not_say_which_image_was_read_is_refused() -> None:
    case = xray_case()
    with pytest.raises(ResultCheckFailed, match="which image"):
        replace(case, analysis=replace(case.analysis, radiograph=None)).encode()


@pytest.mark.parametrize("name", ["ct", "mr", "xray"])
def test_same_question_gives_the_same_bytes(name: str) -> None:
    case, results = known(name)
    shuffled = {role: list(reversed(datasets)) for role, datasets in case.inputs.items()}
    again = replace(case, inputs=shuffled).encode(OptionalResult.PICTURE)
    assert [result.content for result in results] == [result.content for result in again]


@pytest.mark.parametrize("name", ["ct", "mr", "xray"])
def test_every_time_stamp_is_the_acceptance_or_the_sources(name: str) -> None:
    source = {"19620331", "20250114", "094100"}
    own = {"20261121", "013005", "20261121013005"}
    for ds in read_results(known(name)[1]).values():
        stamps = {str(element.value) for element in ds.iterall() if element.VR in ("DA", "TM", "DT") and element.value}
        assert stamps <= source | own
        assert (ds.ContentDate, ds.ContentTime, ds.SeriesDate) == ("20261121", "013005", "20261121")


def test_every_uid_is_derived_or_the_sources() -> None:
    for ds in read_results(known("ct")[1]).values():
        for element in ds.iterall():
            if element.VR == "UI" and element.value:
                assert str(element.value).startswith(("2.25.", "1.2.840.10008."))


def test_results_stand_in_the_sources_time_zone() -> None:
    case = ct_case(with_nodules=False, TimezoneOffsetFromUTC="-0330")
    for ds in read_results(case.encode()).values():
        assert ds.TimezoneOffsetFromUTC == "-0330"
        assert (ds.ContentDate, ds.ContentTime) == ("20261120", "220005")


def test_acceptance_in_another_zone_is_the_same_moment() -> None:
    provenance = ct_case(with_nodules=False).provenance
    moved = replace(provenance, accepted_at=ACCEPTED.astimezone(timezone(timedelta(hours=5))))
    assert moved.date_and_time("") == provenance.date_and_time("") == ("20261121", "013005")


def test_sources_are_not_changed() -> None:
    case = ct_case(PatientSex="X", SliceThickness="", PatientBirthDate="31.03.1962")
    before = {role: copy.deepcopy(list(datasets)) for role, datasets in case.inputs.items()}
    case.encode(OptionalResult.PICTURE)
    assert before == {role: list(datasets) for role, datasets in case.inputs.items()}


MISSING = (
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyTime",
    "StudyDate",
    "SliceThickness",
    "ReferringPhysicianName",
    "SpecificCharacterSet",
    "InstanceNumber",
    "SeriesDescription",
)


def test_missing_type_2_elements_are_filled() -> None:
    case = ct_case()
    for ds in case.inputs["ct"]:
        for keyword in MISSING:
            delattr(ds, keyword)
    results = case.encode(OptionalResult.PICTURE)
    check_results(results, case.analysis, case.inputs)
    seg = read_results(results)[SEG]
    assert seg.PatientBirthDate == ""
    thickness = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness
    assert float(thickness) == pytest.approx(SPACING_MM[0])


def test_malformed_values_are_emptied_never_guessed() -> None:
    case = ct_case(with_nodules=False, PatientSex="X", PatientBirthDate="31.03.1962", StudyDate="2025.01.14")
    results = case.encode()
    check_results(results, case.analysis, case.inputs)
    for ds in read_results(results).values():
        assert (ds.PatientSex or "", ds.PatientBirthDate or "", ds.StudyDate or "") == ("", "", "")


def test_element_that_cannot_be_read_is_left_out() -> None:
    case = ct_case(with_nodules=False)
    for ds in case.inputs["ct"]:
        weight = Tag("PatientWeight")
        ds[weight] = RawDataElement(weight, "DS", 6, b"heavy ", 0, False, True)
    results = case.encode()
    check_results(results, case.analysis, case.inputs)
    assert "PatientWeight" not in read_results(results)[SR]


@pytest.mark.parametrize(
    ("character_sets", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 100", "Müller^Käthe"),
        ("ISO_IR 144", "Жданов^Илья"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_survive_the_way_to_utf_8(character_sets: str | list[str], name: str) -> None:
    case = ct_case(with_nodules=False, SpecificCharacterSet=character_sets, PatientName=name)
    received = {"ct": [resend(ds) for ds in case.inputs["ct"]]}
    volume = replace(case.analysis.reference, datasets=_in_order(case, received["ct"]))  # type: ignore[type-var]
    case = replace(case, inputs=received, analysis=replace(case.analysis, reference=volume))
    results = case.encode(OptionalResult.PICTURE)
    check_results(results, case.analysis, case.inputs)
    for ds in read_results(results).values():
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert str(ds.PatientName) == name


def _in_order(case: Case, received: Sequence[Dataset]) -> tuple[Dataset, ...]:
    assert case.analysis.reference is not None
    by_uid = {ds.SOPInstanceUID: ds for ds in received}
    return tuple(by_uid[ds.SOPInstanceUID] for ds in case.analysis.reference.datasets)


def test_request_procedure_and_institution_are_carried_over() -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTTH", "L", "CT Thorax"
    request = Dataset()
    request.RequestedProcedureID, request.FillerOrderNumberImagingServiceRequest = "RP7", "F9"
    case = ct_case(
        ProcedureCodeSequence=[code], RequestAttributesSequence=[request], InstitutionName="Haus", IssuerOfPatientID="H"
    )
    results = case.encode()
    check_results(results, case.analysis, case.inputs)
    sr = read_results(results)[SR]
    asked = sr.ReferencedRequestSequence[0]
    assert (asked.RequestedProcedureID, asked.FillerOrderNumberImagingServiceRequest) == ("RP7", "F9")
    assert asked.AccessionNumber == "A-1"
    assert [item.ConceptCodeSequence[0].CodeValue for item in named(sr, "121058")] == ["CTTH"]
    assert (sr.InstitutionName, sr.IssuerOfPatientID) == ("Haus", "H")


def test_new_sr_names_its_predecessor() -> None:
    case, results = known("ct")
    earlier = read_results(results)[SR]
    provenance = replace(case.provenance, predecessor=earlier, content="another content")
    again = replace(case, provenance=provenance)
    results = again.encode()
    check_results(results, again.analysis, again.inputs)
    item = read_results(results)[SR].PredecessorDocumentsSequence[0]
    named_sr = item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named_sr.ReferencedSOPInstanceUID == earlier.SOPInstanceUID


def test_series_say_ai_and_unverified_and_have_their_numbers() -> None:
    ds = read_results(known("ct")[1])
    assert {kind: int(one.SeriesNumber) for kind, one in ds.items()} == {SEG: 9101, SR: 9201, SC: 9301}
    for kind, one in ds.items():
        assert one.SeriesDescription == f"AI Lung Nodules {kind} (unverified)"
        assert one.Manufacturer == OWN_MANUFACTURER
    assert ds[SEG].SOPClassUID == SegmentationStorage
    assert ds[SR].SOPClassUID == Comprehensive3DSRStorage
    assert ds[SC].SOPClassUID == SecondaryCaptureImageStorage


def test_encoding_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ct_case(PatientName="Nocaret", PatientBirthDate="31.03.1962").encode(OptionalResult.PICTURE)
    assert not [record for record in caplog.records if record.name.startswith(("pydicom", "highdicom"))]


def test_private_elements_stay_behind() -> None:
    case = ct_case()
    for ds in case.inputs["ct"]:
        ds.private_block(0x0011, "CANARY", create=True).add_new(1, "LO", "canary value")
    for result in case.encode(OptionalResult.PICTURE):
        assert b"canary value" not in result.content


def test_findings_and_mask_that_disagree_are_refused() -> None:
    case = ct_case()
    mask = case.analysis.mask
    assert mask is not None
    only_first = replace(case.analysis, findings=case.analysis.findings[:1])
    unnumbered = replace(case.analysis, findings=tuple(replace(f, segment_number=None) for f in case.analysis.findings))
    other_grid = replace(case.analysis, mask=mask[:, :, 1:])
    no_mask = replace(case.analysis, mask=None)
    empty = replace(case.analysis, mask=np.zeros_like(mask))
    for analysis in (only_first, unnumbered, other_grid, no_mask, empty):
        with pytest.raises(ResultCheckFailed):
            replace(case, analysis=analysis).encode()


def test_uids_follow_the_question_not_the_moment() -> None:
    provenance = ct_case().provenance
    later = replace(provenance, accepted_at=ACCEPTED + timedelta(days=1))
    assert later.uid("SR") == provenance.uid("SR")
    others = (
        replace(provenance, content="another"),
        replace(provenance, pipeline="another"),
        replace(provenance, model=replace(provenance.model, version="1.3.0")),
        replace(provenance, model=replace(provenance.model, weights_sha256="0" * 64)),
        replace(provenance, model=replace(provenance.model, numbers={"thresholds": {"finding": 0.6}})),
        replace(provenance, software_version="0.2.0"),
    )
    assert len({one.uid("SR") for one in (provenance, *others)}) == len(others) + 1
    assert provenance.uid("SR") != provenance.uid("SEG")


def test_series_description_keeps_unverified_however_long_the_pipeline() -> None:
    provenance = replace(ct_case().provenance, pipeline="a_pipeline_with_a_very_long_name_" * 3)
    described = provenance.series_description("SEG")
    assert len(described) <= 64
    assert described.startswith("AI ")
    assert described.endswith("(unverified)")


def test_ct_slices_of_the_case_are_what_they_say() -> None:
    assert {ds.SOPClassUID for ds in ct_case().inputs["ct"]} == {CTImageStorage}
