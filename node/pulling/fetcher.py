"""Station: what is to be fetched from one peer is fetched, Study by Study, when and as fast as settings allow."""

import logging
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event
from time import monotonic
from typing import Protocol

from node.domain.fetch import Ending, Fetch, Fetched, FetchReason, FetchState
from node.domain.fetch_terms import FetchTerms
from node.domain.uids import StudyUID
from node.errors import DestinationDown, Misconfigured, NodeError, Rejected, RetrieveFailed, Transient
from node.peers.command import SubOperations
from node.peers.pace import Pace
from node.peers.patience import Patience
from node.pulling.carrier import Progress
from node.pulling.retrieval import Held, Retrieval

logger = logging.getLogger(__name__)

STUDY_FETCHED, STUDY_NOT_FETCHED = "study fetched", "study not fetched"
# Of attempts that failed by themselves; a peer that is away is waited for.
MAX_FAILURES = 4
FIRST_RETRY_S, MAX_RETRY_S = 5.0, 300.0
# A pause after which something that a person must change may have been changed.
CHANGE = timedelta(minutes=5)
SECOND = timedelta(seconds=1)
# Receivers commit what they acknowledged within some tenths of a second.
COMMIT_S, COMMIT_LOOK_S = 3.0, 0.1
# Fetches that ended are remembered so long, longer ones where the Study is here.
REMEMBERED = timedelta(days=30)
FORGET_EVERY = timedelta(hours=6)
FEWER_THAN_LISTED = "fewer-than-listed"


class FetchQueue(Protocol):
    """What the station needs of the ledger; each operation is one transaction. See `node.ledger.fetches`."""

    def claim(self, source: str, *, reasons: Collection[FetchReason], now: datetime) -> Fetch | None:
        """Return the next fetch, which is under way from now on."""

    def next_due(self, source: str, *, reasons: Collection[FetchReason]) -> datetime | None:
        """Return when the next attempt may begin."""

    def note_progress(self, fetch: Fetch, fetched: Fetched, *, now: datetime) -> bool:
        """Return whether the rest is wanted, after what came was committed."""

    def end(self, fetch: Fetch, ending: Ending, *, now: datetime) -> bool:
        """Commit how an attempt ended."""

    def release(self, source: str, *, now: datetime) -> int:
        """Commit that nothing is under way."""

    def held_instances(self, study_instance_uid: StudyUID) -> Held:
        """Return what is here of a Study."""

    def forget(self, before: datetime) -> int:
        """Commit that old fetches are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a fetcher is given by the process it lives in.

    Attributes
    ----------
    open_retrieval
        Gives a conversation with the peer; see `node.pulling.retrieval.open_retrieval`.
    clock
        The time now (UTC).
    chance
        Uniform in [0, 1).
    ended
        Called when a fetch has ended.
    """

    open_retrieval: Callable[[], AbstractContextManager[Retrieval]]
    clock: Callable[[], datetime]
    chance: Callable[[], float]
    ended: Callable[[], None]


