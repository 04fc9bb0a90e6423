"""The courier sends what is due, waits where it must, and gives up only after the days that were agreed."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node.delivery.courier import DOUBTED_FOR, TICK_LIMIT, UNANSWERED, Courier, Surroundings
from node.delivery.lookout import FRESH_FOR, OURS, Lookout
from node.delivery.outbox import DeliveryLedger
from node.domain.capability import LABEL_MAP, Capability, Form
from node.domain.result import Delivery, DeliveryState
from node.domain.uids import InstanceUID, StudyUID
from node.errors import (
    DestinationBusy,
    DestinationDown,
    DestinationRefused,
    LedgerBusy,
    Misconfigured,
    SopClassNotSupported,
)
from node.peers.parcel import UNREADABLE_TRIES, Fate, Outcome, Parcel, Report
from node.peers.patience import Patience
from tests.trails import Listener

BEGIN = datetime(2025, 1, 14, 9, 41, tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)
NAME = "pacs"


def delivery(number: int, *, study: str = "1.2", attempts: int = 0, not_before: datetime = BEGIN) -> Delivery:
    return Delivery(
        delivery_id=number,
        destination=NAME,
        study_instance_uid=StudyUID(study),
        sop_instance_uid=InstanceUID(f"1.9.{number}"),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=f"results/{number}.dcm",
        job_id=None,
        state=DeliveryState.PENDING,
        attempts=attempts,
        not_before=not_before,
        reason_code=None,
        reason_text=None,
    )


class MemoryLedger:
    """A ledger in memory, with the promises of `DeliveryLedger`."""

    def __init__(self, *rows: Delivery, ordered_at: datetime = BEGIN) -> None:
        self.rows = {row.delivery_id: row for row in rows}
        self.ordered_at = ordered_at
        self.is_busy = False
        self.needs_person = True
        self.orders = 0

    def add(self, row: Delivery) -> None:
        self.rows[row.delivery_id] = row

    def states(self) -> dict[int, str]:
        return {number: row.state.value for number, row in self.rows.items()}

    def _pending(self, destination: str) -> list[Delivery]:
        rows = [row for row in self.rows.values() if row.destination == destination]
        return [row for row in rows if row.state is DeliveryState.PENDING]

    def due_deliveries(self, destination: str, now: datetime, limit: int) -> tuple[Delivery, ...]:
        return tuple([row for row in self._pending(destination) if row.not_before <= now][:limit])

    def still_pending(self, delivery_ids: Collection[int]) -> frozenset[int]:
        return frozenset(n for n in delivery_ids if self.rows[n].state is DeliveryState.PENDING)

    def retries_ordered(self, destination: str) -> int:
        return self.orders

    def retry(self, now: datetime) -> None:
        """Make everything due again that waits, as a person does."""
        for number, row in self.rows.items():
            self.rows[number] = replace(row, not_before=now)
            self.orders += 1

    def next_delivery_at(self, destination: str) -> datetime | None:
        return min((row.not_before for row in self._pending(destination)), default=None)

    def overdue_deliveries(self, destination: str, ordered_before: datetime) -> tuple[Delivery, ...]:
        return tuple(self._pending(destination)) if self.ordered_at <= ordered_before else ()

    def delivery_age_start(self, delivery_id: int) -> datetime | None:
        return self.ordered_at

    def record_sent(
        self, delivery: Delivery, *, now: datetime, reason_code: str | None, reason_text: str | None
    ) -> None:
        self._settle(delivery.delivery_id, DeliveryState.SENT, reason_code, reason_text)

    def record_refused(self, delivery: Delivery, *, now: datetime, reason_code: str, reason_text: str) -> bool:
        self._settle(delivery.delivery_id, DeliveryState.REFUSED, reason_code, reason_text)
        return self.needs_person

    def record_retry(
        self, delivery: Delivery, *, now: datetime, not_before: datetime, reason: tuple[str, str], is_doubtful: bool
    ) -> None:
        self._settle(delivery.delivery_id, DeliveryState.PENDING, *reason)
        row = self.rows[delivery.delivery_id]
        self.rows[delivery.delivery_id] = replace(row, not_before=not_before, doubts=row.doubts + is_doubtful)

    def leave_out(self, delivery: Delivery) -> None:
        del self.rows[delivery.delivery_id]

    def _settle(self, delivery_id: int, state: DeliveryState, code: str | None, text: str | None) -> None:
        if self.is_busy:
            raise LedgerBusy("the ledger is locked")
        row = self.rows[delivery_id]
        assert row.state is DeliveryState.PENDING
        self.rows[delivery_id] = replace(
            row, state=state, attempts=row.attempts + 1, reason_code=code, reason_text=text
        )

    def defer_deliveries(
        self, destination: str, *, now: datetime, not_before: datetime, reason: tuple[str, str], is_news: bool
    ) -> None:
        code, text = reason
        for row in self._pending(destination):
            if row.not_before < not_before and (is_news or row.reason_code != code):
                self.rows[row.delivery_id] = replace(row, not_before=not_before, reason_code=code, reason_text=text)


class MemoryCapabilities:
    """What is known of the one Destination, in memory, with the promises of `CapabilityLedger`."""

    def __init__(self) -> None:
        self.known: Capability | None = None
        self.answers: list[tuple[Form, bool]] = []

    def find_capability(self, destination: str, address: str) -> Capability | None:
        return self.known

    def record_probe(self, seen: Capability, *, forgets_answers: bool) -> None:
        assert not forgets_answers
        self.known = seen

    def record_answer(self, destination: str, address: str, form: Form, *, is_taken: bool) -> None:
        self.answers.append((form, is_taken))


@dataclass
class Probe:
    """Answers a probe with what `answer` returns, and counts."""

    answer: Callable[[], frozenset[Form] | None] = lambda: None
    calls: int = 0

    def __call__(self) -> frozenset[Form] | None:
        self.calls += 1
        return self.answer()


@dataclass
class ScriptedTransport:
    """A Transport that does what `answer` says for each object and notes what it was given."""

    answer: Callable[[Parcel], Outcome]
    calls: list[list[int]] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)

    def send(self, parcels: Sequence[Parcel], report: Report) -> None:
        self.calls.append([parcel.delivery_id for parcel in parcels])
        for parcel in parcels:
            self.paths.append(parcel.path)
            report(parcel, self.answer(parcel))


def take(parcel: Parcel) -> Outcome:
    return Outcome.sent()


def be_down(parcel: Parcel) -> Outcome:
    raise DestinationDown("no connection")


class Clock:
    """The time, as the test sets it."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def post_lookout(probe: Probe, capabilities: MemoryCapabilities) -> Lookout:
    return Lookout(
        destination=NAME,
        address="cstore PACS@host:104",
        probe=probe,
        ledger=capabilities,
        patience=Patience(),
        chance=lambda: 0.0,
    )


