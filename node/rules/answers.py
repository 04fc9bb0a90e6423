"""The answers of one Series, and of the Study around it, to the tests of a rule, with every question that was put."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from node.domain.decision import Clause, Outcome
from node.domain.steering import Answered
from node.domain.study import SeriesFacts
from node.rules.eligibility import name_series
from node.rules.findings import ResultHas
from node.rules.kleene import all_of, any_of, negate
from node.rules.rule import AllOf, AnyOf, Ask, Not, StudyHas, Test
from node.rules.text import shorten

# Set between a group and the question inside it; the angle is no sign of comparison, so that it can be told apart.
INSIDE = " \u203a "


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a Series is asked about that is not its own.

    Attributes
    ----------
    series
        Every Series of the Study.
    answered
        What Pipelines concluded of the Study.
    """

    series: tuple[SeriesFacts, ...] = ()
    answered: tuple[Answered, ...] = ()


ALONE = Surroundings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One Clause, and the Clauses from which it was concluded."""

    clause: Clause
    group: str = ""
    parts: tuple["Answer", ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The Outcome of the Clause."""
        return self.clause.outcome

    def clauses(self, prefix: str = "") -> Iterator[Clause]:
        """Return this Clause and all inside it, outer ones first, each saying in which group it stands."""
        yield replace(self.clause, text=f"{prefix}{self.clause.text}")
        for part in self.parts:
            yield from part.clauses(f"{prefix}{self.group}{INSIDE}")


def ask_in_turn(tests: Sequence[Test], series: SeriesFacts, around: Surroundings = ALONE) -> tuple[Answer, ...]:
    """Return the answers up to and with the first NO_MATCH; what comes after it cannot change anything.

    Parameters
    ----------
    around
        The Study in which the Series stands.
    """
    return _ask_until(Outcome.NO_MATCH, tests, series, around)


def ask(test: Test, series: SeriesFacts, around: Surroundings = ALONE) -> Answer:
    """Return what `series` answers to `test`; an absent attribute is UNDETERMINED, never NO_MATCH."""
    match test:
        case Ask():
            outcome, found = test.condition.ask(test.operands, series)
            return _answer(test, series, outcome, found)
        case Not():
            inner = ask(test.part, series, around)
            return _answer(test, series, negate(inner.outcome), inner.clause.found, "not", (inner,))
        case AllOf():
            parts = ask_in_turn(test.parts, series, around)
            outcome = all_of(part.outcome for part in parts)
            shown = parts[-1:] if outcome is Outcome.NO_MATCH else parts
            return _answer(test, series, outcome, _join(shown), "all", parts)
        case AnyOf():
            parts = _ask_until(Outcome.MATCH, test.parts, series, around)
            outcome = any_of(part.outcome for part in parts)
            shown = parts[-1:] if outcome is Outcome.MATCH else parts
            return _answer(test, series, outcome, _join(shown), "any", parts)
        case StudyHas():
            return _ask_study(test, series, around)
        case ResultHas():
            outcome, found = test.ask(around.answered)
            return _answer(test, series, outcome, found)


def _ask_study(test: StudyHas, series: SeriesFacts, around: Surroundings) -> Answer:
    others = [other for other in around.series if not other.is_own_result]
    outcomes = {name_series(other): ask(test.part, other, around).outcome for other in others}
    outcome = any_of(outcomes.values())
    named = [name for name, one in outcomes.items() if one is outcome]
    found = ", ".join(named) if outcome is not Outcome.NO_MATCH else f"none of {len(others)} Series"
    return _answer(test, series, outcome, shorten(found))


def _ask_until(last: Outcome, tests: Sequence[Test], series: SeriesFacts, around: Surroundings) -> tuple[Answer, ...]:
    answers: list[Answer] = []
    for test in tests:
        answers.append(ask(test, series, around))
        if answers[-1].outcome is last:
            break
    return tuple(answers)


def _join(parts: Sequence[Answer]) -> str:
    return "; ".join(dict.fromkeys(part.clause.found for part in parts))


def _answer(
    test: Test, series: SeriesFacts, outcome: Outcome, found: str, group: str = "", parts: tuple[Answer, ...] = ()
) -> Answer:
    clause = Clause(text=test.text, outcome=outcome, found=found, series_instance_uid=series.series_instance_uid)
    return Answer(clause=clause, group=group, parts=parts)
