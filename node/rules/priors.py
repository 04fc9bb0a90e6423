"""Which Series of an earlier Study is read beside a Study, or why none is, in words."""

from dataclasses import dataclass, replace

from node.domain.decision import Clause, Decision, Outcome
from node.domain.job import Priority
from node.domain.prior import PRIOR_ROLE, PriorState, PriorTerms, read_identity, refuse_stranger, say_date
from node.domain.study import SeriesFacts, SoughtPriors, StudyFacts
from node.rules.evaluate import evaluate
from node.rules.inputs import INPUT
from node.rules.rule import Need, Priors, Rule

NEEDS_PRIOR = (Need(pipeline=PRIOR_ROLE, required_roles=(PRIOR_ROLE,), optional_roles=()),)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorChoice:
    """What a rule reads of earlier Studies.

    Attributes
    ----------
    series, study
        The Series and its Study; None without one.
    awaits
        What is looked for, and may still come; None: nothing.
    words
        One sentence for people; empty for a rule that wants no prior.
    """

    series: SeriesFacts | None = None
    study: StudyFacts | None = None
    awaits: PriorTerms | None = None
    words: str = ""

    @property
    def outcome(self) -> Outcome:
        """Whether there is one; undetermined while it may come."""
        if self.series is not None:
            return Outcome.MATCH
        return Outcome.NO_MATCH if self.awaits is None else Outcome.UNDETERMINED


NOTHING = PriorChoice()


def choose_prior(rule: Rule, study: StudyFacts, decision: Decision) -> PriorChoice:
    """Return what `rule` reads beside the Series that `decision` picked; nothing where it did not match."""
    priors = rule.priors
    if priors is None or decision.outcome is not Outcome.MATCH:
        return NOTHING
    own = [one for one in study.series if one.series_instance_uid in set(decision.inputs.values())]
    refusal = refuse_stranger(identity := read_identity(one.attributes for one in own), identity)
    if refusal:
        return PriorChoice(words=f"Without a prior: {refusal}, and nobody could tell whose it is.")
    sought = next((one for one in study.priors if one.terms == priors.terms), None)
    if sought is None or (sought.state is PriorState.HERE and not sought.studies):
        terms = priors.terms
        return PriorChoice(awaits=terms, words=f"It waits for {terms.words}, {terms.wait_s:g} s at most.")
    if not sought.state.is_over:
        return _wait(sought)
    if sought.state is PriorState.ABSENT:
        return PriorChoice(words=f"Without a prior: {sought.text}.")
    return _choose_among(priors, own, sought)


def tell_prior(decision: Decision, choice: PriorChoice) -> Decision:
    """Return `decision` with the Series of the prior, and with what is to be said of it."""
    if not choice.words:
        return decision
    clause = Clause(text=f"{INPUT} {PRIOR_ROLE}", outcome=choice.outcome, found=choice.words.rstrip("."))
    inputs = dict(decision.inputs)
    if choice.series is not None:
        inputs[PRIOR_ROLE] = choice.series.series_instance_uid
    reason = f"{decision.reason} {choice.words}"
    return replace(decision, inputs=inputs, reason=reason, trace=(*decision.trace, clause))


def _wait(sought: SoughtPriors) -> PriorChoice:
    terms = sought.terms
    if sought.is_late:
        words = (
            f"Without a prior: none came from {terms.source} in {terms.wait_s:g} s; with one that comes late, "
            "it is asked again."
        )
    else:
        words = f"It waits for {terms.words}, until {sought.until:%H:%M:%S} UTC at most."
    return PriorChoice(awaits=terms, words=words)


def _choose_among(priors: Priors, own: list[SeriesFacts], sought: SoughtPriors) -> PriorChoice:
    refused = []
    for study in sought.studies:
        date = say_date(str(study.attributes.get("StudyDate") or ""))
        series, why = _find_series(priors, own, study)
        if series is not None:
            late = ", which came late" if sought.is_late else ""
            return PriorChoice(series=series, study=study, words=f"With the prior of {date}{late}.")
        refused.append(f"the one of {date} is not read: {why}")
    return PriorChoice(words=f"Without a prior: {'; '.join(refused)}.")


def _find_series(priors: Priors, own: list[SeriesFacts], study: StudyFacts) -> tuple[SeriesFacts | None, str]:
    """Return the Series of an earlier Study that is read; None, and why, where there is none."""
    mine = read_identity(one.attributes for one in own)
    refusals = {one.series_instance_uid: refuse_stranger(mine, read_identity([one.attributes])) for one in study.series}
    left = tuple(one for one in study.series if not refusals[one.series_instance_uid])
    if not left:
        return None, next(iter(refusals.values()), "it holds no Series")
    rule = Rule(
        name=PRIOR_ROLE,
        when=priors.when,
        needs=NEEDS_PRIOR,
        forward=(),
        inputs={PRIOR_ROLE: priors.series} if priors.series else {},
        priority=Priority.ROUTINE,
        deliver_to=(),
    )
    found = evaluate(rule, replace(study, series=left, is_prior=False))
    chosen = found.inputs.get(PRIOR_ROLE)
    return next((one for one in left if one.series_instance_uid == chosen), None), found.reason.rstrip(".")
