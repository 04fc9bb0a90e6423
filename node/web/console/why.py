"""Why a rule matched or not: its trace as a page shows it, clause by clause, for each Series."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from node.domain.decision import Clause, Decision, Outcome
from node.rules.answers import INSIDE
from node.rules.inputs import INPUT

# What decides a rule is looked at first.
ORDER = {Outcome.MATCH: 0, Outcome.UNDETERMINED: 1, Outcome.NO_MATCH: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One clause.

    Attributes
    ----------
    outcome
        None: it was not asked, because an earlier one had decided.
    depth
        In how many groups (any, all, not) it stands.
    """

    text: str
    found: str
    outcome: Outcome | None
    decides: bool = False
    depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSeries:
    """One Series, and what it was asked.

    Attributes
    ----------
    name
        As the trace names it; empty where a clause is about the Study.
    excluded
        Why it may not be used at all; empty where it may.
    """

    name: str
    excluded: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """One Decision with its reasons.

    Attributes
    ----------
    inputs
        Which Series was chosen for which role, and before which.
    """

    decision: Decision
    series: tuple[AskedSeries, ...]
    inputs: tuple[Row, ...]

    @property
    def because(self) -> str:
        """The reason in a sentence."""
        return self.decision.reason


# Gives the clauses of a rule in the words of a trace, in the order in which they are asked; none where it is unknown.
ReadRule = Callable[[str], Sequence[str]]


def explain(decisions: Sequence[Decision], read_rule: ReadRule) -> tuple[Why, ...]:
    """Return why each rule came out as it did: matches first, then what could not be decided."""
    ordered = sorted(decisions, key=lambda decision: ORDER[decision.outcome])
    return tuple(_explain(decision, read_rule(decision.rule)) for decision in ordered)


def _explain(decision: Decision, clauses: Sequence[str]) -> Why:
    inputs = tuple(clause for clause in decision.trace if _is_input(clause))
    asked = [_asked(group, clauses) for group in _by_series(decision.trace)]
    return Why(decision=decision, series=_mark(asked, decision), inputs=tuple(_row(clause) for clause in inputs))


def _is_input(clause: Clause) -> bool:
    return clause.text.startswith(f"{INPUT} ")


def _by_series(trace: Sequence[Clause]) -> list[list[Clause]]:
    groups: list[list[Clause]] = []
    for clause in trace:
        if _is_input(clause):
            continue
        if groups and clause.series_instance_uid and clause.series_instance_uid == groups[-1][0].series_instance_uid:
            groups[-1].append(clause)
        else:
            groups.append([clause])
    return groups


def _asked(group: Sequence[Clause], clauses: Sequence[str]) -> AskedSeries:
    # The first clause of a Series says whether it may be used, and which one it is.
    first, *rest = group
    if first.series_instance_uid is None:
        return AskedSeries(name="", excluded="", rows=(_row(first),))
    if first.outcome is not Outcome.MATCH:
        return AskedSeries(name=first.found, excluded=first.text, rows=())
    rows = [_row(clause) for clause in rest]
    put = [row.text for row in rows if row.depth == 0]
    # The rule may have been edited since; then nobody knows what was not asked.
    left = clauses[len(put) :] if list(clauses[: len(put)]) == put else ()
    unasked = [Row(text=text, found="", outcome=None) for text in left]
    return AskedSeries(name=first.found, excluded="", rows=(*rows, *unasked))


def _row(clause: Clause) -> Row:
    *groups, text = clause.text.split(INSIDE)
    return Row(text=text, found=clause.found, outcome=clause.outcome, depth=len(groups))


def _mark(asked: Sequence[AskedSeries], decision: Decision) -> tuple[AskedSeries, ...]:
    """Mark the one clause that decided; of a match, all did."""
    if decision.outcome is Outcome.MATCH:
        return tuple(asked)
    marked, is_found = [], False
    for series in asked:
        rows = []
        for row in series.rows:
            is_it = (row.text, row.found, row.outcome) == (decision.clause, decision.found, decision.outcome)
            rows.append(replace(row, decides=is_it and not is_found))
            is_found = is_found or is_it
        marked.append(replace(series, rows=tuple(rows)))
    return tuple(marked)
