"""What it would take for a rule to match a Study: all that the nearest Series does not meet, not only the first."""

from dataclasses import dataclass

from node.domain.decision import Clause, Outcome
from node.domain.study import SeriesFacts, StudyFacts
from node.rules.answers import Answer, Surroundings, ask
from node.rules.eligibility import complete_series, find_mixture, judge_eligibility, name_series
from node.rules.evaluate import evaluate
from node.rules.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What is between one rule and one Study.

    Attributes
    ----------
    nearest
        The Series that lacks least, as people call it; empty where no Series may be used at all.
    clauses
        What would have to be otherwise; empty where the rule matches.
    """

    rule: str
    nearest: str
    clauses: tuple[Clause, ...]


def find_lack(rule: Rule, study: StudyFacts) -> Lack:
    """Return what would have to be otherwise for `rule` to match `study`."""
    decision = evaluate(rule, study)
    if decision.outcome is Outcome.MATCH:
        return Lack(rule=rule.name, nearest="", clauses=())
    around = Surroundings(series=complete_series(study), answered=study.answered)
    lacks = [_lack_of(rule, series, around) for series in around.series]
    nearest = min(lacks, key=lambda lack: len(lack.clauses), default=None)
    if nearest is not None and nearest.clauses and find_mixture(study) is None:
        return nearest
    # The Study is of several patients, holds nothing, or lacks the Series of a role.
    deciding = Clause(text=decision.clause, outcome=decision.outcome, found=decision.found)
    return Lack(rule=rule.name, nearest="", clauses=(deciding,))


def _lack_of(rule: Rule, series: SeriesFacts, around: Surroundings) -> Lack:
    eligible = judge_eligibility(series, for_pipeline=bool(rule.needs))
    answers: list[Answer] = [ask(part, series, around) for part in rule.when.parts]
    unmet = [answer.clause for answer in answers if answer.outcome is not Outcome.MATCH]
    excluded = [eligible] if eligible.outcome is not Outcome.MATCH else []
    return Lack(rule=rule.name, nearest=name_series(series), clauses=(*excluded, *unmet))
