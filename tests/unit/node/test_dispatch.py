"""The dispatch station: rings for what waits until it was heard, and takes Jobs back from silent workers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from node.dispatch import BrokerPatience, Dispatch
from node.domain.job import JobID, Priority
from node.errors import BrokerTakesNothing, BrokerUnreachable
from node.ledger.jobs import Bell, RetryPolicy
from tests.ledgers import NOON, at

RESEND_S = 30.0
PATIENCE = BrokerPatience(resend_s=RESEND_S)
POLICY = RetryPolicy(max_attempts=3, pause_s=5.0)


@dataclass
class MemoryLedger:
    """A `DispatchLedger`: Job id to when it was rung."""

    rung: dict[str, datetime | None] = field(default_factory=dict)
    expired: list[JobID] = field(default_factory=list)
    next_event: datetime | None = None
    page: int = 1000

    def bells_to_ring(self, now: datetime, *, rung_before: datetime, limit: int = 1000) -> Sequence[Bell]:
        waiting = [job_id for job_id, when in self.rung.items() if when is None or when < rung_before]
        return [
            Bell(job_id=JobID(job_id), priority=Priority.ROUTINE, was_rung=self.rung[job_id] is not None)
            for job_id in waiting[: self.page]
        ]

    def record_rung(self, job_ids: Sequence[JobID], now: datetime) -> None:
        self.rung.update(dict.fromkeys(job_ids, now))

    def next_job_event_at(self) -> datetime | None:
        return self.next_event

    def reap_expired(self, now: datetime, policy: RetryPolicy) -> Sequence[JobID]:
        reaped, self.expired = self.expired, []
        self.rung.update(dict.fromkeys(reaped))
        return reaped


@dataclass
class MemoryRinger:
    """A `Ringer` that can be flushed, and can be away.

    Attributes
    ----------
    fault
        What is wrong with it whenever it is asked.
    room
        How many more messages it takes before it refuses.
    lying
        What it holds.
    """

    remembers: bool = True
    fault: BrokerUnreachable | None = None
    room: int = 1000
    heard: list[str] = field(default_factory=list)
    lying: list[str] = field(default_factory=list)
    asked: int = 0

    def ring(self, bells: Sequence[Bell]) -> None:
        for bell in bells:
            if self.room == 0:
                raise BrokerUnreachable("away")
            self.room -= 1
            self.heard.append(bell.job_id)
            self.lying.append(bell.job_id)

    def unheard(self) -> frozenset[JobID]:
        self._answer()
        return frozenset(map(JobID, self.lying))

    def kept_memory(self) -> bool:
        self._answer()
        return self.remembers

    def begin_memory(self) -> None:
        self._answer()
        self.remembers = True

    def flush(self) -> None:
        self.remembers, self.lying = False, []

    def _answer(self) -> None:
        self.asked += 1
        if self.fault is not None:
            raise self.fault


@dataclass
class MemoryStory:
    """A `BrokerStory`: what was told."""

    told: list[str] = field(default_factory=list)

    def told_fault(self) -> str | None:
        faults = [one for one in self.told if not one.startswith("forgot")]
        return faults[-1] if faults and faults[-1] != "healed" else None

    def tell_fault(self, fault: BrokerUnreachable, now: datetime) -> None:
        self.told.append(fault.code)

    def tell_healed(self, now: datetime) -> None:
        self.told.append("healed")

    def tell_forgot(self, count: int, now: datetime) -> None:
        self.told.append(f"forgot {count}")


class Stage:
    """A station on a clock that nobody sets."""

    def __init__(self, ledger: MemoryLedger, ringer: MemoryRinger, story: MemoryStory | None = None) -> None:
        self.story = story or MemoryStory()
        self._second = 0.0
        self._dispatch = Dispatch(
            ledger, ringer, story=self.story, policy=POLICY, patience=PATIENCE, elapsed_s=lambda: self._second
        )

    def tick(self, now: datetime) -> datetime | None:
        self._second = (now - NOON).total_seconds()
        return self._dispatch.tick(now)


def station(ledger: MemoryLedger, ringer: MemoryRinger) -> Stage:
    return Stage(ledger, ringer)


def test_a_waiting_job_is_rung_once() -> None:
    ledger, ringer = MemoryLedger(rung={"j1": None}), MemoryRinger()
    dispatch = station(ledger, ringer)
    for second in (0, 5, 40, 300):
        dispatch.tick(at(second))
    assert ringer.heard == ["j1"]


def test_more_jobs_than_one_page_are_all_rung_in_one_tick() -> None:
    ledger, ringer = MemoryLedger(rung={f"j{n}": None for n in range(7)}, page=3), MemoryRinger()
    station(ledger, ringer).tick(NOON)
    assert ringer.heard == [f"j{n}" for n in range(7)]


def test_every_waiting_job_is_rung_again_when_the_broker_lost_its_memory() -> None:
    ledger, ringer = MemoryLedger(rung={"j1": at(-1), "j2": at(-2)}, page=1), MemoryRinger(remembers=False)
    dispatch = station(ledger, ringer)
    dispatch.tick(NOON)
    assert sorted(ringer.heard) == ["j1", "j2"]
    dispatch.tick(at(1))
    assert sorted(ringer.heard) == ["j1", "j2"]


def test_a_lost_memory_is_not_forgotten_when_ringing_fails() -> None:
    """The broker was flushed, answered once, and was away again before the messages were in."""
    ledger, ringer = MemoryLedger(rung={"j1": at(-1)}), MemoryRinger(remembers=False, room=0)
    dispatch = station(ledger, ringer)
    dispatch.tick(NOON)
    ringer.room = 1
    dispatch.tick(at(2))
    assert ringer.heard == ["j1"]
    assert dispatch.story.told == ["forgot 1"]


def test_a_message_that_got_lost_in_any_other_way_is_rung_again_within_the_resend_time() -> None:
    """An old snapshot, a replica that came too late, a worker that died with it."""
    ledger, ringer = MemoryLedger(rung={"j1": None}), MemoryRinger()
    dispatch = station(ledger, ringer)
    dispatch.tick(NOON)
    for second in range(5, int(RESEND_S), 5):
        ringer.lying = []
        dispatch.tick(at(second))
    assert ringer.heard == ["j1", "j1"]
    assert dispatch.story.told == []


def test_what_lies_in_the_broker_is_not_sent_again_however_long_it_lies_there() -> None:
    """A day of backlog, a restart of the node among it."""
    ledger, ringer = MemoryLedger(rung={f"j{n}": None for n in range(5)}, page=2), MemoryRinger()
    for begin in (0, 3600):
        dispatch = station(ledger, ringer)
        for minute in range(60):
            dispatch.tick(at(begin + 60 * minute))
    assert len(ringer.heard) == 5


def test_what_was_sent_before_the_broker_failed_is_not_sent_again() -> None:
    ledger, ringer = MemoryLedger(rung={f"j{n}": None for n in range(5)}), MemoryRinger(room=3)
    dispatch = station(ledger, ringer)
    dispatch.tick(NOON)
    ringer.room = 1000
    dispatch.tick(at(2))
    assert ringer.heard == [f"j{n}" for n in range(5)]


def test_what_the_broker_forgot_is_told_with_the_number_of_jobs() -> None:
    ledger, ringer = MemoryLedger(rung={"j1": None, "j2": None}), MemoryRinger(remembers=False)
    dispatch = station(ledger, ringer)
    dispatch.tick(NOON)
    assert dispatch.story.told == []
    ringer.flush()
    ledger.rung["j3"] = None
    dispatch.tick(at(1))
    dispatch.tick(at(2))
    assert dispatch.story.told == ["forgot 2"]
    ledger.rung = {}
    ringer.flush()
    dispatch.tick(at(3))
    assert dispatch.story.told == ["forgot 2"]


def test_ten_minutes_of_outage_are_told_once_and_asked_for_seldom() -> None:
    ledger, ringer = MemoryLedger(rung={"j1": None}), MemoryRinger(fault=BrokerUnreachable("away"))
    dispatch = station(ledger, ringer)
    for second in range(600):
        dispatch.tick(at(second))
    assert dispatch.story.told == [BrokerUnreachable.code]
    assert ringer.asked <= 600 / PATIENCE.longest_pause_s + 4
    ringer.fault = None
    for second in range(600, 600 + int(PATIENCE.longest_pause_s) + 1):
        dispatch.tick(at(second))
    assert ringer.heard == ["j1"]
    assert dispatch.story.told == [BrokerUnreachable.code, "healed"]


def test_a_blink_is_not_told() -> None:
    ledger, ringer = MemoryLedger(rung={"j1": None}), MemoryRinger(fault=BrokerUnreachable("away"))
    dispatch = station(ledger, ringer)
    for tenth in range(int(PATIENCE.told_after_s * 10)):
        dispatch.tick(at(tenth / 10))
    ringer.fault = None
    dispatch.tick(at(60))
    assert ringer.heard == ["j1"]
    assert dispatch.story.told == []


def test_each_fault_is_told_once_and_one_end() -> None:
    ringer = MemoryRinger(fault=BrokerUnreachable("away"))
    dispatch = station(MemoryLedger(), ringer)
    for second in range(60):
        dispatch.tick(at(second))
    ringer.fault = BrokerTakesNothing("full")
    for second in range(60, 120):
        dispatch.tick(at(second))
    ringer.fault = None
    dispatch.tick(at(140))
    dispatch.tick(at(141))
    assert dispatch.story.told == [BrokerUnreachable.code, BrokerTakesNothing.code, "healed"]


def test_a_node_that_starts_again_does_not_tell_what_was_told_and_tells_the_end() -> None:
    story, ringer = MemoryStory([BrokerUnreachable.code]), MemoryRinger(fault=BrokerUnreachable("away"))
    dispatch = Stage(MemoryLedger(), ringer, story)
    for second in range(60):
        dispatch.tick(at(second))
    assert story.told == [BrokerUnreachable.code]
    ringer.fault = None
    dispatch.tick(at(80))
    assert story.told == [BrokerUnreachable.code, "healed"]


def test_jobs_wait_in_the_ledger_while_the_broker_is_away() -> None:
    ledger, ringer = MemoryLedger(rung={"j1": None}), MemoryRinger(fault=BrokerUnreachable("away"))
    dispatch = station(ledger, ringer)
    assert dispatch.tick(NOON) == at(PATIENCE.first_pause_s)
    assert ledger.rung == {"j1": None}
    ringer.fault = None
    dispatch.tick(at(2))
    assert ringer.heard == ["j1"]


def test_a_job_of_a_silent_worker_is_rung_in_the_same_tick() -> None:
    ledger, ringer = MemoryLedger(rung={}, expired=[JobID("j9")]), MemoryRinger()
    station(ledger, ringer).tick(NOON)
    assert ringer.heard == ["j9"]


def test_silent_workers_lose_their_jobs_while_the_broker_is_away() -> None:
    ledger = MemoryLedger(expired=[JobID("j9")])
    station(ledger, MemoryRinger(fault=BrokerUnreachable("away"))).tick(NOON)
    assert ledger.expired == []


def test_the_next_look_is_at_the_next_event_or_after_half_the_resend_time() -> None:
    ledger = MemoryLedger()
    dispatch = station(ledger, MemoryRinger())
    assert dispatch.tick(NOON) == at(RESEND_S / 2)
    ledger.next_event = at(7)
    assert dispatch.tick(NOON) == at(7)
    ledger.next_event = at(700)
    assert dispatch.tick(NOON) == at(RESEND_S / 2)
