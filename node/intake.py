"""The first station: one Instance becomes durable bytes and a committed row, then its sender may forget it."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal, Protocol

from node.domain.recording import Recording
from node.domain.result import OWN_MANUFACTURER
from node.domain.study import InstanceFacts
from node.domain.uids import StudyUID, check_uid
from node.errors import IdentifierClash, NodeError, NotDicom, Rejected, StoreFull, UidMismatch
from node.header.part10 import file_meta, read_part10
from node.header.scan import Header, scan_data_set, scan_file
from node.store.paths import INSTANCES, instance_path
from node.store.port import Store

logger = logging.getLogger(__name__)

# Stands where an Association would, for Instances that a crash left without a row.
START_UP_SCAN = "start-up-scan"


class IntakeLedger(Protocol):
    """What intake asks of the ledger; each call is one committed transaction."""

    def record_instance(self, facts: InstanceFacts) -> Recording:
        """Commit one Instance whose bytes are durable, and open its Series and Study.

        NEW and CHANGED make `facts` the version that counts; SAME (equal `sha256`) changes nothing.
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

    def store_instance(self, encoded: bytes, arrival: Arrival) -> InstanceFacts | None:
        """Return after the bytes are on disk *and* the row is committed; the sender may then be told Success.

        The same content again is taken without writing anything. Other content under a known UID becomes a second
        file, and counts from the commit on; no reader ever sees a mixture.

        Parameters
        ----------
        encoded
            The data set exactly as received, without preamble and File Meta Information.

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
            If data set and `arrival` name another Instance or SOP Class.
        StoreFull
            If the store is below its reserve; nothing was kept.
        Transient
            If store or ledger failed; the sender should try again.
        """
        try:
            header = scan_data_set(encoded, transfer_syntax_uid=arrival.transfer_syntax_uid)
            _check_match(header, arrival)
            if self._is_unwanted(header):
                self._drop(header, arrival)
                return None
            facts = self._keep(encoded, header, arrival)
        except Rejected as exc:
            self._note("instance-refused", f"{exc.code} from {_shown(arrival.calling_aet)}: {exc}")
            raise
        except StoreFull as exc:
            self._note_full(exc)
            raise
        self._is_full = False
        self._wake_assembly()
        return facts

    def association_ended(self, association_id: str) -> None:
        """Commit that nothing more comes over this Association, and wake assembly."""
        self._ledger.end_association(association_id, self._clock())
        self._wake_assembly()

    def note_refusal(self, kind: str, text: str) -> None:
        """Commit a line about something that was refused before any Instance came."""
        self._note(kind, text)

    def start_up_scan(self) -> ScanOutcome:
        """Bring store and ledger together after a crash; call it before the first Instance is taken.

        A whole Instance without a row is adopted. A version beside the one that counts was never acknowledged, or is
        superseded, and is removed. What cannot be read is set aside. Temporary files of dead writers are removed.
        """
        adopted = set_aside = 0
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

    def _keep(self, encoded: bytes, header: Header, arrival: Arrival) -> InstanceFacts:
        digest = sha256(encoded).hexdigest()
        meta = file_meta(
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
        )
        path = self._write(header, digest, (meta, encoded))
        kept = _Kept(path=path, sha256=digest, size_bytes=len(meta) + len(encoded), moved_bytes=len(meta))
        facts = _facts(header, arrival, kept, self._clock())
        try:
            self._ledger.record_instance(facts)
        except IdentifierClash:
            # No row names this file, and none will.
            self._store.delete(path)
            raise
        return facts

    def _write(self, header: Header, digest: str, content: tuple[bytes, bytes]) -> str:
        # What has a name in the store is whole, and `add` never replaces: two senders of one UID cannot mix.
        uids = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
        plain = instance_path(*uids)
        if not self._store.exists(plain) and self._store.add(plain, content):
            return plain
        if self._holds(plain, digest):
            return plain
        version = instance_path(*uids, version_sha256=digest)
        if not self._store.exists(version):
            self._store.add(version, content)
        return version

    def _holds(self, path: str, digest: str) -> bool:
        content = self._store.read(path)
        try:
            begin = read_part10(content).data_set_offset
        except NotDicom:
            return False
        return sha256(content[begin:]).hexdigest() == digest

    def _oldest_first(self) -> list[str]:
        paths = self._store.list_paths(INSTANCES)
        return sorted(paths, key=lambda path: self._store.path(path).stat().st_mtime_ns)

    def _read_facts(self, path: str) -> InstanceFacts:
        content = self._store.read(path)
        header = scan_file(content)
        uids = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
        digest = sha256(content[header.data_set_offset :]).hexdigest()
        if path not in (instance_path(*uids), instance_path(*uids, version_sha256=digest)):
            raise UidMismatch(f"the file holds Instance {header.sop_instance_uid}, which its name does not say")
        kept = _Kept(path=path, sha256=digest, size_bytes=len(content), moved_bytes=0)
        return _facts(header, arrival_of_file(header, START_UP_SCAN), kept, self._clock())

    def _is_unwanted(self, header: Header) -> bool:
        return self._own_results == "drop" and header.attributes.get("Manufacturer") == OWN_MANUFACTURER

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


def arrival_of_file(header: Header, association_id: str) -> Arrival:
    """Return the Arrival of a file that nobody sent: it announces what it holds."""
    return Arrival(
        transfer_syntax_uid=header.transfer_syntax_uid,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        association_id=association_id,
        calling_aet="",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    path: str
    sha256: str
    size_bytes: int
    # How far the File Meta Information moved the data set from where it was scanned.
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
    check_uid(arrival.sop_class_uid, keyword="AffectedSOPClassUID")
    check_uid(arrival.sop_instance_uid, keyword="AffectedSOPInstanceUID")
    if announced != (header.sop_class_uid, header.sop_instance_uid):
        raise UidMismatch(
            f"Instance {header.sop_instance_uid} of SOP Class {header.sop_class_uid} was announced as "
            f"{arrival.sop_instance_uid} of {arrival.sop_class_uid}; correct the sender"
        )


def _shown(calling_aet: str) -> str:
    return calling_aet.encode("ascii", "backslashreplace").decode() or "an unnamed sender"
