"""A sign of life for the Job in hand, and the end of a Job that hangs."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType

from node.clock import Clock
from node.domain.job import Job
from node.errors import LeaseLost, LedgerBusy
from node.ledger.jobs import JobLedger, RetryPolicy

logger = logging.getLogger(__name__)

# sysexits.h EX_SOFTWARE; the pool starts a fresh process in its place.
EXIT_AFTER_HANG = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How long a claim holds, how often it is renewed, and what happens when it cannot be."""

    lease_s: float
    heartbeat_s: float
    retry: RetryPolicy


class Heartbeat:
    """Renews the lease of one Job while the block runs.

    A Job over its time limit is failed in the ledger, and this process ends: nothing else stops a hung kernel.
    """

    def __init__(self, ledger: JobLedger, job: Job, *, terms: LeaseTerms, time_limit_s: float, clock: Clock) -> None:
        self._ledger = ledger
        self._job = job
        self._terms = terms
        self._clock = clock
        self._deadline = clock() + timedelta(seconds=time_limit_s)
        self._time_limit_s = time_limit_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{job.job_id}", daemon=True)
        self.exit_process: Callable[[int], object] = os._exit

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        is_ours = True
        while not self._done.wait(self._terms.heartbeat_s):
            now = self._clock()
            try:
                if now >= self._deadline:
                    self._end_hung_job()
                    return
                if is_ours:
                    self._ledger.renew_lease(self._job, lease_s=self._terms.lease_s, now=now)
            except LeaseLost:
                # The work goes on to its end and is refused there; a thread cannot be stopped from outside. The time
                # limit still holds: whoever took the Job away may have done so because it hangs.
                is_ours = False
                logger.warning("lease lost while working", extra={"job_id": self._job.job_id})
            except LedgerBusy as exc:
                logger.warning("lease not renewed", extra={"job_id": self._job.job_id, "reason_code": exc.code})

    def _end_hung_job(self) -> None:
        reason = ("time-limit", f"the Job ran longer than {self._time_limit_s:g} s")
        with contextlib.suppress(LeaseLost):
            self._ledger.fail_attempt(self._job, self._terms.retry, reason=reason, now=self._clock())
        logger.error("job over its time limit", extra={"job_id": self._job.job_id})
        self.exit_process(EXIT_AFTER_HANG)
