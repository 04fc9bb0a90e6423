"""What the SR says, item by item: the templates as highdicom writes them, and what a reader is told besides."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from node.domain import codes
from node.domain.codes import ANATOMICAL_STRUCTURE, LEFT, LUNG, RIGHT, Code
from node.domain.finding import Finding, Presence
from node.domain.result import OWN_MANUFACTURER, ResultKind
from node.errors import ResultCheckFailed
from tests.analyses import SPLEEN, Case, ct_case, known, mr_case, organ_case, put, read_results, xray_case
from tests.edge_cases import MAX_UID, bare_case, crowded_case, long_uids_case, one_voxel_case
from tests.reports import answers, encode_report_of, named, read_report_of, walk
from workers.encoding.concepts import to_concept
from workers.encoding.content import MAX_POINTS, write_code, write_number, write_outline, write_statement
from workers.encoding.groups import MEASUREMENTS, PLANAR_MEASUREMENTS, PRESENCE_CODES
from workers.encoding.segmentation import track
from workers.outline import trace_outlines
from workers.pipelines.base import find_key_slice
from workers.proving.check import check_results

SEG, SR = ResultKind.SEG, ResultKind.SR
Tree = tuple[Any, ...]


def report_of(case: Case) -> Dataset:
    """Return the SR of a Case after it passed the gate."""
    return read_report_of(case)[SR]


def with_findings(case: Case, *findings: Finding) -> Case:
    return replace(case, analysis=replace(case.analysis, findings=findings))


def read_tree(item: Dataset) -> Tree:
    """Return all that a content item says, its children included; meanings in lower case."""
    said: list[Any] = [item.get("RelationshipType"), item.ValueType, _concept(item, "ConceptNameCodeSequence")]
    match item.ValueType:
        case "CODE":
            said.append(_concept(item, "ConceptCodeSequence"))
        case "NUM":
            measured = item.MeasuredValueSequence[0]
            said += [float(measured.NumericValue), measured.FloatingPointValue]
            said.append(_concept(measured, "MeasurementUnitsCodeSequence"))
        case "IMAGE":
            reference = item.ReferencedSOPSequence[0]
            said += [str(element.value) for element in reference]
        case "SCOORD":
            said += [item.GraphicType, [float(value) for value in item.GraphicData]]
        case "CONTAINER":
            said += [item.ContinuityOfContent]
            said += [str(one.TemplateIdentifier) for one in item.get("ContentTemplateSequence") or ()]
        case _:
            said.append(str(item.get("TextValue") or item.get("UID")))
    return (*said, *(read_tree(child) for child in item.get("ContentSequence") or ()))


def _concept(item: Dataset, keyword: str) -> tuple[str, str, str]:
    code = item[keyword].value[0]
    return str(code.CodeValue), str(code.CodingSchemeDesignator), str(code.CodeMeaning).lower()


def as_highdicom(code: Code) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


class Reference:
    """The groups of a Case as highdicom's own templates write them."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def write_segment(self, finding: Finding, seg: Dataset) -> Dataset:
        assert finding.segment_number is not None
        group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            **self._introduce(finding),
            finding_category=to_concept(finding.category),
            referenced_segment=hd.sr.ReferencedSegment(
                sop_class_uid=seg.SOPClassUID,
                sop_instance_uid=seg.SOPInstanceUID,
                segment_number=finding.segment_number,
                source_series=hd.sr.SourceSeriesForSegmentation(next(iter(self._volume_slices())).SeriesInstanceUID),
            ),
            measurements=[*self._measure(finding, tuple(MEASUREMENTS)), *self._rate(finding)],
        )
        return group[0]

    def write_region(self, finding: Finding) -> Dataset:
        mask = self._case.analysis.mask
        assert mask is not None
        key = find_key_slice(finding, mask)
        image = self._volume_slices()[key]
        group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            **self._introduce(finding),
            finding_category=to_concept(finding.category),
            referenced_region=hd.sr.ImageRegion(
                graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
                graphic_data=trace_outlines(mask[key] == finding.segment_number)[0],
                source_image=hd.sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID),
            ),
            measurements=self._measure(finding, PLANAR_MEASUREMENTS) or None,
        )
        return group[0]

    def write_label(self, finding: Finding, image: Dataset) -> Dataset:
        presence = hd.sr.QualitativeEvaluation(to_concept(codes.PRESENCE), to_concept(PRESENCE_CODES[finding.presence]))
        group = hd.sr.MeasurementsAndQualitativeEvaluations(
            **self._introduce(finding),
            source_images=[hd.sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)],
            measurements=self._rate(finding) or None,
            qualitative_evaluations=[presence],
        )
        return group[0]

    def _volume_slices(self) -> Sequence[Dataset]:
        assert self._case.analysis.reference is not None
        return self._case.analysis.reference.datasets

    def _introduce(self, finding: Finding) -> dict[str, Any]:
        provenance = self._case.provenance
        tracking_uid, tracking_id = track(provenance, finding)
        sites = None
        if finding.site is not None:
            side = to_concept(finding.laterality) if finding.laterality else None
            sites = [hd.sr.FindingSite(anatomic_location=to_concept(finding.site), laterality=side)]
        return {
            "tracking_identifier": hd.sr.TrackingIdentifier(uid=tracking_uid, identifier=tracking_id),
            "finding_type": to_concept(finding.code),
            "finding_sites": sites,
            "algorithm_id": hd.sr.AlgorithmIdentification(
                name=provenance.model.name,
                version=provenance.model.version,
                family=to_concept(codes.ARTIFICIAL_INTELLIGENCE),
                manufacturer=OWN_MANUFACTURER,
                parameters=[f"weights_sha256={provenance.model.weights_sha256}"],
            ),
        }

    def _measure(self, finding: Finding, names: Sequence[str]) -> list[hd.sr.Measurement]:
        measured = []
        for name in names:
            if name in finding.measurements:
                concept, unit, derivation, digits = MEASUREMENTS[name]
                how = to_concept(derivation) if derivation else None
                value = round(finding.measurements[name], digits)
                measured.append(hd.sr.Measurement(to_concept(concept), value, to_concept(unit), derivation=how))
        return measured

    def _rate(self, finding: Finding) -> list[hd.sr.Measurement]:
        if finding.confidence is None:
            return []
        percent = round(100 * finding.confidence, 1)
        return [hd.sr.Measurement(to_concept(codes.CERTAINTY), percent, to_concept(codes.PERCENT))]


