"""Studies go row first and file second, whenever a kill comes; one that comes again in between stays whole."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from node.clock import utc_now
from node.domain.result import DeliveryState
from node.domain.retention import KeepUntil, Proof, PurgeOrder
from node.domain.uids import SeriesUID, StudyUID
from node.errors import WrongState
from node.intake.adoption import Adoption
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.ledger.retention import RetentionLedger
from node.retention import GRACE, PERIOD, Gatekeeper, Premises, Retention, Terms
from node.store.files import FileStore, Reserve
from node.store.trash import Trash
from tests.instances import MAX_INSTANCE_BYTES, SERIES, STUDY, arrival, ct_slice, encode
from tests.ledgers import Books, copy_ledger, make_order, make_outcome, make_result
from tests.trails import Listener

PROOF = Proof(keep_until=KeepUntil.SENT)
DAY = timedelta(days=1)
TOMORROW = utc_now() + DAY
AGED = Terms(proof=PROOF, studies=timedelta(hours=1))
UIDS = ("1.2.3.4.5", "1.2.3.4.6", "1.2.3.4.7")
RESULT = "results/1.2.3/2.25.1.1/2.25.1-1.dcm"


class Killed(BaseException):
    """Ends a process of the test, as a signal would."""


class Mortal:
    """Does what `inner` does, until the call of this number; then nothing more."""

    def __init__(self, inner: Any, life: Iterator[int], dies_before: int | None) -> None:
        self._inner, self._life, self._dies_before = inner, life, dies_before

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if next(self._life) == self._dies_before:
                raise Killed
            return method(*args, **kwargs)

        return call


class Bench:
    """A store and a ledger with one Study of three Instances that was answered and sent."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "store"
        self.books = Books(copy_ledger(folder))
        self.store = FileStore(self.root, Reserve(reserve_bytes=0, reserve_percent=90))
        self.listener = Listener()
        self.adoption = Adoption(store=self.store, ledger=self.books.instances, clock=utc_now, teller=self.listener)
        self.intake = Intake(
            store=self.store,
            ledger=self.books.instances,
            clock=utc_now,
            terms=IntakeTerms(own_results="store", max_instance_bytes=MAX_INSTANCE_BYTES),
        )
        self.ledger, self.trash = RetentionLedger(self.books.engine), Trash(self.root)

    def receive(self, *uids: str) -> None:
        for uid in uids:
            self.intake.store_instance(encode(ct_slice(sop_instance_uid=uid)), arrival(sop_instance_uid=uid))

    def finish(self) -> None:
        """Answer and deliver what was received."""
        self.receive(*UIDS)
        order = replace(make_order(), inputs={"ct": SeriesUID(SERIES)})
        self.books.route(order, now=utc_now())
        job = self.books.claim(self.books.only_job(), now=utc_now())
        result = replace(make_result(job), path=RESULT)
        self.store.put(result.path, b"a SEG")
        self.books.jobs.finish_job(job, make_outcome(result), now=utc_now())
        for delivery in self.books.view.list_deliveries(destination=None, state=DeliveryState.PENDING, limit=9):
            self.books.deliveries.record_sent(delivery, now=utc_now(), reason_code=None, reason_text=None)

    def station(self, terms: Terms = AGED, *, dies_before: int | None = None) -> Retention:
        """Return a station that is killed before the call of this number of ledger, store or trail."""
        life = iter(range(1000))
        premises = Premises(
            ledger=Mortal(self.ledger, life, dies_before),
            trash=Mortal(self.trash, life, dies_before),
            teller=Mortal(self.listener, life, dies_before),
            adopt=self.adoption.adopt,
        )
        return Retention(premises, terms)

    def files(self) -> list[str]:
        return sorted(p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())

    def start(self, now: datetime, terms: Terms = AGED) -> Retention:
        """Do what a node does at its start."""
        station = self.station(terms)
        station.resume(now)
        self.adoption.scan()
        return station

    @property
    def state(self) -> str:
        return self.books.view.study_story(StudyUID(STUDY)).state

    def prove_gone(self) -> None:
        assert (self.state, self.files(), self.ledger.pending_purges()) == ("PURGED", [], ())
        assert list(self.books.instances.known_paths()) == []
        assert {event.kind for event in self.listener.events} == {"study-purged"}

    def prove_whole(self) -> None:
        paths = sorted(f"instances/{STUDY}/{SERIES}/{uid}.dcm" for uid in UIDS)
        assert self.files() == [*paths, RESULT]
        assert sorted(self.books.instances.known_paths()) == paths
        assert self.ledger.pending_purges() == ()
        assert [result.purged_at for result in self.books.view.study_story(StudyUID(STUDY)).results] == [None]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.books.close()


def run(station: Retention, now: datetime = TOMORROW) -> None:
    """Let the station work from `now` on until nothing goes any more."""
    for step in range(4):
        station.tick(now + step * GRACE)


def test_what_may_go_goes_with_its_results_and_is_told(bench: Bench) -> None:
    bench.finish()
    station = bench.station()
    assert station.tick(TOMORROW) is not None
    assert bench.state == "PURGED"
    assert all(path.startswith(".trash/") for path in bench.files())
    run(station)
    bench.prove_gone()
    (event,) = bench.listener.events
    assert event.objects[1].object_id == "P1"
    assert dict(event.objects[0].sop_classes) == {
        "1.2.840.10008.5.1.4.1.1.2": 3,
        "1.2.840.10008.5.1.4.1.1.66.4": 1,
    }


