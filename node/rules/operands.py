"""What a condition compares with: a word, a pattern, a span of numbers, or mere presence."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import regex

from node.domain.decision import Outcome
from node.errors import RuleInvalid
from node.rules.anatomy import body_part_of
from node.rules.kleene import any_of, decide
from node.rules.quantity import Quantity, Span, parse_span
from node.rules.text import compile_pattern, normalize

PRESENT, ABSENT = "present", "absent"
# What is repeated so often is written out when it is compiled, and no text is that long.
MAX_REPEATS = 2**16
PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?P<low>\d*)(?:,(?P<high>\d*))?\}|.", re.DOTALL)
# Searches take microseconds, but a pattern may have more ways to try in one text than there is time.
SEARCH_S = 0.1
RawOperand = str | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a Series says of one attribute; a Reading without texts and number was there but not readable.

    Attributes
    ----------
    words
        The value for people.
    texts
        Values as written.
    number
        Value in the unit of the condition.
    is_open
        True where the header does not tell whether there is a value.
    """

    words: str
    texts: tuple[str, ...] = ()
    number: float | None = None
    is_open: bool = False


class Operand(Protocol):
    """One thing that a value may be compared with.

    Attributes
    ----------
    symbol, words
        The comparison for people: ``=`` and ``CHEST``.
    """

    @property
    def symbol(self) -> str:
        """Sign of the comparison."""
        ...

    @property
    def words(self) -> str:
        """What stands behind the sign."""
        ...

    def compare(self, reading: Reading | None) -> Outcome:
        """Return whether `reading` meets this; None is an absent attribute."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Holds when the attribute is there (or is not)."""

    wanted: bool
    symbol: str = ""

    @property
    def words(self) -> str:
        """``present`` or ``absent``."""
        return PRESENT if self.wanted else ABSENT

    def compare(self, reading: Reading | None) -> Outcome:
        """Return UNDETERMINED only where presence is open."""
        if reading is not None and reading.is_open:
            return Outcome.UNDETERMINED
        return decide((reading is not None) == self.wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Holds when a value is this word, whatever its case, accents and separators."""

    words: str
    symbol: str = "="

    def compare(self, reading: Reading | None) -> Outcome:
        """Return UNDETERMINED without a text."""
        if reading is None or not reading.texts:
            return Outcome.UNDETERMINED
        wanted = normalize(self.words)
        return decide(any(normalize(text) == wanted for text in reading.texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyPart:
    """Holds when a value means the same part of the body, in whatever word or code."""

    words: str
    symbol: str = "="

    def compare(self, reading: Reading | None) -> Outcome:
        """Return UNDETERMINED without a text."""
        if reading is None or not reading.texts:
            return Outcome.UNDETERMINED
        wanted = body_part_of(self.words)
        return decide(any(body_part_of(text) == wanted for text in reading.texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Holds when a regular expression is found in a normalized value."""

    words: str
    pattern: regex.Pattern[str]
    symbol: str = "~"

    def compare(self, reading: Reading | None) -> Outcome:
        """Return UNDETERMINED without a text, or where a search takes longer than `SEARCH_S`."""
        if reading is None or not reading.texts:
            return Outcome.UNDETERMINED
        # One text at a time: across two, `t1.*ce` would find the `ce` of another attribute.
        return any_of(self._search(normalize(text)) for text in reading.texts)

    def _search(self, text: str) -> Outcome:
        try:
            return decide(self.pattern.search(text, timeout=SEARCH_S) is not None)
        except TimeoutError:
            return Outcome.UNDETERMINED


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Holds when the number lies within a Span."""

    words: str
    span: Span
    symbol: str = ""

    def compare(self, reading: Reading | None) -> Outcome:
        """Return UNDETERMINED without a number."""
        if reading is None or reading.number is None:
            return Outcome.UNDETERMINED
        return decide(self.span.holds(reading.number))


def parse_word(raw: RawOperand) -> Operand:
    """Return the Word `raw`.

    Raises
    ------
    RuleInvalid
        If `raw` is a number, or a comparison that no text can meet.
    """
    text = _as_text(raw)
    if re.match(r"[<>≤≥]|\S+\s*\.\.\s*\S+", text):
        raise RuleInvalid(f"{text!r} compares numbers, but this attribute is a text; write the word itself")
    return Word(words=text)


def parse_body_part(raw: RawOperand) -> Operand:
    """Return the BodyPart `raw`.

    Raises
    ------
    RuleInvalid
        As `parse_word`.
    """
    return BodyPart(words=parse_word(raw).words)


def parse_pattern(raw: RawOperand) -> Operand:
    """Return the Pattern `raw`.

    Raises
    ------
    RuleInvalid
        If `raw` is no regular expression, or repeats something too often.
    """
    text = _as_text(raw)
    if _count_repeats(text) > MAX_REPEATS:
        raise RuleInvalid(f"{text!r} repeats something more than {MAX_REPEATS} times; a text holds 256 characters")
    try:
        return Pattern(words=text, pattern=compile_pattern(text))
    except (regex.error, OverflowError, RecursionError) as exc:
        raise RuleInvalid(f"{text!r} is no regular expression: {exc}") from exc


def _count_repeats(source: str) -> int:
    """Return how often the innermost thing of a pattern is repeated at most, by counts within counts."""
    # Of each group that is open, and around all: the most of what is within. `last` is that of the piece before.
    most, last = [1], 1
    for piece in PIECE.finditer(source):
        low, high = piece["low"], piece["high"]
        if piece[0] == "(":
            most.append(1)
        elif piece[0] == ")" and len(most) > 1:
            last = most.pop()
        elif low or high:
            last *= max(1, int((low or "0")[:9]), int((high or "0")[:9]))
        else:
            last = 1
        most[-1] = max(most[-1], last)
    return max(most)


def parse_comparison(raw: RawOperand, quantity: Quantity) -> Operand:
    """Return the Comparison `raw`.

    Raises
    ------
    RuleInvalid
        If `raw` is no comparison in this quantity, or can never hold.
    """
    span, words = parse_span(raw, quantity)
    return Comparison(words=words, span=span)


def parse_choice(raw: RawOperand, choices: Iterable[str]) -> Operand:
    """Return the Word `raw`, one of `choices` in any case.

    Raises
    ------
    RuleInvalid
        If it is none of them.
    """
    text = _as_text(raw)
    by_form = {normalize(choice): choice for choice in choices}
    if normalize(text) not in by_form:
        raise RuleInvalid(f"{text!r} is not known; {suggest(text, by_form.values())}")
    return Word(words=by_form[normalize(text)])


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean "chest"?``, or what is known when nothing is near."""
    names = sorted(known)
    forms = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(word.casefold(), forms, n=1, cutoff=0.5)
    if near:
        return f'did you mean "{forms[near[0]]}"?'
    return f"known are {', '.join(names)}" if names else "none is known"


def _as_text(raw: RawOperand) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise RuleInvalid(f"{raw!r} must be a text that is not empty")
    return raw.strip()
