"""Station: a peer that cannot send by itself is asked for new Studies, which are then fetched."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from node.domain.fetch import FetchOrder, FetchReason, FoundStudy, PullSource
from node.domain.fetch_terms import FetchTerms, Poll
from node.errors import DestinationBusy, DestinationDown, Misconfigured
from node.peers.patience import Patience
from node.pulling.search import Search

logger = logging.getLogger(__name__)

PEER_NOT_POLLED, STUDIES_FOUND = "peer not polled", "studies found"
MAX_RETRY_S = 300.0
# DA and TM, as far as all of them are written (PS3.5 6.2).
DATE, TIME = "%Y%m%d", "%H%M%S"
TIME_LENGTH = 6


class PollLedger(Protocol):
    """What the station needs of the ledger; see `node.ledger.fetches`."""

    def read_sources(self) -> Mapping[str, PullSource]:
        """Return how it stands with each source that was ever paused or polled."""

    def note_polled(self, source: str, orders: Sequence[FetchOrder], *, now: datetime) -> int:
        """Commit what a question brought; return how many Studies are fetched that were not before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a poller is given by the process it lives in.

    Attributes
    ----------
    open_search
        Gives a conversation with the peer; see `node.pulling.search.open_search`.
    clock
        The time now (UTC).
    chance
        Uniform in [0, 1).
    """

    open_search: Callable[[], AbstractContextManager[Search]]
    clock: Callable[[], datetime]
    chance: Callable[[], float]


class Poller:
    """Asks one peer; called by one thread at a time.

    Where it was is in the ledger: after a stop it asks for what began since the last question, and `Poll.since` before.
    """

    def __init__(
        self, *, source: str, ledger: PollLedger, terms: FetchTerms, poll: Poll, surroundings: Surroundings
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._terms = terms
        self._poll = poll
        self._surroundings = surroundings
        self._patience = Patience(first_retry_s=poll.every.total_seconds(), max_retry_s=MAX_RETRY_S)
        self._failures = 0
        self._asks_at: datetime | None = None

    def tick(self, now: datetime) -> datetime | None:
        """Ask, if it is time; return when to be called next.

        Raises
        ------
        LedgerBusy
            If the answer could not be committed; it is asked again.
        """
        if self._terms.hours is not None and not self._terms.hours.is_open(now):
            return self._terms.hours.opens_at(now)
        known = self._ledger.read_sources().get(self._source, PullSource(name=self._source))
        if known.paused_at is not None:
            return None
        at = self._next(known, now)
        if at > now:
            return at
        self._asks_at = now + self._ask(known, now)
        return self._asks_at

    def _next(self, known: PullSource, now: datetime) -> datetime:
        """Return when to ask; a time that is farther away than any pause means that the clock was set."""
        said = self._asks_at or (now if known.polled_at is None else known.polled_at + self._poll.every)
        longest = max(self._poll.every, self._patience.longest_pause)
        return said if said - now <= longest else now

    def _ask(self, known: PullSource, now: datetime) -> timedelta:
        """Return after what time to ask again."""
        begin = (now if known.polled_at is None else min(known.polled_at, now)) - self._poll.since
        local = begin.astimezone()
        query = {**self._poll.query, "StudyDate": f"{local:{DATE}}-"}
        try:
            with self._surroundings.open_search() as search:
                found = [study for study in search.find_studies(query) if _begins_after(study, local)]
        except (DestinationDown, DestinationBusy, Misconfigured) as exc:
            self._failures += 1
            logger.warning(PEER_NOT_POLLED, extra={"destination": self._source, "reason_code": exc.code})
            return self._patience.pause(self._failures, self._surroundings.chance())
        self._failures = 0
        count = self._ledger.note_polled(self._source, [self._order(study) for study in found], now=now)
        if count:
            logger.info(STUDIES_FOUND, extra={"destination": self._source, "count": count})
        return self._poll.every

    def _order(self, study: FoundStudy) -> FetchOrder:
        return FetchOrder(
            source=self._source,
            study_instance_uid=study.study_instance_uid,
            reason=FetchReason.POLL,
            instances=study.instances,
        )


def _begins_after(study: FoundStudy, local: datetime) -> bool:
    """Return whether a Study began at this time or later; where it does not say when, it did."""
    if not study.study_date:
        return True
    begun = study.study_date + study.study_time.replace(":", "")[:TIME_LENGTH]
    return begun >= f"{local:{DATE}{TIME}}"[: len(begun)]
