"""A sign of life for the Job in hand, and the end of a Job that hangs."""

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from node.clock import Clock
from node.domain.job import Job
from node.errors import LeaseLost, LedgerBusy
from node.ledger.jobs import JobLedger, RetryPolicy

logger = logging.getLogger(__name__)

# sysexits.h EX_SOFTWARE; the pool starts a fresh process in its place.
EXIT_AFTER_HANG = 70
# How many beats a Job may be over its time limit before the kernel ends the process: this thread goes first, if it can.
ALARM_BEATS = 2

# Ends this process after so many seconds, whatever it does; 0 calls it off.
Alarm = Callable[[float], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How long a claim holds, how often it is renewed, and what happens when it cannot be.

    Attributes
    ----------
    alarm
        Held by the kernel: code that never lets go of the interpreter lets no thread of ours run.
    """

    lease_s: float
    heartbeat_s: float
    retry: RetryPolicy
    alarm: Alarm


class Heartbeat:
    """Renews the lease of one Job while the block runs.

    A Job over its time limit is failed in the ledger, and this process ends: nothing else stops a hung kernel.

    Parameters
    ----------
    elapsed_s
        Seconds since any moment; unlike `clock`, nobody can set it.
    """

    def __init__(
        self,
        ledger: JobLedger,
        job: Job,
        *,
        terms: LeaseTerms,
        time_limit_s: float,
        clock: Clock,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._job = job
        self._terms = terms
        self._clock = clock
        self._elapsed_s = elapsed_s
        self._deadline_s = elapsed_s() + time_limit_s
        self._time_limit_s = time_limit_s
        self._done = threading.Event()
        self._is_lost = False
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{job.job_id}", daemon=True)
        self.exit_process: Callable[[int], object] = os._exit

    def __enter__(self) -> "Heartbeat":
        self._set_alarm(self._time_limit_s)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._terms.alarm(0.0)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing against the time limit while the block runs: the Job waits for others, who have their own."""
        left_s = self._deadline_s - self._elapsed_s()
        self._deadline_s = math.inf
        self._terms.alarm(0.0)
        try:
            yield
        finally:
            self._set_alarm(left_s)
            self._deadline_s = self._elapsed_s() + left_s

    def require_lease(self) -> None:
        """Return if the Job was still this worker's at the last beat.

        Raises
        ------
        LeaseLost
            If it was taken away, canceled, or superseded.
        """
        if self._is_lost:
            raise LeaseLost(f"job {self._job.job_id} is no longer this worker's; its work is dropped")

    def _set_alarm(self, left_s: float) -> None:
        self._terms.alarm(max(0.0, left_s) + ALARM_BEATS * self._terms.heartbeat_s)

    def _beat(self) -> None:
        while not self._done.wait(self._terms.heartbeat_s):
            try:
                if self._elapsed_s() >= self._deadline_s:
                    self._end_hung_job()
                    return
                if not self._is_lost:
                    self._ledger.renew_lease(self._job, lease_s=self._terms.lease_s, now=self._clock())
            except LeaseLost:
                # The work goes on to the end of its stage; a thread cannot be stopped from outside. The time limit
                # still holds: whoever took the Job away may have done so because it hangs.
                self._is_lost = True
                logger.warning("lease lost while working", extra={"job_id": self._job.job_id})
            except LedgerBusy as exc:
                logger.warning("lease not renewed", extra={"job_id": self._job.job_id, "reason_code": exc.code})

    def _end_hung_job(self) -> None:
        reason = ("time-limit", f"the Job ran longer than {self._time_limit_s:g} s")
        with contextlib.suppress(LeaseLost):
            self._ledger.fail_attempt(self._job, self._terms.retry, reason=reason, now=self._clock())
        logger.error("job over its time limit", extra={"job_id": self._job.job_id})
        self.exit_process(EXIT_AFTER_HANG)