def hire(
    ledger: DeliveryLedger,
    transport: ScriptedTransport,
    clock: Clock,
    *,
    lookout: Lookout | None = None,
    listener: Listener | None = None,
    knock: Callable[[], object] = lambda: None,
    per_minute: int = 0,
) -> Courier:
    return Courier(
        destination=NAME,
        ledger=ledger,
        transport=transport,
        lookout=lookout or post_lookout(Probe(), MemoryCapabilities()),
        patience=Patience(per_minute=per_minute),
        surroundings=Surroundings(
            locate=Path("/store").joinpath,
            clock=clock,
            chance=lambda: 0.0,
            depart=(listener or Listener()).depart,
            knock=knock,
        ),
    )


def test_audit_trail_is_told_of_each_study_that_was_taken_and_of_no_other(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1), delivery(2), delivery(3, study="1.3"), delivery(4, study="1.4"))
    listener = Listener()

    def answer(parcel: Parcel) -> Outcome:
        assert parcel.delivery_id != 2 or [kind for kind, _, _ in listener.told()] == ["transfer-begun"]
        if parcel.delivery_id == 3:
            return Outcome.refused(DestinationRefused("never"))
        if parcel.delivery_id == 4:
            raise DestinationDown("gone")
        return take(parcel)

    hire(ledger, ScriptedTransport(answer), clock, listener=listener).tick(clock.now)
    assert listener.told() == [("transfer-begun", "1.2", 1), ("study-sent", "1.2", 2)]


def test_what_is_left_out_waits_no_longer_and_is_in_no_trail(clock: Clock) -> None:
    ledger, listener = MemoryLedger(delivery(1), delivery(2)), Listener()
    transport = ScriptedTransport(lambda one: take(one) if one.delivery_id == 2 else Outcome(fate=Fate.LEFT_OUT))
    hire(ledger, transport, clock, listener=listener).tick(clock.now)
    assert ledger.states() == {2: "SENT"}
    assert listener.told() == [("transfer-begun", "1.2", 1), ("study-sent", "1.2", 1)]


