"""The witness: one Event and one record for each refusal, a number for a flood, and never a word to the sender."""

import re
from datetime import datetime
from pathlib import Path
from threading import Thread

import pytest

from node.audit.allowance import BURST, MAX_KINDS, REFILL_PER_S, TELL_AFTER_S, Allowance
from node.audit.authentication import logged_in, login_failed
from node.audit.events import Notice, Remote, security_alert
from node.audit.inspection import prove_trail, read_records
from node.audit.transfer import MAX_OPEN, Incoming
from node.audit.witness import AUDIT_LOST, Witness
from node.domain.uids import StudyUID
from node.errors import LedgerBusy
from tests.instances import NOON, MemoryLedger
from tests.ledgers import make_facts
from tests.peers import wait_until
from tests.trails import Listener, make_trail, texts


def notice(text: str = "refused", *, code: str = "not-dicom", peer: str = "192.0.2.7") -> Notice:
    return Notice(kind="instance-refused", code=code, text=text, peer=peer, calling_aet="CT1")


def told(allowance: Allowance, notice: Notice, count: int, at_s: float) -> int:
    return sum(allowance.allows(notice, at_s) for _ in range(count))


def test_burst_is_told_one_by_one_and_the_rest_as_a_number_a_minute_later() -> None:
    allowance = Allowance()
    assert told(allowance, notice(), BURST + 940, 0.0) == BURST
    assert allowance.due(TELL_AFTER_S - 1) == []
    (rest,) = allowance.due(TELL_AFTER_S)
    assert (rest.count, rest.kind, rest.peer) == (940, "instance-refused", "192.0.2.7")
    assert rest.text == "940 more like this one: refused"
    assert allowance.due(TELL_AFTER_S * 10, is_end=True) == []


def test_flood_of_an_hour_leaves_a_bounded_number_of_records() -> None:
    allowance = Allowance()
    records = counted = 0
    for second in range(3600):
        one_by_one = told(allowance, notice(f"{second}"), 50, float(second))
        floods = allowance.due(float(second))
        records += one_by_one + len(floods)
        counted += one_by_one + sum(flood.count for flood in floods)
    counted += sum(flood.count for flood in allowance.due(3600.0, is_end=True))
    assert counted == 3600 * 50
    assert records <= BURST + 3600 * REFILL_PER_S + 3600 / TELL_AFTER_S + 1


def test_each_peer_and_reason_has_its_own_allowance_and_an_ae_title_has_none() -> None:
    allowance = Allowance()
    assert told(allowance, notice(), BURST + 1, 0.0) == BURST
    assert allowance.allows(notice(peer="192.0.2.8"), 0.0)
    assert allowance.allows(notice(code="uid-mismatch"), 0.0)
    assert not allowance.allows(Notice(kind="instance-refused", code="not-dicom", text="", peer="192.0.2.7"), 0.0)


def test_flood_from_everywhere_shares_one_allowance_until_the_others_are_quiet() -> None:
    allowance = Allowance()
    crowd = [notice(peer=f"192.0.2.{number}") for number in range(MAX_KINDS)]
    strangers = [notice(peer=f"198.51.100.{number}") for number in range(250)]
    assert all(allowance.allows(one, 0.0) for one in crowd)
    assert sum(allowance.allows(one, 0.0) for one in strangers) == BURST
    assert [flood.count for flood in allowance.due(TELL_AFTER_S)] == [250 - BURST]
    quiet_s = BURST / REFILL_PER_S + TELL_AFTER_S
    assert sum(allowance.allows(one, quiet_s) for one in strangers[: MAX_KINDS - 1]) == MAX_KINDS - 1


class BusyLedger(MemoryLedger):
    def record_refusal(
        self, *, at: datetime, kind: str, text: str, code: str, count: int, study_instance_uid: StudyUID | None = None
    ) -> None:
        raise LedgerBusy("no answer")


