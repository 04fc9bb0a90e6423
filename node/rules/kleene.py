"""Three-valued logic: an answer that is not known stays not known until another answer settles the question."""

from collections.abc import Iterable

from node.domain.decision import Outcome


def all_of(outcomes: Iterable[Outcome]) -> Outcome:
    """Return NO_MATCH if any is, else UNDETERMINED if any is, else MATCH (also for none at all)."""
    found = set(outcomes)
    for outcome in (Outcome.NO_MATCH, Outcome.UNDETERMINED):
        if outcome in found:
            return outcome
    return Outcome.MATCH


def any_of(outcomes: Iterable[Outcome]) -> Outcome:
    """Return MATCH if any is, else UNDETERMINED if any is, else NO_MATCH (also for none at all)."""
    found = set(outcomes)
    for outcome in (Outcome.MATCH, Outcome.UNDETERMINED):
        if outcome in found:
            return outcome
    return Outcome.NO_MATCH


def negate(outcome: Outcome) -> Outcome:
    """Return the opposite; what is not known stays not known."""
    match outcome:
        case Outcome.MATCH:
            return Outcome.NO_MATCH
        case Outcome.NO_MATCH:
            return Outcome.MATCH
        case Outcome.UNDETERMINED:
            return Outcome.UNDETERMINED


def decide(holds: bool) -> Outcome:
    """Return the Outcome of a question whose answer is known."""
    return Outcome.MATCH if holds else Outcome.NO_MATCH
