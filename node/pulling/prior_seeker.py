"""Station 3b: who has earlier Studies of a patient is asked for those that a rule wants, and they are picked."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from node.domain.fetch import FoundSeries, FoundStudy
from node.domain.prior import is_earlier, read_date, read_identity, refuse_stranger
from node.domain.uids import StudyUID
from node.errors import DestinationBusy, DestinationDown, Misconfigured
from node.ledger.priors import KnownStudy, Pick, Wanted
from node.peers.patience import Patience
from node.rules.anatomy import body_part_of

logger = logging.getLogger(__name__)

PRIORS_NOT_ASKED = "priors not asked for"
# So many searches in one conversation.
SEARCHES_A_TICK = 16
# A peer that cannot be reached is left alone so long at most; seconds.
MAX_RETRY_S = 120.0
# A peer that failed on one query, and a Study that is just coming in, are looked at again after so long.
BUSY_PAUSE = timedelta(seconds=30)
COMING_PAUSE = timedelta(seconds=5)


class Search(Protocol):
    """A conversation with a peer; see `node.pulling.search.open_search`."""

    def find_studies(self, query: Mapping[str, str]) -> Sequence[FoundStudy]:
        """Return the Studies that the peer has; DestinationBusy where it does not answer."""

    def find_series(self, study_instance_uid: StudyUID) -> Sequence[FoundSeries]:
        """Return the Series that the peer has of a Study; DestinationBusy where it does not answer."""


class PriorLedger(Protocol):
    """What the seeker needs of the ledger; each operation is one transaction."""

    def wanted_from(self, sources: Collection[str], *, now: datetime, limit: int) -> Sequence[Wanted]:
        """Return searches that are due."""

    def next_look(self, sources: Collection[str]) -> datetime | None:
        """Return when the next one is."""

    def known_studies(self, wanted: Wanted) -> Sequence[KnownStudy]:
        """Return the Studies of the patient that are here."""

    def record_found(self, wanted: Wanted, picks: Sequence[Pick], *, source: str, text: str, now: datetime) -> None:
        """Commit what was found, and order what is not here."""

    def postpone(self, wanted: Wanted, until: datetime) -> None:
        """Commit when the source is asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a seeker is given by the process it lives in.

    Attributes
    ----------
    open_search
        Gives a conversation with the peer.
    committed
        Called after something was.
    chance
        Uniform in [0, 1).
    """

    open_search: Callable[[], AbstractContextManager[Search]]
    committed: Callable[[], None]
    clock: Callable[[], datetime]
    chance: Callable[[], float]


class PriorSeeker:
    """Asks one peer for earlier Studies; called by one thread at a time.

    Parameters
    ----------
    peer
        Its name, under which Studies are fetched from it.
    sources
        Every name under which rules name it.
    """

    def __init__(self, *, peer: str, sources: frozenset[str], ledger: PriorLedger, surroundings: Surroundings) -> None:
        self._peer = peer
        self._sources = sources
        self._ledger = ledger
        self._around = surroundings
        self._patience = Patience(max_retry_s=MAX_RETRY_S)
        self._failures = 0

    def tick(self, now: datetime) -> datetime | None:
        """Ask for what is due; return when to be called next, None when nothing is to be asked.

        Raises
        ------
        LedgerBusy
            If an answer could not be committed; it is asked again.
        """
        due = self._ledger.wanted_from(self._sources, now=now, limit=SEARCHES_A_TICK)
        if not due:
            return self._ledger.next_look(self._sources)
        try:
            with self._around.open_search() as search:
                for wanted in due:
                    self._seek(search, wanted)
        except (DestinationDown, Misconfigured) as exc:
            self._failures += 1
            logger.warning(PRIORS_NOT_ASKED, extra={"destination": self._peer, "reason_code": exc.code})
            return self._around.clock() + self._patience.pause(self._failures, self._around.chance())
        self._failures = 0
        self._around.committed()
        return self._ledger.next_look(self._sources)

    def _seek(self, search: Search, wanted: Wanted) -> None:
        refusal = _why_nobody_could_tell(wanted)
        if refusal:
            self._record(wanted, (), refusal)
            return
        known = {one.found.study_instance_uid: one for one in self._ledger.known_studies(wanted)}
        try:
            found = {one.study_instance_uid: one for one in search.find_studies(make_query(wanted))}
            # What is here tells more of itself than a peer does.
            found |= {uid: one.found for uid, one in known.items()}
            picked, text = self._pick(search, wanted, list(found.values()))
        except DestinationBusy as exc:
            logger.warning(PRIORS_NOT_ASKED, extra={"destination": self._peer, "reason_code": exc.code})
            self._ledger.postpone(wanted, self._around.clock() + BUSY_PAUSE)
            return
        mine = [known[one.study_instance_uid] for one in picked if one.study_instance_uid in known]
        if not all(one.is_complete for one in mine):
            self._ledger.postpone(wanted, self._around.clock() + COMING_PAUSE)
            return
        self._record(wanted, [Pick(found=one, is_here=one.study_instance_uid in known) for one in picked], text)

    def _pick(self, search: Search, wanted: Wanted, found: Sequence[FoundStudy]) -> tuple[Sequence[FoundStudy], str]:
        """Return the newest that may be read, and in words why there is none."""
        picked: list[FoundStudy] = []
        refusals: list[str] = []
        fitting = [one for one in found if fits(wanted, one)]
        for one in sorted(fitting, key=lambda one: (one.study_date, one.study_time), reverse=True):
            if len(picked) == wanted.terms.newest:
                break
            refusal = refuse_stranger(wanted.identity, identity_of(one), may_lack=True)
            if refusal:
                refusals.append(refusal)
            elif self._has_body_part(search, wanted, one):
                picked.append(one)
        if picked:
            return picked, ""
        why = f" that may be read: {', '.join(dict.fromkeys(refusals))}" if refusals else ""
        return (), f"none found at {wanted.terms.source}{why}"

    def _has_body_part(self, search: Search, wanted: Wanted, found: FoundStudy) -> bool:
        """Return False where the peer tells parts of the body, and no wanted one; images tell the rest."""
        if not wanted.terms.body_parts:
            return True
        told = {one.body_part for one in search.find_series(found.study_instance_uid)} - {""}
        asked = {body_part_of(word) for word in wanted.terms.body_parts}
        return not told or bool(asked & {body_part_of(word) for word in told})

    def _record(self, wanted: Wanted, picks: Sequence[Pick], text: str) -> None:
        self._ledger.record_found(wanted, picks, source=self._peer, text=text, now=self._around.clock())


def make_query(wanted: Wanted) -> Mapping[str, str]:
    """Return what a peer is asked for: earlier Studies of that Patient ID (PS3.4 C.6.2.1)."""
    (patient_id,) = wanted.identity["PatientID"]
    study_date = read_date(wanted.study_date)
    begin = None if study_date is None else wanted.terms.begin(study_date)
    query = {
        "PatientID": patient_id,
        "StudyDate": f"{'' if begin is None else begin.strftime('%Y%m%d')}-{wanted.study_date}",
    }
    return {**query, "ModalitiesInStudy": "\\".join(wanted.terms.modalities)} if wanted.terms.modalities else query


def fits(wanted: Wanted, found: FoundStudy) -> bool:
    """Return whether a Study is an earlier one of the wanted kind; peers answer more than they were asked."""
    if found.study_instance_uid == wanted.study_instance_uid:
        return False
    if not is_earlier((found.study_date, found.study_time), (wanted.study_date, wanted.study_time)):
        return False
    own, theirs = read_date(wanted.study_date), read_date(found.study_date)
    begin = None if own is None else wanted.terms.begin(own)
    if begin is not None and theirs is not None and theirs < begin:
        return False
    modalities = frozenset(wanted.terms.modalities)
    return not modalities or not found.modalities or bool(modalities & frozenset(found.modalities))


def identity_of(found: FoundStudy) -> Mapping[str, frozenset[str]]:
    """Return whose Study it is, as far as the peer says."""
    told = {
        "PatientID": found.patient_id,
        "IssuerOfPatientID": found.issuer,
        "PatientBirthDate": found.birth_date,
    }
    return read_identity([told])


def _why_nobody_could_tell(wanted: Wanted) -> str:
    """Return why no earlier Study can be told of the Study; empty where one can."""
    refusal = refuse_stranger(wanted.identity, wanted.identity)
    if not refusal and read_date(wanted.study_date) is None:
        refusal = "the Study tells no date"
    return f"{refusal}, and nobody could tell what is earlier of the same patient" if refusal else ""
