"""The witness: what was refused becomes an Event of the ledger and a record of the trail, here and nowhere else."""

import logging
from collections.abc import Callable
from datetime import datetime
from threading import Event, Lock, Thread
from time import monotonic
from typing import Protocol

from node.audit.allowance import Allowance
from node.audit.authentication import failure_of, logins_failed
from node.audit.events import Notice, records_lost, security_alert
from node.audit.message import AuditEvent
from node.audit.trail import Trail
from node.domain.uids import StudyUID
from node.errors import AuditFull, AuditUnwritable, NodeError

logger = logging.getLogger(__name__)

# A loss of power costs the records of so long; a flush for each would cost its sender 0.2 to 10 ms.
SYNC_S = 1.0
# How often one process tells, at most, that records are lost.
LOSS_TOLD_S = 300.0
AUDIT_LOST = "audit-lost"


class EventLedger(Protocol):
    """Where a person looks for what happened."""

    def record_event(self, *, at: datetime, kind: str, text: str, study_instance_uid: StudyUID | None = None) -> None:
        """Commit one line that a person may look for."""

    def record_refusal(
        self, *, at: datetime, kind: str, text: str, code: str, count: int, study_instance_uid: StudyUID | None = None
    ) -> None:
        """Commit one line for so many refusals alike, and count them."""


class Witness:
    """Keeps what one process saw.

    Nothing of it raises: a refusal was already answered, and care goes on when an audit trail cannot be written. What
    is lost is logged as an error, told in an Event for the alarms, and counted in the first record that can be written
    again.

    Parameters
    ----------
    trail
        None where there is none: `radnode process` keeps nothing of what it reads.
    clock
        Returns the time, in UTC.
    """

    def __init__(self, *, trail: Trail | None, ledger: EventLedger, clock: Callable[[], datetime]) -> None:
        self._trail = trail
        self._ledger = ledger
        self._clock = clock
        self._allowance, self._failures = Allowance(), Allowance()
        self._lost = 0
        self._untold_losses = 0
        self._losses_told_s = -LOSS_TOLD_S
        self._counting = Lock()
        self._ending = Event()
        self._thread = Thread(target=self._run, name="witness", daemon=True)

    def start(self) -> None:
        """Begin to bring records to the disk, and to tell of floods."""
        self._thread.start()

    def stop(self) -> None:
        """Return after everything was told and is on disk."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._tell_floods(is_end=True)
        self._sync()

    def refused(self, notice: Notice) -> None:
        """Keep that something was refused; of a flood from one peer, for one reason, only a number."""
        if self._allowance.allows(notice, monotonic()):
            self._tell(notice)

    def record(self, event: AuditEvent) -> None:
        """Add one record to the trail; it survives the end of this process, and after `SYNC_S` a loss of power.

        Of failed logins, which cost whoever sends them nothing, a flood from one address is told as a number only.
        """
        failure = failure_of(event)
        if failure is None or self._failures.allows(failure, monotonic()):
            self._append(event)

    def _append(self, event: AuditEvent) -> None:
        trail = self._trail
        if trail is None:
            return
        try:
            with self._counting:
                if self._lost:
                    trail.append(records_lost(self._lost))
                self._lost = 0
            trail.append(event)
        except (AuditFull, AuditUnwritable) as exc:
            with self._counting:
                self._lost += 1
                self._untold_losses += 1
            logger.error("audit record lost", extra={"error_type": event.kind, "reason_code": exc.code})  # noqa: TRY400 the reason is the disk's

    def _tell(self, notice: Notice) -> None:
        try:
            self._ledger.record_refusal(
                at=self._clock(),
                kind=notice.kind,
                text=notice.text,
                code=notice.code,
                count=notice.count,
                study_instance_uid=notice.study_instance_uid,
            )
        except NodeError as exc:
            # The refusal itself went to the sender; only its line is missing.
            logger.warning("event lost", extra={"error_type": notice.kind, "reason_code": exc.code})
        self.record(security_alert(notice))

    def _tell_floods(self, *, is_end: bool = False) -> None:
        for notice in self._allowance.due(monotonic(), is_end=is_end):
            self._tell(notice)
        for flood in self._failures.due(monotonic(), is_end=is_end):
            self._append(logins_failed(flood))

    def _run(self) -> None:
        while not self._ending.wait(SYNC_S):
            self._tell_floods()
            self._sync()
            self._tell_losses(monotonic())

    def _tell_losses(self, now_s: float) -> None:
        if not self._untold_losses or now_s - self._losses_told_s < LOSS_TOLD_S:
            return
        with self._counting:
            count, self._untold_losses = self._untold_losses, 0
        self._losses_told_s = now_s
        text = f"{count} times the audit trail could not be written; see to space and rights of its folder"
        try:
            self._ledger.record_event(at=self._clock(), kind=AUDIT_LOST, text=text)
        except NodeError as exc:
            logger.warning("event lost", extra={"error_type": AUDIT_LOST, "reason_code": exc.code})

    def _sync(self) -> None:
        try:
            if self._trail is not None:
                self._trail.sync()
        except AuditUnwritable as exc:
            with self._counting:
                self._untold_losses += 1
            logger.error("audit records not on disk", extra={"reason_code": exc.code})  # noqa: TRY400 the reason is the disk's
