"""Trails for tests: in a folder of their own, at a time of their own, and how their messages are judged."""

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

from lxml import etree

from node.audit.events import Movement, Notice, Remote, StudySubject, security_alert
from node.audit.inspection import read_records
from node.audit.message import AuditEvent, Source
from node.audit.record import Record
from node.audit.trail import Trail, trail_files
from node.audit.transfer import Transfer
from node.domain.uids import StudyUID

SCHEMA = Path(__file__).with_name("audit_message.rng")
SOURCE = Source(source_id="RADNODE@test", aet="RADNODE")
NOON = datetime(2025, 1, 14, 12, tzinfo=UTC)


def make_trail(folder: Path, now: datetime = NOON) -> Trail:
    """Return a trail whose clock stands still."""
    return Trail(folder, source=SOURCE, clock=lambda: now)


def make_alert(text: str = "refused", **changes: str) -> AuditEvent:
    """Return one Security Alert."""
    values = {"kind": "instance-refused", "code": "not-dicom", "peer": "192.0.2.7", "calling_aet": "CT1", **changes}
    return security_alert(Notice(text=text, **values))  # type: ignore[arg-type]  # count is no str, and not changed


class Listener:
    """Keeps what would become records."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def record(self, event: AuditEvent) -> None:
        """Keep one."""
        self.events.append(event)

    def told(self) -> list[tuple[str, object, object]]:
        """Return kind, Study and number of Instances of each."""
        return [(e.kind, e.facts.get("study_instance_uid"), e.facts.get("instances")) for e in self.events]

    def depart(self, study_instance_uid: StudyUID) -> Transfer:
        """Return what tells of one Study on its way to an archive."""
        subject = StudySubject(study_instance_uid=study_instance_uid, patient_id="P1")
        remote = Remote(name="pacs", aet="ORTHANC", address="192.0.2.9")
        return Transfer(self, Movement(subject=subject, remote=remote, is_incoming=False))


def texts(folder: Path) -> list[str]:
    """Return what each record says, oldest first."""
    return [record.text for record in read_records(folder)]


def lines(folder: Path) -> list[bytes]:
    """Return the lines of all files, in the order of the chain."""
    return [line for path in trail_files(folder) for line in path.read_bytes().splitlines(keepends=True)]


def message_of(record: Record) -> Element:
    """Return the message of a record, after the standard's schema was found to hold."""
    judge(record.message)
    return fromstring(record.message)


def judge(message: str) -> None:
    """Fail unless `message` is valid by the schema of PS3.15 A.5.1."""
    schema = _schema()
    assert schema.validate(etree.fromstring(message.encode())), f"{schema.error_log}\n{message}"


def facts_of(line: bytes) -> dict[str, object]:
    """Return what a line holds, as any program reads it."""
    found: dict[str, object] = json.loads(line)
    return found


@cache
def _schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(str(SCHEMA)))
