"""The door's other side: takes Instances in from anybody, and leaves a line for a person where it refuses one."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from node.audit.events import Notice, Remote
from node.audit.transfer import Incoming
from node.audit.witness import Witness
from node.domain.recording import Recording
from node.domain.result import OWN_MANUFACTURER
from node.domain.study import Comparison, InstanceFacts, KnownInstance
from node.domain.uids import StudyUID, check_uid
from node.errors import Broken, IdentifierClash, NodeError, Rejected, StoreFull
from node.header.scan import Header
from node.intake.keeping import Kept, facts_of, place
from node.intake.ports import Arrival, IntakeLedger, IntakeTerms
from node.intake.reception import Reception
from node.store.port import Spool, Store

logger = logging.getLogger(__name__)

Compare = Callable[[str, str], str]
# Its row has stayed, and the later version lies in its place.
EARLIER_GONE = "cannot be compared with what came before, whose file is gone"


def tell_apart(_earlier_path: str, _path: str) -> str:
    """Take other bytes for another content."""
    return "has other content"


class Intake:
    """Takes Instances in, from any door.

    Parameters
    ----------
    clock
        Returns the time, in UTC.
    witness
        Is told of refusals and transfers; None: one without an audit trail.
    compare
        Returns in words how the version at the second path of the store differs from that at the first; empty where
        both say the same.
    """

    def __init__(
        self,
        *,
        store: Store,
        ledger: IntakeLedger,
        clock: Callable[[], datetime],
        terms: IntakeTerms,
        witness: Witness | None = None,
        compare: Compare = tell_apart,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._own_results = terms.own_results
        self.max_instance_bytes = terms.max_instance_bytes
        self._witness = witness or Witness(trail=None, ledger=ledger, clock=clock)
        self._compare = compare
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
        check_uid(arrival.sop_class_uid, keyword="AffectedSOPClassUID")
        check_uid(arrival.sop_instance_uid, keyword="AffectedSOPInstanceUID")
        return Reception(self, self._store.spool(), arrival, max_bytes=self.max_instance_bytes)

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
        try:
            reception = self.receive(arrival)
            try:
                reception.write((encoded,))
                return reception.finish()
            finally:
                reception.discard()
        except NodeError as exc:
            self.note_refused(arrival, exc)
            raise

    def association_ended(self, association_id: str) -> None:
        """Record that nothing more comes over this Association."""
        self._ledger.end_association(association_id, self._clock())

    def open_association(self, remote: Remote) -> Incoming:
        """Return what counts the Instances of one Association for the audit trail."""
        return Incoming(self._witness, remote)

    def note_refusal(self, notice: Notice) -> None:
        """Keep that something was refused before any Instance came."""
        self._witness.refused(notice)

    def take(self, spool: Spool, header: Header, arrival: Arrival, digest: str) -> InstanceFacts | None:
        """Return after the Instance in `spool` is durable and recorded, see `Reception.finish`."""
        if self._own_results == "drop" and header.attributes.get("Manufacturer") == OWN_MANUFACTURER:
            self._drop(header, arrival)
            return None
        known = self._ledger.find_known(header.place)
        kept = place(self._store, spool, header, digest)
        comparison = None if known is None else self._judge(kept, known)
        facts = facts_of(header, arrival, kept, self._clock(), comparison=comparison)
        # Where another receiver was faster since, the file stays: it may hold what a third has acknowledged. The
        # start-up scan sets it aside.
        recording = self._ledger.record_instance(facts)
        if recording is Recording.CHANGED or not kept.is_new:
            # Where a kill takes a row, the times of the files tell which version came last.
            self._store.renew(facts.path)
        self._is_full = False
        return facts

    def note_refused(self, arrival: Arrival, exc: NodeError) -> None:
        """Leave a line that a person may look for: the Instance of `arrival` was refused because of `exc`."""
        if isinstance(exc, (Rejected, Broken)):
            text = f"{exc.code} from {_shown(arrival.calling_aet)}: {exc}"
            peer, calling_aet = arrival.peer, arrival.calling_aet
            notice = Notice(kind="instance-refused", code=exc.code, text=text, peer=peer, calling_aet=calling_aet)
            if isinstance(exc, IdentifierClash) and exc.study_instance_uid is not None:
                # What else of its Study came is here, and seems to be all.
                notice = replace(notice, study_instance_uid=StudyUID(exc.study_instance_uid))
            self._witness.refused(notice)
        elif isinstance(exc, StoreFull):
            self._note_full(exc)

    def _judge(self, kept: Kept, known: KnownInstance) -> Comparison:
        """Return whether what was kept says what the version says that counts."""
        if kept.digest == known.digest:
            difference = ""
        elif kept.path == known.path:
            difference = EARLIER_GONE
        else:
            difference = self._compare(known.path, kept.path)
        return Comparison(says=kept.digest if difference else known.says, difference=difference)

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