def test_due_deliveries_are_sent_study_by_study(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1), delivery(2, study="1.3"), delivery(3), delivery(4, not_before=BEGIN.max))
    ledger.rows[4] = replace(ledger.rows[4], not_before=BEGIN + timedelta(hours=1))
    transport = ScriptedTransport(take)
    assert hire(ledger, transport, clock).tick(clock.now) == BEGIN + timedelta(hours=1)
    assert transport.calls == [[1, 3], [2]]
    assert transport.paths[0] == Path("/store/results/1.dcm")
    assert ledger.states() == {1: "SENT", 2: "SENT", 3: "SENT", 4: "PENDING"}


def test_what_is_taken_back_while_another_study_is_sent_stays(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1), delivery(2, study="1.3"), delivery(3, study="1.3"))

    def take_back(_: Parcel) -> Outcome:
        ledger.rows[2] = replace(ledger.rows[2], state=DeliveryState.REFUSED, reason_code="retracted")
        return Outcome.sent()

    transport = ScriptedTransport(take_back)
    hire(ledger, transport, clock).tick(clock.now)
    assert transport.calls == [[1], [3]]
    assert ledger.states() == {1: "SENT", 2: "REFUSED", 3: "SENT"}


def test_nothing_pending_asks_for_no_further_call(clock: Clock) -> None:
    transport = ScriptedTransport(take)
    assert hire(MemoryLedger(), transport, clock).tick(clock.now) is None
    assert transport.calls == []


def test_warning_is_kept_with_the_sent_delivery(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1))
    hire(ledger, ScriptedTransport(lambda _: Outcome.sent("status B000H")), clock).tick(clock.now)
    assert (ledger.rows[1].state, ledger.rows[1].reason_code) == (DeliveryState.SENT, "sent-with-warning")


class Door:
    """A Destination's, at which nobody opens until a time comes."""

    def __init__(self, clock: Clock, opens_at: datetime = NEVER) -> None:
        self._clock = clock
        self._opens_at = opens_at
        self.knocks: list[datetime] = []

    def knock(self) -> None:
        self.knocks.append(self._clock())
        self.pass_by()

    def pass_by(self) -> None:
        if self._clock() < self._opens_at:
            raise DestinationDown("nobody there")

    def take(self, parcel: Parcel) -> Outcome:
        self.pass_by()
        return Outcome.sent()


def test_long_outage_is_told_ever_more_rarely(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    door = Door(clock)
    courier = hire(MemoryLedger(delivery(1)), ScriptedTransport(door.take), clock, knock=door.knock)
    with caplog.at_level(logging.INFO):
        while clock.now < BEGIN + timedelta(days=1):
            clock.now = courier.tick(clock.now) or clock.now
    assert [vars(record)["failures"] for record in caplog.records] == [2**step for step in range(14)]


def test_destination_that_is_down_costs_one_connection_a_step_however_many_arrive(clock: Clock) -> None:
    ledger = MemoryLedger(*[delivery(number, study=f"1.{number}") for number in range(1, 501)])
    door = Door(clock)
    transport = ScriptedTransport(door.take)
    courier = hire(ledger, transport, clock, knock=door.knock)
    pauses = []
    for step in range(12):
        asked_again = courier.tick(clock.now)
        assert asked_again is not None
        ledger.add(delivery(1000 + step, study=f"2.{step}", not_before=clock.now))
        clock.now += timedelta(seconds=1)
        assert courier.tick(clock.now) == asked_again
        pauses.append((asked_again - clock.now).total_seconds() + 1)
        clock.now = asked_again
        assert len(transport.calls) + len(door.knocks) == step + 1
    # The first object found out; from then on nothing was sent.
    assert len(transport.calls) == 1
    assert pauses == [2, 4, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6]
    assert set(ledger.states().values()) == {"PENDING"}
    assert {row.attempts for row in ledger.rows.values()} == {0}


@pytest.mark.parametrize(("outage", "count"), [(timedelta(minutes=2), 500), (timedelta(days=1), 8)])
def test_everything_leaves_at_once_when_the_destination_returns(clock: Clock, outage: timedelta, count: int) -> None:
    ledger = MemoryLedger(*[delivery(number, study=f"1.{number // 2}") for number in range(count)])
    door = Door(clock, opens_at=BEGIN + outage)
    transport = ScriptedTransport(door.take)
    courier = hire(ledger, transport, clock, knock=door.knock)
    while asked_again := courier.tick(clock.now):
        clock.now = asked_again
    assert timedelta(0) <= clock.now - (BEGIN + outage) <= timedelta(seconds=7.5)
    assert set(ledger.states().values()) == {"SENT"}
    assert {row.attempts for row in ledger.rows.values()} == {1}
    # One Study met the closed door, and one object showed that it is open again.
    assert len(transport.calls) == count // 2 + 2
    # The next outage begins with the shortest pause again.
    transport.answer = be_down
    ledger.add(delivery(900, not_before=clock.now))
    assert courier.tick(clock.now) == clock.now + timedelta(seconds=2)


def test_clock_that_is_set_back_keeps_no_destination_closed(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1))
    transport = ScriptedTransport(be_down)
    courier = hire(ledger, transport, clock)
    courier.tick(clock.now)
    transport.answer = take
    clock.now -= timedelta(hours=1)
    ledger.rows[1] = replace(ledger.rows[1], not_before=clock.now)
    courier.tick(clock.now)
    assert ledger.states() == {1: "SENT"}


