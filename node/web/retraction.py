"""Results that a person takes back over HTTP: ordered in the ledger, told to the trail, written by a worker."""

import logging
from collections import Counter
from threading import Lock, Thread

from node.audit.events import StudySubject, results_retracted
from node.domain.retraction import REJECTION_TITLES, Retraction, RetractionOrder
from node.domain.uids import InstanceUID
from node.ledger.retractions import RetractionLedger
from node.web.services import Services
from node.workforce import spawn_worker

logger = logging.getLogger(__name__)


class Retractor:
    """Takes Results back; what tells the Destinations so is written in a process of its own.

    One such process runs at a time; what is ordered meanwhile is for the next one. When none can be started, the next
    worker that ends a Job does it.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ledger = RetractionLedger(services.engine)
        self._lock = Lock()
        self._is_running = self._is_asked = False

    def retract(self, sop_instance_uid: InstanceUID, order: RetractionOrder) -> Retraction:
        """Return after the Results of a Job are taken back; from then on none of them leaves.

        Raises
        ------
        NotFound
            If no such Result stands, it is a rejection note, or a struck finding is not among the Job's.
        """
        retraction = self._ledger.order_retraction(sop_instance_uid, order, now=self._services.clock())
        study = self._ledger.find_job(retraction).order.study_instance_uid
        subject = StudySubject(study_instance_uid=study, patient_id=self._services.view.patient_id(study))
        sop_classes = Counter(result.sop_class_uid for result in self._ledger.retracted_results(retraction))
        title = REJECTION_TITLES[order.reason]
        self._services.record(results_retracted(subject, sop_classes, account=order.ordered_by, title=title))
        self._ask_worker()
        return retraction

    def _ask_worker(self) -> None:
        with self._lock:
            self._is_asked = True
            if self._is_running:
                return
            self._is_running = True
        Thread(target=self._work, name="retraction", daemon=True).start()

    def _work(self) -> None:
        while self._is_wanted():
            code = spawn_worker(self._services.settings, ("retract",)).wait()
            if code:
                logger.error("retraction not written", extra={"exit_code": code})

    def _is_wanted(self) -> bool:
        with self._lock:
            self._is_running, self._is_asked = self._is_asked, False
            return self._is_running