class Fetcher:
    """Fetches from one peer; called by one thread at a time.

    Parameters
    ----------
    source
        Its name, as orders have it.
    """

    def __init__(self, *, source: str, queue: FetchQueue, terms: FetchTerms, surroundings: Surroundings) -> None:
        self._source = source
        self._queue = queue
        self._terms = terms
        self._surroundings = surroundings
        self._clock = surroundings.clock
        self._pace = Pace(terms.per_minute)
        self._patience = Patience(first_retry_s=FIRST_RETRY_S, max_retry_s=MAX_RETRY_S)
        self._losses = 0
        self._closed_until: datetime | None = None
        self._forgets_at: datetime | None = None
        self._ending = Event()

    def expect_end(self) -> None:
        """Let what is under way be broken off soon; it goes on at the next start. Any thread may say so."""
        self._ending.set()

    def tick(self, now: datetime) -> datetime | None:
        """Fetch one Study, if one is due; return when to be called next.

        Raises
        ------
        LedgerBusy
            If the ledger does not answer; the fetch is begun again.
        """
        self._tidy(now)
        if self._is_closed(now):
            return self._closed_until
        reasons = self._reasons(now)
        if not self._pace.room(now, wanted=1):
            return now + SECOND
        fetch = self._queue.claim(self._source, reasons=reasons, now=now)
        if fetch is None:
            return self._next(now, reasons)
        self._pace.spend(1)
        ending = self._attempt(fetch)
        self._queue.end(fetch, ending, now=self._clock())
        self._log(fetch, ending)
        self._surroundings.ended()
        return self._closed_until or now

    def _tidy(self, now: datetime) -> None:
        if self._forgets_at is None:
            # Of an earlier life, or of another node that led.
            self._queue.release(self._source, now=now)
        if self._forgets_at is None or self._forgets_at <= now:
            self._queue.forget(now - REMEMBERED)
            self._forgets_at = now + FORGET_EVERY

    def _is_closed(self, now: datetime) -> bool:
        """Return whether the pause after a failure lasts; one that is over is forgotten."""
        if not self._patience.is_lasting(self._closed_until, now=now):
            self._closed_until = None
        return self._closed_until is not None

    def _reasons(self, now: datetime) -> tuple[FetchReason, ...]:
        """Return what may be fetched at this time: a Job that waits for a prior waits for no night."""
        is_open = self._terms.hours is None or self._terms.hours.is_open(now)
        return tuple(FetchReason) if is_open else (FetchReason.PRIOR,)

    def _next(self, now: datetime, reasons: Collection[FetchReason]) -> datetime | None:
        due = [self._queue.next_due(self._source, reasons=reasons)]
        if self._terms.hours is not None and len(reasons) < len(FetchReason):
            due.append(self._terms.hours.opens_at(now))
        # What is due already is held back by a pause, of which a sweep finds the end.
        return min((at for at in due if at is not None and at > now), default=None)

    def _attempt(self, fetch: Fetch) -> Ending:
        progress = Progress(lambda came: self._note(fetch, came))
        try:
            held = self._queue.held_instances(fetch.order.study_instance_uid)
            with self._surroundings.open_retrieval() as retrieval:
                fetched = retrieval.fetch(fetch.order, held, progress)
        except (Transient, Misconfigured, Rejected) as exc:
            return self._judge_failure(fetch, _so_far(fetch, progress.total), exc)
        self._losses = 0
        if progress.is_wanted:
            self._await_rows(fetch.order.study_instance_uid, fetched.done + fetched.held)
        return self._judge(fetch, _joined(fetch, fetched), is_wanted=progress.is_wanted)

    def _await_rows(self, study: StudyUID, count: int) -> None:
        """Return when what came is in the ledger, so that whoever waits for it finds it; or after a short time.

        Own Results that settings drop never are.
        """
        deadline_s = monotonic() + COMMIT_S
        while sum(map(len, self._queue.held_instances(study).values())) < count and monotonic() < deadline_s:
            if self._ending.wait(COMMIT_LOOK_S):
                return

    def _note(self, fetch: Fetch, came: SubOperations) -> bool:
        is_wanted = self._queue.note_progress(fetch, _so_far(fetch, came), now=self._clock())
        return is_wanted and not self._ending.is_set()

    def _judge(self, fetch: Fetch, fetched: Fetched, *, is_wanted: bool) -> Ending:
        """Return what follows from an attempt to which the peer had no objection."""
        if not is_wanted:
            return Ending(state=FetchState.SCHEDULED, fetched=fetched)
        if fetched.failed:
            text = f"{fetched.failed} Instances did not come; see `radnode events`, and security.calling_aets"
            return self._try_again(fetch, fetched, RetrieveFailed(text))
        missing = 0 if fetched.expected is None else fetched.expected - fetched.done - fetched.held
        if fetched.expected == 0 or (missing > 0 and not fetched.done + fetched.held):
            return self._try_again(fetch, fetched, RetrieveFailed("the peer gives nothing of this Study"))
        if missing > 0:
            text = f"{missing} of {fetched.expected} Instances that are listed did not come, though none failed"
            return Ending(state=FetchState.COMPLETED, fetched=fetched, reason_code=FEWER_THAN_LISTED, reason_text=text)
        return Ending(state=FetchState.COMPLETED, fetched=fetched)

    def _judge_failure(self, fetch: Fetch, fetched: Fetched, exc: NodeError) -> Ending:
        if isinstance(exc, DestinationDown):
            self._losses += 1
            self._closed_until = self._clock() + self._patience.pause(self._losses, self._surroundings.chance())
            # It is not its fault, and waits until the peer is there again.
            return _ending(FetchState.SCHEDULED, fetched, exc, not_before=self._closed_until)
        if not isinstance(exc, Misconfigured):
            return self._try_again(fetch, fetched, exc)
        if fetch.order.reason is FetchReason.POLL:
            return _ending(FetchState.SCHEDULED, fetched, exc, not_before=self._clock() + CHANGE)
        # Who asked for it is told at once, and may ask again.
        return _ending(FetchState.CANCELED, fetched, exc)

    def _try_again(self, fetch: Fetch, fetched: Fetched, exc: NodeError) -> Ending:
        failures = fetch.failures + 1
        if failures >= MAX_FAILURES:
            return _ending(FetchState.CANCELED, fetched, exc)
        pause = self._patience.pause(failures, self._surroundings.chance())
        return _ending(FetchState.SCHEDULED, fetched, exc, not_before=self._clock() + pause)

    def _log(self, fetch: Fetch, ending: Ending) -> None:
        facts = {
            "destination": self._source,
            "study_uid": fetch.order.study_instance_uid,
            "outcome": ending.state.value,
            "count": ending.fetched.done,
            "attempts": fetch.attempts,
        }
        if ending.reason_code is None:
            logger.info(STUDY_FETCHED, extra=facts)
        else:
            logger.warning(STUDY_NOT_FETCHED, extra={**facts, "reason_code": ending.reason_code})


def _ending(state: FetchState, fetched: Fetched, exc: NodeError, *, not_before: datetime | None = None) -> Ending:
    return Ending(
        state=state,
        fetched=fetched,
        reason_code=exc.code,
        reason_text=str(exc),
        not_before=not_before,
        is_failure=not isinstance(exc, DestinationDown),
    )


def _so_far(fetch: Fetch, came: SubOperations) -> Fetched:
    """Return what is known of a fetch of which so much came in this attempt."""
    before = fetch.fetched
    return Fetched(done=before.done + came.completed, failed=came.failed, held=before.held)


def _joined(fetch: Fetch, fetched: Fetched) -> Fetched:
    """Return all that came: of what was here at the beginning of this attempt, earlier ones brought some."""
    before = fetch.fetched.done
    return Fetched(
        expected=fetched.expected,
        done=before + fetched.done,
        failed=fetched.failed,
        held=max(0, fetched.held - before),
    )
