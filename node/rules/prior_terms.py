"""From the table ``priors`` of a rule to what is wanted of earlier Studies."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from node.domain.prior import PriorTerms
from node.errors import RuleInvalid
from node.rules.findings import ResultHas
from node.rules.operands import Presence, suggest
from node.rules.rule import AllOf, Ask, Priors

KEYS = ("from", "modality", "body_part", "newest", "not_older_than", "wait_seconds")
# Conditions that a peer can be asked, too.
ASKED = ("modality", "body_part")
AGE = re.compile(r"(?P<number>\d{1,4}) *(?P<unit>day|week|month|year)s?\Z")
# A month is a twelfth of a year.
DAYS = {"day": 1.0, "week": 7.0, "month": 365.25 / 12, "year": 365.25}
MOST = 5
LONGEST_WAIT_S = 86_400.0
DEFAULT_WAIT_S = 60.0

ParseAsk = Callable[[str, object, str], Ask]


def parse_priors(
    raw: object, *, when: AllOf, series: tuple[AllOf, ...], peers: Collection[str], parse_ask: ParseAsk
) -> Priors:
    """Return what the table ``priors`` wants.

    Parameters
    ----------
    when
        That of the rule; a Series of an earlier Study must meet it, too, unless `series` says which is wanted.
    series
        ``inputs.prior``.
    peers
        Names of those from whom Studies can be fetched.
    parse_ask
        Returns a condition: of key, value, and where it stands.

    Raises
    ------
    RuleInvalid
        If a key or a value is not known, or nothing can be fetched from the peer.
    """
    if not isinstance(raw, Mapping):
        raise RuleInvalid('priors must be a table: priors = { from = "pacs", newest = 1 }')
    for key in raw:
        if key not in KEYS:
            raise RuleInvalid(f"priors.{key} is no key of priors; {suggest(str(key), KEYS)}")
    asks = {key: parse_ask(key, raw[key], f"priors.{key}") for key in ASKED if key in raw}
    own = () if series else tuple(part for part in when.parts if not isinstance(part, ResultHas))
    terms = PriorTerms(
        source=_read_source(raw, peers),
        modalities=tuple(word.upper() for word in _read_words(asks.get("modality"))),
        body_parts=_read_words(asks.get("body_part")),
        newest=_read_number(raw, "newest", 1),
        max_age_days=_read_age(raw),
        wait_s=_read_wait(raw),
    )
    return Priors(terms=terms, when=AllOf(parts=(*asks.values(), *own)), series=series)


def _read_source(raw: Mapping[str, Any], peers: Collection[str]) -> str:
    source = raw.get("from")
    if not isinstance(source, str) or not source:
        raise RuleInvalid('priors.from is missing; name who has them: from = "pacs"')
    if source not in peers:
        raise RuleInvalid(f"priors.from: from {source!r} nothing can be fetched; {suggest(source, peers)}")
    return source


def _read_words(asked: Ask | None) -> tuple[str, ...]:
    """Return the words that a peer can be asked for; none where only headers can be."""
    if asked is None or any(isinstance(operand, Presence) for operand in asked.operands):
        return ()
    return tuple(operand.words for operand in asked.operands)


def _read_number(raw: Mapping[str, Any], key: str, default: int) -> int:
    number = raw.get(key, default)
    if type(number) is not int or not 1 <= number <= MOST:
        raise RuleInvalid(f"priors.{key} is {number!r}; write a whole number from 1 to {MOST}")
    return number


def _read_age(raw: Mapping[str, Any]) -> int | None:
    if "not_older_than" not in raw:
        return None
    told = raw["not_older_than"]
    found = AGE.match(told.strip()) if isinstance(told, str) else None
    if found is None or int(found["number"]) == 0:
        raise RuleInvalid(f'priors.not_older_than is {told!r}; write "5 years", "18 months", "6 weeks" or "90 days"')
    return round(int(found["number"]) * DAYS[found["unit"]])


def _read_wait(raw: Mapping[str, Any]) -> float:
    seconds = raw.get("wait_seconds", DEFAULT_WAIT_S)
    if type(seconds) not in {int, float} or not 0 <= seconds <= LONGEST_WAIT_S:
        raise RuleInvalid(f"priors.wait_seconds is {seconds!r}; write seconds from 0 to {LONGEST_WAIT_S:g}")
    return float(seconds)