def test_busy_destination_is_left_alone_for_longer_and_not_knocked_at(clock: Clock) -> None:
    def be_busy(parcel: Parcel) -> Outcome:
        raise DestinationBusy("out of resources")

    door = Door(clock)
    courier = hire(MemoryLedger(delivery(1)), ScriptedTransport(be_busy), clock, knock=door.knock)
    pauses = []
    for _ in range(9):
        asked_again = courier.tick(clock.now)
        assert asked_again is not None
        pauses.append((asked_again - clock.now).total_seconds())
        clock.now = asked_again
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert door.knocks == []


@pytest.mark.parametrize("trouble", [DestinationBusy("out of resources"), DestinationDown("no connection")])
def test_a_person_who_orders_a_retry_ends_the_pause_and_arrivals_do_not(clock: Clock, trouble: Exception) -> None:
    is_well = False

    def answer(parcel: Parcel) -> Outcome:
        if not is_well:
            raise trouble
        return Outcome.sent()

    ledger, transport = MemoryLedger(delivery(1)), ScriptedTransport(answer)
    courier = hire(ledger, transport, clock)
    assert courier.tick(clock.now) is not None
    is_well = True
    ledger.add(delivery(2))
    courier.tick(clock.now)
    assert ledger.states() == {1: "PENDING", 2: "PENDING"}
    ledger.retry(clock.now)
    # One shows that the Destination is well, then all leave.
    courier.tick(clock.now)
    courier.tick(clock.now)
    assert ledger.states() == {1: "SENT", 2: "SENT"}


def test_a_retry_ordered_while_a_busy_destination_is_tried_is_heeded(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1))

    def be_busy(parcel: Parcel) -> Outcome:
        ledger.retry(clock.now)
        raise DestinationBusy("out of resources")

    transport = ScriptedTransport(be_busy)
    courier = hire(ledger, transport, clock)
    courier.tick(clock.now)
    transport.answer = take
    ledger.rows[1] = replace(ledger.rows[1], not_before=clock.now)
    courier.tick(clock.now)
    assert ledger.states() == {1: "SENT"}


def test_pause_has_jitter_that_only_lengthens_it() -> None:
    patience = Patience(first_retry_s=2.0, max_retry_s=300.0)
    assert patience.pause(1, 0.0) == timedelta(seconds=2)
    assert patience.pause(1, 0.999) < timedelta(seconds=2.5)
    assert patience.pause(3, 0.5) == timedelta(seconds=9)
    assert patience.pause(100_000, 0.0) == timedelta(seconds=300)
    assert patience.knock_pause(100_000, 0.999) < timedelta(seconds=7.5) < patience.longest_pause
    assert Patience(max_retry_s=1.0).knock_pause(9, 0.0) == timedelta(seconds=1)


def test_busy_object_waits_alone_and_the_others_are_sent(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1), delivery(2, study="1.3"))
    transport = ScriptedTransport(
        lambda parcel: Outcome.retry(DestinationBusy("A700")) if parcel.delivery_id == 1 else Outcome.sent()
    )
    courier = hire(ledger, transport, clock)
    assert courier.tick(clock.now) == BEGIN + timedelta(seconds=2)
    assert ledger.states() == {1: "PENDING", 2: "SENT"}
    assert (ledger.rows[1].attempts, ledger.rows[1].reason_code) == (1, "destination-busy")
    clock.now += timedelta(seconds=2)
    assert courier.tick(clock.now) == clock.now + timedelta(seconds=4)


