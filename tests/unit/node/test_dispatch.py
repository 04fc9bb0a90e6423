"""The dispatch station: rings for what waits until it was heard, and takes Jobs back from silent workers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from node.dispatch import BrokerPatience, Dispatch
from node.domain.job import JobID, Priority
from node.domain.lane import Call, lane_of
from node.errors import BrokerTakesNothing, BrokerUnreachable
from node.ledger.jobs import Bell, RetryPolicy
from node.ledger.schema import EPOCH
from tests.ledgers import NOON, at

RESEND_S = 30.0
NEVER_S = 1e9
PATIENCE = BrokerPatience(resend_s=RESEND_S, ageing_s=NEVER_S)
POLICY = RetryPolicy(max_attempts=3, pause_s=5.0)


@dataclass
class MemoryLedger:
    """A `DispatchLedger`: Job id to when it was rung."""

    rung: dict[str, datetime | None] = field(default_factory=dict)
    expired: list[JobID] = field(default_factory=list)
    next_event: datetime | None = None
    page: int = 1000
    pipelines: dict[str, str] = field(default_factory=dict)
    priorities: dict[str, Priority] = field(default_factory=dict)
    usual: dict[str, float] = field(default_factory=dict)
    accepted_at: datetime = NOON

    def bells_to_ring(self, now: datetime, *, rung_before: datetime, limit: int = 1000) -> Sequence[Bell]:
        waiting = [job_id for job_id, when in self.rung.items() if when is None or when < rung_before]
        return [
            Bell(
                job_id=JobID(job_id),
                pipeline=self.pipelines.get(job_id, "film"),
                priority=self.priorities.get(job_id, Priority.ROUTINE),
                accepted_at=self.accepted_at,
                rung_at=self.rung[job_id],
            )
            for job_id in waiting[: self.page]
        ]

    def usual_seconds(self, pipelines: Collection[str]) -> Mapping[str, float]:
        return {name: self.usual[name] for name in pipelines if name in self.usual}

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
    lanes: list[int] = field(default_factory=list)
    asked: int = 0

    def ring(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if self.room == 0:
                raise BrokerUnreachable("away")
            self.room -= 1
            self.heard.append(call.job_id)
            self.lying.append(call.job_id)
            self.lanes.append(call.lane)

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

    def __init__(
        self,
        ledger: MemoryLedger,
        ringer: MemoryRinger,
        story: MemoryStory | None = None,
        *,
        ageing_s: float = NEVER_S,
    ) -> None:
        self.story = story or MemoryStory()
        self._second = 0.0
        self._dispatch = Dispatch(
            ledger,
            ringer,
            story=self.story,
            policy=POLICY,
            patience=replace(PATIENCE, ageing_s=ageing_s),
            elapsed_s=lambda: self._second,
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


def test_the_short_are_rung_before_the_long_and_the_urgent_before_both() -> None:
    ledger = MemoryLedger(
        rung={"ct": None, "film": None, "new": None, "stat": None},
        pipelines={"ct": "lungs", "film": "film", "new": "never ran", "stat": "lungs"},
        priorities={"stat": Priority.STAT},
        usual={"lungs": 60.0, "film": 0.5},
    )
    ringer = MemoryRinger()
    station(ledger, ringer).tick(NOON)
    assert dict(zip(ringer.heard, ringer.lanes, strict=True)) == {"ct": 8, "film": 6, "new": 7, "stat": 2}


def test_how_long_a_pipeline_takes_is_known_from_its_first_job_on() -> None:
    ledger = MemoryLedger(rung={"first": None}, pipelines={"first": "film", "second": "film"})
    ringer = MemoryRinger()
    dispatch = station(ledger, ringer)
    dispatch.tick(NOON)
    ledger.usual["film"] = 0.5
    ledger.rung["second"] = None
    dispatch.tick(at(1))
    assert list(zip(ringer.heard, ringer.lanes, strict=True)) == [("first", 7), ("second", 6)]


def test_who_waits_comes_forward_up_to_the_urgent_ones_and_never_before_stat() -> None:
    ledger = MemoryLedger(rung={"ct": None}, usual={"film": 60.0}, accepted_at=NOON)
    ringer = MemoryRinger()
    dispatch = Stage(ledger, ringer, ageing_s=60.0)
    for second in range(0, 1200, 5):
        dispatch.tick(at(second))
    assert ringer.lanes == [8, 7, 6, 5, 4, 3]
    stat = lane_of(Priority.STAT, expected_s=1e6, waited_s=0, ageing_s=60.0)
    assert stat < min(ringer.lanes)
    assert lane_of(Priority.STAT, expected_s=1e6, waited_s=1e6, ageing_s=60.0) == 0


def test_one_that_became_more_urgent_is_rung_again_though_it_lies_in_the_broker() -> None:
    ledger, ringer = MemoryLedger(rung={"j1": None, "j2": None}, accepted_at=NOON), MemoryRinger()
    dispatch = station(ledger, ringer)
    dispatch.tick(NOON)
    ledger.rung["j2"], ledger.priorities["j2"] = EPOCH, Priority.STAT
    dispatch.tick(at(5))
    dispatch.tick(at(40))
    assert list(zip(ringer.heard, ringer.lanes, strict=True)) == [("j1", 7), ("j2", 7), ("j2", 1)]
