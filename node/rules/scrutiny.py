"""What rules say in vain: those that can never match, add nothing to an earlier one, or name a choice never come to.

Only what is certain is told: a rule without a remark may still never meet a Study.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from node.domain.prior import PRIOR_ROLE
from node.rules.anatomy import body_part_of
from node.rules.eligibility import IMAGE_STORAGE, SECONDARY_CAPTURE
from node.rules.operands import BodyPart, Comparison, Operand, Pattern, Presence, Word
from node.rules.quantity import Span
from node.rules.rule import AllOf, AnyOf, Ask, Rule, Test
from node.rules.text import normalize


class Fault(StrEnum):
    """What is wrong with a rule."""

    IMPOSSIBLE = "impossible"
    SHADOWED = "shadowed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing that a rule says in vain, in a sentence for whoever wrote it."""

    rule: str
    fault: Fault
    text: str


def scrutinize(rules: Sequence[Rule]) -> tuple[Remark, ...]:
    """Return the remarks on `rules`, in their order."""
    remarks: list[Remark] = []
    for place, rule in enumerate(rules):
        remarks += [Remark(rule=rule.name, fault=Fault.IMPOSSIBLE, text=text) for text in _contradictions(rule)]
        remarks += [Remark(rule=rule.name, fault=Fault.UNREACHABLE, text=text) for text in _dead_alternatives(rule)]
        earlier = next((other for other in rules[:place] if _adds_nothing(rule, other)), None)
        if earlier is not None:
            text = f"whatever it matches, {earlier.name!r} matches too, and does the same"
            if rule.priors not in (None, earlier.priors):
                text = (
                    f"whatever it matches, {earlier.name!r} matches too and counts; its own priors are never looked for"
                )
            remarks.append(Remark(rule=rule.name, fault=Fault.SHADOWED, text=text))
    return tuple(remarks)


def _contradictions(rule: Rule) -> Iterator[str]:
    clash = _find_clash(rule.when.parts) or (_feeds_nothing(rule) if rule.needs else None)
    if clash is not None:
        yield f"when: {clash}"
        return
    for role, alternatives in rule.inputs.items():
        for number, alternative in enumerate(alternatives, start=1):
            clash = _find_clash((*rule.when.parts, *alternative.parts))
            if clash is not None:
                yield f"inputs.{role}, alternative {number}: {clash}"
    yield from _contradictions_of_priors(rule)


def _contradictions_of_priors(rule: Rule) -> Iterator[str]:
    if rule.priors is None:
        return
    clash = _find_clash(rule.priors.when.parts)
    if clash is not None:
        yield f"priors: {clash}"
        return
    for number, alternative in enumerate(rule.priors.series, start=1):
        clash = _find_clash((*rule.priors.when.parts, *alternative.parts))
        if clash is not None:
            yield f"inputs.{PRIOR_ROLE}, alternative {number}: {clash}"


def _dead_alternatives(rule: Rule) -> Iterator[str]:
    of_prior = {} if rule.priors is None else {PRIOR_ROLE: rule.priors.series}
    for role, alternatives in {**rule.inputs, **of_prior}.items():
        for number, alternative in enumerate(alternatives):
            wider = next((i for i in range(number) if _implies(alternative.parts, alternatives[i].parts)), None)
            if wider is not None:
                yield f"inputs.{role}, alternative {number + 1}: alternative {wider + 1} takes all that it could"


def _adds_nothing(rule: Rule, earlier: Rule) -> bool:
    return (
        set(rule.asked_of) <= set(earlier.asked_of)
        and {need.pipeline for need in rule.needs} <= {need.pipeline for need in earlier.needs}
        and set(rule.forward) <= set(earlier.forward)
        and (bool(rule.forward and not rule.needs) or set(rule.deliver_to) <= set(earlier.deliver_to))
        and rule.priority >= earlier.priority
        and _texts(rule) == _texts(earlier)
        and _implies(rule.when.parts, earlier.when.parts)
    )


def _texts(rule: Rule) -> dict[str, tuple[str, ...]]:
    return {role: tuple(alternative.text for alternative in found) for role, found in rule.inputs.items()}


def _feeds_nothing(rule: Rule) -> str | None:
    for asked in _asks(rule.when.parts):
        if asked.condition.key != "sop_class":
            continue
        names = [operand.words for operand in asked.operands if isinstance(operand, Word)]
        if names and not any(IMAGE_STORAGE in name and SECONDARY_CAPTURE not in name for name in names):
            return f"{asked.text}, which never feeds a pipeline"
    return None


