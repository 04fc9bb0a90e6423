"""The registrar: one thread that commits what was received in groups, so that no sender waits for the ledger's disk."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Condition, Thread
from time import monotonic
from typing import Protocol

from node.domain.recording import Recording
from node.domain.study import InstanceFacts, KnownInstance, Place
from node.domain.uids import StudyUID
from node.errors import LedgerBusy, NodeError
from node.ledger.instances import require_same_series
from node.ledger.journal import Journal

logger = logging.getLogger(__name__)

# More Instances share a transaction that begins a moment later; no station is in a greater hurry.
GATHER_S = 0.1
MAX_GROUP = 500
# Rows that wait; beyond, or when the oldest is older, the ledger counts as stuck and senders are told A700.
MAX_WAITING = 5000
MAX_AGE_S = 30.0
RETRY_S = 1.0
# UIDs that are known without asking the ledger; far more than may lie between a look-up and a commit.
MAX_REMEMBERED = 20_000
MAX_UNKNOWN = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationEnd:
    """That nothing more comes over an Association."""

    association_id: str
    at: datetime


Entry = InstanceFacts | AssociationEnd


class Register(Protocol):
    """What the registrar asks of the ledger."""

    def record_arrivals(
        self, arrived: Sequence[InstanceFacts], ended: Sequence[tuple[str, datetime]]
    ) -> Sequence[InstanceFacts]:
        """Commit Instances and ends of Associations in one transaction; return the Instances whose UID is taken."""

    def known(self, sop_instance_uid: str) -> KnownInstance | None:
        """Return the version that counts, or None when the Instance is unknown."""

    def known_paths(self) -> Mapping[str, int]:
        """Return the store's path of every version that counts, with the size of its file in bytes."""

    def record_event(self, *, at: datetime, kind: str, text: str, study_instance_uid: StudyUID | None = None) -> None:
        """Commit one line that a person may look for."""

    def record_refusal(
        self, *, at: datetime, kind: str, text: str, code: str, count: int, study_instance_uid: StudyUID | None = None
    ) -> None:
        """Commit one line for so many refusals alike."""


