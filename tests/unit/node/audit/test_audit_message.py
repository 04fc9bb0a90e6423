"""Audit messages: valid by the standard's schema whatever peers say, with the codes that PS3.15 A.5.3 asks for."""

import re
from base64 import b64decode
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest

from node.audit.access import (
    instance_left_out,
    studies_searched,
    study_retrieved,
    study_viewed,
    table_exported,
    workitems_searched,
)
from node.audit.authentication import accounts_changed, logged_in, logged_out, login_failed
from node.audit.erasure import study_purged
from node.audit.events import (
    Movement,
    Notice,
    Remote,
    StudySubject,
    application_activity,
    audit_log_used,
    records_lost,
    results_retracted,
    security_alert,
    study_reprocessed,
    transfer_begun,
    transfer_ended,
    version_deleted,
)
from node.audit.message import AuditEvent, Source, encode_message
from node.audit.orders import destination_tested
from node.audit.trail import DAMAGE
from node.domain.codes import REJECTED_FOR_QUALITY
from node.domain.retention import Purge
from node.domain.uids import StudyUID
from tests.ledgers import make_facts
from tests.trails import NOON, SOURCE, judge

SUBJECT = StudySubject(study_instance_uid=StudyUID("1.2.3"), patient_id="P-17 & <sons>")
MODALITY = Remote(name="CT1", aet="CT1", address="192.0.2.7")
ARCHIVE = Remote(name="pacs", aet="ORTHANC", address="pacs.example")
FOLDER = Remote(name="file:///var/out", is_media=True)
CT_IMAGE_STORAGE, SEG_STORAGE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"


def moving(remote: Remote, *, is_incoming: bool = False) -> Movement:
    return Movement(subject=SUBJECT, remote=remote, is_incoming=is_incoming)


def notice(text: str = "no", **changes: str) -> Notice:
    values = {"kind": "instance-refused", "code": "not-dicom", "peer": "192.0.2.7", "calling_aet": "CT1", **changes}
    return Notice(text=text, **values)  # type: ignore[arg-type]  # count is no str, and not changed


EVENTS = {
    "viewed": study_viewed(SUBJECT, name="alice", address="192.0.2.9"),
    "retrieved": study_retrieved(SUBJECT, {CT_IMAGE_STORAGE: 2}, name="alice", address="192.0.2.9"),
    "left out": instance_left_out(SUBJECT, "1.2.3.4", name="alice", address="192.0.2.9"),
    "searched": studies_searched(("PatientName",), name="alice", address="192.0.2.9"),
    "workitems searched": workitems_searched(("ProcedureStepState",), name="alice", address="192.0.2.9"),
    "table exported": table_exported("studies", rows=3, name="alice", address="192.0.2.9"),
    "destination tested": destination_tested("pacs", account="alice"),
    "start": application_activity(is_start=True, launcher="radnode"),
    "stop": application_activity(is_start=False, launcher="radnode"),
    "log used": audit_log_used("file:///var/lib/radnode/audit", account="alice"),
    "instance refused": security_alert(notice()),
    "association refused": security_alert(notice(kind="association-refused")),
    "records lost": records_lost(3),
    "reprocessed": study_reprocessed(SUBJECT, account="alice"),
    "begun": transfer_begun(moving(MODALITY, is_incoming=True)),
    "received": transfer_ended(moving(MODALITY, is_incoming=True), {CT_IMAGE_STORAGE: 120}),
    "sent": transfer_ended(moving(ARCHIVE), {SEG_STORAGE: 1, CT_IMAGE_STORAGE: 2}),
    "exported": transfer_ended(moving(FOLDER), {SEG_STORAGE: 1}),
    "version deleted": version_deleted(make_facts(PatientID=SUBJECT.patient_id)),
    "purged": study_purged(
        Purge(
            purge_id="1",
            study_instance_uid=SUBJECT.study_instance_uid,
            began_at=NOON,
            with_results=True,
            size_bytes=1,
            ordered_by="alice",
            reason="asked for",
            patient_id=SUBJECT.patient_id,
            sop_classes={CT_IMAGE_STORAGE: 2, SEG_STORAGE: 1},
        )
    ),
    "login": logged_in("ada", address="192.0.2.7"),
    "login failed": login_failed("unknown", address="2001:db8::7", why="name or password is not right"),
    "logout": logged_out("ada", address="192.0.2.7"),
    "accounts changed": accounts_changed("carl made ada admin", account="carl", subject="ada"),
    "retracted": results_retracted(SUBJECT, {SEG_STORAGE: 1}, account="alice", title=REJECTED_FOR_QUALITY),
}


def message(event: AuditEvent) -> Element:
    encoded = encode_message(event, source=SOURCE, at=NOON)
    judge(encoded)
    return fromstring(encoded)


def code(element: Element | None) -> tuple[str, str]:
    assert element is not None
    return element.attrib["csd-code"], element.attrib["codeSystemName"]


