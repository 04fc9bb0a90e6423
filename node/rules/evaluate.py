"""One rule on one Study: match, no match or undetermined, with the clause that decided and all that was asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from node.domain.decision import Clause, Decision, Outcome
from node.domain.study import SeriesFacts, StudyFacts
from node.domain.uids import SeriesUID
from node.rules.answers import Answer, Surroundings, ask_in_turn
from node.rules.eligibility import complete_series, find_mixture, judge_eligibility, name_series
from node.rules.inputs import choose_inputs
from node.rules.kleene import all_of
from node.rules.rule import Rule

NONE_ELIGIBLE = "a Series that may be used"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSeries:
    """One eligible Series and its answers to `when`, up to the first NO_MATCH."""

    series: SeriesFacts
    answers: tuple[Answer, ...]

    @property
    def outcome(self) -> Outcome:
        """What the answers come to."""
        return all_of(answer.outcome for answer in self.answers)

    @property
    def deciding(self) -> Answer:
        """The first answer that is as the whole came out."""
        return next(answer for answer in self.answers if answer.outcome is self.outcome)

    @property
    def progress(self) -> tuple[int, int]:
        """How many conditions were met, then how many Instances there are."""
        met = sum(answer.outcome is Outcome.MATCH for answer in self.answers)
        return met, len(self.series.sop_instance_uids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What decided, before it becomes a Decision."""

    outcome: Outcome
    clause: str
    found: str
    reason: str
    inputs: Mapping[str, SeriesUID] = field(default_factory=lambda: MappingProxyType({}))
    clauses: tuple[Clause, ...] = ()


PRIOR_ONLY = Verdict(
    outcome=Outcome.NO_MATCH,
    clause="a Study of its own",
    found="fetched as prior",
    reason=(
        "The Study was fetched as prior of another one, and starts nothing; `radnode studies reprocess` lets the rules "
        "be asked all the same."
    ),
)


def evaluate(rule: Rule, study: StudyFacts) -> Decision:
    """Return what `rule` concludes about `study`; never raises for what a header may hold."""
    if study.is_prior:
        return _decide(rule, study, PRIOR_ONLY, ())
    mixture = find_mixture(study)
    if mixture is not None:
        return _decide(rule, study, _refuse_mixture(mixture), [mixture])
    eligibility = [judge_eligibility(series, for_pipeline=bool(rule.needs)) for series in study.series]
    asked = _ask_eligible(rule, study)
    by_uid = {one.series.series_instance_uid: one for one in asked}
    trace: list[Clause] = []
    for clause in eligibility:
        trace.append(clause)
        one = by_uid.get(clause.series_instance_uid) if clause.series_instance_uid else None
        trace += [inner for answer in (one.answers if one else ()) for inner in answer.clauses()]
    matching = [one for one in asked if one.outcome is Outcome.MATCH]
    if not asked:
        verdict = _refuse_excluded(eligibility)
    elif not matching:
        verdict = _refuse_nearest(asked)
    else:
        verdict = _match(rule, matching, _surroundings(study))
    return _decide(rule, study, verdict, trace)


def matching_series(rule: Rule, study: StudyFacts) -> tuple[SeriesUID, ...]:
    """Return the Series that meet `when`: those that a matching rule forwards."""
    asked = _ask_eligible(rule, study)
    return tuple(one.series.series_instance_uid for one in asked if one.outcome is Outcome.MATCH)


def _ask_eligible(rule: Rule, study: StudyFacts) -> list[AskedSeries]:
    around = _surroundings(study)
    return [
        AskedSeries(series=series, answers=ask_in_turn(rule.when.parts, series, around))
        for series in around.series
        if judge_eligibility(series, for_pipeline=bool(rule.needs)).outcome is Outcome.MATCH
    ]


def _surroundings(study: StudyFacts) -> Surroundings:
    return Surroundings(series=complete_series(study), answered=study.answered)


def _decide(rule: Rule, study: StudyFacts, verdict: Verdict, trace: Sequence[Clause]) -> Decision:
    return Decision(
        study_instance_uid=study.study_instance_uid,
        rule=rule.name,
        outcome=verdict.outcome,
        clause=verdict.clause,
        found=verdict.found,
        reason=verdict.reason,
        inputs=verdict.inputs,
        trace=(*trace, *verdict.clauses),
    )


def _refuse_mixture(clause: Clause) -> Verdict:
    return Verdict(
        outcome=clause.outcome,
        clause=clause.text,
        found=clause.found,
        reason=f"The Study holds {clause.found}; nothing is run until it is known whose images these are.",
    )


def _refuse_excluded(eligibility: Sequence[Clause]) -> Verdict:
    said = list(dict.fromkeys(clause.text for clause in eligibility))
    listed = "; ".join(f"{clause.found}: {clause.text}" for clause in eligibility)
    return Verdict(
        outcome=Outcome.NO_MATCH,
        clause=said[0] if len(said) == 1 else NONE_ELIGIBLE,
        found=f"none of {len(eligibility)}",
        reason=f"No Series of the Study may be used. {listed or 'It holds no Series'}.",
    )


def _refuse_nearest(asked: Sequence[AskedSeries]) -> Verdict:
    outcome = Outcome.NO_MATCH
    if any(one.outcome is Outcome.UNDETERMINED for one in asked):
        outcome = Outcome.UNDETERMINED
    # `max` keeps the first of equals; Series come in order of their Series Number.
    nearest = max((one for one in asked if one.outcome is outcome), key=lambda one: one.progress)
    clause, name = nearest.deciding.clause, name_series(nearest.series)
    if outcome is Outcome.UNDETERMINED:
        reason = f"{name} does not tell whether {clause.text} (found: {clause.found}); nothing is guessed."
    else:
        reason = f"{name} came nearest, but does not meet {clause.text} (found: {clause.found})."
    return Verdict(outcome=outcome, clause=clause.text, found=clause.found, reason=reason)


def _match(rule: Rule, matching: Sequence[AskedSeries], around: Surroundings) -> Verdict:
    choice = choose_inputs(rule, [one.series for one in matching], around)
    if choice.missing is not None:
        missing = choice.missing
        return Verdict(
            outcome=missing.outcome,
            clause=missing.text,
            found=missing.found,
            reason=f"The pipeline lacks its {missing.text}: {missing.found}.",
            clauses=choice.clauses,
        )
    chosen = set(choice.inputs.values())
    shown = next((one for one in matching if one.series.series_instance_uid in chosen), matching[0])
    names = [name_series(one.series) for one in matching if not chosen or one.series.series_instance_uid in chosen]
    return Verdict(
        outcome=Outcome.MATCH,
        clause=rule.when.text,
        found="; ".join(answer.clause.found for answer in shown.answers),
        reason=f"{', '.join(names)} {'meets' if len(names) == 1 else 'meet'} every condition.",
        inputs=choice.inputs,
        clauses=choice.clauses,
    )
