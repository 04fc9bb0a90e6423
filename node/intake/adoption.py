"""What becomes of files that a crash has left: they get the rows, or the names, that their writers owed them."""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from node.audit.events import version_deleted
from node.audit.transfer import Teller
from node.domain.study import InstanceFacts
from node.errors import NotDicom, Rejected, Transient, UidMismatch
from node.header.part10 import read_part10
from node.header.scan import Header, scan_file
from node.intake.keeping import Kept, digest_of, facts_of, place
from node.intake.ports import Arrival, IntakeLedger
from node.store.paths import INSTANCES, instance_path
from node.store.port import Spool, Store

logger = logging.getLogger(__name__)

# What a process that died was writing is older by the time the next one looks; what others write is locked by then.
LEFTOVER_AGE_S = 0.5
# Stands where an Association would.
START_UP_SCAN = "start-up-scan"


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
        Files in the store that nobody can read; where the disk fails, the file stays.
    """

    adopted: int
    removed: int
    set_aside: int


class Adoption:
    """Brings store and ledger together after a crash.

    Parameters
    ----------
    ledger
        Commits before it returns.
    clock
        Returns the time, in UTC.
    teller
        Is told what was removed for good; None: one without an audit trail.
    """

    def __init__(
        self,
        *,
        store: Store,
        ledger: IntakeLedger,
        clock: Callable[[], datetime],
        teller: Teller | None = None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._teller = teller

    def scan(self) -> ScanOutcome:
        """Look at the whole store; no receiver of this node may be at work, those of others and workers may.

        A whole Instance without a row is adopted, also when the loss of power took its name and left the temporary
        one, and so is a version that came after the one that counts; one that came before it is superseded, and is
        removed. What cannot be read is set aside. Temporary files of dead writers are removed.
        """
        for leftover in self._store.leftovers(min_age_s=LEFTOVER_AGE_S):
            self._finish(leftover)
        removed = self._store.sweep(min_age_s=LEFTOVER_AGE_S)
        adopted = set_aside = 0
        known = self._ledger.known_paths()
        for path in filter(self._store.exists, self._oldest_first()):
            if path in known:
                # The loss of power may have cut it, where nobody waited for the disk (`store.durability`).
                set_aside += self._set_aside_cut(path, known[path])
                continue
            facts = self._read(path)
            if facts is not None and not self._is_latest(facts):
                self._remove(facts)
                removed += 1
            elif facts is not None and self._record(facts):
                adopted += 1
            else:
                set_aside += 1
        if adopted:
            self._ledger.end_association(START_UP_SCAN, self._clock())
        logger.info("store scanned", extra={"adopted": adopted, "removed": removed, "count": set_aside})
        return ScanOutcome(adopted=adopted, removed=removed, set_aside=set_aside)

    def adopt(self, paths: Iterable[str]) -> int:
        """Record what lies at `paths`, in this order, and return how many there were; others may be at work.

        What has its row already, or came before the version that has one, changes nothing.
        """
        found = [self._read(path) for path in dict.fromkeys(paths) if self._store.exists(path)]
        count = sum(self._record(facts) for facts in found if facts is not None and self._is_latest(facts))
        if count:
            self._ledger.end_association(START_UP_SCAN, self._clock())
        return count

    def _set_aside_cut(self, path: str, size_bytes: int) -> bool:
        found_bytes = self._store.path(path).stat().st_size
        if found_bytes == size_bytes:
            return False
        # Its row stays: the Instance sent again takes the place.
        self._set_aside(path, NotDicom(f"{found_bytes} bytes where {size_bytes} were acknowledged; send it again"))
        return True

    def _remove(self, facts: InstanceFacts) -> None:
        self._store.delete(facts.path)
        if self._teller is not None:
            self._teller.record(version_deleted(facts))

    def _finish(self, leftover: Spool) -> None:
        """Give a whole Instance whose name was lost its name again; `sweep` removes the others."""
        try:
            with leftover.view() as content:
                header = scan_file(content)
                digest = digest_of(content, header.data_set_offset)
            place(self._store, leftover, header, digest)
        except Rejected:
            # Cut: nobody was told Success for it.
            logger.info("half an instance removed")
        finally:
            leftover.discard()

    def _is_latest(self, facts: InstanceFacts) -> bool:
        """Return whether no version that came after this one counts."""
        digest = self._ledger.known_digest(facts.sop_instance_uid)
        if digest is None:
            return True
        uids = facts.place
        # It has the plain name only if there is none that its digest gave it.
        names = (instance_path(*uids, version_digest=digest), instance_path(*uids))
        counting = next(filter(self._store.exists, names), facts.path)
        return counting == facts.path or self._written_ns(counting) < self._written_ns(facts.path)

    def _oldest_first(self) -> list[str]:
        written_ns: dict[str, int] = {}
        for path in self._store.list_paths(INSTANCES):
            # Another node on this store may take one away meanwhile.
            with suppress(FileNotFoundError):
                written_ns[path] = self._written_ns(path)
        return sorted(written_ns, key=lambda path: written_ns[path])

    def _written_ns(self, path: str) -> int:
        return self._store.path(path).stat().st_mtime_ns

    def _read(self, path: str) -> InstanceFacts | None:
        """Return what the file says; None where nobody can read it: it was set aside, or the disk fails there."""
        try:
            return self._facts(path)
        except Rejected as exc:
            self._set_aside(path, exc)
        except Transient as exc:
            # It stays for the next scan: the rest of the store must not wait for one bad place of a disk.
            self._tell(kind="file-passed-over", text=f"{path} was passed over ({exc.code}): {exc}")
        return None

    def _record(self, facts: InstanceFacts) -> bool:
        """Return whether the ledger took the Instance; its file is set aside where its UID is somebody else's."""
        try:
            self._ledger.record_instance(facts)
        except Rejected as exc:
            self._set_aside(facts.path, exc)
            return False
        return True

    def _set_aside(self, path: str, exc: Rejected) -> None:
        self._store.set_aside(path)
        self._tell(kind="file-set-aside", text=f"{path} cannot be taken ({exc.code}): {exc}")

    def _tell(self, *, kind: str, text: str) -> None:
        self._ledger.record_event(at=self._clock(), kind=kind, text=text)

    def _facts(self, path: str) -> InstanceFacts:
        with self._store.view(path) as content:
            header, calling_aet, size_bytes = scan_file(content), read_part10(content).sending_aet, len(content)
            digest = digest_of(content, header.data_set_offset)
        uids = header.place
        if path not in (instance_path(*uids), instance_path(*uids, version_digest=digest)):
            raise UidMismatch(f"the file holds Instance {header.sop_instance_uid}, which its name does not say")
        kept = Kept(path=path, digest=digest, size_bytes=size_bytes)
        return facts_of(header, arrival_of_file(header, START_UP_SCAN, calling_aet), kept, self._clock())


def arrival_of_file(header: Header, association_id: str, calling_aet: str = "") -> Arrival:
    """Return the Arrival of a file that nobody sends now: it announces what it holds."""
    return Arrival(
        transfer_syntax_uid=header.transfer_syntax_uid,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        association_id=association_id,
        calling_aet=calling_aet,
    )
