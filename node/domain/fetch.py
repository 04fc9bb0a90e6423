"""What is fetched from others: who asked for which Study and why, and what became of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum

from node.domain.uids import SeriesUID, StudyUID
from node.errors import QueryRefused

# What a Study is asked for by (PS3.4 table C.6-5), with what most peers know beside it.
QUERY_KEYS = (
    "AccessionNumber", "InstitutionName", "IssuerOfPatientID", "ModalitiesInStudy", "PatientBirthDate", "PatientID",
    "PatientName", "PatientSex", "ReferringPhysicianName", "StudyDate", "StudyDescription", "StudyID",
    "StudyInstanceUID", "StudyTime",
)  # fmt: skip
# A word and an equals sign: the beginning of a key, or the very thing that a value may not hold.
KEY = re.compile(r"(?:^|,)\s*(?P<keyword>[A-Za-z]+)=")
# The longest value of the keys above (PS3.5 6.2, LO and lists of CS), and wildcards.
MAX_VALUE = 256
DATE_LENGTH = 8
WILDCARDS = frozenset("*?")


class FetchReason(StrEnum):
    """Why a Study is fetched, what is most urgent first."""

    PRIOR = "prior"
    PULL = "pull"
    POLL = "poll"


class FetchState(StrEnum):
    """What became of it, in the words of UPS (PS3.4 CC)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more becomes of it."""
        return self in {FetchState.COMPLETED, FetchState.CANCELED}


LIVE_STATES = (FetchState.SCHEDULED.value, FetchState.IN_PROGRESS.value)


class Retrieve(StrEnum):
    """How a peer is asked for Instances."""

    AUTO = "auto"
    MOVE = "move"
    GET = "get"
    WADO = "wado"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStudy:
    """What a peer says of a Study that it holds; texts are empty where it does not say it.

    Attributes
    ----------
    issuer
        Issuer of Patient ID (0010,0021).
    modalities
        Modalities in Study (0008,0061).
    series, instances
        Number of Study Related Series (0020,1206) and Instances (0020,1208); None where it does not count.
    """

    study_instance_uid: StudyUID
    patient_id: str = ""
    issuer: str = ""
    birth_date: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    description: str = ""
    modalities: tuple[str, ...] = ()
    series: int | None = None
    instances: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSeries:
    """What a peer says of a Series that it holds; texts are empty where it does not say it.

    Attributes
    ----------
    body_part
        Body Part Examined (0018,0015).
    instances
        Number of Series Related Instances (0020,1209); None where it does not count.
    """

    series_instance_uid: SeriesUID
    modality: str = ""
    body_part: str = ""
    description: str = ""
    instances: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOrder:
    """That a Study is to be fetched.

    Attributes
    ----------
    source
        Name of the peer, as `node.destinations.pull_peers` has it.
    on_behalf
        For what: the Study that wants it (a prior), or the id of an order (a pull); empty for a poll.
    series
        Only these; none: all of the Study.
    instances
        How many the peer said that it has; None where it did not.
    asked_by
        Who asked for it; empty where the node did by itself.
    """

    source: str
    study_instance_uid: StudyUID
    reason: FetchReason
    on_behalf: str = ""
    series: tuple[SeriesUID, ...] = ()
    instances: int | None = None
    asked_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """How much of a Study came.

    Attributes
    ----------
    expected
        Instances that the peer lists of what was asked for; None where it lists and counts none.
    done
        Came in this and earlier attempts.
    failed
        Did not come in this one.
    held
        Were here before.
    """

    expected: int | None = None
    done: int = 0
    failed: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One order with what became of it so far.

    Attributes
    ----------
    attempts
        How often it was begun; the number of the attempt that is under way.
    failures
        How many of the attempts failed; those do not that found the peer away.
    not_before
        When the next attempt may begin.
    reason_code, reason_text
        Why it waits, or ended without all of it; None where nothing went wrong.
    """

    fetch_id: int
    order: FetchOrder
    state: FetchState
    attempts: int
    failures: int
    not_before: datetime
    asked_at: datetime
    changed_at: datetime
    fetched: Fetched
    reason_code: str | None = None
    reason_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended.

    Attributes
    ----------
    state
        SCHEDULED: it is tried again.
    not_before
        When, at the earliest; None: at once.
    is_failure
        Whether the attempt counts as one that failed.
    """

    state: FetchState
    fetched: Fetched
    reason_code: str | None = None
    reason_text: str | None = None
    not_before: datetime | None = None
    is_failure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSource:
    """How it stands with fetching from one peer.

    Attributes
    ----------
    paused_at, paused_by, pause_reason
        Since when nothing is fetched from it, by whom and why; None and empty while it is.
    polled_at
        When it was last asked for new Studies; None: never.
    """

    name: str
    paused_at: datetime | None = None
    paused_by: str = ""
    pause_reason: str = ""
    polled_at: datetime | None = None


def read_query(text: str) -> Mapping[str, str]:
    r"""Return what a person asks for, ``PatientID=4711,ModalitiesInStudy=CT\MR``, by keyword.

    Raises
    ------
    QueryRefused
        As `check_query` does, or if it is no list of keywords with their values.
    """
    begins = list(KEY.finditer(text))
    if not begins or text[: begins[0].start()].strip():
        raise QueryRefused("a query is a list such as PatientID=4711,StudyDate=20260101-; each part is KEYWORD=VALUE")
    ends = [found.start() for found in begins[1:]] + [len(text)]
    parts = [(found["keyword"], text[found.end() : end].strip()) for found, end in zip(begins, ends, strict=True)]
    if len(dict(parts)) < len(parts):
        raise QueryRefused("a keyword stands twice in the query; say each once")
    return check_query(dict(parts))


def check_query(query: Mapping[str, str]) -> Mapping[str, str]:
    """Return `query` when a peer can be asked so.

    Raises
    ------
    QueryRefused
        If a keyword is unknown, a value too long, or nothing is asked that would keep a whole archive from coming.
    """
    for keyword, value in query.items():
        if keyword not in QUERY_KEYS:
            near = get_close_matches(keyword, QUERY_KEYS, n=1)
            known = f"did you mean {near[0]}?" if near else f"known are {', '.join(QUERY_KEYS)}"
            raise QueryRefused(f"Studies are not asked for by {keyword[:40]}; {known}")
        if len(value) > MAX_VALUE or not value.isprintable():
            raise QueryRefused(f"the value of {keyword} is longer than {MAX_VALUE} characters, or holds a control one")
    if not any(set(value) - WILDCARDS for value in query.values()):
        raise QueryRefused("the query names nothing, so everything would come; say at least one value")
    return query


def fits(study: FoundStudy, query: Mapping[str, str]) -> bool:
    """Return whether a match is one: a peer that does not know a key answers as if it had not been asked.

    What the peer does not say is believed.
    """
    patient_id, dates = query.get("PatientID", ""), query.get("StudyDate", "")
    modalities = frozenset(query.get("ModalitiesInStudy", "").split("\\")) - {""}
    if patient_id and study.patient_id and not _has_wildcard(patient_id) and patient_id != study.patient_id:
        return False
    is_of_other_modality = bool(modalities and study.modalities) and modalities.isdisjoint(study.modalities)
    if is_of_other_modality and not any(map(_has_wildcard, modalities)):
        return False
    return not dates or not study.study_date or _is_in(study.study_date, dates)


def _has_wildcard(value: str) -> bool:
    return bool(set(value) & WILDCARDS)


def _is_in(date: str, asked: str) -> bool:
    """Return whether a date is one, or in a range, of PS3.4 C.2.2.2.5."""
    begin, hyphen, end = asked.partition("-")
    if not hyphen:
        return date[:DATE_LENGTH] == begin or _has_wildcard(begin)
    return (not begin or begin <= date[:DATE_LENGTH]) and (not end or date[:DATE_LENGTH] <= end)
