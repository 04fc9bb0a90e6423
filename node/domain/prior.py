"""Priors: earlier Studies of a patient that a rule wants beside a Study; which are wanted, and whose they are."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

# The role under which `model.toml` asks for a Series of an earlier Study.
PRIOR_ROLE = "prior"
# Patient ID (0010,0020), Issuer of Patient ID (0010,0021), Patient's Birth Date (0010,0030), as people call them.
IDENTITY = {"PatientID": "Patient ID", "IssuerOfPatientID": "Issuer of Patient ID", "PatientBirthDate": "birth date"}
# What may be absent from both: few sites write it.
MAY_LACK = "IssuerOfPatientID"


class PriorState(StrEnum):
    """How far the search for priors of one Study has come."""

    SOUGHT = "SOUGHT"
    FETCHING = "FETCHING"
    HERE = "HERE"
    ABSENT = "ABSENT"

    @property
    def is_over(self) -> bool:
        """True when nothing more comes of it."""
        return self in {PriorState.HERE, PriorState.ABSENT}


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorTerms:
    """Which earlier Studies a rule wants, and how long it waits for them.

    Attributes
    ----------
    source
        Destination or source that is asked.
    modalities, body_parts
        One of them must be that of a Series; empty: any.
    newest
        So many of the newest are fetched at most; the newest with a Series that fits is read.
    max_age_days
        Between the two Study Dates; None: any.
    wait_s
        How long a Job waits.
    """

    source: str
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    newest: int = 1
    max_age_days: int | None = None
    wait_s: float = 60.0

    @property
    def key(self) -> str:
        """A digest that tells these terms from others."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def words(self) -> str:
        """Where a prior is looked for, in words."""
        return f"a prior from {self.source}"

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "PriorTerms":
        """Return the terms that `as_json` wrote."""
        lists = {name: tuple(told[name]) for name in ("modalities", "body_parts")}
        return cls(**{**told, **lists})

    def begin(self, study_date: date) -> date | None:
        """Return the earliest Study Date that a prior of a Study may have; None: any."""
        return None if self.max_age_days is None else study_date - timedelta(days=self.max_age_days)


def read_date(text: str) -> date | None:
    """Return a DA (PS3.5 6.2); None where it is none."""
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:])) if len(text) == 8 and text.isdecimal() else None
    except ValueError:
        return None


def say_date(text: str) -> str:
    """Return a DA for people: ``2024-03-01``."""
    found = read_date(text)
    return "an unknown date" if found is None else found.isoformat()


def is_earlier(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Return whether Study Date and Study Time of one are before another's; on one day both must tell a time."""
    (one_date, one_time), (other_date, other_time) = one, other
    if read_date(one_date) is None or read_date(other_date) is None:
        return False
    if one_date != other_date:
        return one_date < other_date
    return bool(one_time) and bool(other_time) and one_time < other_time


def read_identity(headers: Iterable[Mapping[str, Any]]) -> Mapping[str, frozenset[str]]:
    """Return what headers say of whose they are: keyword to each value that occurs, of those of `IDENTITY`."""
    found = list(headers)
    return {
        keyword: frozenset(str(one[keyword]).strip() for one in found if str(one.get(keyword) or "").strip())
        for keyword in IDENTITY
    }


def refuse_stranger(
    own: Mapping[str, frozenset[str]], other: Mapping[str, frozenset[str]], *, may_lack: bool = False
) -> str:
    """Return why an earlier Study must not be read as a prior; empty where it is of the same patient.

    Patient ID and birth date must be told by both and be equal. The issuer must be equal, or absent from both.

    Parameters
    ----------
    own, other
        See `read_identity`.
    may_lack
        True for what a peer answers to a query: what it does not tell, the images will.
    """
    for keyword, words in IDENTITY.items():
        mine, theirs = own.get(keyword, frozenset()), other.get(keyword, frozenset())
        if not theirs and (may_lack or (keyword == MAY_LACK and not mine)):
            continue
        if not mine:
            return f"the Study tells no {words}"
        if not theirs:
            return f"it tells no {words}"
        if mine != theirs or len(mine) > 1:
            return f"its {words} differs"
    return ""
