"""When a Series counts as complete: what is known of how much should come, judged without ledger, network or clock.

Docs/decisions/0049 says why a number is believed when.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from node.domain.uids import SeriesUID, StudyUID

# A Study that was given up at its maximum age begins its reason so.
REFUSED = "refused: "
# As `Statement.series_instance_uid`: the Study as a whole.
WHOLE_STUDY = SeriesUID("")
# Instances that must have come since a number was said first, for it to have been known beforehand: an archive that is
# some ahead of what it sends may still receive.
FORETOLD = 10
# Where a verdict has no end of its own.
NEVER = datetime.max.replace(tzinfo=UTC)


class Evidence(StrEnum):
    """What a verdict rests on, as ``assembly.evidence`` names it."""

    ASSOCIATION_END = "association-end"
    COUNTS = "counts"
    AVAILABILITY = "availability"
    PROCEDURE_STEP = "procedure-step"
    IN_ACQUISITION = "images-in-acquisition"
    SLICE_GAPS = "slice-gaps"
    LEARNED_QUIET = "learned-quiet"
    QUIET_TIME = "quiet-time"
    MAXIMUM_AGE = "maximum-age"


# They tell how many there are, and know better than the images themselves.
COUNTED = frozenset({Evidence.COUNTS, Evidence.AVAILABILITY, Evidence.PROCEDURE_STEP})


class Told(StrEnum):
    """How somebody told how much there is, in words for people."""

    FIND = "C-FIND"
    QIDO = "QIDO-RS"
    AVAILABILITY = "Instance Availability Notification"
    PROCEDURE_STEP = "MPPS"

    @property
    def evidence(self) -> Evidence:
        """Under which name it is heeded."""
        match self:
            case Told.FIND | Told.QIDO:
                return Evidence.COUNTS
            case Told.AVAILABILITY:
                return Evidence.AVAILABILITY
            case Told.PROCEDURE_STEP:
                return Evidence.PROCEDURE_STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What somebody said of one Series, or of the Study as a whole.

    Attributes
    ----------
    series_instance_uid
        `WHOLE_STUDY` for what is about the Study.
    source
        Name of the peer that was asked, or AE title that told by itself.
    notice_uid
        SOP Instance UID of the notification or Procedure Step; empty for an answer.
    expected
        Instances; None where none were named: it was not answered yet, or goes on.
    held
        Instances that were here then.
    held_first
        Those that were here when the number was said first.
    is_final
        Whether who said so will say nothing else: a Procedure Step that is over.
    changes
        How often the number was another one than before.
    since
        When the number was said first.
    seen_at
        When it was said last, or was asked for in vain.
    failure
        Code of the error for which the last question had no answer; empty for none.
    """

    series_instance_uid: SeriesUID
    told: Told
    source: str
    notice_uid: str = ""
    expected: int | None
    held: int
    held_first: int
    is_final: bool = False
    changes: int = 0
    since: datetime
    seen_at: datetime
    failure: str = ""

    @property
    def is_foretold(self) -> bool:
        """Whether the number was known when less than half of it was here: it stood while all the others came."""
        return self.expected is not None and self.expected - self.held_first >= max(FORETOLD, self.expected / 2)

    @property
    def words(self) -> str:
        """Who said it, and how."""
        return f"by {self.told.value} at {self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What a peer that was asked holds of a Study.

    Attributes
    ----------
    total
        Its Instances; more than those of all Series where not every Series was told.
    by_series
        Those of each Series; empty where it counts no Series.
    """

    total: int
    by_series: Mapping[SeriesUID, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSeries:
    """A Series that may settle.

    Attributes
    ----------
    source
        AE title that sent it.
    held
        Its Instances that are here.
    open_associations
        How many Associations that brought it are still open.
    last_association_end
        When the last of the others ended; None when none has.
    """

    study_instance_uid: StudyUID
    series_instance_uid: SeriesUID
    source: str
    held: int
    last_instance_at: datetime
    open_associations: int
    last_association_end: datetime | None

    @property
    def quiet_since(self) -> datetime:
        """Since when nothing came, and no Association ended."""
        return max(self.last_association_end or self.last_instance_at, self.last_instance_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStudy:
    """A Study that has a Series in state OPEN.

    Attributes
    ----------
    opened_at
        When its first Instance came, or the one that reopened it.
    series
        Those in state OPEN.
    held
        Instances that are here, by Series, those of other states too.
    """

    study_instance_uid: StudyUID
    opened_at: datetime
    series: tuple[OpenSeries, ...]
    held: Mapping[SeriesUID, int]
    statements: tuple[Statement, ...] = ()

    @property
    def quiet_since(self) -> datetime:
        """Since when nothing came of any open Series."""
        return max(one.quiet_since for one in self.series)

    @property
    def has_open_association(self) -> bool:
        """Whether an Association that brought some of it is still open."""
        return any(one.open_associations for one in self.series)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What the images of a Series themselves say against it.

    Attributes
    ----------
    text
        Such as ``60 of 120 Images in Acquisition (0020,1002)``.
    """

    evidence: Evidence
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a site says of one that sends.

    Attributes
    ----------
    asked
        Name of the peer that is asked how much there is; empty: nobody is.
    sends_whole_studies
        Whether a Series that it holds, and of which nothing came, is waited for.
    quiet_s
        Quiet time after its Associations, instead of the one for all; None: that one.
    """

    asked: str = ""
    sends_whole_studies: bool = True
    quiet_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How much evidence is enough.

    Attributes
    ----------
    heeded
        What is heeded at all.
    after_association_s
        Quiet time when every Association that brought a Series has ended.
    while_open_s
        The same when one is still open.
    belief_s
        How long a number must have been the same before it is believed; seconds.
    doubt_s
        How long a Series is waited for that nothing proves, and something speaks against; seconds.
    max_age_s
        How long a Study stays open at most; seconds.
    refuses
        Whether a Study that is then known to be incomplete is given up, instead of read as it is.
    sources
        By AE title; ``*`` is everybody else.
    learned_s
        Quiet time that each AE title was seen to need; seconds.
    """

    heeded: frozenset[Evidence]
    after_association_s: float
    while_open_s: float
    belief_s: float = 0.5
    doubt_s: float = 120.0
    max_age_s: float = 3600.0
    refuses: bool = False
    sources: Mapping[str, Source] = field(default_factory=dict)
    learned_s: Mapping[str, float] = field(default_factory=dict)

    def source_of(self, aet: str) -> Source:
        """Return what the site says of an AE title."""
        return self.sources.get(aet) or self.sources.get("*") or Source()

    def asked_about(self, study: OpenStudy) -> frozenset[str]:
        """Return the peers that are asked about a Study."""
        if Evidence.COUNTS not in self.heeded:
            return frozenset()
        return frozenset(self.source_of(one.source).asked for one in study.series) - {""}

    def quiet_of(self, aet: str) -> tuple[float, Evidence]:
        """Return the quiet time after the Associations of an AE title, seconds, and where it is from."""
        told = self.source_of(aet).quiet_s
        if told is not None:
            return told, Evidence.ASSOCIATION_END
        learned_s = self.learned_s.get(aet, 0.0) if Evidence.LEARNED_QUIET in self.heeded else 0.0
        if learned_s > self.after_association_s:
            return min(learned_s, self.while_open_s), Evidence.LEARNED_QUIET
        return self.after_association_s, Evidence.ASSOCIATION_END


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """From when on a Series counts as complete if nothing else happens, and why.

    Attributes
    ----------
    due
        In the past where the evidence is there.
    reason
        Why it counts as complete then.
    waits_for
        Why it does not until then; empty for a mere quiet time.
    is_incomplete
        Whether something says that more should have come.
    """

    series: OpenSeries
    due: datetime
    evidence: Evidence
    reason: str
    waits_for: str = ""
    is_incomplete: bool = False