def test_association_lost_half_way_resumes_with_what_was_not_answered(clock: Clock) -> None:
    ledger = MemoryLedger(*[delivery(number) for number in (1, 2, 3)])

    def break_at_two(parcel: Parcel) -> Outcome:
        if parcel.delivery_id == 2:
            raise DestinationDown("aborted")
        return Outcome.sent()

    transport = ScriptedTransport(break_at_two)
    courier = hire(ledger, transport, clock)
    asked_again = courier.tick(clock.now)
    assert ledger.states() == {1: "SENT", 2: "PENDING", 3: "PENDING"}
    transport.answer = take
    work_on(courier, clock, from_time=asked_again)
    assert transport.calls == [[1, 2, 3], [2], [3]]
    assert set(ledger.states().values()) == {"SENT"}


def test_object_that_failed_before_does_not_stand_before_fresh_ones(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1, study="1.1", attempts=3), delivery(2, study="1.2"), delivery(3, study="1.1"))
    transport = ScriptedTransport(take)
    hire(ledger, transport, clock).tick(clock.now)
    assert transport.calls == [[2], [3, 1]]


def cannot_understand(_: Parcel) -> Outcome:
    return Outcome.retry(DestinationRefused("status C000H"), tries=3)


def has_no_room(_: Parcel) -> Outcome:
    return Outcome.retry(DestinationBusy("status A700H"))


def work_on(courier: Courier, clock: Clock, *, from_time: datetime | None = None, until: datetime = NEVER) -> None:
    """Call the courier each time that it asks for it, until nothing is left or a time has come."""
    if from_time is not None:
        clock.now = from_time
    while clock.now < until and (asked_again := courier.tick(clock.now)):
        clock.now = asked_again


def test_an_outage_uses_up_no_tries_of_an_object_that_is_doubted(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1))
    transport = ScriptedTransport(has_no_room)
    courier = hire(ledger, transport, clock)
    work_on(courier, clock, until=BEGIN + timedelta(minutes=30))
    assert ledger.rows[1].attempts > 10
    transport.answer = cannot_understand
    for _ in range(2):
        clock.now = courier.tick(clock.now) or clock.now
    assert (ledger.states(), ledger.rows[1].doubts) == ({1: "PENDING"}, 2)
    transport.answer = take
    work_on(courier, clock)
    assert ledger.states() == {1: "SENT"}


def test_object_that_is_not_understood_is_refused_where_others_are_taken(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1), delivery(2), delivery(3, study="1.3"), delivery(4, study="1.4"))
    transport = ScriptedTransport(lambda parcel: (take if parcel.delivery_id % 2 else cannot_understand)(parcel))
    work_on(hire(ledger, transport, clock), clock)
    assert ledger.states() == {1: "SENT", 2: "REFUSED", 3: "SENT", 4: "REFUSED"}
    assert (ledger.rows[2].attempts, ledger.rows[2].doubts) == (3, 2)


def test_nothing_is_refused_by_a_destination_that_understands_nothing_for_a_night(clock: Clock) -> None:
    ledger = MemoryLedger(*[delivery(number, study=f"1.{number // 2}") for number in range(20)])
    transport = ScriptedTransport(cannot_understand)
    courier = hire(ledger, transport, clock)
    work_on(courier, clock, until=BEGIN + timedelta(hours=12))
    assert set(ledger.states().values()) == {"PENDING"}
    # One object a step, at most every 300 s.
    assert len(transport.calls) < 12 * 12 + 15
    transport.answer = take
    work_on(courier, clock)
    assert set(ledger.states().values()) == {"SENT"}


def test_what_is_not_understood_for_a_day_is_refused_all_the_same(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1), delivery(2))
    courier = hire(ledger, ScriptedTransport(cannot_understand), clock)
    work_on(courier, clock, until=BEGIN + DOUBTED_FOR)
    assert set(ledger.states().values()) == {"PENDING"}
    work_on(courier, clock)
    assert {(row.state.value, row.reason_code) for row in ledger.rows.values()} == {("REFUSED", "destination-refused")}


