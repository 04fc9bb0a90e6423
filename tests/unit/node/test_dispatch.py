"""The dispatch station: rings for what waits until it was heard, and takes Jobs back from silent workers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from node.dispatch import BROKER_RETRY, Dispatch
from node.domain.job import JobID, Priority
from node.errors import BrokerUnreachable
from node.ledger.jobs import Bell, RetryPolicy
from tests.ledgers import NOON, at

RESEND_S = 30.0
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
        return [Bell(job_id=JobID(job_id), priority=Priority.ROUTINE) for job_id in waiting[: self.page]]

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
    """A `Ringer` that can be flushed, and can be away."""

    remembers: bool = True
    is_away: bool = False
    refuses: bool = False
    heard: list[str] = field(default_factory=list)

    def ring(self, bells: Sequence[Bell]) -> None:
        if self.is_away or self.refuses:
            raise BrokerUnreachable("away")
        self.heard += [bell.job_id for bell in bells]

    def kept_memory(self) -> bool:
        if self.is_away:
            raise BrokerUnreachable("away")
        return self.remembers

    def begin_memory(self) -> None:
        if self.is_away:
            raise BrokerUnreachable("away")
        self.remembers = True


def station(ledger: MemoryLedger, ringer: MemoryRinger) -> Dispatch:
    return Dispatch(ledger, ringer, policy=POLICY, resend_s=RESEND_S)


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
    ledger, ringer = MemoryLedger(rung={"j1": at(-1)}), MemoryRinger(remembers=False, refuses=True)
    dispatch = station(ledger, ringer)
    dispatch.tick(NOON)
    ringer.refuses = False
    dispatch.tick(at(2))
    assert ringer.heard == ["j1"]


def test_a_message_that_got_lost_in_any_other_way_is_rung_again_in_the_end() -> None:
    ledger, ringer = MemoryLedger(rung={"j1": NOON}), MemoryRinger()
    dispatch = station(ledger, ringer)
    dispatch.tick(at(RESEND_S * 20))
    assert ringer.heard == []
    dispatch.tick(at(RESEND_S * 20 + 1))
    assert ringer.heard == ["j1"]


def test_jobs_wait_in_the_ledger_while_the_broker_is_away() -> None:
    ledger, ringer = MemoryLedger(rung={"j1": None}), MemoryRinger(is_away=True)
    dispatch = station(ledger, ringer)
    assert dispatch.tick(NOON) == NOON + BROKER_RETRY
    assert ledger.rung == {"j1": None}
    ringer.is_away = False
    dispatch.tick(at(2))
    assert ringer.heard == ["j1"]


def test_a_job_of_a_silent_worker_is_rung_in_the_same_tick() -> None:
    ledger, ringer = MemoryLedger(rung={}, expired=[JobID("j9")]), MemoryRinger()
    station(ledger, ringer).tick(NOON)
    assert ringer.heard == ["j9"]


def test_silent_workers_lose_their_jobs_while_the_broker_is_away() -> None:
    ledger = MemoryLedger(expired=[JobID("j9")])
    station(ledger, MemoryRinger(is_away=True)).tick(NOON)
    assert ledger.expired == []


def test_the_next_look_is_at_the_next_event_or_the_next_resend() -> None:
    ledger = MemoryLedger()
    dispatch = station(ledger, MemoryRinger())
    assert dispatch.tick(NOON) == at(RESEND_S)
    ledger.next_event = at(7)
    assert dispatch.tick(NOON) == at(7)
    ledger.next_event = at(700)
    assert dispatch.tick(NOON) == at(RESEND_S)