def judge_study(study: OpenStudy, terms: Terms, doubts: Mapping[SeriesUID, Doubt] | None = None) -> tuple[Verdict, ...]:
    """Return the verdict on each open Series of a Study.

    A statement that more is to come holds the whole Study, until its maximum age. Where somebody is known to hold just
    what is here, a Series is complete at once. Where nobody says anything, the end of every Association that brought
    it is evidence, and silence alone the last resort.

    Parameters
    ----------
    doubts
        What the images say against a Series, where they were looked at.
    """
    statements = tuple(one for one in study.statements if one.told.evidence in terms.heeded)
    lack = next(_lacks(study, statements, terms), None)
    verdicts = [
        _judge_series(one, study, statements, terms) if lack is None else _hold(one, lack) for one in study.series
    ]
    doubted = [_doubt(one, (doubts or {}).get(one.series.series_instance_uid), terms) for one in verdicts]
    return tuple(_limit(one, study, terms) for one in doubted)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lack:
    """A statement that more is to come, and its figures in words."""

    evidence: Evidence
    text: str


def _lacks(study: OpenStudy, statements: Sequence[Statement], terms: Terms) -> Iterator[_Lack]:
    """Yield what says that more is to come; the strongest word first."""
    wants_all = all(terms.source_of(one.source).sends_whole_studies for one in study.series)
    for one in sorted(statements, key=lambda one: list(Told).index(one.told), reverse=True):
        uid, evidence = one.series_instance_uid, one.told.evidence
        if one.expected is None:
            if one.told is Told.PROCEDURE_STEP and not one.is_final:
                yield _Lack(evidence=evidence, text=f"the Procedure Step is in progress {one.words}")
        elif uid == WHOLE_STUDY:
            held = sum(study.held.values())
            if wants_all and held < one.expected:
                yield _Lack(evidence=evidence, text=f"held {held} of {one.expected} {one.words}")
        elif study.held.get(uid, 0) < one.expected and (wants_all or uid in study.held):
            text = f"held {study.held.get(uid, 0)} of {one.expected} of series {uid} {one.words}"
            yield _Lack(evidence=evidence, text=text)