@pytest.mark.parametrize("make", [ct_case, mr_case, organ_case])
def test_groups_of_segments_are_what_highdicom_writes(make: Any) -> None:
    case: Case = make()
    results = read_results(encode_report_of(case))
    reference = Reference(case)
    expected = []
    for finding in case.analysis.findings:
        expected += [reference.write_segment(finding, results[SEG]), reference.write_region(finding)]
    written = [read_tree(group) for group in named(results[SR], codes.MEASUREMENT_GROUP)]
    assert written == [read_tree(group) for group in expected]


@pytest.mark.parametrize("presence", list(Presence))
def test_groups_of_labels_are_what_highdicom_writes(presence: Presence) -> None:
    case = xray_case(presence, more=(codes.PNEUMOTHORAX,))
    _, *groups = named(read_results(encode_report_of(case))[SR], codes.MEASUREMENT_GROUP)
    reference = Reference(case)
    image = case.inputs["image"][0]
    expected = [reference.write_label(finding, image) for finding in case.analysis.findings]
    assert [read_tree(group) for group in groups] == [read_tree(group) for group in expected]


def test_the_root_says_what_highdicom_says() -> None:
    case, results = known("ct")
    sr = read_results(results)[SR]
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=case.provenance.device_uid(),
        name="RADNODE",
        manufacturer_name=OWN_MANUFACTURER,
        model_name="lung_nodules",
        serial_number="RADNODE",
    )
    observer = hd.sr.ObserverContext(observer_type=as_highdicom(codes.DEVICE), observer_identifying_attributes=device)
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=to_concept(codes.CT_PROCEDURE),
        imaging_measurements=[hd.sr.MeasurementsAndQualitativeEvaluations(hd.sr.TrackingIdentifier("1.2", "one"))],
        language_of_content_item_and_descendants=hd.sr.LanguageOfContentItemAndDescendants(as_highdicom(codes.ENGLISH)),
    )[0]
    before, measurements = [read_tree(one) for one in report.ContentSequence[:-1]], report.ContentSequence[-1]
    assert [read_tree(one) for one in sr.ContentSequence[: len(before)]] == before
    assert [one.ConceptNameCodeSequence[0].CodeValue for one in sr.ContentSequence[len(before) :]] == [
        codes.IMAGE_LIBRARY.value,
        measurements.ConceptNameCodeSequence[0].CodeValue,
        codes.QUALITATIVE_EVALUATIONS.value,
    ]
    assert (sr.ContinuityOfContent, sr.ValueType) == (report.ContinuityOfContent, report.ValueType)


