"""Which Series fills which role: the best of those that fit, each at most once, and why it was preferred."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node.domain.decision import Clause, Outcome
from node.domain.study import SeriesFacts
from node.domain.uids import SeriesUID
from node.rules.answers import Answer, Surroundings, ask
from node.rules.eligibility import name_series
from node.rules.quantity import COUNT
from node.rules.readings import read_number, read_slice_count, read_texts
from node.rules.rule import AllOf, Rule
from node.rules.text import normalize

Preference = tuple[float, ...]
# In words, why one Series went before another; one entry for each number of a Preference.
PREFERENCES = (
    "fits a better alternative",
    "is original where the next is derived",
    "has the smaller slice spacing",
    "has more slices",
    "has the lower Series Number",
)
INPUT = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A Series that fits a role; the smaller the preference, the better it fits."""

    series: SeriesFacts
    preference: Preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One role with the Series that fit it, best first.

    Attributes
    ----------
    is_open
        True when some Series could not answer, so that a missing one is not certainly missing.
    wanted
        The alternatives in words; empty when `when` alone decides.
    answers
        What was asked to find out.
    """

    name: str
    is_required: bool
    candidates: tuple[Candidate, ...]
    is_open: bool
    wanted: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The Series that were picked, and what there is to say about it.

    Attributes
    ----------
    missing
        The first required role that stays empty, or None.
    clauses
        One for each role, after those that were asked for it.
    """

    inputs: Mapping[str, SeriesUID]
    missing: Clause | None
    clauses: tuple[Clause, ...]


def choose_inputs(rule: Rule, matching: Sequence[SeriesFacts], around: Surroundings) -> Choice:
    """Return the Series for each role of `rule` out of those `around` that meet its `when`."""
    roles = _find_roles(rule, matching, around)
    taken = _fill(roles, is_shared=not rule.inputs)
    clauses: list[Clause] = []
    missing: Clause | None = None
    for role in roles:
        clauses += [clause for answer in role.answers for clause in answer.clauses(f"{INPUT} {role.name}: ")]
        clauses.append(_say(role, taken, matching))
        if role.is_required and role.name not in taken and missing is None:
            missing = clauses[-1]
    chosen = {role.name: taken[role.name].series.series_instance_uid for role in roles if role.name in taken}
    return Choice(inputs=chosen, missing=missing, clauses=tuple(clauses))


def _find_roles(rule: Rule, matching: Sequence[SeriesFacts], around: Surroundings) -> list[Role]:
    required = {role for need in rule.needs for role in need.required_roles}
    if rule.inputs:
        asked = {name: _ask_alternatives(wanted, matching, around) for name, wanted in rule.inputs.items()}
        return [_find_role(name, name in required, rule.inputs[name], answers) for name, answers in asked.items()]
    ranked = sorted((Candidate(series=s, preference=_prefer(s, 0)) for s in matching), key=_order)
    return [
        Role(name=name, is_required=True, candidates=tuple(ranked), is_open=False, wanted="", answers=())
        for name in sorted(required)
    ]


def _ask_alternatives(
    wanted: Sequence[AllOf], matching: Sequence[SeriesFacts], around: Surroundings
) -> list[tuple[SeriesFacts, list[Answer]]]:
    """Return what each Series answered to the alternatives, up to the first that it fits."""
    asked = []
    for series in matching:
        answers: list[Answer] = []
        for alternative in wanted:
            answers.append(ask(alternative, series, around))
            if answers[-1].outcome is Outcome.MATCH:
                break
        asked.append((series, answers))
    return asked


def _find_role(
    name: str, is_required: bool, wanted: Sequence[AllOf], asked: Sequence[tuple[SeriesFacts, Sequence[Answer]]]
) -> Role:
    fitting = [(series, len(answers) - 1) for series, answers in asked if answers[-1].outcome is Outcome.MATCH]
    candidates = [Candidate(series=series, preference=_prefer(series, place)) for series, place in fitting]
    left = [answers for _, answers in asked if answers[-1].outcome is not Outcome.MATCH]
    return Role(
        name=name,
        is_required=is_required,
        candidates=tuple(sorted(candidates, key=_order)),
        is_open=any(answer.outcome is Outcome.UNDETERMINED for answers in left for answer in answers),
        wanted="; else ".join(alternative.text for alternative in wanted),
        answers=tuple(answer for _, answers in asked for answer in answers),
    )


