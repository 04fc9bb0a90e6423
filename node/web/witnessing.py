"""Who looked at whose data: one record of the audit trail a visitor, Study and some minutes; no answer waits for it."""

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic

from fastapi import Request

from node.audit.access import (
    instance_left_out,
    studies_searched,
    study_retrieved,
    study_viewed,
    table_exported,
    workitems_searched,
)
from node.audit.events import StudySubject
from node.audit.message import AuditEvent
from node.domain.uids import StudyUID, check_uid
from node.errors import Broken, NodeError
from node.web.rights import Visitor

logger = logging.getLogger(__name__)

# A viewer asks for a thousand Frames, a page for itself every few seconds: what is told once is told for so long.
SPAN_S = 600.0
# What is remembered; with more, everything is told again.
MAX_REMEMBERED = 50_000
# What waits to be told; beyond, whoever looks waits, too, for nothing may be lost.
MAX_WAITING = 10_000
# Makes a record, in the thread that writes them.
Telling = Callable[[], AuditEvent]


class Witnessing:
    """Sees who asks for what.

    Parameters
    ----------
    record
        Adds one record to the trail; raises nothing.
    find_patient_id
        Returns the Patient ID (0010,0020) of a Study, empty where nobody knows it.
    now_s
        Returns seconds on a clock that never goes back.
    """

    def __init__(
        self,
        record: Callable[[AuditEvent], None],
        find_patient_id: Callable[[StudyUID], str],
        *,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._record = record
        self._find_patient_id = find_patient_id
        self._now_s = now_s
        self._lock = Lock()
        self._told_s: dict[Hashable, float] = {}
        self._waiting: SimpleQueue[Telling | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="witnessing", daemon=True)

    def start(self) -> None:
        """Begin to write records."""
        self._thread.start()

    def stop(self) -> None:
        """Return after everything that was seen is recorded."""
        self._waiting.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def saw(self, request: Request, visitor: Visitor, study_instance_uid: str) -> None:
        """Take note that `visitor` looks at pictures, headers or findings of a Study; call it before they are sent.

        Raises
        ------
        BadIdentifier
            If it is no UID: there is no such Study to be seen.
        """
        name, address, uid = visitor.name, _address(request, visitor), _checked(study_instance_uid)
        if self._is_news(("viewed", name, address, uid)):
            self._tell(lambda: study_viewed(self._subject(uid), name=name, address=address))

    def saw_each(self, request: Request, visitor: Visitor, study_instance_uids: Iterable[str]) -> None:
        """Take note that `visitor` looks at these Studies, as `saw` does for one."""
        for uid in dict.fromkeys(study_instance_uids):
            self.saw(request, visitor, uid)

    def exported(self, request: Request, visitor: Visitor, table: str, *, rows: int) -> None:
        """Take note that `visitor` took a table of so many rows away; each time it is a record of its own."""
        name, address = visitor.name, _address(request, visitor)
        self._tell(lambda: table_exported(table, rows=rows, name=name, address=address))

    def retrieved(
        self, request: Request, visitor: Visitor, study_instance_uid: str, sop_classes: Mapping[str, int]
    ) -> None:
        """Take note that `visitor` takes Instances of a Study away, or Frames or bulk data of them.

        Parameters
        ----------
        sop_classes
            SOP Class UID to number of Instances that this request asks for.

        Raises
        ------
        BadIdentifier
            If it is no UID.
        """
        name, address, uid = visitor.name, _address(request, visitor), _checked(study_instance_uid)
        if self._is_news(("retrieved", name, address, uid)):
            self._tell(lambda: study_retrieved(self._subject(uid), sop_classes, name=name, address=address))

    def left_out(self, request: Request, visitor: Visitor, study_instance_uid: str, sop_instance_uid: str) -> None:
        """Take note that `visitor` does not get an Instance of a Study, because it cannot be read.

        Raises
        ------
        BadIdentifier
            If what names the Study is no UID.
        """
        name, address, uid = visitor.name, _address(request, visitor), _checked(study_instance_uid)
        if self._is_news(("left out", name, address, sop_instance_uid)):
            self._tell(lambda: instance_left_out(self._subject(uid), sop_instance_uid, name=name, address=address))

    def searched(self, request: Request, visitor: Visitor, attributes: Sequence[str]) -> None:
        """Take note that `visitor` searches by these attributes, keywords without their values."""
        name, address, asked = visitor.name, _address(request, visitor), tuple(sorted(attributes))
        if self._is_news(("searched", name, address, asked)):
            self._tell(lambda: studies_searched(asked, name=name, address=address))

    def searched_workitems(self, request: Request, visitor: Visitor, attributes: Sequence[str]) -> None:
        """Take note that `visitor` looks for workitems by these attributes, tags without their values, or at one."""
        name, address, asked = visitor.name, _address(request, visitor), tuple(attributes)
        if self._is_news(("workitems", name, address, asked)):
            self._tell(lambda: workitems_searched(asked, name=name, address=address))

    def _is_news(self, key: Hashable) -> bool:
        now_s = self._now_s()
        with self._lock:
            if now_s - self._told_s.get(key, -SPAN_S) < SPAN_S:
                return False
            if len(self._told_s) >= MAX_REMEMBERED:
                self._told_s = {old: at_s for old, at_s in self._told_s.items() if now_s - at_s < SPAN_S}
            if len(self._told_s) >= MAX_REMEMBERED:
                self._told_s.clear()
            self._told_s[key] = now_s
            return True

    def _tell(self, telling: Telling) -> None:
        if self._waiting.qsize() < MAX_WAITING:
            self._waiting.put(telling)
        else:
            self._write(telling)

    def _subject(self, study_instance_uid: str) -> StudySubject:
        uid = StudyUID(study_instance_uid)
        try:
            patient_id = self._find_patient_id(uid)
        except NodeError as exc:
            # The Study is told, and names the patient to whoever has the archive.
            logger.warning("patient not found for a record", extra={"reason_code": exc.code})
            patient_id = ""
        except Exception:  # the outer edge of the thread: without a Patient ID the view is told, too
            logger.exception("patient not found for a record", extra={"reason_code": Broken.code})
            patient_id = ""
        return StudySubject(study_instance_uid=uid, patient_id=patient_id)

    def _run(self) -> None:
        while (telling := self._waiting.get()) is not None:
            self._write(telling)

    def _write(self, telling: Telling) -> None:
        try:
            self._record(telling())
        except Exception:  # the outer edge of the thread: what cannot be told must not end what comes after it
            logger.exception("audit record lost", extra={"reason_code": Broken.code})


def _checked(study_instance_uid: str) -> str:
    return check_uid(study_instance_uid, keyword="StudyInstanceUID")


def _address(request: Request, visitor: Visitor) -> str:
    return visitor.address or (request.client.host if request.client else "")