def test_a_pipeline_that_nobody_ships_is_reported_with_its_own_words_and_codes() -> None:
    case = organ_case()
    results = encode_report_of(case)
    check_results(results, case.analysis, case.inputs)
    objects = read_results(results)
    (segment,) = objects[SEG].SegmentSequence
    category = segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue
    assert category == ANATOMICAL_STRUCTURE.value != codes.MORPHOLOGICALLY_ABNORMAL.value
    assert answers(objects[SR], codes.FINDING_CATEGORY) == [category, category]
    assert answers(objects[SR], codes.FINDING) == [SPLEEN.value, SPLEEN.value]
    assert objects[SR].SeriesDescription == "AI Spleen SR (unverified)"
    assert objects[SR].ManufacturerModelName == "spleen_segmentation"
    assert named(objects[SR], codes.CERTAINTY) == []


def test_each_of_several_things_that_were_not_found_has_its_own_group() -> None:
    case = organ_case(is_found=False)
    sr = report_of(case)
    summary, *absent = named(sr, codes.MEASUREMENT_GROUP)
    assert answers(summary, codes.SUMMARY) == [codes.WITHOUT_FINDINGS.value]
    assert answers(summary, codes.FINDING) == []
    looked_for = [code.value for code in case.provenance.model.looked_for]
    assert [answers(group, codes.FINDING) for group in absent] == [[value] for value in looked_for]
    assert {value for group in absent for value in answers(group, codes.PRESENCE)} == {codes.ABSENT.value}
    uids = [str(item.UID) for item in named(sr, codes.TRACKING_UNIQUE_IDENTIFIER)]
    assert len(set(uids)) == len(looked_for) + 1


@pytest.mark.parametrize(
    ("presences", "summary"),
    [
        (("present", "absent"), codes.WITH_FINDINGS),
        (("present", "undetermined"), codes.PARTLY_WITH_FINDINGS),
        (("absent", "absent"), codes.WITHOUT_FINDINGS),
        (("absent", "undetermined"), codes.PARTLY_WITHOUT_FINDINGS),
        (("undetermined", "undetermined"), codes.NO_ANSWER),
    ],
)
def test_a_label_that_nobody_could_decide_was_not_answered(presences: Sequence[str], summary: Code) -> None:
    case = xray_case(more=(Code("36118008", "SCT", "Pneumothorax"),))
    labels = zip(case.analysis.findings, presences, strict=True)
    sr = report_of(with_findings(case, *(replace(one, presence=Presence(said)) for one, said in labels)))
    assert answers(sr, codes.SUMMARY) == [summary.value]


def test_a_model_that_does_not_tell_what_it_looks_for_says_only_that_it_found_nothing() -> None:
    case = ct_case(with_nodules=False)
    silent = replace(case, provenance=replace(case.provenance, model=replace(case.provenance.model, looked_for=())))
    sr = report_of(silent)
    assert answers(sr, codes.FINDING) == []
    assert answers(sr, codes.SUMMARY) == [codes.WITHOUT_FINDINGS.value]


def procedure(value: str, scheme: str, meaning: str, **more: str) -> Dataset:
    """Return an Item of Procedure Code Sequence as a source may hold it."""
    item = Dataset()
    keyword = "CodeValue" if len(value) <= 16 else "LongCodeValue"
    put(item, {keyword: value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning, **more})
    return item