class Registrar:
    """Takes what intake records, and commits it in order, many Instances in one transaction.

    What it has taken and not committed is lost by a kill; whoever adopts the files that `journal` names, or the
    start-up scan, makes the rows anew.

    Parameters
    ----------
    tell
        Called after each commit; must not block.
    journal
        Names what is taken and not committed.
    max_age_s
        When the oldest row has waited longer, nothing more is taken; seconds.
    """

    def __init__(
        self,
        register: Register,
        tell: Callable[[], None],
        journal: Journal | None = None,
        *,
        max_age_s: float = MAX_AGE_S,
    ) -> None:
        self._register = register
        self._tell = tell
        self._max_age_s = max_age_s
        self._journal = journal
        self._changed = Condition()
        self._waiting: list[Entry] = []
        # How often each SOP Instance UID waits.
        self._in_hand: Counter[str] = Counter()
        # Entries since the beginning.
        self._taken = 0
        self._done = 0
        self._oldest_s = 0.0
        self._remembered: OrderedDict[str, KnownInstance] = OrderedDict()
        # Nobody's a moment ago, when `find_known` asked.
        self._unknown: set[str] = set()
        self._in_a_hurry = False
        self._stopping = False
        self._thread = Thread(target=self._run, name="registrar", daemon=True)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def stop(self) -> None:
        """Return when everything was committed, or the ledger did not take it; the next start makes up for that."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def record_instance(self, facts: InstanceFacts) -> Recording:
        """Take one Instance whose bytes are durable; it is committed soon.

        Raises
        ------
        IdentifierClash
            If the UID belongs to an Instance of another Study or Series, committed or not.
        LedgerBusy
            If the ledger has taken nothing for long, or cannot be read.
        """
        uid = facts.sop_instance_uid
        mine = KnownInstance(*facts.place[:2], facts.digest, facts.says, facts.path)
        found = None if uid in self._remembered or uid in self._unknown else self._register.known(uid)
        with self._changed:
            self._require_room()
            self._unknown.discard(uid)
            known = self._remembered.get(uid) or found
            if known is not None:
                require_same_series(facts.place, known[:2])
            if self._journal is not None:
                self._journal.note(facts.path)
            self._remember(uid, mine)
            # Also when it is the same: another node on this ledger may have changed it since.
            self._queue(facts)
        if known is None:
            return Recording.NEW
        return Recording.SAME if known.digest == mine.digest else Recording.CHANGED

    def end_association(self, association_id: str, now: datetime) -> None:
        """Take note that nothing more comes over this Association; committed after its Instances."""
        with self._changed:
            self._queue(AssociationEnd(association_id=association_id, at=now))
            self._in_a_hurry = True
            self._changed.notify_all()

    def wait_committed(self, timeout_s: float) -> bool:
        """Return whether everything that was taken before is committed, after `timeout_s` at most; it is hurried."""
        with self._changed:
            taken = self._taken
            self._in_a_hurry = self._done < taken
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= taken, timeout_s)

    def find_known(self, place: Place) -> KnownInstance | None:
        """Return the version of an Instance that counts, committed or not, or None when it is unknown.

        Raises
        ------
        IdentifierClash
            When the SOP Instance UID belongs to another Study or Series.
        """
        with self._changed:
            # What is committed may have been replaced by another process since.
            waits = self._in_hand[place.sop_instance_uid] > 0
            known = self._remembered.get(place.sop_instance_uid) if waits else None
        known = known or self._register.known(place.sop_instance_uid)
        if known is not None:
            require_same_series(place, known[:2])
            return known
        with self._changed:
            if len(self._unknown) >= MAX_UNKNOWN:
                self._unknown.clear()
            self._unknown.add(place.sop_instance_uid)
        return None

    def known_digest(self, sop_instance_uid: str) -> str | None:
        """Return the digest of the version that counts, or None when the Instance is unknown."""
        known = self._known(sop_instance_uid)
        return None if known is None else known.digest

    def known_paths(self) -> Mapping[str, int]:
        """Return the store's path of every version that counts and is committed, with its size in bytes."""
        return self._register.known_paths()

    def record_event(self, *, at: datetime, kind: str, text: str, study_instance_uid: StudyUID | None = None) -> None:
        """Commit one line that a person may look for."""
        self._register.record_event(at=at, kind=kind, text=text, study_instance_uid=study_instance_uid)

    def record_refusal(
        self, *, at: datetime, kind: str, text: str, code: str, count: int, study_instance_uid: StudyUID | None = None
    ) -> None:
        """Commit one line for so many refusals alike."""
        self._register.record_refusal(
            at=at, kind=kind, text=text, code=code, count=count, study_instance_uid=study_instance_uid
        )

    def _known(self, sop_instance_uid: str) -> KnownInstance | None:
        with self._changed:
            known = self._remembered.get(sop_instance_uid)
        return known or self._register.known(sop_instance_uid)

    def _require_room(self) -> None:
        is_late = bool(self._waiting) and monotonic() - self._oldest_s > self._max_age_s
        if is_late or len(self._waiting) >= MAX_WAITING:
            raise LedgerBusy(
                f"{len(self._waiting)} rows wait for the ledger, which takes none; see its disk, or who locks it"
            )

    def _remember(self, uid: str, known: KnownInstance) -> None:
        self._remembered[uid] = known
        self._remembered.move_to_end(uid)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _queue(self, entry: Entry) -> None:
        if not self._waiting:
            self._oldest_s = monotonic()
            self._changed.notify_all()
        self._waiting.append(entry)
        self._in_hand.update(_uids_of((entry,)))
        self._taken += 1

    def _run(self) -> None:
        while True:
            group = self._next_group()
            if group is None:
                return
            if self._commit(group):
                with self._changed:
                    del self._waiting[: len(group)]
                    self._in_hand -= Counter(_uids_of(group))
                    self._done += len(group)
                    self._changed.notify_all()
                    self._oldest_s = monotonic()
                    if self._journal is not None:
                        self._journal.forget(sum(isinstance(entry, InstanceFacts) for entry in group))
                self._tell()
            elif self._pause():
                return

    def _next_group(self) -> Sequence[Entry] | None:
        """Return what is committed next, None when there is nothing and the end was asked for."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            self._changed.wait_for(
                lambda: self._in_a_hurry or self._stopping or len(self._waiting) >= MAX_GROUP, GATHER_S
            )
            self._in_a_hurry = False
            return tuple(self._waiting[:MAX_GROUP]) or None

    def _pause(self) -> bool:
        """Wait before the next attempt; return True when there will be none."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping, RETRY_S)

    def _commit(self, group: Sequence[Entry]) -> bool:
        """Return whether the group is done with; what the ledger refuses for good is left out, and told."""
        try:
            self._write(group)
        except NodeError as exc:
            logger.warning("ledger waits", extra={"reason_code": exc.code, "count": len(group)})
            return False
        except Exception as exc:  # the outer edge of the thread: without it, no row would be committed any more
            if len(group) > 1:
                return all(self._commit((entry,)) for entry in group)
            # Its file stays, and so does this line.
            logger.exception("row refused by the ledger", extra={"error_type": type(exc).__name__})
        return True

    def _write(self, group: Sequence[Entry]) -> None:
        arrived = [entry for entry in group if isinstance(entry, InstanceFacts)]
        ended = [(entry.association_id, entry.at) for entry in group if isinstance(entry, AssociationEnd)]
        for facts in self._register.record_arrivals(arrived, ended):
            self._tell_clash(facts)

    def _tell_clash(self, facts: InstanceFacts) -> None:
        # Another node on this ledger was faster. The file stays; the next start-up scan sets it aside.
        with self._changed:
            # What was taken since is judged by the ledger again.
            self._remembered.pop(facts.sop_instance_uid, None)
        text = f"{facts.sop_instance_uid} was acknowledged and belongs to another Series; its file is {facts.path}"
        self._register.record_event(at=facts.received_at, kind="instance-clash", text=text)


def _uids_of(entries: Iterable[Entry]) -> Iterator[str]:
    return (entry.sop_instance_uid for entry in entries if isinstance(entry, InstanceFacts))
