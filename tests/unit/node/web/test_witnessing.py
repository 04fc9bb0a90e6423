"""Who looked at what: told once a visitor, Study and span of time, in the words of the standard, without names."""

from base64 import b64decode
from collections.abc import Callable
from xml.etree.ElementTree import fromstring

import pytest
from fastapi import Request

from node.audit.message import AuditEvent, encode_message
from node.domain.uids import StudyUID
from node.errors import BadIdentifier, LedgerBusy
from node.web import witnessing
from node.web.rights import Visitor
from node.web.witnessing import SPAN_S, Witnessing
from tests.trails import NOON, SOURCE, judge

ASKED = Request({"type": "http", "client": ("192.0.2.7", 4711), "headers": []})
ALICE = Visitor(name="alice", rights=frozenset())
BOB = Visitor(name="bob", rights=frozenset(), address="192.0.2.8")
CT = "1.2.840.10008.5.1.4.1.1.2"


class Clock:
    """Seconds that go on when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def told_of(*steps: str, clock: Clock | None = None) -> list[AuditEvent]:
    """Return what is told when Studies are looked at by alice, in this order; ``+`` lets the span pass."""
    told: list[AuditEvent] = []
    now = clock or Clock()
    sees = Witnessing(told.append, lambda uid: f"P-{uid}", now_s=now)
    sees.start()
    for step in steps:
        if step == "+":
            now.now_s += SPAN_S
        else:
            sees.saw(ASKED, ALICE, step)
    sees.stop()
    return told


def test_a_thousand_frames_are_one_record() -> None:
    (event,) = told_of(*["1.2.3"] * 1000)
    assert event.kind == "study-viewed"
    assert event.facts == {"study_instance_uid": "1.2.3", "visitor": "alice", "peer": "192.0.2.7"}


def test_another_study_and_another_time_are_told() -> None:
    assert [event.facts["study_instance_uid"] for event in told_of("1.2.3", "1.2.4", "1.2.3", "+", "1.2.3")] == [
        "1.2.3",
        "1.2.4",
        "1.2.3",
    ]


def test_looking_and_taking_away_are_told_apart_and_so_are_visitors() -> None:
    told: list[AuditEvent] = []
    sees = Witnessing(told.append, lambda _uid: "P")
    sees.start()
    for visitor in (ALICE, BOB, ALICE):
        sees.saw(ASKED, visitor, "1.2.3")
        sees.retrieved(ASKED, visitor, "1.2.3", {CT: 2})
    sees.stop()
    assert [(event.kind, event.facts["visitor"]) for event in told] == [
        ("study-viewed", "alice"),
        ("study-retrieved", "alice"),
        ("study-viewed", "bob"),
        ("study-retrieved", "bob"),
    ]
    assert told[-1].facts["peer"] == "192.0.2.8"
    message = encode_message(told[-1], source=SOURCE, at=NOON)
    judge(message)
    assert f'SOPClass UID="{CT}" NumberOfInstances="2"' in message


def test_a_search_is_told_by_its_attributes_and_not_by_their_values() -> None:
    told: list[AuditEvent] = []
    sees = Witnessing(told.append, lambda _uid: "")
    sees.start()
    for _ in range(3):
        sees.searched(ASKED, ALICE, ("StudyDate", "PatientName"))
    sees.stop()
    message = encode_message(told[0], source=SOURCE, at=NOON)
    judge(message)
    query = fromstring(message).findtext("ParticipantObjectIdentification/ParticipantObjectQuery")
    assert (len(told), b64decode(query or "")) == (1, b"PatientName=&StudyDate=")


def test_a_study_whose_patient_cannot_be_asked_for_is_told_all_the_same() -> None:
    def fail(_uid: StudyUID) -> str:
        raise LedgerBusy("the ledger is locked")

    told: list[AuditEvent] = []
    sees = Witnessing(told.append, fail)
    sees.start()
    sees.saw(ASKED, ALICE, "1.2.3")
    sees.stop()
    assert [event.kind for event in told] == ["study-viewed"]


def test_a_fault_of_ours_ends_neither_the_record_nor_those_after_it(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_uid: StudyUID) -> str:
        raise ValueError("a string literal cannot contain NUL")

    def record(event: AuditEvent) -> None:
        if event.facts["study_instance_uid"] == "1.2.4":
            raise TypeError("no record can be made of it")
        told.append(event)

    told: list[AuditEvent] = []
    sees = Witnessing(record, fail)
    sees.start()
    for uid in ("1.2.3", "1.2.4", "1.2.5"):
        sees.saw(ASKED, ALICE, uid)
    sees.stop()
    assert [event.facts["study_instance_uid"] for event in told] == ["1.2.3", "1.2.5"]
    assert [line.getMessage() for line in caplog.records].count("audit record lost") == 1


@pytest.mark.parametrize("uid", ["\x00", "", "Doe^Jane", "1" * 65])
def test_what_is_no_uid_is_refused_at_once(uid: str) -> None:
    sees = Witnessing(lambda _event: None, lambda _uid: "")
    looks: tuple[Callable[[], None], ...] = (
        lambda: sees.saw(ASKED, ALICE, uid),
        lambda: sees.retrieved(ASKED, ALICE, uid, {}),
        lambda: sees.left_out(ASKED, ALICE, uid, "1.2.3"),
    )
    for look in looks:
        with pytest.raises(BadIdentifier):
            look()


def test_nothing_is_lost_when_more_is_seen_than_can_be_written() -> None:
    told: list[AuditEvent] = []
    sees = Witnessing(told.append, lambda _uid: "")
    for number in range(witnessing.MAX_WAITING + 5):
        sees.saw(ASKED, ALICE, f"1.2.{number}")
    # Whoever came last waited, and wrote it.
    assert len(told) == 5
    sees.start()
    sees.stop()
    assert len(told) == witnessing.MAX_WAITING + 5


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witnessing, "MAX_REMEMBERED", 2)
    assert len(told_of("1.2.3", "1.2.4", "1.2.5", "1.2.5", "1.2.3")) == 4
