"""The door's other side: takes Instances in from anybody, and leaves a line for a person where it refuses one."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

from node.domain.result import OWN_MANUFACTURER
from node.domain.study import InstanceFacts
from node.domain.uids import StudyUID, check_uid
from node.errors import IdentifierClash, NodeError, Rejected, StoreFull
from node.header.scan import Header
from node.intake.keeping import facts_of, place
from node.intake.ports import Arrival, IntakeLedger
from node.intake.reception import Reception
from node.store.port import Spool, Store

logger = logging.getLogger(__name__)


class Intake:
    """Takes Instances in, from any door.

    Parameters
    ----------
    clock
        Returns the time, in UTC.
    own_results
        What becomes of objects that radnode wrote: ``store`` keeps them, ``drop`` only notes them.
    """

    def __init__(
        self,
        *,
        store: Store,
        ledger: IntakeLedger,
        clock: Callable[[], datetime],
        own_results: Literal["store", "drop"],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._own_results = own_results
        self._is_full = False

    def receive(self, arrival: Arrival) -> Reception:
        """Begin to receive an Instance, whatever its size; exactly one of its `finish` and `discard` must follow.

        Raises
        ------
        BadIdentifier
            If a UID of `arrival` is missing or malformed.
        StoreFull
            If the store is below its reserve.
        Transient
            If the store failed.
        """
        with self.telling(arrival):
            check_uid(arrival.sop_class_uid, keyword="AffectedSOPClassUID")
            check_uid(arrival.sop_instance_uid, keyword="AffectedSOPInstanceUID")
            return Reception(self, self._store.spool(), arrival)

    def store_instance(self, encoded: bytes, arrival: Arrival) -> InstanceFacts | None:
        """Return after a data set that is at hand as a whole was received, see `Reception.finish`.

        Parameters
        ----------
        encoded
            The data set exactly as received, without preamble and File Meta Information.

        Raises
        ------
        Rejected, Transient
            As `receive` and `Reception` do; nothing was kept.
        """
        reception = self.receive(arrival)
        try:
            reception.write((encoded,))
            return reception.finish()
        finally:
            reception.discard()

    def association_ended(self, association_id: str) -> None:
        """Record that nothing more comes over this Association."""
        self._ledger.end_association(association_id, self._clock())

    def note_refusal(self, kind: str, text: str) -> None:
        """Commit a line about something that was refused before any Instance came."""
        self._note(kind, text)

    def take(self, spool: Spool, header: Header, arrival: Arrival, digest: str) -> InstanceFacts | None:
        """Return after the Instance in `spool` is durable and recorded, see `Reception.finish`."""
        if self._own_results == "drop" and header.attributes.get("Manufacturer") == OWN_MANUFACTURER:
            self._drop(header, arrival)
            return None
        kept = place(self._store, spool, header, digest)
        facts = facts_of(header, arrival, kept, self._clock())
        try:
            self._ledger.record_instance(facts)
        except IdentifierClash:
            # No row names this file, and none will.
            self._store.delete(facts.path)
            raise
        self._is_full = False
        return facts

    @contextmanager
    def telling(self, arrival: Arrival) -> Iterator[None]:
        """Leave a line that a person may look for when the Instance is refused."""
        try:
            yield
        except Rejected as exc:
            self._note("instance-refused", f"{exc.code} from {_shown(arrival.calling_aet)}: {exc}")
            raise
        except StoreFull as exc:
            self._note_full(exc)
            raise

    def _drop(self, header: Header, arrival: Arrival) -> None:
        text = f"{header.sop_instance_uid} from {_shown(arrival.calling_aet)} is our own Result; security.own_results"
        self._note("own-result-dropped", text, header.study_instance_uid)

    def _note_full(self, exc: StoreFull) -> None:
        # Once, until an Instance fits again: a full volume must not fill the ledger too.
        if not self._is_full:
            self._is_full = True
            self._note("store-full", str(exc))

    def _note(self, kind: str, text: str, study_instance_uid: StudyUID | None = None) -> None:
        try:
            self._ledger.record_event(at=self._clock(), kind=kind, text=text, study_instance_uid=study_instance_uid)
        except NodeError as exc:
            # The refusal itself goes to the sender; only its line is missing.
            logger.warning("event lost", extra={"error_type": kind, "reason_code": exc.code})


def _shown(calling_aet: str) -> str:
    return calling_aet.encode("ascii", "backslashreplace").decode() or "an unnamed sender"