def test_every_procedure_of_the_source_is_reported() -> None:
    long = "urn-of-a-procedure-at-this-site"
    listed = [
        procedure("CTTH", "L", "CT Thorax"),
        procedure("CTAB", "99SITE", "CT Abdomen", CodingSchemeVersion="3"),
        procedure(long, "99SITE", "CT Hals"),
        procedure("", "99SITE", "no code at all"),
        Dataset(),
    ]
    sr = report_of(ct_case(ProcedureCodeSequence=listed))
    said = [item.ConceptCodeSequence[0] for item in named(sr, codes.PROCEDURE_REPORTED)]
    assert [str(one.get("CodeValue") or one.get("LongCodeValue")) for one in said] == ["CTTH", "CTAB", long]
    assert [str(one.get("CodingSchemeVersion") or "") for one in said] == ["", "3", ""]


def test_a_procedure_with_a_meaning_too_long_is_cut_not_refused() -> None:
    sr = report_of(ct_case(ProcedureCodeSequence=[procedure("CTTH", "L", "CT of the thorax " * 8)]))
    (said,) = [item.ConceptCodeSequence[0] for item in named(sr, codes.PROCEDURE_REPORTED)]
    assert said.CodeMeaning.startswith("CT of the thorax")
    assert len(said.CodeMeaning) <= 64


def test_an_accession_number_alone_tells_the_request() -> None:
    (asked,) = report_of(ct_case()).ReferencedRequestSequence
    assert (asked.AccessionNumber, asked.RequestedProcedureID or "") == ("A-1", "")
    assert "ReferencedRequestSequence" not in report_of(ct_case(AccessionNumber=""))


def test_local_codes_name_their_scheme_and_only_ours_its_owner() -> None:
    own, foreign = codes.LUNG_OPACITY, Code("op-1", "99HOSPITAL", "Opacity of the hospital's model")
    sr = report_of(xray_case(more=(own, foreign)))
    said = {item.CodingSchemeDesignator: item for item in sr.CodingSchemeIdentificationSequence}
    assert set(said) == {own.scheme, "99HOSPITAL"}
    assert said[own.scheme].CodingSchemeResponsibleOrganization == "radnode project"
    assert "CodingSchemeResponsibleOrganization" not in said["99HOSPITAL"]


def test_a_corrected_report_is_another_object_that_says_what_a_person_struck() -> None:
    case = ct_case()
    first = read_results(encode_report_of(case))
    struck = ("Nodule 3", "Nodule 2")
    provenance = replace(case.provenance, predecessor=first[SR], correction=struck)
    corrected = read_report_of(replace(case, provenance=provenance))
    for kind in (SEG, SR):
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            assert corrected[kind][keyword].value != first[kind][keyword].value
    said = [item.TextValue for item in named(corrected[SR], codes.COMMENT)]
    assert [sentence for sentence in said if "struck" in sentence] == [
        "Corrected: a person struck Nodule 2 from the earlier report.",
        "Corrected: a person struck Nodule 3 from the earlier report.",
    ]
    replaced = corrected[SR].PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert replaced.ReferencedSOPInstanceUID == first[SR].SOPInstanceUID
    other_order = replace(provenance, correction=struck[::-1])
    assert other_order.uid("SR") == provenance.uid("SR")
    assert not any("struck" in item.TextValue for item in named(first[SR], codes.COMMENT))


def test_words_of_the_model_that_stand_in_the_objects_make_other_uids() -> None:
    provenance = ct_case().provenance
    models = [
        replace(provenance.model, **change)
        for change in ({"title": "Nodules"}, {"notice": "For tests"}, {"series_offset": 7}, {"looked_for": (SPLEEN,)})
    ]
    uids = {replace(provenance, model=model).uid("SR") for model in (provenance.model, *models)}
    assert len(uids) == 5


def test_a_finding_without_certainty_site_and_side_is_reported_without_them() -> None:
    sr = report_of(bare_case())
    for code in (codes.CERTAINTY, codes.FINDING_SITE, codes.LATERALITY):
        assert named(sr, code) == []
    case = ct_case()
    unsided = [replace(finding, laterality=None) for finding in case.analysis.findings]
    sr = report_of(with_findings(case, *unsided))
    assert answers(sr, codes.FINDING_SITE) == [LUNG.value] * 4
    assert named(sr, codes.LATERALITY) == []


