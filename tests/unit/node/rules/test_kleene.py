"""Three-valued logic: a missing attribute is no "no"."""

from hypothesis import given
from hypothesis import strategies as st

from node.domain.decision import Outcome
from node.rules.answers import Surroundings, ask, ask_in_turn
from node.rules.conditions import CONDITIONS
from node.rules.findings import ResultHas, parse_result
from node.rules.kleene import all_of, any_of, decide, negate
from node.rules.operands import parse_word
from node.rules.rule import AllOf, AnyOf, Ask, Not, StudyHas, Test
from tests.studies import make_series

outcomes = st.sampled_from(Outcome)
several = st.lists(outcomes)
RANK = {Outcome.NO_MATCH: 0, Outcome.UNDETERMINED: 1, Outcome.MATCH: 2}


@given(several)
def test_all_is_the_least_and_any_the_greatest(found: list[Outcome]) -> None:
    assert all_of(found) is min(found, key=RANK.__getitem__, default=Outcome.MATCH)
    assert any_of(found) is max(found, key=RANK.__getitem__, default=Outcome.NO_MATCH)


@given(several)
def test_de_morgan_holds(found: list[Outcome]) -> None:
    assert negate(all_of(found)) is any_of(negate(one) for one in found)
    assert negate(any_of(found)) is all_of(negate(one) for one in found)


@given(outcomes)
def test_double_negation_changes_nothing(outcome: Outcome) -> None:
    assert negate(negate(outcome)) is outcome


@given(several, st.booleans())
def test_an_answer_that_becomes_known_never_turns_a_known_conclusion(found: list[Outcome], holds: bool) -> None:
    known = [decide(holds) if one is Outcome.UNDETERMINED else one for one in found]
    for conclude in (all_of, any_of):
        if conclude(found) is not Outcome.UNDETERMINED:
            assert conclude(known) is conclude(found)


def _leaf(outcome: Outcome) -> Ask:
    """Return a question that a Series of Modality CT without View Position answers with `outcome`."""
    key, word = {
        Outcome.MATCH: ("modality", "CT"),
        Outcome.NO_MATCH: ("modality", "MR"),
        Outcome.UNDETERMINED: ("view", "PA"),
    }[outcome]
    return Ask(condition=CONDITIONS[key], operands=(parse_word(word),))


def _groups(inner: st.SearchStrategy[Test]) -> st.SearchStrategy[Test]:
    parts = st.lists(inner, min_size=1, max_size=4).map(tuple)
    return st.one_of(
        parts.map(lambda found: AllOf(parts=found)),
        parts.map(lambda found: AnyOf(parts=found)),
        inner.map(lambda p: Not(part=p)),
        inner.map(lambda p: StudyHas(part=p)),
    )


def _conclude(test: Test) -> Outcome:
    match test:
        case Ask():
            return test.condition.ask(test.operands, SERIES)[0]
        case AllOf():
            return all_of([_conclude(part) for part in test.parts])
        case AnyOf():
            return any_of([_conclude(part) for part in test.parts])
        case Not():
            return negate(_conclude(test.part))
        case StudyHas():
            return _conclude(test.part)
        case ResultHas():
            return test.ask(())[0]


SERIES = make_series(1, Modality="CT")
AROUND = Surroundings(series=(SERIES,))


UNANSWERED = parse_result({"pipeline": "lungs"}, "result", ["lungs"])


@given(st.recursive(outcomes.map(_leaf) | st.just(UNANSWERED), _groups, max_leaves=12))
def test_stopping_early_never_changes_the_outcome(test: Test) -> None:
    assert ask(test, SERIES, AROUND).outcome is _conclude(test)
    assert all_of(answer.outcome for answer in ask_in_turn((test,), SERIES, AROUND)) is _conclude(test)