def _hold(series: OpenSeries, lack: _Lack) -> Verdict:
    """Return that a Series waits as long as may be."""
    return Verdict(
        series=series,
        due=NEVER,
        evidence=lack.evidence,
        reason=lack.text,
        waits_for=lack.text,
        is_incomplete=True,
    )


def _judge_series(series: OpenSeries, study: OpenStudy, statements: Sequence[Statement], terms: Terms) -> Verdict:
    about = [one for one in statements if one.series_instance_uid == series.series_instance_uid]
    in_detail = {one.source for one in statements if one.series_instance_uid != WHOLE_STUDY}
    total = sum(study.held.values())
    # Not every archive counts Series.
    about += [one for one in statements if one.series_instance_uid == WHOLE_STUDY and one.source not in in_detail]
    for one in about:
        held = total if one.series_instance_uid == WHOLE_STUDY else series.held
        believed_at = _believed_at(one, held, series, terms)
        if believed_at is not None:
            text = f"held {held} of {one.expected} {one.words}"
            return Verdict(series=series, due=believed_at, evidence=one.told.evidence, reason=text)
    quiet = _judge_quiet(series, terms)
    if Evidence.COUNTS not in terms.heeded or not terms.source_of(series.source).asked:
        return quiet
    why = _why_unproven(series, study, about, terms)
    return _put_off(quiet, Doubt(evidence=Evidence.COUNTS, text=why), terms)


def _believed_at(one: Statement, held: int, series: OpenSeries, terms: Terms) -> datetime | None:
    """Return from when on a statement proves a Series; None where it does not.

    A Procedure Step that is over lists what there is; so does a notification of one. Any other number is believed when
    it was the same for a while, or while most of what it counts came, and was said after the last Instance came: an
    archive that still receives says less now than later.
    """
    if one.expected is None or one.failure:
        return None
    if one.is_final:
        return max(one.seen_at, series.last_instance_at) if held >= one.expected else None
    quiet_s, _ = terms.quiet_of(series.source)
    if one.notice_uid:
        known_at = max(one.since, series.quiet_since)
        is_it = held >= one.expected and not series.open_associations
        return known_at + timedelta(seconds=quiet_s) if is_it else None
    if one.expected != held or one.seen_at < series.quiet_since:
        return None
    is_restless = one.changes > 0 or series.open_associations > 0
    if one.is_foretold and not is_restless:
        return one.seen_at
    wanted_s = max(terms.belief_s, quiet_s) if is_restless else terms.belief_s
    begin = max(one.since, series.last_instance_at) if series.open_associations else one.since
    return one.seen_at if one.seen_at - begin >= timedelta(seconds=wanted_s) else None