def test_a_finding_of_one_voxel_has_axes_of_zero_and_the_volume_of_the_voxel() -> None:
    sr = report_of(one_voxel_case())
    stated = {
        (item.ConceptNameCodeSequence[0].CodeValue, float(item.MeasuredValueSequence[0].NumericValue))
        for item in walk(sr)
        if item.ValueType == "NUM" and item.RelationshipType == "CONTAINS"
    }
    assert stated == {
        (codes.LONG_AXIS.value, 0.0),
        (codes.SHORT_AXIS.value, 0.0),
        (codes.VOLUME.value, 1.12),
    }
    (outline,) = [item for item in walk(sr) if item.ValueType == "SCOORD"]
    assert sorted(set(outline.GraphicData)) == [20.0, 21.0, 30.0, 31.0]


@pytest.mark.parametrize("count", [1, 2, 30])
def test_each_of_many_findings_has_its_segment_and_both_groups(count: int) -> None:
    many = crowded_case(count)
    results = encode_report_of(many)
    check_results(results, many.analysis, many.inputs)
    objects = read_results(results)
    assert [int(item.SegmentNumber) for item in objects[SEG].SegmentSequence] == list(range(1, count + 1))
    groups = named(objects[SR], codes.MEASUREMENT_GROUP)
    assert [str(one.ContentTemplateSequence[0].TemplateIdentifier) for one in groups] == ["1411", "1410"] * count
    referred = [
        item.ReferencedSOPSequence[0].ReferencedSegmentNumber for item in named(objects[SR], codes.REFERENCED_SEGMENT)
    ]
    assert referred == list(range(1, count + 1))


