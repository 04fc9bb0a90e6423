"""A rehearsal from beginning to end: which scenarios are played, and the report of them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from node.clock import utc_now
from node.errors import NodeError, NotFound
from node.rehearsal.judge import judge_at_the_end
from node.rehearsal.modality_faults import MODALITY_SCENARIOS
from node.rehearsal.pacs_faults import PACS_SCENARIOS
from node.rehearsal.plain import plain_scenarios
from node.rehearsal.repertoire import Piece
from node.rehearsal.scenario import Check, Moment, NodeIdentity, Outcome, RehearsalReport, Scenario
from node.rehearsal.stage import Stage

CLOSING = Scenario(
    name="at-the-end",
    title="At the end of the day",
    story="After the last scenario the PACS is looked through once more: nothing may have come too late, twice, "
    "or for a Study of which nothing was due.",
    play=judge_at_the_end,
    is_fault=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What the report says beside what was played.

    Attributes
    ----------
    by
        Who runs the rehearsal.
    facts
        Circumstances, a name and a value each.
    """

    run: str
    by: str
    node: NodeIdentity
    facts: tuple[tuple[str, str], ...]


def write_script(chosen: Sequence[Piece], *, with_faults: bool, only: Sequence[str] = ()) -> tuple[Scenario, ...]:
    """Return the scenarios in the order in which they are played.

    Parameters
    ----------
    chosen
        The phantoms for which the node has an answer.
    only
        Names of faults; empty for all.

    Raises
    ------
    NotFound
        If no fault has such a name.
    """
    faults = (*MODALITY_SCENARIOS, *PACS_SCENARIOS)
    unknown = set(only) - {scenario.name for scenario in faults}
    if unknown:
        known = ", ".join(scenario.name for scenario in faults)
        raise NotFound(f"no fault is called {', '.join(sorted(unknown))}; known are {known}")
    has_series = any(piece.is_series for piece in chosen)
    played = [
        scenario
        for scenario in faults
        if with_faults and (not only or scenario.name in only) and (has_series or not scenario.needs_series)
    ]
    return (*plain_scenarios(tuple(chosen)), *played, CLOSING)


def perform(stage: Stage, scenario: Scenario) -> Outcome:
    """Play one scenario, and return what came of it; an error in it is an outcome too."""
    if scenario.is_fault and not stage.references:
        remark = "not played: no phantom was answered, so that there is nothing to compare with"
        return _outcome(scenario, began_at=None, seconds=0.0, remark=remark)
    stage.begin()
    began = time.monotonic()
    checks: list[Check] = []
    remark = ""
    try:
        checks.extend(scenario.play(stage))
    except (NodeError, OSError) as exc:
        remark = f"ended before its time: {exc}"
    stage.end()
    moments = tuple(Moment(after_s=(at - stage.began_at).total_seconds(), text=text) for at, text in stage.evidence())
    return replace(
        _outcome(scenario, began_at=stage.began_at, seconds=time.monotonic() - began, remark=remark),
        checks=tuple(checks),
        moments=moments,
    )


def sign(signature: Signature, outcomes: Sequence[Outcome]) -> RehearsalReport:
    """Return the report of these outcomes."""
    began = [outcome.began_at for outcome in outcomes if outcome.began_at is not None]
    return RehearsalReport(
        run=signature.run,
        by=signature.by,
        node=signature.node,
        began_at=min(began, default=utc_now()),
        ended_at=utc_now(),
        facts=signature.facts,
        outcomes=tuple(outcomes),
    )


def _outcome(scenario: Scenario, *, began_at: datetime | None, seconds: float, remark: str) -> Outcome:
    return Outcome(
        name=scenario.name,
        title=scenario.title,
        story=scenario.story,
        began_at=began_at,
        seconds=seconds,
        checks=(),
        moments=(),
        remark=remark,
    )
