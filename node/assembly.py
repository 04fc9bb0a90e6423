"""The station that decides when a Series, and with it its Study, is complete."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from node.domain.completeness import Doubt, Evidence, OpenSeries, OpenStudy, Terms, Verdict, judge_study
from node.domain.layout import Place, doubt_series
from node.domain.uids import SeriesUID, StudyUID

logger = logging.getLogger(__name__)

# What senders were seen to need changes slowly.
LEARN_EVERY = timedelta(minutes=5)
# What a Study waits for is told so often at most.
TELL_EVERY = timedelta(seconds=2)
# For these the images of a Series are looked at before it settles.
IN_IMAGES = frozenset({Evidence.IN_ACQUISITION, Evidence.SLICE_GAPS})
WEAK = frozenset({Evidence.ASSOCIATION_END, Evidence.LEARNED_QUIET, Evidence.QUIET_TIME})


class EvidenceLedger(Protocol):
    """What assembly asks of the ledger about open Studies."""

    def open_studies(self) -> Sequence[OpenStudy]:
        """Return every Study with a Series in state OPEN, and what is known of it."""
        ...

    def read_places(self, study_instance_uid: StudyUID, series_instance_uid: SeriesUID) -> Sequence[Place]:
        """Return where each Instance of a Series lies among the others."""
        ...


class SettlingLedger(Protocol):
    """What assembly commits."""

    def settle_series(self, seen: OpenSeries, *, reason: str, now: datetime) -> bool:
        """Move a Series to SETTLED unless it changed; True when its Study settled with it."""
        ...

    def refuse_study(self, study_instance_uid: StudyUID, *, reason: str, now: datetime) -> bool:
        """Commit that no rule is asked of a Study that stayed incomplete; False when it is not open any more."""
        ...

    def tell_waiting(self, study_instance_uid: StudyUID, *, text: str) -> None:
        """Commit what an open Study waits for."""
        ...


class PausesLedger(Protocol):
    """What assembly learns from."""

    def note(self, series: OpenSeries) -> None:
        """Commit the longest pause of a Series that settled."""
        ...

    def learned_s(self) -> Mapping[str, float]:
        """Return how long each sender must be silent, by AE title; seconds."""
        ...


class Assembly:
    """Settles Series whose evidence says that nothing more comes."""

    def __init__(self, evidence: EvidenceLedger, settling: SettlingLedger, pauses: PausesLedger, terms: Terms) -> None:
        self._evidence = evidence
        self._settling = settling
        self._pauses = pauses
        self._terms = terms
        self._learned_at: datetime | None = None
        # What the images of a Series say against it, by how many there were.
        self._looked: dict[SeriesUID, tuple[int, datetime, Doubt | None]] = {}
        self._told: dict[StudyUID, tuple[str, datetime]] = {}

    def tick(self, now: datetime) -> datetime | None:
        """Settle what is due; return when the next Series may be due, None when none is open."""
        self._learn(now)
        studies = self._evidence.open_studies()
        self._forget(studies)
        waiting = [verdict.due for study in studies for verdict in self._judge(study, now)]
        return min(waiting, default=None)

    def _judge(self, study: OpenStudy, now: datetime) -> Sequence[Verdict]:
        """Settle what is due of a Study; return the verdicts that are not due yet."""
        verdicts = judge_study(study, self._terms, self._known_doubts(study))
        if self._look(verdicts, now):
            verdicts = judge_study(study, self._terms, self._known_doubts(study))
        due = [verdict for verdict in verdicts if verdict.due <= now]
        given_up = [one for one in due if one.is_incomplete and one.evidence is Evidence.MAXIMUM_AGE]
        if self._terms.refuses and given_up:
            self._refuse(study, given_up[0], now)
            return ()
        for verdict in due:
            self._settle(verdict, now)
        left = [verdict for verdict in verdicts if verdict.due > now]
        self._tell(study, next((one.waits_for for one in left if one.waits_for), ""), now)
        return left

    def _settle(self, verdict: Verdict, now: datetime) -> None:
        series = verdict.series
        has_settled = self._settling.settle_series(series, reason=verdict.reason, now=now)
        if Evidence.LEARNED_QUIET in self._terms.heeded:
            self._pauses.note(series)
        if has_settled:
            logger.info("study settled", extra={"study_uid": series.study_instance_uid})

    def _refuse(self, study: OpenStudy, verdict: Verdict, now: datetime) -> None:
        if self._settling.refuse_study(study.study_instance_uid, reason=verdict.reason, now=now):
            logger.warning("study refused", extra={"study_uid": study.study_instance_uid})

    def _tell(self, study: OpenStudy, text: str, now: datetime) -> None:
        uid = study.study_instance_uid
        told, told_at = self._told.get(uid, ("", now - TELL_EVERY))
        # Figures change with each Instance.
        if told != text and abs(now - told_at) >= TELL_EVERY:
            self._settling.tell_waiting(uid, text=text)
            self._told[uid] = (text, now)

    def _look(self, verdicts: Sequence[Verdict], now: datetime) -> bool:
        """Look at the images of each Series that would settle for want of evidence; return whether any were."""
        if not self._terms.heeded & IN_IMAGES:
            return False
        unseen = [
            verdict.series
            for verdict in verdicts
            if verdict.due <= now and verdict.evidence in WEAK and not self._has_seen(verdict.series)
        ]
        for series in unseen:
            uid = series.series_instance_uid
            places = self._evidence.read_places(series.study_instance_uid, uid)
            self._looked[uid] = (series.held, series.last_instance_at, doubt_series(places, self._terms.heeded))
        return bool(unseen)

    def _has_seen(self, series: OpenSeries) -> bool:
        seen = self._looked.get(series.series_instance_uid)
        return seen is not None and seen[:2] == (series.held, series.last_instance_at)

    def _known_doubts(self, study: OpenStudy) -> Mapping[SeriesUID, Doubt]:
        seen = [one.series_instance_uid for one in study.series if self._has_seen(one)]
        return {uid: doubt for uid in seen if (doubt := self._looked[uid][2]) is not None}

    def _forget(self, studies: Sequence[OpenStudy]) -> None:
        uids = {one.series_instance_uid for study in studies for one in study.series}
        self._looked = {uid: seen for uid, seen in self._looked.items() if uid in uids}
        open_uids = {study.study_instance_uid for study in studies}
        self._told = {uid: told for uid, told in self._told.items() if uid in open_uids}

    def _learn(self, now: datetime) -> None:
        """Take in what senders were seen to need; where the clock was set back, at once."""
        if Evidence.LEARNED_QUIET not in self._terms.heeded:
            return
        if self._learned_at is None or not timedelta(0) <= now - self._learned_at < LEARN_EVERY:
            self._terms = replace(self._terms, learned_s=self._pauses.learned_s())
            self._learned_at = now
