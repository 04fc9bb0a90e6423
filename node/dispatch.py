"""The station that rings workers for waiting Jobs, and takes Jobs back from workers that fell silent."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from node.domain.job import JobID
from node.domain.lane import Call, lane_of
from node.errors import BrokerUnreachable
from node.ledger.jobs import Bell, RetryPolicy

logger = logging.getLogger(__name__)

# How long the lengths of Pipelines are believed.
LEARN_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPatience:
    """How a broker is borne with that forgets, fails, or is busy.

    Attributes
    ----------
    resend_s
        A message that got lost, in whatever way, is sent again within this time, once the broker answers.
    first_pause_s
        Before it is asked again, doubled for each further failure.
    longest_pause_s
        Whoever asks waits for its answer, and so do the other stations.
    ageing_s
        For so long a wait in a lane of the broker, a Job comes one lane forward.
    told_after_s
        A broker that is started anew takes less; it is no matter for a person.
    """

    resend_s: float
    ageing_s: float
    first_pause_s: float = 1.0
    longest_pause_s: float = 10.0
    told_after_s: float = 5.0


class DispatchLedger(Protocol):
    """What dispatch asks of the ledger."""

    def bells_to_ring(self, now: datetime, *, rung_before: datetime, limit: int = 1000) -> Sequence[Bell]:
        """Return Jobs that may start and were not rung since `rung_before`."""
        ...

    def usual_seconds(self, pipelines: Collection[str]) -> Mapping[str, float]:
        """Return how long each Pipeline that ran took of late for one Job."""
        ...

    def record_rung(self, job_ids: Sequence[JobID], now: datetime) -> None:
        """Commit that the broker has the messages."""
        ...

    def next_job_event_at(self) -> datetime | None:
        """Return when the next Job becomes due or the next lease runs out."""
        ...

    def reap_expired(self, now: datetime, policy: RetryPolicy) -> Sequence[JobID]:
        """Take Jobs from workers whose lease ran out."""
        ...


class BrokerStory(Protocol):
    """Where people are told how the broker is."""

    def told_fault(self) -> str | None:
        """Return the code of the fault that was told and whose end was not."""
        ...

    def tell_fault(self, fault: BrokerUnreachable, now: datetime) -> None:
        """Raise an alarm."""
        ...

    def tell_healed(self, now: datetime) -> None:
        """Tell the end of the fault."""
        ...

    def tell_forgot(self, count: int, now: datetime) -> None:
        """Raise an alarm: so many Jobs had to be rung again."""
        ...


class Ringer(Protocol):
    """The bell: carries Job ids to workers, and may forget them. BrokerUnreachable if it fails."""

    def ring(self, calls: Sequence[Call]) -> None:
        """Send one message a Job, into its lane."""
        ...

    def unheard(self) -> frozenset[JobID]:
        """Return the Jobs whose messages no worker has taken yet."""
        ...

    def kept_memory(self) -> bool:
        """Return False from when the broker lost its messages until `begin_memory`."""
        ...

    def begin_memory(self) -> None:
        """Note in the broker that it has every message again."""
        ...


class Dispatch:
    """Rings for Jobs in state SCHEDULED, as often as it takes and no oftener, and reaps expired leases.

    Parameters
    ----------
    elapsed_s
        Seconds since any moment; unlike the clock, nobody can set it.
    """

    def __init__(
        self,
        ledger: DispatchLedger,
        ringer: Ringer,
        *,
        story: BrokerStory,
        policy: RetryPolicy,
        patience: BrokerPatience,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._ringer = ringer
        self._policy = policy
        # A message may get lost just after it was looked for.
        self._look_every = timedelta(seconds=patience.resend_s / 2)
        self._elapsed_s = elapsed_s
        self._health = _Health(story, patience)
        self._lanes = _Lanes(ledger, ageing_s=patience.ageing_s, elapsed_s=elapsed_s)
        # False while something may have been sent that the ledger does not know of.
        self._is_sure = False

    def tick(self, now: datetime) -> datetime | None:
        """Reap, then ring; return when to look again at the latest."""
        for job_id in self._ledger.reap_expired(now, self._policy):
            logger.warning("lease ran out", extra={"job_id": job_id})
        pause_s = self._health.pause_s(self._elapsed_s())
        if pause_s == 0:
            pause_s = self._try_to_ring(now)
        look_again = now + (timedelta(seconds=pause_s) if pause_s else self._look_every)
        upcoming = self._ledger.next_job_event_at()
        # What is due already was just rung, or waits for the broker.
        return look_again if upcoming is None or upcoming <= now else min(upcoming, look_again)

    def _try_to_ring(self, now: datetime) -> float:
        """Return after how many seconds the broker may be asked again; 0: at once."""
        is_sure, self._is_sure = self._is_sure, False
        try:
            self._ring_all(now, is_sure=is_sure)
        except BrokerUnreachable as exc:
            return self._health.fail(exc, now, self._elapsed_s())
        self._is_sure = True
        self._health.succeed(now)
        return 0.0

    def _ring_all(self, now: datetime, *, is_sure: bool) -> None:
        is_kept = self._ringer.kept_memory()
        rung_before = now - self._look_every if is_kept and is_sure else now
        unheard: frozenset[JobID] | None = None
        rung, lost = 0, 0
        while bells := self._ledger.bells_to_ring(now, rung_before=rung_before):
            if unheard is None and (not is_sure or any(bell.rung_at for bell in bells)):
                unheard = self._ringer.unheard()
            missing = [bell for bell in bells if bell.job_id not in (unheard or ())]
            self._ringer.ring([*self._lanes.calls(missing, now), *self._lanes.calls_forward(bells, missing, now)])
            self._ledger.record_rung([bell.job_id for bell in bells], now)
            rung += len(missing)
            lost += sum(bell.rung_at is not None for bell in missing)
        if rung:
            logger.info("jobs rung", extra={"count": rung})
        if lost and not is_kept:
            self._health.forgot(lost, now)
        if not (is_kept and is_sure):
            # Last: whatever fails before, every message is looked for again, and a Job that is rung twice runs once.
            # A broker that is healed takes this, too, where no Job waits that would show it.
            self._ringer.begin_memory()


class _Lanes:
    """In which lane of the broker each Job waits."""

    def __init__(self, ledger: DispatchLedger, *, ageing_s: float, elapsed_s: Callable[[], float]) -> None:
        self._ledger = ledger
        self._ageing_s = ageing_s
        self._elapsed_s = elapsed_s
        self._usual: dict[str, float | None] = {}
        self._asked_at_s = 0.0

    def calls(self, bells: Sequence[Bell], now: datetime) -> list[Call]:
        """Return what to ring for these Jobs; where lanes are the same, in their order."""
        self._learn({bell.pipeline for bell in bells})
        return [Call(job_id=bell.job_id, lane=self._lane(bell, now)) for bell in bells]

    def calls_forward(self, bells: Sequence[Bell], missing: Sequence[Bell], now: datetime) -> list[Call]:
        """Return what to ring once more, because it lies in a lane further back than where it belongs by now."""
        lost = {bell.job_id for bell in missing}
        lying = [bell for bell in bells if bell.job_id not in lost]
        self._learn({bell.pipeline for bell in lying})
        moved = [bell for bell in lying if self._is_behind(bell, now)]
        return [Call(job_id=bell.job_id, lane=self._lane(bell, now)) for bell in moved]

    def _is_behind(self, bell: Bell, now: datetime) -> bool:
        if bell.rung_at is None:
            return False
        # Rung before it was ordered: it has become more urgent since.
        return bell.rung_at < bell.accepted_at or self._lane(bell, now) < self._lane(bell, bell.rung_at)

    def _lane(self, bell: Bell, at: datetime) -> int:
        waited_s = (at - bell.accepted_at).total_seconds()
        usual_s = self._usual[bell.pipeline]
        return lane_of(bell.priority, expected_s=usual_s, waited_s=waited_s, ageing_s=self._ageing_s)

    def _learn(self, pipelines: set[str]) -> None:
        if self._elapsed_s() - self._asked_at_s >= LEARN_EVERY_S:
            self._usual, self._asked_at_s = {}, self._elapsed_s()
        # One that never ran may have by now.
        unknown = {name for name in pipelines if self._usual.get(name) is None}
        if unknown:
            found = self._ledger.usual_seconds(unknown)
            self._usual.update({name: found.get(name) for name in unknown})


class _Health:
    """How the broker is, and what people were told of it: each fault once, and its end."""

    def __init__(self, story: BrokerStory, patience: BrokerPatience) -> None:
        self._story = story
        self._patience = patience
        self._fault: str | None = None
        self._since_s = self._retry_at_s = 0.0
        self._pause_s = 0.0
        self._told: str | None = None
        # An earlier life may have told a fault.
        self._knows_told = False

    def pause_s(self, elapsed_s: float) -> float:
        """Return how long the broker is not to be asked."""
        return max(0.0, self._retry_at_s - elapsed_s) if self._fault else 0.0

    def fail(self, fault: BrokerUnreachable, now: datetime, elapsed_s: float) -> float:
        """Take note of a failure; returns after how many seconds the broker may be asked again."""
        if self._fault is None:
            self._pause_s = self._patience.first_pause_s / 2
        if self._fault != fault.code:
            self._fault, self._since_s = fault.code, elapsed_s
            logger.warning("broker failed", extra={"reason_code": fault.code})
        self._pause_s = min(self._patience.longest_pause_s, 2 * self._pause_s)
        self._retry_at_s = elapsed_s + self._pause_s
        if elapsed_s - self._since_s >= self._patience.told_after_s and self._last_told() != fault.code:
            self._story.tell_fault(fault, now)
            self._told = fault.code
            logger.error("broker does not serve", extra={"reason_code": fault.code})
        return self._pause_s

    def succeed(self, now: datetime) -> None:
        """Take note that the broker did what it was asked."""
        if self._last_told() is not None:
            self._story.tell_healed(now)
            self._told = None
        if self._fault is not None:
            self._fault = None
            logger.info("broker healed")

    def forgot(self, count: int, now: datetime) -> None:
        """Take note that the broker lost the messages of so many Jobs."""
        self._story.tell_forgot(count, now)
        logger.error("broker forgot", extra={"count": count})

    def _last_told(self) -> str | None:
        if not self._knows_told:
            self._told, self._knows_told = self._story.told_fault(), True
        return self._told
