"""The first station: one Instance becomes durable bytes and a row, then its sender may forget it."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal, Protocol

from node.domain.recording import Recording
from node.domain.result import OWN_MANUFACTURER
from node.domain.study import InstanceFacts
from node.domain.uids import StudyUID, check_uid
from node.errors import IdentifierClash, NodeError, NotDicom, Rejected, StoreFull, UidMismatch
from node.header.elements import Encoded
from node.header.part10 import file_meta, read_part10
from node.header.scan import Header, scan_data_set, scan_file
from node.store.paths import INSTANCES, instance_path
from node.store.port import Spool, Store

logger = logging.getLogger(__name__)

# Stands where an Association would, for Instances that a crash left without a row.
START_UP_SCAN = "start-up-scan"
DIGEST_CHUNK_BYTES = 1024 * 1024


class IntakeLedger(Protocol):
    """What intake asks of the ledger.

    What is recorded is committed when the call returns, or soon after and in the order of the calls: a row that is
    lost by then is made anew by the start-up scan, which adopts the file.
    """

    def record_instance(self, facts: InstanceFacts) -> Recording:
        """Record one Instance whose bytes are durable, and open its Series and Study.

        NEW and CHANGED make `facts` the version that counts; SAME (equal `sha256`) changes nothing.

        Raises
        ------
        IdentifierClash
            If the UID belongs to an Instance of another Study or Series.
        LedgerBusy
            If it cannot be recorded now, nor is it clear that it soon will be.
        """

    def known_sha256(self, sop_instance_uid: str) -> str | None:
        """Return the digest of the version that counts, or None when the Instance is unknown."""

    def known_paths(self) -> Iterable[str]:
        """Return the store's path of every version that counts."""

    def end_association(self, association_id: str, now: datetime) -> None:
        """Note that nothing more comes over this Association."""

    def record_event(self, *, at: datetime, kind: str, text: str, study_instance_uid: StudyUID | None = None) -> None:
        """Commit one line that a person may look for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How an Instance came: what its sender announced, and who that was.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid
        Affected SOP Class UID (0000,0002) and Affected SOP Instance UID (0000,1000), or what stands for them.
    association_id
        Which Association or request brought it.
    """

    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    association_id: str
    calling_aet: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOutcome:
    """What the start-up scan did.

    Attributes
    ----------
    adopted
        Whole Instances without a row that were recorded.
    removed
        Temporary files and versions that do not count.
    set_aside
        Files in the store that nobody can read.
    """

    adopted: int
    removed: int
    set_aside: int


