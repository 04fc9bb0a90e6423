"""What the parent of a worker's processes does for the Jobs of those that died, and of all when it is told to end."""

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from node.clock import utc_now
from node.domain.job import Job, JobID
from node.errors import LeaseLost, Transient
from node.ledger.bell import BellLedger
from node.ledger.engine import Engine, open_engine
from node.ledger.jobs import JobLedger, RetryPolicy
from node.settings.whole import Settings
from workers.post import Post

logger = logging.getLogger(__name__)

# What the pool says of a process that is gone.
ENDING = re.compile(r"signal \d+ \((?P<signal>\w+)\)|exitcode \d+")
# The pool needs no longer to notice that its processes are gone.
LAST_WORDS_S = 3.0


class Foreman:
    """Answers for the processes of one worker; lives in their parent, which never uses torch.

    The ledger is opened for one call at a time: a connection must not be there when a process is forked.
    """

    def __init__(self, settings: Settings, post: Post) -> None:
        self._settings = settings
        self._post = post
        dispatch = settings.dispatch
        self._retry = RetryPolicy(max_attempts=dispatch.max_attempts, pause_s=dispatch.retry_seconds)
        self._drain_s = dispatch.drain_seconds
        self._odd_messages = 0

    def mourn(self, job_id: JobID, said: str) -> None:
        """End the attempt of a process that died with this Job; nothing else waits for its lease.

        Parameters
        ----------
        said
            What the pool says of it, such as ``Worker exited prematurely: signal 9 (SIGKILL)``.
        """
        reason = name_death(said)
        try:
            with self._ledger() as ledger:
                for job in ledger.held_by(self._post.crew):
                    if job.job_id == job_id:
                        ledger.fail_attempt(job, self._retry, reason=reason, now=utc_now())
                # It may have died before it had the Job, whose message is used up all the same.
                ledger.forget_rung(job_id)
        except Transient as exc:
            # Its lease runs out, then.
            logger.warning("dead process not told", extra={"job_id": job_id, "reason_code": exc.code})
        logger.error("worker process died", extra={"job_id": job_id, "reason_code": reason[0]})

    def note_odd_message(self) -> None:
        """Take note of a message that rings for no Job; of a flood the 1st, 2nd, 4th, 8th … is told."""
        self._odd_messages += 1
        logger.error("odd message dropped", extra={"count": self._odd_messages})
        if self._odd_messages.bit_count() > 1:
            return
        try:
            with self._engine() as engine:
                BellLedger(engine).tell_odd_message(self._odd_messages, utc_now())
        except Transient as exc:
            logger.warning("odd message not told", extra={"reason_code": exc.code})

    def begin_to_end(self) -> None:
        """Leave the Jobs in hand some seconds, then give back what is left and end this process and its children."""
        threading.Thread(target=self._end, name="end-of-worker", daemon=True).start()

    def _end(self) -> None:
        # Where the Jobs end before, this process does too.
        time.sleep(self._drain_s)
        with suppress(Transient), self._ledger() as ledger:
            for job in ledger.held_by(self._post.crew):
                self._take_away(ledger, job)
        time.sleep(LAST_WORDS_S)
        # Linux kills the children with it; each has lost its Job, or never had one.
        os._exit(os.EX_OK)

    def _take_away(self, ledger: JobLedger, job: Job) -> None:
        text = f"the worker was told to end, and the Job took longer than {self._drain_s:g} s more"
        # First the ledger: a process that died with a Job in hand costs an attempt.
        with suppress(LeaseLost):
            ledger.give_back(job, reason=("worker-ended", text), now=utc_now())
            logger.warning("job given back", extra={"job_id": job.job_id, "reason_code": "worker-ended"})
        with suppress(ProcessLookupError):
            os.kill(self._post.find_pid(job.lease_owner or ""), signal.SIGKILL)

    @contextmanager
    def _ledger(self) -> Iterator[JobLedger]:
        with self._engine() as engine:
            yield JobLedger(engine)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        engine = open_engine(self._settings.ledger_url, busy_timeout_s=self._settings.ledger.busy_timeout_s)
        try:
            yield engine
        finally:
            engine.dispose()


def name_death(said: str) -> tuple[str, str]:
    """Return code and text of the reason for which an attempt ended with its process."""
    found = ENDING.search(said)
    if found is not None and found["signal"] == "SIGALRM":
        return "time-limit", "the Job ran longer than its time limit, and let nobody else run in its process"
    how = f" by {found[0]}" if found is not None else ""
    return "worker-lost", f"the process that worked on it died{how}"