def test_destination_without_room_is_sent_one_object_a_step(clock: Clock) -> None:
    ledger = MemoryLedger(*[delivery(number, study=f"1.{number // 10}") for number in range(500)])
    transport = ScriptedTransport(has_no_room)
    courier = hire(ledger, transport, clock)
    for step in range(9):
        clock.now = courier.tick(clock.now) or clock.now
        assert [len(call) for call in transport.calls] == [10] + [1] * step
    transport.answer = take
    began = clock.now
    work_on(courier, clock)
    assert set(ledger.states().values()) == {"SENT"}
    assert clock.now - began <= timedelta(seconds=300)


def test_objects_lost_one_after_the_other_show_that_the_destination_is_down(clock: Clock) -> None:
    door = Door(clock)
    ledger = MemoryLedger(*[delivery(number, study=f"1.{number}") for number in range(1, 100)])
    transport = ScriptedTransport(lambda _: Outcome.retry(DestinationDown("no response within 30 s")))
    courier = hire(ledger, transport, clock, knock=door.knock)
    assert courier.tick(clock.now) == BEGIN + timedelta(seconds=2)
    assert transport.calls == [[1], [2]]
    work_on(courier, clock, until=BEGIN + timedelta(minutes=5))
    assert len(transport.calls) == 2
    assert len(door.knocks) > 40


def test_object_that_breaks_the_destination_keeps_no_other_and_is_left_alone_for_longer(clock: Clock) -> None:
    ledger = MemoryLedger(*[delivery(number, study=f"1.{number}") for number in range(1, 5)])
    door = Door(clock)
    transport = ScriptedTransport(
        lambda parcel: Outcome.retry(DestinationDown("aborted")) if parcel.delivery_id == 2 else Outcome.sent()
    )
    courier = hire(ledger, transport, clock, knock=door.knock)
    pauses = []
    for _ in range(9):
        asked_again = courier.tick(clock.now)
        assert asked_again is not None
        pauses.append((asked_again - clock.now).total_seconds())
        clock.now = asked_again
    assert ledger.states() == {1: "SENT", 2: "PENDING", 3: "SENT", 4: "SENT"}
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert door.knocks == []
    # Nor does the ledger say that the Destination is down, as of what is deferred: an alarm would follow.
    assert ledger.rows[2].reason_code == UNANSWERED


