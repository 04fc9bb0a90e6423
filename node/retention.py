"""Station 7: Studies that nobody needs any more go, first their rows, then their files."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from node.audit.erasure import study_purged
from node.audit.message import AuditEvent
from node.domain.retention import Candidate, Proof, Purge, PurgeOrder
from node.domain.uids import StudyUID
from node.errors import WrongState
from node.store.paths import INSTANCES, RESULTS

logger = logging.getLogger(__name__)

# How often somebody looks whether a Study may go, and how full the volume is.
PERIOD = timedelta(seconds=60)
CROWDED_PERIOD = timedelta(seconds=5)
# From the step that takes files out of the way to the one that removes them: in between a sender may show up who was
# told Success for one of them.
GRACE = timedelta(seconds=10)
GOING_PERIOD = timedelta(seconds=2)
# An Instance that came, or came again, so short a time ago has a sender who may be at it still.
QUIET = timedelta(minutes=10)
# Studies that go at once.
LIMIT = 100
BY_AGE, BY_SPACE = "its time is over", "the store is full"
CROWDED, ROOMY = "store-crowded", "store-roomy"
PURGED_BY = "radnode"


class RetentionLedger(Protocol):
    """What the station asks of the ledger."""

    def candidates(
        self, proof: Proof, *, before: datetime, results_before: datetime, limit: int
    ) -> tuple[Candidate, ...]:
        """Return Studies that may go and to which nothing happened since `before`, the oldest first."""

    def obstacles(self, study_instance_uid: StudyUID, proof: Proof, *, is_forced: bool = False) -> tuple[str, ...]:
        """Return in words what keeps a Study."""

    def count_obstacles(self, proof: Proof) -> Mapping[str, int]:
        """Return in words what keeps Studies, and how many."""

    def begin_purge(self, order: PurgeOrder, proof: Proof, *, now: datetime) -> Purge:
        """Commit that a Study goes; WrongState if something keeps it."""

    def pending_purges(self) -> tuple[Purge, ...]:
        """Return the Studies whose files are going."""

    def has_instances(self, study_instance_uid: StudyUID) -> bool:
        """Return whether any Instance of the Study has a row."""

    def finish_purge(self, purge: Purge, *, now: datetime) -> None:
        """Commit that the files are gone."""

    def undo_purge(self, purge: Purge, *, now: datetime) -> None:
        """Commit that the files are back."""

    def record_event(self, *, kind: str, text: str, now: datetime, is_alarm: bool = False) -> None:
        """Commit a line for whoever looks, or that a person must act on."""


class Trash(Protocol):
    """What the station asks of the store."""

    def throw(self, batch: str, folder: str) -> None:
        """Move `folder` into `batch` in one step."""

    def youngest_at(self, batch: str, folder: str) -> float | None:
        """Return when the youngest file of `folder` in `batch` was written, seconds since 1970."""

    def written_at(self, folder: str) -> float | None:
        """Return when the youngest file of `folder`, which is in place, was written."""

    def restore(self, batch: str) -> tuple[str, ...]:
        """Put everything in `batch` back and return its paths, oldest first."""

    def empty(self, batch: str) -> None:
        """Remove `batch` for good."""

    def batches(self) -> tuple[str, ...]:
        """Return the names of all batches."""

    def use_of_volume(self) -> tuple[int, int]:
        """Return the bytes of the volume and how many of them are free."""


class Teller(Protocol):
    """Where the audit trail is told."""

    def record(self, event: AuditEvent) -> None:
        """Add one record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long a Study stays.

    Attributes
    ----------
    studies
        Since the last thing that happened to it; None: for ever.
    results
        Its Results at least so long, whatever else says that it may go.
    high_percent, low_percent
        Use of the volume from which, and down to which, the oldest go before their time; None: never.
    """

    proof: Proof
    studies: timedelta | None = None
    results: timedelta = timedelta(0)
    high_percent: float | None = None
    low_percent: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """What retention works with.

    Attributes
    ----------
    adopt
        Makes the rows of Instances whose files lie at these paths anew.
    """

    ledger: RetentionLedger
    trash: Trash
    teller: Teller
    adopt: Callable[[Iterable[str]], int]


class Gatekeeper:
    """Lets a Study go, or says what keeps it.

    Parameters
    ----------
    quiet
        How long no Instance of it must have come.
    """

    def __init__(self, ledger: RetentionLedger, trash: Trash, proof: Proof, *, quiet: timedelta = QUIET) -> None:
        self._ledger = ledger
        self._trash = trash
        self._proof = proof
        self._quiet = quiet

    def obstacles(self, order: PurgeOrder, now: datetime) -> tuple[str, ...]:
        """Return in words what keeps a Study; nothing when it would go.

        Raises
        ------
        NotFound
            If it is unknown.
        """
        uid = order.study_instance_uid
        return (*self._ledger.obstacles(uid, self._proof, is_forced=order.is_forced), *self._disquiet(uid, now))

    def order(self, order: PurgeOrder, now: datetime) -> Purge:
        """Commit that a Study goes; its files follow at the next ticks of a running node.

        Raises
        ------
        NotFound
            If it is unknown.
        WrongState
            If something keeps it.
        """
        uid = order.study_instance_uid
        disquiet = self._disquiet(uid, now)
        if disquiet:
            raise WrongState(f"study {uid} is kept: {disquiet[0]}")
        purge = self._ledger.begin_purge(order, self._proof, now=now)
        logger.info("study purged", extra={"study_uid": uid, "count": sum(purge.sop_classes.values())})
        return purge

    def came_again(self, purge: Purge) -> bool:
        """Return whether a file that is going was written after, or shortly before, its Study was let go."""
        came_at = self._trash.youngest_at(purge.purge_id, folders_of(purge)[0])
        return came_at is not None and came_at > (purge.began_at - self._quiet / 2).timestamp()

    def _disquiet(self, uid: StudyUID, now: datetime) -> tuple[str, ...]:
        """Return in words that the Study may be on its way to us at this moment."""
        written_at = self._trash.written_at(f"{INSTANCES}/{uid}")
        if written_at is None or now.timestamp() - written_at >= self._quiet.total_seconds():
            return ()
        minutes = self._quiet.total_seconds() / 60
        return (f"it came, or came again, less than {minutes:g} minutes ago",)


class Retention:
    """Gives up what may go; what may not never does.

    A Study goes in three steps, each of which is repeated until the next is committed: its Instances lose their rows
    (one transaction, which proves once more that nobody needs it), its folders go into the trash (one rename each),
    and after `grace` the trash is emptied. If it comes again in between, everything is put back.
    """

    def __init__(self, premises: Premises, terms: Terms, *, grace: timedelta = GRACE, quiet: timedelta = QUIET) -> None:
        self._ledger = premises.ledger
        self._trash = premises.trash
        self._teller = premises.teller
        self._adopt = premises.adopt
        self._terms = terms
        self._grace = grace
        self._gate = Gatekeeper(premises.ledger, premises.trash, terms.proof, quiet=quiet)
        self._next_look_at: datetime | None = None
        self._is_crowded = False
        # When the files of each purge were taken out of the way, in this life.
        self._thrown_at: dict[str, datetime] = {}

    def resume(self, now: datetime) -> None:
        """Take the files of Studies that were going out of the way, before anybody looks at the store."""
        going = self._ledger.pending_purges()
        known = {purge.purge_id for purge in going}
        for batch in self._trash.batches():
            if batch not in known:
                # Its end was committed, and a kill came before the last file had gone.
                self._trash.empty(batch)
        for purge in going:
            self._advance(purge, now)

    def tick(self, now: datetime) -> datetime | None:
        """Order what may go, and go on with what is going; return when to be called next."""
        if self._next_look_at is None or now >= self._next_look_at or self._next_look_at - now > PERIOD:
            self._give_up_aged(now)
            is_crowded = self._mind_space(now)
            self._next_look_at = now + (CROWDED_PERIOD if is_crowded else PERIOD)
        going = [purge for purge in self._ledger.pending_purges() if not self._advance(purge, now)]
        return min(self._next_look_at, now + GOING_PERIOD) if going else self._next_look_at

    def _give_up_aged(self, now: datetime) -> None:
        if self._terms.studies is None:
            return
        results_before = now - max(self._terms.studies, self._terms.results)
        before = now - self._terms.studies
        found = self._ledger.candidates(self._terms.proof, before=before, results_before=results_before, limit=LIMIT)
        for candidate in found:
            self._give_up(candidate, BY_AGE, now)

    def _mind_space(self, now: datetime) -> bool:
        """Return whether the volume is fuller than it may be, after what may go was ordered to go."""
        if self._terms.high_percent is None:
            return False
        total, free = self._trash.use_of_volume()
        if free > total * (1 - self._terms.high_percent / 100):
            self._note_room(now)
            return False
        wanted = total * (1 - self._terms.low_percent / 100) - free
        wanted -= sum(purge.size_bytes for purge in self._ledger.pending_purges())
        results_before = now - self._terms.results
        found = self._ledger.candidates(self._terms.proof, before=now, results_before=results_before, limit=LIMIT)
        for candidate in found:
            if wanted <= 0:
                break
            wanted -= self._give_up(candidate, BY_SPACE, now)
        if wanted > 0 and not self._ledger.pending_purges():
            self._note_crowd(now)
        return True

    def _give_up(self, candidate: Candidate, why: str, now: datetime) -> int:
        """Return how many bytes will be free when the files are gone: none where something came in between."""
        order = PurgeOrder(
            study_instance_uid=candidate.study_instance_uid,
            ordered_by=PURGED_BY,
            reason=why,
            with_results=candidate.with_results,
        )
        try:
            return self._gate.order(order, now).size_bytes
        except WrongState:
            return 0

    def _advance(self, purge: Purge, now: datetime) -> bool:
        """Do what can be done of a purge now; return whether it is over."""
        if self._ledger.has_instances(purge.study_instance_uid):
            self._undo(purge, now)
            return True
        if purge.purge_id not in self._thrown_at:
            for folder in folders_of(purge):
                self._trash.throw(purge.purge_id, folder)
            self._thrown_at[purge.purge_id] = now
        if abs(now - self._thrown_at[purge.purge_id]) < self._grace:
            return False
        if self._gate.came_again(purge):
            self._undo(purge, now)
        else:
            self._finish(purge, now)
        return True

    def _undo(self, purge: Purge, now: datetime) -> None:
        paths = self._trash.restore(purge.purge_id)
        self._adopt([path for path in paths if path.startswith(f"{INSTANCES}/")])
        self._trash.empty(purge.purge_id)
        self._ledger.undo_purge(purge, now=now)
        self._thrown_at.pop(purge.purge_id, None)
        logger.warning("purge undone", extra={"study_uid": purge.study_instance_uid})

    def _finish(self, purge: Purge, now: datetime) -> None:
        self._trash.empty(purge.purge_id)
        # Before the row goes: a kill may tell it twice, and never not at all.
        self._teller.record(study_purged(purge))
        self._ledger.finish_purge(purge, now=now)
        self._thrown_at.pop(purge.purge_id, None)

    def _note_crowd(self, now: datetime) -> None:
        if self._is_crowded:
            return
        self._is_crowded = True
        counted = self._ledger.count_obstacles(self._terms.proof)
        kept = "; ".join(f"{count} because {saying}" for saying, count in counted.items()) or "there is none"
        text = f"the store is above retention.high_percent and no Study may go: {kept}"
        self._ledger.record_event(kind=CROWDED, text=text, now=now, is_alarm=True)
        logger.error("store crowded", extra={"count": sum(counted.values())})

    def _note_room(self, now: datetime) -> None:
        if self._is_crowded:
            self._is_crowded = False
            self._ledger.record_event(kind=ROOMY, text="the store is below retention.high_percent again", now=now)


def folders_of(purge: Purge) -> tuple[str, ...]:
    """Return what goes, relative to the store; the received Instances first."""
    kinds = (INSTANCES, RESULTS) if purge.with_results else (INSTANCES,)
    return tuple(f"{kind}/{purge.study_instance_uid}" for kind in kinds)
