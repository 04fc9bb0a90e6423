"""Where the time of one Job goes, stage by stage, in a warm worker and beside a process of its own."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from node.benchmark.alone import Alone, run_alone
from node.benchmark.invented_backlog import PIPELINES, SMALL, USUAL, KindPress
from node.benchmark.report import Target, to_markdown
from node.benchmark.yard import Served, Yard, hire_one, open_yard
from node.clock import utc_now

ROUNDS = 5
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured: so many Jobs of each kind, one at a time, after one that does not count."""

    rounds: int
    device: str
    is_small: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that was measured."""

    served: Sequence[Served]
    alone: Sequence[Alone]


def measure_stages(asked: Plan, *, folder: Path, note: Note) -> Outcome:
    """Return Jobs of each kind in a worker of one process, and one of each in a process of its own.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    Broken
        If a Job is not answered.
    """
    note("Drawing phantoms")
    press = KindPress(SMALL if asked.is_small else USUAL)
    with open_yard(folder / "yard", hire_one(asked.device, 1)) as yard:
        note("Warming up")
        _run(yard, press, rounds=1, folder=folder)
        note(f"{asked.rounds} Jobs of each kind")
        since = utc_now()
        _run(yard, press, rounds=asked.rounds, folder=folder)
        served = yard.served_since(since)
        alone = []
        for kind in PIPELINES:
            note(f"A process of its own for one {kind}")
            alone.append(run_alone(kind, press, yard.settings, folder=folder / "alone"))
    return Outcome(served=served, alone=alone)


def describe(outcome: Outcome) -> str:
    """Return what was measured as Markdown tables."""
    return f"{_describe_stages(outcome.served)}\n\n{_describe_wholes(outcome)}"


def targets(_outcome: Outcome) -> Sequence[Target]:
    """Return what was promised of these figures: nothing, they tell where to look."""
    return ()


def _run(yard: Yard, press: KindPress, *, rounds: int, folder: Path) -> None:
    yard.take_in([press.write(kind, folder / "in") for _ in range(rounds) for kind in PIPELINES])
    shutil.rmtree(folder / "in")
    with yard.node():
        yard.wait_until_done()


def _describe_stages(served: Sequence[Served]) -> str:
    rows = []
    for kind in PIPELINES:
        found = [one for one in served if one.kind == kind]
        work_s = median(one.work_s for one in found)
        for stage in found[0].stages:
            spent_s = median(one.stages.get(stage, 0.0) for one in found)
            rows.append((kind, *stage, f"{spent_s:.3f}", f"{spent_s / work_s:.0%}"))
        # Claim, commit and what else a worker does for the ledger.
        rest_s = median(one.work_s - sum(one.stages.values()) for one in found)
        rows.append((kind, "all the rest", "", f"{rest_s:.3f}", f"{rest_s / work_s:.0%}"))
    return to_markdown(("kind", "stage", "part", "p50 s", "of the Job"), rows)


def _describe_wholes(outcome: Outcome) -> str:
    rows = []
    for one in outcome.alone:
        work_s = median(served.work_s for served in outcome.served if served.kind == one.kind)
        rows.append(
            (one.kind, f"{work_s:.2f}", f"{one.seconds:.2f}", f"{one.seconds / work_s:.1f}", f"{one.cpu_s:.2f}")
        )
    head = ("kind", "warm worker p50 s", "a fresh process s", "times the warm worker", "CPU s of the fresh process")
    return to_markdown(head, rows)
