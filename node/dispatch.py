"""The station that rings workers for waiting Jobs, and takes Jobs back from workers that fell silent."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from node.domain.job import JobID
from node.errors import BrokerUnreachable
from node.ledger.jobs import Bell, RetryPolicy

logger = logging.getLogger(__name__)

# A message that was lost in any other way is rung again after so many resend periods.
STALE_PERIODS = 20
# Pause before a broker that does not answer is tried again.
BROKER_RETRY = timedelta(seconds=2)


class DispatchLedger(Protocol):
    """What dispatch asks of the ledger."""

    def bells_to_ring(self, now: datetime, *, rung_before: datetime, limit: int = 1000) -> Sequence[Bell]:
        """Return Jobs that may start and were not rung since `rung_before`."""
        ...

    def record_rung(self, job_ids: Sequence[JobID], now: datetime) -> None:
        """Commit that the broker took the messages."""
        ...

    def next_job_event_at(self) -> datetime | None:
        """Return when the next Job becomes due or the next lease runs out."""
        ...

    def reap_expired(self, now: datetime, policy: RetryPolicy) -> Sequence[JobID]:
        """Take Jobs from workers whose lease ran out."""
        ...


class Ringer(Protocol):
    """The bell: carries Job ids to workers, and may forget them."""

    def ring(self, bells: Sequence[Bell]) -> None:
        """Send one message a Job; BrokerUnreachable if that fails."""
        ...

    def kept_memory(self) -> bool:
        """Return False from when the broker lost its messages until `begin_memory`; BrokerUnreachable if it is away."""
        ...

    def begin_memory(self) -> None:
        """Note in the broker that it has every message again; BrokerUnreachable if it is away."""
        ...


class Dispatch:
    """Rings for Jobs in state SCHEDULED, as often as it takes, and reaps expired leases."""

    def __init__(self, ledger: DispatchLedger, ringer: Ringer, *, policy: RetryPolicy, resend_s: float) -> None:
        self._ledger = ledger
        self._ringer = ringer
        self._policy = policy
        self._resend = timedelta(seconds=resend_s)

    def tick(self, now: datetime) -> datetime | None:
        """Reap, then ring; return when to look again at the latest."""
        for job_id in self._ledger.reap_expired(now, self._policy):
            logger.warning("lease ran out", extra={"job_id": job_id})
        look_again = now + self._resend
        try:
            self._ring_all(now)
        except BrokerUnreachable as exc:
            logger.warning("broker unreachable", extra={"reason_code": exc.code})
            look_again = now + min(self._resend, BROKER_RETRY)
        upcoming = self._ledger.next_job_event_at()
        # What is due already was just rung, or waits for the broker.
        return look_again if upcoming is None or upcoming <= now else min(upcoming, look_again)

    def _ring_all(self, now: datetime) -> None:
        is_kept = self._ringer.kept_memory()
        rung_before = now - self._resend * STALE_PERIODS if is_kept else now
        while bells := self._ledger.bells_to_ring(now, rung_before=rung_before):
            self._ringer.ring(bells)
            self._ledger.record_rung([bell.job_id for bell in bells], now)
            logger.info("jobs rung", extra={"count": len(bells)})
        if not is_kept:
            # Last: whatever fails before, every message is sent again, and a Job that is rung twice runs once.
            self._ringer.begin_memory()