class Intake:
    """Takes Instances in, from any door.

    Parameters
    ----------
    clock
        Returns the time, in UTC.
    wake_assembly
        Called after each commit and at the end of each Association; must not block.
    own_results
        What becomes of objects that radnode wrote: ``store`` keeps them, ``drop`` only notes them.
    """

    def __init__(
        self,
        *,
        store: Store,
        ledger: IntakeLedger,
        clock: Callable[[], datetime],
        wake_assembly: Callable[[], None],
        own_results: Literal["store", "drop"],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._wake_assembly = wake_assembly
        self._own_results = own_results
        self._is_full = False

    def receive(self, arrival: Arrival) -> "Reception":
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
        with self._telling(arrival):
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
        """Commit that nothing more comes over this Association, and wake assembly."""
        self._ledger.end_association(association_id, self._clock())
        self._wake_assembly()

    def note_refusal(self, kind: str, text: str) -> None:
        """Commit a line about something that was refused before any Instance came."""
        self._note(kind, text)

    def start_up_scan(self) -> ScanOutcome:
        """Bring store and ledger together after a crash; call it before the first Instance is taken.

        A whole Instance without a row is adopted, also when the loss of power took its name and left the temporary
        one. A version beside the one that counts was never acknowledged, or is
        superseded, and is removed. What cannot be read is set aside. Temporary files of dead writers are removed.
        """
        adopted = set_aside = 0
        for leftover in self._store.leftovers():
            self._finish_leftover(leftover)
        removed = self._store.sweep()
        known = frozenset(self._ledger.known_paths())
        mine: set[str] = set()
        for path in self._oldest_first():
            if path in known:
                continue
            try:
                facts = self._read_facts(path)
                # Of two versions that are both unknown (a lost ledger) the younger counts.
                if facts.sop_instance_uid in mine or self._ledger.known_sha256(facts.sop_instance_uid) is None:
                    self._ledger.record_instance(facts)
                    mine.add(facts.sop_instance_uid)
                    adopted += 1
                else:
                    self._store.delete(path)
                    removed += 1
            except Rejected as exc:
                self._store.set_aside(path)
                self._note("file-set-aside", f"{path} has no row and cannot be taken ({exc.code}): {exc}")
                set_aside += 1
        if adopted:
            self.association_ended(START_UP_SCAN)
        logger.info("store scanned", extra={"adopted": adopted, "removed": removed, "count": set_aside})
        return ScanOutcome(adopted=adopted, removed=removed, set_aside=set_aside)

    def _finish(self, spool: Spool, arrival: Arrival, digest: str, offset: int) -> InstanceFacts | None:
        """Return after the Instance in `spool` is durable and recorded; its data set begins at byte `offset`."""
        with self._telling(arrival):
            spool.begin_sync()
            with spool.view() as content:
                header = scan_data_set(content, transfer_syntax_uid=arrival.transfer_syntax_uid, start=offset)
            _check_match(header, arrival)
            if self._is_unwanted(header):
                self._drop(header, arrival)
                return None
            kept = self._place(spool, header, digest)
            facts = _facts(header, arrival, kept, self._clock())
            self._record(facts)
        self._is_full = False
        self._wake_assembly()
        return facts

    def _record(self, facts: InstanceFacts) -> None:
        try:
            self._ledger.record_instance(facts)
        except IdentifierClash:
            # No row names this file, and none will.
            self._store.delete(facts.path)
            raise

    def _place(self, spool: Spool, header: Header, digest: str) -> "_Kept":
        # What has a name in the store is whole, and `keep` never replaces: two senders of one UID cannot mix.
        uids = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
        size_bytes, plain = spool.size_bytes, instance_path(*uids)
        if not self._store.exists(plain) and spool.keep(plain):
            return _Kept(path=plain, sha256=digest, size_bytes=size_bytes, moved_bytes=0)
        found = self._held(plain, digest, header.data_set_offset)
        if found is not None:
            return found
        version = instance_path(*uids, version_sha256=digest)
        if not self._store.exists(version) and spool.keep(version):
            return _Kept(path=version, sha256=digest, size_bytes=size_bytes, moved_bytes=0)
        return self._held(version, digest, header.data_set_offset) or _Kept(
            path=version, sha256=digest, size_bytes=size_bytes, moved_bytes=0
        )

    def _held(self, path: str, digest: str, scanned_offset: int) -> "_Kept | None":
        """Return how the file at `path` keeps the content, None when it holds another."""
        try:
            with self._store.view(path) as content:
                begin, size_bytes = read_part10(content).data_set_offset, len(content)
                if _digest(content, begin) != digest:
                    return None
        except NotDicom:
            return None
        return _Kept(path=path, sha256=digest, size_bytes=size_bytes, moved_bytes=begin - scanned_offset)

    def _finish_leftover(self, spool: Spool) -> None:
        """Give a whole Instance whose name was lost its name again; `sweep` removes the others."""
        try:
            with spool.view() as content:
                header = scan_file(content)
                digest = _digest(content, header.data_set_offset)
            self._place(spool, header, digest)
        except Rejected:
            # Cut: nobody was told Success for it.
            logger.info("half an instance removed")
        finally:
            spool.discard()

    def _oldest_first(self) -> list[str]:
        paths = self._store.list_paths(INSTANCES)
        return sorted(paths, key=lambda path: self._store.path(path).stat().st_mtime_ns)

    def _read_facts(self, path: str) -> InstanceFacts:
        with self._store.view(path) as content:
            header, calling_aet, size_bytes = scan_file(content), read_part10(content).sending_aet, len(content)
            digest = _digest(content, header.data_set_offset)
        uids = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
        if path not in (instance_path(*uids), instance_path(*uids, version_sha256=digest)):
            raise UidMismatch(f"the file holds Instance {header.sop_instance_uid}, which its name does not say")
        kept = _Kept(path=path, sha256=digest, size_bytes=size_bytes, moved_bytes=0)
        return _facts(header, arrival_of_file(header, START_UP_SCAN, calling_aet), kept, self._clock())

    def _is_unwanted(self, header: Header) -> bool:
        return self._own_results == "drop" and header.attributes.get("Manufacturer") == OWN_MANUFACTURER

    def _drop(self, header: Header, arrival: Arrival) -> None:
        text = f"{header.sop_instance_uid} from {_shown(arrival.calling_aet)} is our own Result; security.own_results"
        self._note("own-result-dropped", text, header.study_instance_uid)

    @contextmanager
    def _telling(self, arrival: Arrival) -> Iterator[None]:
        """Leave a line that a person may look for when the Instance is refused."""
        try:
            yield
        except Rejected as exc:
            self._note("instance-refused", f"{exc.code} from {_shown(arrival.calling_aet)}: {exc}")
            raise
        except StoreFull as exc:
            self._note_full(exc)
            raise

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


class Reception:
    """One Instance on its way in, never held as a whole in memory."""

    def __init__(self, intake: Intake, spool: Spool, arrival: Arrival) -> None:
        self._intake = intake
        self._spool = spool
        self._arrival = arrival
        self._digest = sha256()
        meta = file_meta(
            sop_class_uid=arrival.sop_class_uid,
            sop_instance_uid=arrival.sop_instance_uid,
            transfer_syntax_uid=arrival.transfer_syntax_uid,
            sending_aet=arrival.calling_aet,
        )
        self._offset = len(meta)
        spool.write((meta,))

    def write(self, fragments: Sequence[bytes | memoryview]) -> None:
        """Append the next bytes of the data set.

        Raises
        ------
        StoreFull
            If the store fell below its reserve, or became full.
        Transient
            If the store failed.
        """
        with self._intake._telling(self._arrival):
            for fragment in fragments:
                self._digest.update(fragment)
            self._spool.write(fragments)

    def finish(self) -> InstanceFacts | None:
        """Return after the bytes are durable *and* recorded; the sender may then be told Success.

        The same content again is taken without keeping anything. Other content under a known UID becomes a second
        file, and counts from now on; no reader ever sees a mixture.

        Returns
        -------
        facts
            None when the object is our own Result and settings drop those.

        Raises
        ------
        NotDicom
            If the data set is cut, damaged or none.
        BadIdentifier
            If a UID is missing or malformed.
        UidMismatch
            If data set and announcement name another Instance or SOP Class.
        IdentifierClash
            If the UID belongs to an Instance of another Series.
        StoreFull
            If the store is full; nothing was kept.
        Transient
            If store or ledger failed; the sender should try again.
        """
        try:
            return self._intake._finish(self._spool, self._arrival, self._digest.hexdigest(), self._offset)
        finally:
            self.discard()

    def discard(self) -> None:
        """Forget what came; nothing happens after `finish`."""
        self._spool.discard()


def arrival_of_file(header: Header, association_id: str, calling_aet: str = "") -> Arrival:
    """Return the Arrival of a file that nobody sends now: it announces what it holds."""
    return Arrival(
        transfer_syntax_uid=header.transfer_syntax_uid,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        association_id=association_id,
        calling_aet=calling_aet,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    path: str
    sha256: str
    size_bytes: int
    # How far the data set lies from where it was scanned: the file that holds it may have come from somebody else.
    moved_bytes: int


def _facts(header: Header, arrival: Arrival, kept: _Kept, now: datetime) -> InstanceFacts:
    offset = header.pixel_data_offset
    return InstanceFacts(
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        attributes=header.attributes,
        path=kept.path,
        size_bytes=kept.size_bytes,
        sha256=kept.sha256,
        pixel_data_offset=None if offset is None else offset + kept.moved_bytes,
        association_id=arrival.association_id,
        calling_aet=arrival.calling_aet,
        received_at=now,
    )


def _check_match(header: Header, arrival: Arrival) -> None:
    announced = (arrival.sop_class_uid, arrival.sop_instance_uid)
    if announced != (header.sop_class_uid, header.sop_instance_uid):
        raise UidMismatch(
            f"Instance {header.sop_instance_uid} of SOP Class {header.sop_class_uid} was announced as "
            f"{arrival.sop_instance_uid} of {arrival.sop_class_uid}; correct the sender"
        )


def _shown(calling_aet: str) -> str:
    return calling_aet.encode("ascii", "backslashreplace").decode() or "an unnamed sender"


def _digest(content: Encoded, begin: int) -> str:
    digest = sha256()
    for at in range(begin, len(content), DIGEST_CHUNK_BYTES):
        digest.update(content[at : at + DIGEST_CHUNK_BYTES])
    return digest.hexdigest()
