"""The registrar answers clashes at once, commits in order and in groups, and says when the ledger takes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import func, select

import node.ledger.registrar as module
from node.domain.recording import Recording
from node.domain.study import Comparison, InstanceFacts
from node.domain.uids import InstanceUID, SeriesUID
from node.errors import IdentifierClash, LedgerBusy
from node.ledger.engine import Engine, open_engine
from node.ledger.instances import InstanceLedger
from node.ledger.registrar import Registrar
from node.ledger.schema import instances, receptions
from node.ledger.studies import StudyLedger
from tests.instances import NOON
from tests.ledgers import copy_ledger, make_facts

DEADLINE_S = 20.0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(copy_ledger(tmp_path), busy_timeout_s=5)
    yield engine
    engine.dispose()


def numbered(number: int, **changes: object) -> InstanceFacts:
    facts = replace(make_facts(), sop_instance_uid=InstanceUID(f"1.9.{number}"), path=f"p{number}")
    return replace(facts, **changes)  # type: ignore[arg-type]  # the fields of InstanceFacts


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(instances)).scalar_one())


def test_everything_is_committed_when_it_has_stopped(engine: Engine) -> None:
    told = Event()
    registrar = Registrar(InstanceLedger(engine), told.set)
    registrar.start()
    for number in range(1200):
        assert registrar.record_instance(numbered(number)) is Recording.NEW
    registrar.stop()
    assert count(engine) == 1200
    assert told.is_set()


def test_whoever_waits_hears_when_what_was_taken_is_committed(engine: Engine) -> None:
    registrar = Registrar(InstanceLedger(engine), lambda: None)
    registrar.record_instance(numbered(1))
    assert not registrar.wait_committed(0.001)
    registrar.start()
    assert registrar.wait_committed(DEADLINE_S)
    assert count(engine) == 1
    assert registrar.wait_committed(0)
    registrar.stop()


def test_end_of_an_association_comes_after_its_rows(engine: Engine) -> None:
    told = Event()
    registrar = Registrar(InstanceLedger(engine), told.set)
    registrar.record_instance(numbered(1))
    registrar.end_association(numbered(1).association_id, NOON)
    registrar.start()
    assert told.wait(DEADLINE_S)
    registrar.stop()
    with engine.connect() as connection:
        assert connection.execute(select(receptions.c.ended_at)).scalars().all() == [NOON]
    assert [series.open_associations for series in StudyLedger(engine).open_series()] == [0]


@pytest.mark.parametrize("is_committed", [False, True])
def test_clash_is_told_before_and_after_the_commit(engine: Engine, is_committed: bool) -> None:
    first = Registrar(InstanceLedger(engine), lambda: None)
    first.record_instance(numbered(1))
    if is_committed:
        first.start()
        first.stop()
        first = Registrar(InstanceLedger(engine), lambda: None)
    with pytest.raises(IdentifierClash, match=r"1\.9\.1"):
        first.record_instance(numbered(1, series_instance_uid=SeriesUID("1.8.8")))
    assert first.record_instance(numbered(1)) is Recording.SAME
    assert first.record_instance(numbered(1, digest="other")) is Recording.CHANGED
    assert first.known_digest("1.9.1") == "other"


def test_row_that_another_receiver_was_faster_with_is_not_remembered_as_ours(engine: Engine) -> None:
    slower, faster = (Registrar(InstanceLedger(engine), lambda: None) for _ in range(2))
    slower.record_instance(numbered(1, series_instance_uid=SeriesUID("1.8.8")))
    faster.record_instance(numbered(1))
    for registrar in (faster, slower):
        registrar.start()
        registrar.stop()
    # The ledger knows better than what was taken and then left out.
    assert slower.record_instance(numbered(1)) is Recording.SAME


def test_the_version_that_counts_is_that_of_the_last_receiver_once_it_is_committed(engine: Engine) -> None:
    mine, others = (Registrar(InstanceLedger(engine), lambda: None) for _ in range(2))
    first, second = numbered(1), numbered(1, digest="second", path="p2")
    mine.record_instance(first)
    # Not committed yet, and known all the same.
    known = mine.find_known(first.place)
    assert known is not None
    assert (known.digest, known.path) == (first.digest, "p1")
    mine.start()
    assert mine.wait_committed(DEADLINE_S)
    others.record_instance(replace(second, comparison=Comparison(says=first.digest)))
    others.start()
    others.stop()
    known = mine.find_known(first.place)
    assert known is not None
    assert (known.digest, known.says, known.path) == ("second", first.digest, "p2")
    mine.stop()


def test_of_two_senders_at_once_one_is_told_of_the_clash(engine: Engine) -> None:
    registrar = Registrar(InstanceLedger(engine), lambda: None)
    registrar.start()
    refused: list[str] = []

    def run(series_instance_uid: str) -> None:
        for number in range(200):
            try:
                registrar.record_instance(numbered(number, series_instance_uid=SeriesUID(series_instance_uid)))
            except IdentifierClash:
                refused.append(series_instance_uid)

    threads = [Thread(target=run, args=(uid,)) for uid in ("1.8.1", "1.8.2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    registrar.stop()
    assert len(refused) == 200
    assert count(engine) == 200


class StuckLedger(InstanceLedger):
    """A ledger that somebody else holds, until it is let go."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.let_go = Event()

    def record_arrivals(
        self, arrived: Sequence[InstanceFacts], ended: Sequence[tuple[str, datetime]]
    ) -> Sequence[InstanceFacts]:
        if not self.let_go.is_set():
            raise LedgerBusy("somebody else holds it")
        return super().record_arrivals(arrived, ended)


def test_ledger_that_takes_nothing_pushes_back_and_nothing_is_lost_when_it_does_again(engine: Engine) -> None:
    ledger, told = StuckLedger(engine), Event()
    registrar = Registrar(ledger, told.set)
    registrar.start()
    for number in range(module.MAX_WAITING):
        registrar.record_instance(numbered(number))
    with pytest.raises(LedgerBusy, match=str(module.MAX_WAITING)):
        registrar.record_instance(numbered(module.MAX_WAITING))
    ledger.let_go.set()
    assert told.wait(DEADLINE_S)
    registrar.stop()
    assert count(engine) == module.MAX_WAITING


class ChokingLedger(InstanceLedger):
    """A ledger that breaks on one row."""

    def record_arrivals(
        self, arrived: Sequence[InstanceFacts], ended: Sequence[tuple[str, datetime]]
    ) -> Sequence[InstanceFacts]:
        if any(facts.path == "p3" for facts in arrived):
            raise ValueError("a row that no ledger takes")
        return super().record_arrivals(arrived, ended)


def test_one_row_that_the_ledger_never_takes_does_not_hold_up_the_others(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    registrar = Registrar(ChokingLedger(engine), lambda: None)
    for number in range(6):
        registrar.record_instance(numbered(number))
    registrar.start()
    registrar.stop()
    assert count(engine) == 5
    assert "row refused by the ledger" in caplog.messages