def test_refusal_is_one_event_and_one_record_even_when_the_ledger_is_busy(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    Witness(trail=make_trail(tmp_path), ledger=ledger, clock=lambda: NOON).refused(notice("one"))
    Witness(trail=make_trail(tmp_path), ledger=BusyLedger(), clock=lambda: NOON).refused(notice("two"))
    Witness(trail=None, ledger=ledger, clock=lambda: NOON).refused(notice("three"))
    assert ledger.events == [("instance-refused", "one"), ("instance-refused", "three")]
    assert texts(tmp_path) == ["one", "two"]


def test_failed_logins_of_one_address_fill_no_volume(tmp_path: Path) -> None:
    witness = Witness(trail=make_trail(tmp_path), ledger=MemoryLedger(), clock=lambda: NOON)
    for _ in range(BURST + 40):
        witness.record(login_failed("unknown", address="192.0.2.7", why="name or password is not right"))
    witness.record(login_failed("ada", address="192.0.2.8", why="name or password is not right"))
    witness.record(logged_in("ada", address="192.0.2.7"))
    witness.stop()
    said = texts(tmp_path)
    assert len(said) < BURST + 40
    assert said[-3:-1] == ["ada could not log in: name or password is not right", "ada logged in"]
    assert said[-1].endswith("more like this one: unknown could not log in: name or password is not right")
    (number,) = re.findall(r"^(\d+) more", said[-1])
    assert len(said) - 3 + int(number) == BURST + 40
    assert [record.kind for record in read_records(tmp_path)][-1] == "login-failed"


def test_trail_that_cannot_be_written_stops_nothing_and_its_gap_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "audit"
    folder.write_text("no folder")
    ledger = MemoryLedger()
    witness = Witness(trail=make_trail(folder), ledger=ledger, clock=lambda: NOON)
    for _ in range(3):
        witness.refused(notice())
    assert len(ledger.events) == 3
    assert [line.getMessage() for line in caplog.records] == ["audit record lost"] * 3
    folder.unlink()
    witness.refused(notice("after"))
    assert texts(folder) == ["3 records could not be written before this one; the log has the reason", "after"]
    (lost, _) = read_records(folder)
    assert (lost.kind, lost.outcome) == ("audit-records-lost", "serious-failure")


def test_flood_is_told_at_the_end_at_the_latest_and_everything_is_on_disk(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    witness = Witness(trail=make_trail(tmp_path), ledger=ledger, clock=lambda: NOON)
    witness.start()

    def refuse() -> None:
        for _ in range(50):
            witness.refused(notice())

    threads = [Thread(target=refuse) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    witness.stop()
    counts = [record.facts["count"] for record in read_records(tmp_path)]
    assert sum(counts) == 200
    assert len(counts) == len(ledger.events) <= BURST + 2
    assert prove_trail(tmp_path).is_whole


def test_each_study_of_an_association_is_told_at_its_first_instance_and_at_the_end() -> None:
    listener = Listener()
    incoming = Incoming(listener, Remote(name="CT1", aet="CT1", address="192.0.2.7"))
    for study, number in (("1.2.3", 1), ("1.2.3", 2), ("1.2.4", 1), ("1.2.3", 3)):
        incoming.count(make_facts(number, study=study, PatientID="P1"))
    assert listener.told() == [("transfer-begun", "1.2.3", 1), ("transfer-begun", "1.2.4", 1)]
    incoming.end()
    assert listener.told()[2:] == [("study-received", "1.2.3", 3), ("study-received", "1.2.4", 1)]
    incoming.end()
    assert len(listener.events) == 4


def test_two_patients_under_one_study_are_told_apart() -> None:
    """A message may only name one patient (PS3.15 A.5.3.7)."""
    listener = Listener()
    incoming = Incoming(listener, Remote(name="CT1"))
    for number, patient in enumerate(("P1", "P2", "P1")):
        incoming.count(make_facts(number, PatientID=patient))
    incoming.end()
    named = [event.objects[1].object_id for event in listener.events if event.kind == "study-received"]
    assert (named, [told[2] for told in listener.told()]) == (["P1", "P2"], [1, 1, 2, 1])


def test_association_of_very_many_studies_is_told_in_parts() -> None:
    listener = Listener()
    incoming = Incoming(listener, Remote(name="CT1"))
    for number in range(MAX_OPEN + 1):
        incoming.count(make_facts(study=f"1.2.{number}"))
    kinds = [event.kind for event in listener.events]
    assert kinds.count("study-received") == MAX_OPEN
    incoming.end()
    assert len(listener.events) == 2 * (MAX_OPEN + 1)


def test_losses_are_told_to_the_ledger_once_in_five_minutes(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    folder.write_text("no folder")
    ledger = MemoryLedger()
    witness = Witness(trail=make_trail(folder), ledger=ledger, clock=lambda: NOON)
    for _ in range(3):
        witness.record(security_alert(notice()))
    witness.start()
    wait_until(lambda: ledger.events, what="the losses")
    witness.record(security_alert(notice()))
    witness.stop()
    ((kind, text),) = ledger.events
    assert kind == AUDIT_LOST
    assert text.startswith("3 times the audit trail could not be written")