def test_file_of_ours_that_cannot_be_read_is_no_fault_of_the_destination(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = MemoryLedger(*[delivery(number, study=f"1.{number}") for number in range(1, 6)])

    def answer(parcel: Parcel) -> Outcome:
        if parcel.delivery_id == 5:
            return Outcome.sent()
        return Outcome.unreadable(parcel.sop_instance_uid, OSError(5, "Input/output error"))

    door = Door(clock)
    transport = ScriptedTransport(answer)
    work_on(hire(ledger, transport, clock, knock=door.knock), clock)
    assert transport.calls[:5] == [[1], [2], [3], [4], [5]]
    assert {row.reason_code for row in ledger.rows.values()} == {"file-unreadable", None}
    assert {row.attempts for number, row in ledger.rows.items() if number != 5} == {UNREADABLE_TRIES}
    assert set(ledger.states().values()) == {"SENT", "REFUSED"}
    assert door.knocks == []
    assert [record.levelname for record in caplog.records if record.message == "delivery refused"] == ["ERROR"] * 4


def test_destination_is_sent_no_more_objects_a_minute_than_it_may_be(clock: Clock) -> None:
    ledger = MemoryLedger(*[delivery(number, study=f"1.{number // 50}") for number in range(100)])
    sent_at: list[datetime] = []

    def note(_: Parcel) -> Outcome:
        sent_at.append(clock.now)
        return Outcome.sent()

    work_on(hire(ledger, ScriptedTransport(note), clock, per_minute=12), clock)
    assert set(ledger.states().values()) == {"SENT"}
    # Two at once every ten seconds.
    assert [(at - BEGIN).total_seconds() for at in sent_at] == pytest.approx([10 * (n // 2) for n in range(100)])


def test_backlog_keeps_no_node_from_ending(clock: Clock) -> None:
    ledger = MemoryLedger(*[delivery(number, study=f"1.{number}") for number in range(10)])

    def take_long(_: Parcel) -> Outcome:
        clock.now += TICK_LIMIT * 0.6
        return Outcome.sent()

    transport = ScriptedTransport(take_long)
    courier = hire(ledger, transport, clock)
    began = clock.now
    assert courier.tick(began) == began + TICK_LIMIT * 1.2
    assert len(transport.calls) == 3
    work_on(courier, clock)
    assert set(ledger.states().values()) == {"SENT"}


def test_doubtful_failure_is_refused_after_its_tries(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1))
    transport = ScriptedTransport(lambda _: Outcome.retry(DestinationRefused("status C000H"), tries=3))
    courier = hire(ledger, transport, clock)
    states = []
    for _ in range(3):
        clock.now = courier.tick(clock.now) or clock.now
        states.append(ledger.states()[1])
    assert states == ["PENDING", "PENDING", "REFUSED"]
    assert ledger.rows[1].reason_text == "status C000H"


@pytest.mark.parametrize("answer", [be_down, lambda _: Outcome.retry(DestinationBusy("A700"))])
def test_delivery_is_given_up_only_after_the_agreed_days(clock: Clock, answer: Callable[[Parcel], Outcome]) -> None:
    ledger = MemoryLedger(delivery(1))
    courier = hire(ledger, ScriptedTransport(answer), clock)
    clock.now = BEGIN + timedelta(days=29.9)
    courier.tick(clock.now)
    assert ledger.states() == {1: "PENDING"}
    clock.now = BEGIN + timedelta(days=30)
    assert courier.tick(clock.now) is None
    assert (ledger.states(), ledger.rows[1].reason_code) == ({1: "REFUSED"}, "gave-up")


def test_old_delivery_is_tried_once_more_before_it_is_given_up(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1), ordered_at=BEGIN - timedelta(days=90))
    hire(ledger, ScriptedTransport(take), clock).tick(clock.now)
    assert ledger.states() == {1: "SENT"}


def test_misconfigured_destination_calls_for_a_person_and_keeps_the_objects(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def not_known(parcel: Parcel) -> Outcome:
        raise Misconfigured("calling AE title not recognized")

    ledger = MemoryLedger(delivery(1))
    with caplog.at_level(logging.INFO):
        assert hire(ledger, ScriptedTransport(not_known), clock).tick(clock.now) == BEGIN + timedelta(seconds=2)
    assert ledger.states() == {1: "PENDING"}
    assert [(record.levelname, record.message) for record in caplog.records] == [("ERROR", "destination misconfigured")]


def test_busy_ledger_stops_the_tick_and_what_was_acknowledged_is_not_sent_again(clock: Clock) -> None:
    ledger = MemoryLedger(delivery(1), delivery(2), delivery(3, study="1.3"))
    transport = ScriptedTransport(take)
    courier = hire(ledger, transport, clock)
    ledger.is_busy = True
    for _ in range(3):
        with pytest.raises(LedgerBusy):
            courier.tick(clock.now)
    assert (transport.calls, ledger.states()) == ([[1, 2]], {1: "PENDING", 2: "PENDING", 3: "PENDING"})
    ledger.is_busy = False
    courier.tick(clock.now)
    assert (transport.calls, ledger.states()) == ([[1, 2], [3]], {1: "SENT", 2: "SENT", 3: "SENT"})
    assert {row.attempts for row in ledger.rows.values()} == {1}


def test_transport_that_forgets_an_object_is_not_called_again_at_once(clock: Clock) -> None:
    class Forgetful(ScriptedTransport):
        def send(self, parcels: Sequence[Parcel], report: Report) -> None:
            self.calls.append([parcel.delivery_id for parcel in parcels])

    ledger = MemoryLedger(delivery(1))
    asked_again = hire(ledger, Forgetful(take), clock).tick(clock.now)
    assert asked_again == BEGIN + timedelta(seconds=2)
    assert ledger.rows[1].reason_code == "broken"


def test_log_holds_counts_and_uids_but_no_reason_text(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    ledger = MemoryLedger(delivery(1))
    answer = Outcome.refused(DestinationRefused("text that stays in the ledger"))
    with caplog.at_level(logging.INFO):
        hire(ledger, ScriptedTransport(lambda _: answer), clock).tick(clock.now)
    assert [record.message for record in caplog.records] == ["delivery refused", "study delivered"]
    assert "text that stays in the ledger" not in repr([vars(record) for record in caplog.records])
    assert vars(caplog.records[1])["refused"] == 1


@pytest.mark.parametrize(("needs_person", "level"), [(True, "ERROR"), (False, "WARNING")])
def test_refusal_is_told_as_loudly_as_it_needs(
    clock: Clock, caplog: pytest.LogCaptureFixture, needs_person: bool, level: str
) -> None:
    ledger = MemoryLedger(delivery(1))
    ledger.needs_person = needs_person
    with caplog.at_level(logging.WARNING):
        refuse = ScriptedTransport(lambda _: Outcome.refused(SopClassNotSupported("no SEG")))
        hire(ledger, refuse, clock).tick(clock.now)
    assert [(record.levelname, record.message) for record in caplog.records] == [(level, "delivery refused")]


def test_destination_is_probed_once_a_day_and_only_when_all_is_sent(clock: Clock) -> None:
    capabilities, seen_at_probe = MemoryCapabilities(), []
    ledger = MemoryLedger(delivery(1))

    def answer() -> frozenset[Form]:
        seen_at_probe.append(ledger.states()[1])
        return frozenset({LABEL_MAP})

    probe = Probe(answer)
    courier = hire(ledger, ScriptedTransport(take), clock, lookout=post_lookout(probe, capabilities))
    assert courier.tick(clock.now) == BEGIN + FRESH_FOR
    assert seen_at_probe == ["SENT"]
    assert capabilities.known is not None
    assert capabilities.known.accepted == {LABEL_MAP}
    assert capabilities.known.refused == OURS - {LABEL_MAP}
    clock.now = BEGIN + FRESH_FOR - timedelta(seconds=1)
    courier.tick(clock.now)
    assert probe.calls == 1
    clock.now = BEGIN + FRESH_FOR
    assert courier.tick(clock.now) == BEGIN + 2 * FRESH_FOR
    assert probe.calls == 2


def test_what_was_seen_before_a_restart_is_not_asked_again(clock: Clock) -> None:
    capabilities, probe = MemoryCapabilities(), Probe(frozenset)
    hire(MemoryLedger(), ScriptedTransport(take), clock, lookout=post_lookout(probe, capabilities)).tick(clock.now)
    clock.now += timedelta(hours=1)
    again = hire(MemoryLedger(), ScriptedTransport(take), clock, lookout=post_lookout(probe, capabilities))
    assert again.tick(clock.now) == BEGIN + FRESH_FOR
    assert probe.calls == 1


def test_destination_that_is_down_is_not_probed_beside_the_deliveries_that_wait(clock: Clock) -> None:
    probe = Probe(frozenset)
    lookout = post_lookout(probe, MemoryCapabilities())
    courier = hire(MemoryLedger(delivery(1)), ScriptedTransport(be_down), clock, lookout=lookout)
    for _ in range(5):
        clock.now = courier.tick(clock.now) or clock.now
    assert probe.calls == 0


def test_probe_that_fails_holds_up_no_delivery_and_is_asked_again_with_growing_pauses(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> frozenset[Form]:
        raise DestinationDown("no connection")

    probe, ledger = Probe(fail), MemoryLedger()
    courier = hire(ledger, ScriptedTransport(take), clock, lookout=post_lookout(probe, MemoryCapabilities()))
    pauses = []
    for _ in range(10):
        asked_again = courier.tick(clock.now)
        assert asked_again is not None
        pauses.append((asked_again - clock.now).total_seconds())
        clock.now = asked_again
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert [record.message for record in caplog.records] == ["destination not probed"]
    courier.tick(clock.now)
    ledger.add(delivery(1, not_before=clock.now))
    courier.tick(clock.now)
    assert ledger.states() == {1: "SENT"}


def test_answers_teach_what_the_destination_takes_and_pauses_do_not(clock: Clock) -> None:
    capabilities = MemoryCapabilities()
    outcomes = {
        1: Outcome.sent(),
        2: Outcome.refused(SopClassNotSupported("no SEG")),
        3: Outcome.refused(DestinationRefused("status A900H")),
        4: Outcome.retry(DestinationBusy("A700")),
    }
    transport = ScriptedTransport(lambda parcel: outcomes[parcel.delivery_id])
    lookout = post_lookout(Probe(), capabilities)
    hire(MemoryLedger(*map(delivery, outcomes)), transport, clock, lookout=lookout).tick(clock.now)
    form = (delivery(1).sop_class_uid, delivery(1).transfer_syntax_uid)
    assert capabilities.answers == [(form, True), (form, False)]


def test_images_that_are_forwarded_teach_nothing(clock: Clock) -> None:
    capabilities = MemoryCapabilities()
    image = replace(delivery(1), sop_class_uid="1.2.840.10008.5.1.4.1.1.2")
    lookout = post_lookout(Probe(), capabilities)
    hire(MemoryLedger(image), ScriptedTransport(take), clock, lookout=lookout).tick(clock.now)
    assert capabilities.answers == []