def _order(candidate: Candidate) -> tuple[Preference, SeriesUID]:
    return candidate.preference, candidate.series.series_instance_uid


def _prefer(series: SeriesFacts, place: int) -> Preference:
    image_type = read_texts(series, keywords=("ImageType",))
    is_derived = image_type is not None and any(normalize(text) == "derived" for text in image_type.texts)
    spacing = series.slice_spacing_mm
    # Slices at one and the same place (bolus tracking) are no thin slices.
    spacing_mm = round(spacing, 2) if spacing is not None and spacing > 0 else 0.0
    slices = read_slice_count(series)
    number = read_number(series, keyword="SeriesNumber", quantity=COUNT)
    return (
        float(place),
        float(is_derived),
        spacing_mm or math.inf,
        -(slices.number or 0.0) if slices else 0.0,
        number.number if number and number.number is not None else math.inf,
    )


def _fill(roles: Sequence[Role], *, is_shared: bool) -> dict[str, Candidate]:
    if is_shared:
        # Without `inputs` each Pipeline has one role of its own; all of them read the same Series.
        return {role.name: role.candidates[0] for role in roles if role.candidates}
    required = [role for role in roles if role.is_required]
    pinned = _assign(required, {})
    if pinned is None:
        return _fill_some(required)
    taken, optional = pinned, list[Role]()
    for role in roles:
        # An optional role never takes a Series from a required one, but optional ones make room for each other.
        found = None if role.is_required else _assign([*optional, role], pinned)
        if found is not None:
            taken = found
            optional.append(role)
    return taken


def _assign(roles: Sequence[Role], taken: Mapping[str, Candidate]) -> dict[str, Candidate] | None:
    """Return `taken` with every one of `roles` filled, earlier roles choosing first; None when that cannot be."""
    if not roles:
        return dict(taken)
    used = {candidate.series.series_instance_uid for candidate in taken.values()}
    for candidate in roles[0].candidates:
        if candidate.series.series_instance_uid not in used:
            found = _assign(roles[1:], {**taken, roles[0].name: candidate})
            if found is not None:
                return found
    return None


def _fill_some(roles: Sequence[Role]) -> dict[str, Candidate]:
    # Not all can be filled: as many as can be, so that the first one that lacks its Series is named.
    filled: dict[str, Candidate] = {}
    for role in roles:
        filled = _assign([role], filled) or filled
    return filled


def _say(role: Role, taken: Mapping[str, Candidate], matching: Sequence[SeriesFacts]) -> Clause:
    if role.name in taken:
        return _say_taken(role, taken)
    users = {c.series.series_instance_uid: name for name, c in taken.items()}
    rivals = [users[c.series.series_instance_uid] for c in role.candidates if c.series.series_instance_uid in users]
    if rivals:
        found = f"no Series left, already taken as {INPUT} {rivals[0]}"
    else:
        found = f"no Series of {len(matching)} fits {role.wanted}"
    outcome = Outcome.UNDETERMINED if role.is_open and not rivals else Outcome.NO_MATCH
    ending = "" if role.is_required else "; left out, it is optional"
    return Clause(text=f"{INPUT} {role.name}", outcome=outcome, found=f"{found}{ending}")


def _say_taken(role: Role, taken: Mapping[str, Candidate]) -> Clause:
    chosen = taken[role.name]
    uid = chosen.series.series_instance_uid
    used = {c.series.series_instance_uid for c in taken.values()}
    others = [c for c in role.candidates if c.series.series_instance_uid not in used]
    alone = ", the only one that fits" if len(role.candidates) == 1 else ", the only one left that fits"
    why = f": {_compare(chosen, others[0])}" if others else alone
    return Clause(
        text=f"{INPUT} {role.name}",
        outcome=Outcome.MATCH,
        found=f"{name_series(chosen.series)}{why}",
        series_instance_uid=uid,
    )


def _compare(chosen: Candidate, other: Candidate) -> str:
    name = name_series(other.series)
    for better, worse, words in zip(chosen.preference, other.preference, PREFERENCES, strict=True):
        if better < worse:
            return f"{words}, before {name}"
    return f"equal to {name}, taken in order of UID"
