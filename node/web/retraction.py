"""Results that a person takes back: ordered in the ledger, told to the trail, told to others by a worker."""

import logging
from collections import Counter
from collections.abc import Callable
from threading import Lock, Thread

from node.audit.events import StudySubject, results_retracted
from node.audit.message import AuditEvent
from node.clock import Clock
from node.domain.retraction import REJECTION_TITLES, Retraction, RetractionOrder
from node.domain.uids import InstanceUID
from node.ledger.retractions import RetractionLedger
from node.ledger.views import LedgerView
from node.settings.whole import Settings
from node.workforce import spawn_worker

logger = logging.getLogger(__name__)


class Retractor:
    """Takes Results back; what tells the Destinations so is written in a process of its own.

    One such process runs at a time, and one waits: it does all that is ordered until it begins. When none can be
    started, the next worker that ends a Job does it.

    Parameters
    ----------
    record
        Adds one record to the audit trail.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: RetractionLedger,
        view: LedgerView,
        *,
        record: Callable[[AuditEvent], None],
        clock: Clock,
    ) -> None:
        self._settings, self._ledger, self._view, self._record, self._clock = settings, ledger, view, record, clock
        self._lock, self._turn = Lock(), Lock()
        self._is_asked = False

    def retract(self, sop_instance_uid: InstanceUID, order: RetractionOrder) -> Retraction:
        """Return after the Results of a Job are taken back, and somebody is asked to tell others; raises as `order`."""
        retraction = self.order(sop_instance_uid, order)
        try:
            self.tell(retraction)
        finally:
            self._ask_worker()
        return retraction

    def order(self, sop_instance_uid: InstanceUID, order: RetractionOrder) -> Retraction:
        """Return after the Results of a Job are taken back; from then on none of them leaves.

        Raises
        ------
        NotFound
            If no such Result stands, it is a rejection note, or a struck finding is not among the Job's.
        RequestMalformed
            If the comment cannot be kept.
        """
        order.check()
        return self._ledger.order_retraction(sop_instance_uid, order, now=self._clock())

    def tell(self, retraction: Retraction) -> None:
        """Add to the audit trail who took back what; raises as `record` does."""
        order = retraction.order
        study = self._ledger.find_job(retraction).order.study_instance_uid
        subject = StudySubject(study_instance_uid=study, patient_id=self._view.patient_id(study))
        sop_classes = Counter(result.sop_class_uid for result in self._ledger.retracted_results(retraction))
        title = REJECTION_TITLES[order.reason]
        self._record(results_retracted(subject, sop_classes, account=order.ordered_by, title=title))

    def write(self) -> int:
        """Return the exit code of a process that writes what tells others of all orders, once it has ended.

        Raises
        ------
        OSError
            If none can be started.
        """
        return spawn_worker(self._settings, ("retract",)).wait()

    def _ask_worker(self) -> None:
        with self._lock:
            if self._is_asked:
                return
            self._is_asked = True
        try:
            Thread(target=self._work, name="retraction", daemon=True).start()
        except RuntimeError as exc:
            self._is_asked = False
            logger.error("retraction not written", extra={"error_type": type(exc).__name__})  # noqa: TRY400

    def _work(self) -> None:
        with self._turn:
            # What is ordered from here on may come too late for this process.
            self._is_asked = False
            try:
                code = self.write()
            except OSError as exc:
                logger.error("retraction not written", extra={"error_type": type(exc).__name__})  # noqa: TRY400
                return
        if code:
            logger.error("retraction not written", extra={"exit_code": code})
