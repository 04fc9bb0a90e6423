"""Decisions in words: why a rule did, or did not, do something with a Study."""

from collections.abc import Mapping, Sequence

from node.domain.decision import Clause, Decision, Outcome
from node.domain.uids import SeriesUID
from node.rules.answers import INSIDE
from node.rules.inputs import INPUT

DECIDED = ">>"
INDENT = "  "


def explain(decisions: Sequence[Decision]) -> tuple[str, ...]:
    """Return lines of plain text: rule by rule, Series by Series; the clause that decided begins with ``>>``."""
    lines: list[str] = []
    for decision in decisions:
        lines += _explain_one(decision)
    return tuple(lines)


def refusal_of(decisions: Sequence[Decision]) -> dict[str, str] | None:
    """Return code and text of why no rule matched; None when one did.

    The codes are ``input-missing`` (a rule fits but a Series that its Pipeline needs is not there),
    ``rules-undetermined`` (a header does not say enough) and ``no-rule-matched``, the first that applies.
    """
    if any(decision.outcome is Outcome.MATCH for decision in decisions):
        return None
    if not decisions:
        return {"code": "no-rule-matched", "text": "There are no rules; add [[rules]] to the settings."}
    if any(_lacks_input(decision) for decision in decisions):
        code = "input-missing"
    elif any(decision.outcome is Outcome.UNDETERMINED for decision in decisions):
        code = "rules-undetermined"
    else:
        code = "no-rule-matched"
    return {"code": code, "text": _say_reasons(decisions)}


def _lacks_input(decision: Decision) -> bool:
    return decision.outcome is Outcome.NO_MATCH and decision.clause.startswith(f"{INPUT} ")


def _say_reasons(decisions: Sequence[Decision]) -> str:
    rules: dict[str, list[str]] = {}
    for decision in decisions:
        rules.setdefault(decision.reason, []).append(decision.rule)
    return " ".join(f"{', '.join(names)}: {reason}" for reason, names in rules.items())


def _explain_one(decision: Decision) -> list[str]:
    lines = [f"{decision.rule}: {decision.outcome.value}", f"{INDENT}{decision.reason}"]
    names: dict[SeriesUID, str] = {}
    is_marked = False
    for clause in decision.trace:
        uid = clause.series_instance_uid
        if uid is not None and uid not in names:
            # The first Clause of a Series says whether it may be used, and its name is what was found.
            names[uid] = clause.found.rpartition(", ")[0]
            is_decided = not is_marked and (clause.text, clause.outcome) == (decision.clause, decision.outcome)
            is_marked = is_marked or is_decided
            mark = DECIDED if is_decided else INDENT
            lines += [f"{INDENT}{clause.found}", f"{mark}{INDENT}{clause.outcome.value}: {clause.text}"]
        elif not _is_detail_of_role(clause):
            is_decided = not is_marked and _decided(clause, decision)
            is_marked = is_marked or is_decided
            lines.append(f"{DECIDED if is_decided else INDENT}{_line(clause, names)}")
    if not is_marked:
        lines.append(f"{DECIDED}{INDENT}{decision.outcome.value}: {decision.clause} (found: {decision.found})")
    return lines


def _is_detail_of_role(clause: Clause) -> bool:
    # Roles are asked of every Series; the outer Clause says enough, the rest is in the trace.
    return clause.text.startswith(f"{INPUT} ") and INSIDE in clause.text


def _decided(clause: Clause, decision: Decision) -> bool:
    said = (clause.text, clause.found, clause.outcome)
    return said == (decision.clause, decision.found, decision.outcome)


def _line(clause: Clause, names: Mapping[SeriesUID, str]) -> str:
    *groups, text = clause.text.split(INSIDE)
    role, separator, wanted = text.partition(": ")
    if text.startswith(f"{INPUT} ") and separator:
        text = f"{role}, {names.get(clause.series_instance_uid or SeriesUID(''), 'Series')}: {wanted}"
    return f"{INDENT * (len(groups) + 1)}{clause.outcome.value}: {text} (found: {clause.found})"