def test_nothing_goes_before_its_time_or_without_terms(bench: Bench) -> None:
    bench.finish()
    run(bench.station(Terms(proof=PROOF)))
    run(bench.station(Terms(proof=PROOF, studies=2 * DAY)))
    run(bench.station(), utc_now())
    bench.prove_whole()


def test_nothing_goes_that_is_needed(bench: Bench) -> None:
    bench.finish()
    bench.books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=utc_now())
    with bench.books.deliveries.writing() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET state = 'PENDING'")
    run(bench.station(Terms(proof=PROOF, studies=timedelta(hours=1), high_percent=0.0001)))
    bench.prove_whole()


@pytest.mark.parametrize("dies_before", range(1, 14))
def test_kill_at_any_step_leaves_nothing_half_done(bench: Bench, dies_before: int) -> None:
    """After the next start the Study is gone, whichever call was the last of the life before."""
    bench.finish()
    mortal = bench.station(dies_before=dies_before)
    with pytest.raises(Killed):
        run(mortal)
    later = TOMORROW + DAY
    run(bench.start(later), later)
    bench.prove_gone()


@pytest.mark.parametrize("dies_before", [*range(1, 12), None])
def test_study_that_comes_again_is_whole_whenever_a_kill_comes(bench: Bench, dies_before: int | None) -> None:
    """One Instance of it was acknowledged after the Study was let go: none of the others may be missing then."""
    bench.finish()
    gate = Gatekeeper(bench.ledger, bench.trash, PROOF)
    gate.order(PurgeOrder(study_instance_uid=StudyUID(STUDY), ordered_by="keeper", reason="asked for"), TOMORROW)
    mortal = bench.station(Terms(proof=PROOF), dies_before=dies_before)
    try:
        mortal.tick(TOMORROW)
        bench.receive(UIDS[0])
        run(mortal)
    except Killed:
        bench.receive(UIDS[0])
    run(bench.start(TOMORROW + DAY, Terms(proof=PROOF)), TOMORROW + DAY)
    bench.prove_whole()
    assert bench.state == "OPEN"


def test_instance_that_was_acknowledged_and_has_no_row_yet_brings_its_study_back(bench: Bench) -> None:
    """Its receiver found the file in place, told Success and made it the youngest; the row is still on its way."""
    bench.finish()
    station = bench.station()
    station.tick(TOMORROW)
    thrown = next(bench.root.glob(f".trash/*/instances/{STUDY}/{SERIES}/{UIDS[0]}.dcm"))
    os.utime(thrown, (TOMORROW.timestamp(), TOMORROW.timestamp()))
    run(station)
    bench.prove_whole()


def test_study_that_came_a_minute_ago_is_left_alone_even_by_a_person(bench: Bench) -> None:
    bench.finish()
    gate = Gatekeeper(bench.ledger, bench.trash, PROOF)
    order = PurgeOrder(study_instance_uid=StudyUID(STUDY), ordered_by="keeper", reason="asked for", is_forced=True)
    with pytest.raises(WrongState, match="less than 10 minutes ago"):
        gate.order(order, utc_now())
    assert "less than 10 minutes ago" in gate.obstacles(order, utc_now())[0]
    assert gate.obstacles(order, TOMORROW) == ()


def test_results_stay_when_they_should(bench: Bench) -> None:
    bench.finish()
    terms = Terms(proof=PROOF, studies=timedelta(hours=1), results=3 * DAY)
    station = bench.station(terms)
    run(station)
    assert (bench.state, bench.files()) == ("PURGED", [RESULT])
    run(station, TOMORROW + 5 * DAY)
    assert bench.files() == []


def test_full_store_lets_the_oldest_go_and_no_more_than_it_must(bench: Bench) -> None:
    """`Roomy` plays a volume of which the Study is a part."""
    bench.finish()
    size = sum((bench.root / path).stat().st_size for path in bench.files())
    volume = Roomy(bench, total=10 * size, others=8 * size)
    terms = Terms(proof=PROOF, high_percent=85.0, low_percent=85.0)
    station = volume.station(terms)
    run(station)
    bench.prove_gone()
    assert "store-crowded" not in alarms(bench)


def test_full_store_with_nothing_that_may_go_is_told_once(bench: Bench) -> None:
    bench.finish()
    with bench.books.deliveries.writing() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET state = 'PENDING'")
    volume = Roomy(bench, total=100_000, others=99_000)
    station = volume.station(Terms(proof=PROOF, high_percent=90.0, low_percent=80.0))
    for step in range(5):
        station.tick(TOMORROW + step * PERIOD)
    assert alarms(bench) == ["store-crowded"]
    (alarm,) = [event for event in bench.books.view.list_events(99) if event.is_alarm]
    assert "1 because a Delivery of it is on its way" in alarm.text
    volume.others = 0
    station.tick(TOMORROW + 9 * PERIOD)
    assert "store-roomy" in [event.kind for event in bench.books.view.list_events(99)]
    bench.prove_whole()


def alarms(bench: Bench) -> list[str]:
    return [event.kind for event in bench.books.view.list_events(99) if event.is_alarm]


class Roomy(Trash):
    """The trash of a store on a volume of a size that the test says."""

    def __init__(self, bench: Bench, *, total: int, others: int) -> None:
        super().__init__(bench.root)
        self._bench, self._total, self.others = bench, total, others

    def use_of_volume(self) -> tuple[int, int]:
        used = sum((self._bench.root / path).stat().st_size for path in self._bench.files())
        return self._total, max(self._total - used - self.others, 0)

    def station(self, terms: Terms) -> Retention:
        bench = self._bench
        premises = Premises(ledger=bench.ledger, trash=self, teller=bench.listener, adopt=bench.adoption.adopt)
        return Retention(premises, terms)
