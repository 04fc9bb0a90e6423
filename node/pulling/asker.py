"""Station 2b: who knows how much of an open Study there is, is asked, as soon as the answer may change anything."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from node.domain.completeness import Census, OpenStudy, Terms, Told
from node.domain.uids import StudyUID
from node.errors import DestinationBusy, DestinationDown, Misconfigured, NodeError
from node.peers.pace import Pace
from node.peers.patience import Patience
from node.pulling.census import Enquiry

logger = logging.getLogger(__name__)

PEER_NOT_ASKED = "peer not asked"
# The pause between two questions about a Study of which nothing new came: doubled each time, up to the second.
SHORTEST_PAUSE = timedelta(seconds=0.25)
LONGEST_PAUSE = timedelta(seconds=60)
# 2 ** 10 shortest pauses are longer than the longest.
MAX_DOUBLINGS = 10
# After so long a tick ends, though more is to be asked.
TICK_LIMIT = timedelta(seconds=5)
# A peer that cannot be reached is left alone so long at most; seconds.
MAX_RETRY_S = 60.0


class AskLedger(Protocol):
    """What the asker needs of the ledger; each operation is one transaction."""

    def open_studies(self) -> Sequence[OpenStudy]:
        """Return every Study with a Series in state OPEN."""

    def record_census(
        self, study_instance_uid: StudyUID, census: Census, *, told: Told, source: str, now: datetime
    ) -> None:
        """Commit what a peer holds of a Study."""

    def record_failure(
        self, study_instance_uid: StudyUID, *, told: Told, source: str, failure: str, now: datetime
    ) -> None:
        """Commit that a peer gave no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an asker is given by the process it lives in.

    Attributes
    ----------
    open_enquiry
        Gives a conversation with the peer; see `node.pulling.census.open_enquiry`.
    told
        How it is asked.
    clock
        The time now (UTC).
    chance
        Uniform in [0, 1).
    answered
        Called when something was committed that may settle a Study.
    """

    open_enquiry: Callable[[], AbstractContextManager[Enquiry]]
    told: Told
    clock: Callable[[], datetime]
    chance: Callable[[], float]
    answered: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One that was asked about a Study.

    Attributes
    ----------
    knew
        What of the Study was here then; see `_know`.
    repeats
        How often it was asked with the same here.
    """

    at: datetime
    knew: tuple[int, datetime, bool]
    repeats: int


class Asker:
    """Asks one peer about open Studies; called by one thread at a time.

    Parameters
    ----------
    peer
        Its name in the settings.
    per_minute
        How many questions it is asked at most; 0 sets no limit.
    """

    def __init__(
        self, *, peer: str, ledger: AskLedger, terms: Terms, surroundings: Surroundings, per_minute: int = 0
    ) -> None:
        self._peer = peer
        self._ledger = ledger
        self._terms = terms
        self._surroundings = surroundings
        self._clock = surroundings.clock
        self._pace = Pace(per_minute)
        self._patience = Patience(max_retry_s=MAX_RETRY_S)
        self._failures = 0
        self._closed_until: datetime | None = None
        self._asked: dict[StudyUID, Question] = {}

    def tick(self, now: datetime) -> datetime | None:
        """Ask about what is due; return when to be called next.

        Raises
        ------
        LedgerBusy
            If an answer could not be committed; it is asked again.
        """
        studies = [one for one in self._ledger.open_studies() if self._peer in self._terms.asked_about(one)]
        uids = {one.study_instance_uid for one in studies}
        self._asked = {uid: question for uid, question in self._asked.items() if uid in uids}
        if self._patience.is_lasting(self._closed_until, now=now):
            return self._closed_until
        due = sorted((one for one in studies if self._due(one) <= now), key=self._due)
        room = self._pace.room(now, wanted=len(due))
        if room:
            self._ask_all(due[:room])
        if self._patience.is_lasting(self._closed_until, now=self._clock()):
            return self._closed_until
        if room < len(due):
            return now + SHORTEST_PAUSE
        return min(map(self._due, studies), default=None)

    def _due(self, study: OpenStudy) -> datetime:
        """Return when to ask about a Study: at its begin, then whenever it may be complete, less and less often."""
        asked = self._asked.get(study.study_instance_uid)
        if asked is None:
            return study.opened_at
        if asked.knew == _know(study):
            pause = min(SHORTEST_PAUSE * (1 << min(asked.repeats, MAX_DOUBLINGS)), LONGEST_PAUSE)
            # An answer that is as old as this proves something if it is given again.
            said = [one.since for one in study.statements if one.source == self._peer and not one.failure]
            believable_at = max(said, default=asked.at) + timedelta(seconds=self._terms.belief_s)
            return max(asked.at + pause, believable_at)
        if study.has_open_association:
            # More comes just now.
            return study.quiet_since + timedelta(seconds=self._terms.after_association_s)
        return study.quiet_since

    def _ask_all(self, studies: Sequence[OpenStudy]) -> None:
        ends_at = self._clock() + TICK_LIMIT
        pending = list(studies)
        try:
            with self._surroundings.open_enquiry() as enquiry:
                while pending and self._clock() < ends_at:
                    self._ask(enquiry, pending[0])
                    pending.pop(0)
                self._failures, self._closed_until = 0, None
        except (DestinationDown, Misconfigured) as exc:
            self._close(exc, pending)

    def _ask(self, enquiry: Enquiry, study: OpenStudy) -> None:
        uid = study.study_instance_uid
        self._pace.spend(1)
        try:
            census = enquiry.count(uid)
        except DestinationBusy as exc:
            self._note_failure(study, exc)
            return
        told = self._surroundings.told
        self._ledger.record_census(uid, census, told=told, source=self._peer, now=self._clock())
        self._note(study)
        self._surroundings.answered()

    def _close(self, exc: NodeError, pending: Sequence[OpenStudy]) -> None:
        """Leave a peer alone that cannot be reached, or ended the conversation over a question."""
        self._failures += 1
        pause = self._patience.pause(self._failures, self._surroundings.chance())
        self._closed_until = self._clock() + pause
        logger.warning(PEER_NOT_ASKED, extra={"destination": self._peer, "reason_code": exc.code})
        for study in pending:
            self._note_failure(study, exc)

    def _note_failure(self, study: OpenStudy, exc: NodeError) -> None:
        uid, told = study.study_instance_uid, self._surroundings.told
        self._ledger.record_failure(uid, told=told, source=self._peer, failure=exc.code, now=self._clock())
        self._note(study)
        self._surroundings.answered()

    def _note(self, study: OpenStudy) -> None:
        before, knew = self._asked.get(study.study_instance_uid), _know(study)
        repeats = before.repeats + 1 if before is not None and before.knew == knew else 0
        self._asked[study.study_instance_uid] = Question(at=self._clock(), knew=knew, repeats=repeats)


def _know(study: OpenStudy) -> tuple[int, datetime, bool]:
    """Return what of a Study is here; while it stays the same, another question has the same answer for a while."""
    return sum(study.held.values()), study.quiet_since, study.has_open_association
