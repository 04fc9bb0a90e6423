"""What a search for workitems asks for, and what a data set of a request may be."""

import json
from typing import Any

import pytest

from node.domain import workitem as ups
from node.domain.job import JobState
from node.domain.workitem import Workitem, element
from node.errors import NodeError, NotDicom, RequestMalformed, TooComplex
from node.web.negotiation import DICOM_JSON, DICOM_XML
from node.web.workitem_payload import parse_payload
from node.web.workitem_query import LITERAL_ONLY, MAX_PAGE, read_filter, read_query

STATION = f"{ups.STATION_NAME_CODE}"


def test_attributes_are_named_by_keyword_by_tag_and_inside_of_sequences() -> None:
    query = read_query([
        ("ProcedureStepState", "SCHEDULED"),
        ("00100020", "P-7"),
        ("ScheduledStationNameCodeSequence.CodeValue", "ws-1"),
        (f"{STATION}.00080102", "99SITE"),
        ("SOPInstanceUID", "1.2.3,1.2.4"),
    ])  # fmt: skip
    assert query.keys == {
        ups.PROCEDURE_STEP_STATE: element("CS", "SCHEDULED"),
        ups.PATIENT_ID: element("LO", "P-7"),
        STATION: element("SQ", {ups.CODE_VALUE: element("SH", "ws-1"), ups.CODING_SCHEME: element("SH", "99SITE")}),
        ups.SOP_INSTANCE_UID: element("UI", "1.2.3", "1.2.4"),
    }
    assert (query.warnings, query.offset, query.limit) == ((), 0, MAX_PAGE)


def test_what_is_not_understood_is_told_and_left_out() -> None:
    query = read_query([
        ("NoSuchThing", "1"),
        ("PatientID.CodeValue", "1"),
        ("ScheduledStationNameCodeSequence", "ws-1"),
        ("includefield", "NoSuchField,ProcedureStepLabel"),
        ("fuzzymatching", "true"),
        ("accept", "application/json"),
        (".".join(["ReferencedSOPSequence"] * 30), "1"),
    ])  # fmt: skip
    assert not query.keys
    assert query.included == {ups.STEP_LABEL}
    unknown, absent, literal = query.warnings
    assert all(name in unknown for name in ("NoSuchThing", "PatientID.CodeValue", "ScheduledStationNameCodeSequence"))
    assert ("NoSuchField" in absent, literal) == (True, LITERAL_ONLY)


@pytest.mark.parametrize(
    ("name", "value"), [("limit", "-1"), ("limit", "ten"), ("offset", "1e3"), ("fuzzymatching", "maybe")]
)
def test_a_parameter_that_is_none_is_refused(name: str, value: str) -> None:
    with pytest.raises(RequestMalformed):
        read_query([(name, value)])


def test_a_match_tells_what_is_always_told_what_is_asked_and_what_is_included() -> None:
    attributes = {
        ups.SOP_INSTANCE_UID: element("UI", "1.2"),
        ups.STEP_LABEL: element("LO", "x"),
        ups.ACCESSION_NUMBER: element("SH", "A"),
        ups.SCHEDULED_PERFORMERS: element("SQ"),
        ups.OTHER_PATIENT_IDS: element("SQ"),
    }
    found = Workitem(sop_instance_uid="1.2", state=JobState.SCHEDULED, attributes=attributes, is_ours=False)
    told = read_query([("AccessionNumber", ""), ("includefield", "00404034")]).told_of(found)
    assert told.keys() == attributes.keys() - {ups.OTHER_PATIENT_IDS}
    assert read_query([("includefield", "all")]).told_of(found) == attributes


def test_a_filter_is_written_in_one_parameter_or_in_several() -> None:
    wanted = {ups.WORKLIST_LABEL: element("LO", "dose"), ups.PRIORITY: element("CS", "HIGH")}
    together = [("filter", "WorklistLabel=dose,ScheduledProcedureStepPriority=HIGH"), ("deletionlock", "true")]
    assert read_filter(together) == wanted
    assert read_filter([("WorklistLabel", "dose"), (ups.PRIORITY, "HIGH")]) == wanted


@pytest.mark.parametrize("parameters", [[], [("deletionlock", "true")], [("filter", "NoSuchThing=1")]])
def test_a_filter_that_would_let_more_through_is_refused(parameters: list[tuple[str, str]]) -> None:
    with pytest.raises(RequestMalformed):
        read_filter(parameters)


def nested(depth: int) -> Any:
    item: Any = {ups.CODE_VALUE: element("SH", "x")}
    for _ in range(depth):
        item = {ups.INPUT_INFORMATION: element("SQ", item)}
    return item


def test_a_data_set_is_read_in_json_alone_or_in_an_array_and_in_xml() -> None:
    model = {ups.STEP_LABEL: element("LO", "Müller"), "00020010": element("UI", "1.2"), "0040a370": element("SQ")}
    read = {ups.STEP_LABEL: element("LO", "Müller"), ups.REFERENCED_REQUESTS: {"vr": "SQ", "Value": []}}
    for content in (json.dumps(model), json.dumps([model])):
        assert parse_payload(DICOM_JSON, content.encode()) == read
    xml = (
        '<?xml version="1.0"?><NativeDicomModel><DicomAttribute tag="00741204" vr="LO">'
        '<Value number="1">Müller</Value></DicomAttribute></NativeDicomModel>'
    )
    assert parse_payload(DICOM_XML, xml.encode()) == {ups.STEP_LABEL: element("LO", "Müller")}


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    '<NativeDicomModel><DicomAttribute tag="00741204" vr="LO"><Value number="1">&b;</Value></DicomAttribute>'
    "</NativeDicomModel>"
)


@pytest.mark.parametrize(
    ("kind", "content", "error"),
    [
        (DICOM_JSON, b"", RequestMalformed),
        (DICOM_JSON, b"{", RequestMalformed),
        (DICOM_JSON, b"[" * 100_000, RequestMalformed),
        (DICOM_JSON, b'{"00741204": {"vr": "LO", "Value": [NaN]}}', RequestMalformed),
        (DICOM_JSON, b"[{}, {}]", RequestMalformed),
        (DICOM_JSON, b'"text"', RequestMalformed),
        (DICOM_JSON, b'{"ProcedureStepLabel": {"vr": "LO"}}', RequestMalformed),
        (DICOM_JSON, b'{"00741204": "text"}', RequestMalformed),
        (DICOM_JSON, b'{"00741204": {"Value": ["x"]}}', RequestMalformed),
        (DICOM_JSON, b'{"00741204": {"vr": "LO", "Value": "x"}}', RequestMalformed),
        (DICOM_JSON, b'{"00741204": {"vr": "LO", "BulkDataURI": "http://elsewhere"}}', RequestMalformed),
        (DICOM_JSON, b'{"00404021": {"vr": "SQ", "Value": ["x"]}}', RequestMalformed),
        (DICOM_JSON, b'{"00280010": {"vr": "US", "Value": [99999999]}}', NotDicom),
        (DICOM_JSON, b'{"00741204": {"vr": "ZZ", "Value": ["x"]}}', NotDicom),
        (DICOM_JSON, json.dumps(nested(40)).encode(), TooComplex),
        (DICOM_XML, BOMB.encode(), RequestMalformed),
        (DICOM_XML, b"<NativeDicomModel>", RequestMalformed),
        (DICOM_XML, b"<html/>", NotDicom),
    ],
)
def test_what_is_no_data_set_is_refused(kind: str, content: bytes, error: type[NodeError]) -> None:
    with pytest.raises(error) as refused:
        parse_payload(kind, content)
    assert refused.value.http_status == 400
