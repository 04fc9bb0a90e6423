"""Attribute matching: what a searcher's value says about an attribute (PS3.4 C.2.2.2)."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR

from node.domain.study import Attributes
from node.errors import RequestMalformed
from node.ledger.catalogue import fold_name

WILDCARDS = re.compile(r"[*?]")
# Representations in which * and ? are no wildcards (PS3.4 C.2.2.2.4).
LITERAL = frozenset({"DA", "TM", "DT", "UI", "IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "AS"})
CONTROL = "Cc"
NUMERIC = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "FL", "FD"})
RANGED = frozenset({"DA", "TM", "DT"})
DATE, TIME = re.compile(r"\d{8}\Z"), re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?\Z")
# Behind every time that begins with what stands before it.
LAST = "~"
# Databases try every way to share a text among the asterisks: three take a moment, eight take days.
MAX_CHARACTERS = 256
MAX_ASTERISKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """From one date or time to another, both included; an empty end is open."""

    begin: str
    end: str

    def holds(self, value: str) -> bool:
        """Return whether a date or time lies within."""
        return bool(value) and self.begin <= value and (not self.end or value <= self.end + LAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What is asked of one attribute.

    Attributes
    ----------
    values
        One of them must match; not empty.
    """

    keyword: str
    values: tuple[str, ...]

    def holds(self, attributes: Attributes) -> bool:
        """Return whether one value of the attribute matches one that is asked for."""
        found = attributes.get(self.keyword)
        if found is None:
            return False
        vr = dictionary_VR(self.keyword)
        present = found if isinstance(found, list) else [found]
        return any(_matches(vr, value, asked) for value in present for asked in self.values)


def read_condition(keyword: str, values: Sequence[str]) -> Condition | None:
    """Return the condition that a query sets; None when every value matches.

    Parameters
    ----------
    values
        As asked for; UIDs and Code Strings may be a list, with commas or backslashes between.

    Raises
    ------
    RequestMalformed
        If a date, time or number is none, or a value has control characters.
    """
    vr = dictionary_VR(keyword)
    parts = [part.strip() for value in values for part in _split(vr, value)]
    asked = tuple(part for part in parts if not _is_universal(vr, part))
    if len(asked) < len(parts) or not asked:
        # One of them is met by whatever there is.
        return None
    for value in asked:
        _check(keyword, vr, value)
    return Condition(keyword=keyword, values=asked)


def read_range(keyword: str, value: str) -> Range:
    """Return the range that a date or time means; a single one is a range of itself.

    Raises
    ------
    RequestMalformed
        If it is none.
    """
    form = DATE if dictionary_VR(keyword) == "DA" else TIME
    begin, dash, end = value.replace(":", "").partition("-")
    found = Range(begin=begin, end=end if dash else begin)
    ends = [part for part in (found.begin, found.end) if part]
    if not ends or not all(map(form.match, ends)):
        raise RequestMalformed(f"{keyword} is searched by one date or time, or a range of two (20250101-20250131)")
    return found


def _split(vr: str, value: str) -> Sequence[str]:
    if vr in ("UI", "CS"):
        return re.split(r"[,\\]", value)
    return (value,)


def _is_universal(vr: str, value: str) -> bool:
    """Return whether every value matches: also a name of which nothing is left when it is folded."""
    return not (fold_name(value).strip("*^=") if vr == "PN" else value.strip("*"))


def _check(keyword: str, vr: str, value: str) -> None:
    # None is part of a value that is matched (PS3.5 6.2), and PostgreSQL takes no NUL.
    if any(unicodedata.category(character) == CONTROL for character in value):
        raise RequestMalformed(f"{keyword} is searched by what has no control characters")
    if len(value) > MAX_CHARACTERS or value.count("*") > MAX_ASTERISKS:
        raise RequestMalformed(
            f"{keyword} is searched by at most {MAX_CHARACTERS} characters, {MAX_ASTERISKS} of them *"
        )
    if vr in ("DA", "TM"):
        read_range(keyword, value)
    elif vr in NUMERIC and _number(value) is None:
        raise RequestMalformed(f"{keyword} is searched by a number")


def _matches(vr: str, found: Any, asked: str) -> bool:
    if vr in NUMERIC:
        return isinstance(found, int | float) and float(found) == _number(asked)
    text = str(found)
    if vr in ("DA", "TM"):
        return _range(vr, asked).holds(text)
    if vr == "PN":
        return matches_name(fold_name(text), fold_name(asked))
    if vr in LITERAL:
        return text == asked
    return _matches_pattern(text, asked)


def matches_name(found: str, asked: str) -> bool:
    """Return whether a folded name, or one of its component groups, matches what is asked for, folded likewise."""
    return any(_matches_pattern(group, asked) for group in (found, *found.split("=")))


def _matches_pattern(text: str, asked: str) -> bool:
    """Return whether a text matches a value with wildcards, in at most as many steps as both are long, multiplied.

    A regular expression would try every way to share the text among the asterisks.
    """
    at, place, star, star_at = 0, 0, -1, 0
    while at < len(text):
        if asked[place : place + 1] == "*":
            star, star_at = place, at
            place += 1
        elif place < len(asked) and asked[place] in ("?", text[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            # What the last * stands for is one character longer.
            star_at += 1
            at, place = star_at, star + 1
        else:
            return False
    return not asked[place:].strip("*")


@lru_cache(maxsize=256)
def _range(vr: str, asked: str) -> Range:
    return read_range("StudyDate" if vr == "DA" else "StudyTime", asked)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