def _find_clash(parts: Sequence[Test]) -> str | None:
    """Return the first two questions that no Series can meet together."""
    asks = list(_asks(parts))
    for place, one in enumerate(asks):
        for other in asks[:place]:
            if one.condition.key == other.condition.key and not _can_both_hold(one, other):
                return f"{other.text} and {one.text} never hold together"
    return None


def _asks(parts: Sequence[Test]) -> Iterator[Ask]:
    """Return the questions that all must hold."""
    for part in parts:
        if isinstance(part, Ask):
            yield part
        elif isinstance(part, AllOf):
            yield from _asks(part.parts)


def _can_both_hold(one: Ask, other: Ask) -> bool:
    if one.condition.needs_all:
        return True
    return any(_meet(a, b, one.condition.is_single) for a in one.operands for b in other.operands)


def _meet(one: Operand, other: Operand, is_single: bool) -> bool:
    if isinstance(one, Presence) or isinstance(other, Presence):
        return _wants_value(one) == _wants_value(other)
    if isinstance(one, Comparison) and isinstance(other, Comparison):
        return _overlap(one.span, other.span)
    if is_single and isinstance(one, Word) and isinstance(other, Word):
        return normalize(one.words) == normalize(other.words)
    return True


def _wants_value(operand: Operand) -> bool:
    return operand.wanted if isinstance(operand, Presence) else True


def _overlap(one: Span, other: Span) -> bool:
    lows = [span.low for span in (one, other) if span.low is not None]
    highs = [span.high for span in (one, other) if span.high is not None]
    if not lows or not highs:
        return True
    low, high = max(lows), min(highs)
    return any(one.holds(number) and other.holds(number) for number in (low, high, (low + high) / 2))


def _implies(narrow: Sequence[Test], wide: Sequence[Test]) -> bool:
    """Return whether what meets all of `narrow` certainly meets all of `wide`."""
    return all(_follows(test, narrow) for test in wide)


def _follows(test: Test, given: Sequence[Test]) -> bool:
    if any(test.text == other.text for other in _all_parts(given)):
        return True
    if isinstance(test, AllOf):
        return _implies(given, test.parts)
    if isinstance(test, AnyOf):
        return any(_follows(part, given) for part in test.parts)
    return isinstance(test, Ask) and any(_is_within(asked, test) for asked in _asks(given))


def _all_parts(parts: Sequence[Test]) -> Iterator[Test]:
    for part in parts:
        yield part
        if isinstance(part, AllOf):
            yield from _all_parts(part.parts)


def _is_within(narrow: Ask, wide: Ask) -> bool:
    if narrow.condition.key != wide.condition.key:
        return False
    if wide.condition.needs_all:
        return all(any(_covers(w, n) for n in narrow.operands) for w in wide.operands)
    return all(any(_covers(w, n) for w in wide.operands) for n in narrow.operands)


def _covers(wide: Operand, narrow: Operand) -> bool:
    """Return whether whatever meets `narrow` meets `wide`."""
    if isinstance(wide, Presence):
        return _wants_value(narrow) == wide.wanted
    if isinstance(wide, Comparison) and isinstance(narrow, Comparison):
        return _contains(wide.span, narrow.span)
    if isinstance(wide, BodyPart) and isinstance(narrow, BodyPart):
        return body_part_of(wide.words) == body_part_of(narrow.words)
    if isinstance(wide, Word) and isinstance(narrow, Word):
        return normalize(wide.words) == normalize(narrow.words)
    if isinstance(wide, Pattern) and isinstance(narrow, Pattern):
        return wide.words == narrow.words
    return type(wide) is type(narrow) and wide.words == narrow.words


def _contains(wide: Span, narrow: Span) -> bool:
    return _reaches_down(wide, narrow) and _reaches_up(wide, narrow)


def _reaches_down(wide: Span, narrow: Span) -> bool:
    if wide.low is None or narrow.low is None:
        return wide.low is None
    return narrow.low > wide.low or (narrow.low == wide.low and (narrow.is_strict or not wide.is_strict))


def _reaches_up(wide: Span, narrow: Span) -> bool:
    if wide.high is None or narrow.high is None:
        return wide.high is None
    return narrow.high < wide.high or (narrow.high == wide.high and (narrow.is_strict or not wide.is_strict))