def _judge_quiet(series: OpenSeries, terms: Terms) -> Verdict:
    heeds_ends = Evidence.ASSOCIATION_END in terms.heeded
    if series.open_associations:
        count, silence_s = series.open_associations, terms.while_open_s
        reason = f"quiet for {silence_s:g} s while {count} Associations were open"
        due = series.last_instance_at + timedelta(seconds=silence_s)
        return Verdict(series=series, due=due, evidence=Evidence.QUIET_TIME, reason=reason)
    quiet_s, evidence = terms.quiet_of(series.source) if heeds_ends else (terms.while_open_s, Evidence.QUIET_TIME)
    learned = f", as {series.source} was seen to need" if evidence is Evidence.LEARNED_QUIET else ""
    return Verdict(
        series=series,
        due=series.quiet_since + timedelta(seconds=quiet_s),
        evidence=evidence,
        reason=f"every Association ended, then quiet for {quiet_s:g} s{learned}",
    )


def _why_unproven(series: OpenSeries, study: OpenStudy, about: Sequence[Statement], terms: Terms) -> str:
    """Return why those who are asked do not prove a Series."""
    whole = [one for one in study.statements if one.series_instance_uid == WHOLE_STUDY]
    asked = terms.source_of(series.source).asked
    answers = [one for one in (*about, *whole) if one.source == asked and not one.notice_uid]
    if not answers:
        return f"{asked} is asked how many there are"
    answer = answers[0]
    if answer.failure:
        return f"{asked} gave no answer ({answer.failure})"
    named = answer.expected if answer in about else 0
    if answer.seen_at >= series.quiet_since and named is not None and named < series.held:
        return f"held {series.held}, and only {named} {answer.words}"
    return f"held {series.held} of {answer.expected} {answer.words}, which is asked once more"


def _doubt(verdict: Verdict, doubt: Doubt | None, terms: Terms) -> Verdict:
    """Return a verdict with what the images say against it; who counts what there is knows better."""
    if doubt is None or doubt.evidence not in terms.heeded or verdict.evidence in COUNTED:
        return verdict
    return _put_off(verdict, doubt, terms)


def _put_off(verdict: Verdict, doubt: Doubt, terms: Terms) -> Verdict:
    """Return that a Series waits for so long after its last Instance that what is in doubt should be over."""
    late = verdict.series.quiet_since + timedelta(seconds=terms.doubt_s)
    return Verdict(
        series=verdict.series,
        due=max(verdict.due, late),
        evidence=Evidence.QUIET_TIME,
        reason=f"{doubt.text}; then quiet for {terms.doubt_s:g} s",
        waits_for=doubt.text,
        is_incomplete=doubt.evidence is not Evidence.COUNTS,
    )


def _limit(verdict: Verdict, study: OpenStudy, terms: Terms) -> Verdict:
    """Return a verdict that comes at the maximum age at the latest."""
    latest = study.opened_at + timedelta(seconds=terms.max_age_s)
    is_proven = verdict.evidence in COUNTED and not verdict.is_incomplete
    if is_proven or verdict.due <= latest:
        return verdict
    what = verdict.waits_for or "Instances still came"
    return Verdict(
        series=verdict.series,
        due=latest,
        evidence=Evidence.MAXIMUM_AGE,
        reason=f"{what}, at the maximum age of {terms.max_age_s / 60:g} min",
        waits_for=verdict.waits_for,
        is_incomplete=verdict.is_incomplete,
    )