def test_uids_of_64_characters_are_referred_to_whole() -> None:
    case = long_uids_case()
    sr = report_of(case)
    listed = {
        str(instance.ReferencedSOPInstanceUID)
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert {str(ds.SOPInstanceUID) for ds in case.inputs["ct"]} < listed
    assert {len(uid) for uid in listed if uid.startswith("2.25.")} == {MAX_UID, len(str(sr.SOPInstanceUID))}


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "a certainty of more than one": {"confidence": 1.2},
    "a certainty below zero": {"confidence": -0.1},
    "a certainty of NaN": {"confidence": float("nan")},
    "a length of NaN": {"measurements": {"long_axis_mm": float("nan")}},
    "an endless volume": {"measurements": {"volume_mm3": float("inf")}},
    "a code without a value": {"code": Code("", "SCT", "Nodule")},
    "a code without a scheme": {"code": Code("27925004", "", "Nodule")},
    "a code whose meaning is too long": {"code": Code("27925004", "SCT", "Nodule " * 10)},
    "a code in two values": {"code": Code("27925004", "SCT", "Nodule\\Mass")},
    "a category without meaning": {"category": Code("49755003", "SCT", "")},
    "no label": {"label": ""},
    "a blank label": {"label": " "},
    "a label of two values": {"label": "Nodule\\Mass"},
    "a label of two lines": {"label": "Nodule\n1"},
    "a side of no site": {"site": None, "laterality": LEFT},
    "no segment": {"segment_number": None},
    "a segment that is not in the mask": {"segment_number": 9},
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_no_report_can_state_is_refused(name: str) -> None:
    case = ct_case()
    first, second = case.analysis.findings
    broken = with_findings(case, replace(first, **IMPOSSIBLE[name]), second)
    with pytest.raises(ResultCheckFailed):
        report_of(broken)


@pytest.mark.parametrize("threshold", [float("nan"), -0.1, 50.0])
def test_a_threshold_that_is_no_certainty_is_refused(threshold: float) -> None:
    case = ct_case()
    with pytest.raises(ResultCheckFailed, match="threshold"):
        report_of(replace(case, analysis=replace(case.analysis, threshold=threshold)))


@pytest.mark.parametrize("key_slice", [99, 12, -8, 0])
def test_a_key_slice_without_the_finding_gives_way_to_its_largest(key_slice: int) -> None:
    case = ct_case()
    first, second = case.analysis.findings
    volume = case.analysis.reference
    assert volume is not None
    assert first.key_slice is not None
    sr = report_of(with_findings(case, replace(first, key_slice=key_slice), second))
    outline = next(item for item in walk(sr) if item.ValueType == "SCOORD")
    shown = outline.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert shown == volume.datasets[first.key_slice].SOPInstanceUID


def test_a_code_value_of_more_than_16_characters_is_kept_whole() -> None:
    case = ct_case()
    first, second = case.analysis.findings
    long = Code("1234567890123456789", "SCT", "A concept with a long identifier")
    sr = report_of(with_findings(case, replace(first, code=long), second))
    said = named(sr, codes.FINDING)[0].ConceptCodeSequence[0]
    assert (said.LongCodeValue, "CodeValue" in said) == (long.value, False)


def damage_answer(name: Code, answer: Code) -> Any:
    """Return a damage that changes the first answer under a concept name."""

    def damage(sr: Dataset) -> None:
        item = named(sr, name)[0].ConceptCodeSequence[0]
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = answer.value, answer.scheme, answer.meaning

    return damage


@pytest.mark.parametrize(
    ("name", "answer", "complaint"),
    [
        (codes.FINDING, codes.MASS, "code of Nodule 1"),
        (codes.FINDING_CATEGORY, ANATOMICAL_STRUCTURE, "category of Nodule 1"),
        (codes.FINDING_SITE, codes.BRAIN, "site of Nodule 1"),
        (codes.LATERALITY, LEFT, "laterality of"),
    ],
    ids=lambda value: value.meaning if isinstance(value, Code) else "",
)
def test_a_finding_under_another_name_does_not_leave(name: Code, answer: Code, complaint: str) -> None:
    case, results = known("ct")
    assert case.analysis.findings[0].laterality == RIGHT
    damaged = []
    for result in results:
        ds = dcmread(BytesIO(result.content))
        if result.kind is SR:
            damage_answer(name, answer)(ds)
        buffer = BytesIO()
        ds.save_as(buffer)
        damaged.append(replace(result, content=buffer.getvalue()))
    with pytest.raises(ResultCheckFailed, match=complaint):
        check_results(damaged, case.analysis, case.inputs)


def test_something_found_in_a_report_of_nothing_does_not_leave() -> None:
    case = organ_case(is_found=False)
    damaged = []
    for result in encode_report_of(case):
        ds = dcmread(BytesIO(result.content))
        if result.kind is SR:
            named(ds, codes.PRESENCE)[-1].ConceptCodeSequence[0].CodeValue = codes.PRESENT.value
        buffer = BytesIO()
        ds.save_as(buffer)
        damaged.append(replace(result, content=buffer.getvalue()))
    with pytest.raises(ResultCheckFailed, match="nothing was found"):
        check_results(damaged, case.analysis, case.inputs)


def test_items_refuse_what_their_elements_cannot_hold() -> None:
    with pytest.raises(ResultCheckFailed, match="no code"):
        write_code(codes.FINDING, Code("1", "A scheme of many letters", "One"))
    with pytest.raises(ResultCheckFailed, match="no report can state"):
        write_number(codes.VOLUME, float("-inf"), codes.CUBIC_MILLIMETER)
    fits = np.zeros((MAX_POINTS, 2))
    image = write_statement(codes.COMMENT, "stands for an image")
    assert len(write_outline(codes.IMAGE_REGION, fits, image)) > 8 * MAX_POINTS
    with pytest.raises(ResultCheckFailed, match="corners"):
        write_outline(codes.IMAGE_REGION, np.zeros((MAX_POINTS + 1, 2)), image)


def test_text_of_any_script_and_length_is_whole() -> None:
    note = "Schicht 7 fehlt; 肺結節 1 \\ 2; " * 4000
    case = ct_case()
    sr = report_of(replace(case, analysis=replace(case.analysis, notes=(note,))))
    assert note.rstrip() in [item.TextValue for item in named(sr, codes.COMMENT)]