# PS3.15 A.5.3: Event ID, Event Type Code, Event Action Code, Event Outcome Indicator.
@pytest.mark.parametrize(
    ("name", "event_id", "type_code", "action", "outcome"),
    [
        ("start", "110100", "110120", "E", "0"),
        ("stop", "110100", "110121", "E", "0"),
        ("log used", "110101", None, "R", "0"),
        ("instance refused", "110113", "110132", "E", "4"),
        ("association refused", "110113", "110126", "E", "4"),
        ("records lost", "110113", "110133", "E", "8"),
        ("begun", "110102", None, "E", "0"),
        ("received", "110104", None, "C", "0"),
        ("sent", "110104", None, "R", "0"),
        ("exported", "110106", None, "R", "0"),
        ("login", "110114", "110122", "E", "0"),
        ("login failed", "110114", "110122", "E", "4"),
        ("logout", "110114", "110123", "E", "0"),
        ("accounts changed", "110113", "110137", "E", "0"),
        ("retracted", "110103", "113001", "D", "0"),
        ("version deleted", "110103", None, "D", "0"),
    ],
)
def test_event_is_identified_as_the_standard_asks(
    name: str, event_id: str, type_code: str | None, action: str, outcome: str
) -> None:
    (identification,) = message(EVENTS[name]).findall("EventIdentification")
    assert code(identification.find("EventID")) == (event_id, "DCM")
    found = identification.find("EventTypeCode")
    assert (None if found is None else code(found)[0]) == type_code
    assert identification.attrib["EventActionCode"] == action
    assert identification.attrib["EventOutcomeIndicator"] == outcome
    assert identification.attrib["EventDateTime"] == "2025-01-14T12:00:00.000+00:00"


@pytest.mark.parametrize(
    ("name", "roles", "requestor"),
    [
        ("start", ["110150", "110151"], 1),
        ("begun", ["110153", "110152"], 0),
        ("received", ["110153", "110152"], 0),
        ("sent", ["110153", "110152"], 0),
        ("exported", ["110153", "110154"], 0),
    ],
)
def test_participants_have_the_roles_that_the_standard_asks_for(name: str, roles: list[str], requestor: int) -> None:
    participants = message(EVENTS[name]).findall("ActiveParticipant")
    assert [code(participant.find("RoleIDCode"))[0] for participant in participants] == roles
    requests = [participant.attrib["UserIsRequestor"] for participant in participants]
    assert [number for number, said in enumerate(requests) if said == "true"] == [requestor]


def test_transfer_names_study_patient_and_both_ends() -> None:
    received = message(EVENTS["received"])
    there, here = received.findall("ActiveParticipant")
    assert (there.attrib["AlternativeUserID"], here.attrib["AlternativeUserID"]) == ("AETITLES=CT1", "AETITLES=RADNODE")
    assert (there.attrib["NetworkAccessPointID"], there.attrib["NetworkAccessPointTypeCode"]) == ("192.0.2.7", "2")
    study, patient = received.findall("ParticipantObjectIdentification")
    assert code(study.find("ParticipantObjectIDTypeCode")) == ("110180", "DCM")
    assert study.attrib["ParticipantObjectID"] == "1.2.3"
    (sop_class,) = study.iter("SOPClass")
    assert sop_class.attrib == {"UID": CT_IMAGE_STORAGE, "NumberOfInstances": "120"}
    assert code(patient.find("ParticipantObjectIDTypeCode")) == ("2", "RFC-3881")
    assert patient.attrib["ParticipantObjectID"] == SUBJECT.patient_id
    assert (patient.findtext("ParticipantObjectName"), patient.attrib["ParticipantObjectTypeCode"]) == ("", "1")
    _, archive = message(EVENTS["sent"]).findall("ActiveParticipant")
    assert archive.attrib["NetworkAccessPointTypeCode"] == "1"


def test_patient_is_in_the_message_only() -> None:
    """What a program may show or forward beside the message names no patient."""
    for name in ("begun", "received", "sent", "exported", "retracted", "version deleted"):
        event = EVENTS[name]
        assert SUBJECT.patient_id not in event.text
        assert SUBJECT.patient_id not in repr(event.facts)


@pytest.mark.parametrize(
    "hostile",
    [
        "<AuditMessage/>",
        '" UserID="root',
        "]]>",
        "\x00\x1b[2J",
        "\ud800\uffff",
        "a\nb",
        "Größe 画像 😀",
        "\\x41",
        "&#0;",
    ],
)
def test_alert_is_valid_and_one_line_whatever_a_peer_says(hostile: str) -> None:
    event = security_alert(notice(hostile, peer=hostile, calling_aet=hostile))
    alert = message(event)
    assert "\n" not in encode_message(event, source=Source(source_id=hostile, aet=hostile), at=NOON)
    (detail,) = alert.iter("ParticipantObjectDetail")
    assert detail.attrib["type"] == "Alert Description"
    assert b64decode(detail.attrib["value"]).decode() == hostile.encode("utf-8", "backslashreplace").decode()


def test_every_kind_of_record_is_explained_to_operators() -> None:
    page = (Path(__file__).resolve().parents[4] / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| .+\(A\.5\.3\.\d+\) \|", page, re.MULTILINE)
    explained = set(re.findall(r"[a-z]+(?:-[a-z]+)+", " ".join(rows)))
    assert {event.kind for event in EVENTS.values()} | {DAMAGE, "connection-refused"} == explained
