"""`radnode bench pipeline`: what a Job costs from reading to proving, and what a backlog of Jobs does to the cores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from node.benchmark import backlog, cold_start, stages
from node.benchmark.report import describe_report, run_in_worker
from node.benchmark.surroundings import describe_load, describe_surroundings
from node.cli.bench_page import FolderOption, WriteOption, command_of, measuring, publish, tell
from node.cli.context import read_settings
from node.cli.output import reports_errors
from node.errors import NotFound

# What is measured inside of a worker, and how often unless a person says.
WORKER_PARTS: Mapping[str, int] = {"read": 5, "resample": 5, "warm": 3, "batch": 7}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What a person asked for."""

    rounds: int | None
    device: str
    is_small: bool
    folder: FolderOption

    def options(self, part: str, rounds: int | None) -> str:
        """Return the options that were given, for the command on the page."""
        told = [f"--part {part}"]
        told += [f"--rounds {rounds}"] if rounds is not None else []
        told += [f"--device {self.device}"] if self.device != "cpu" else []
        return " ".join((*told, *(("--small",) if self.is_small else ())))


def _tell_backlog(order: _Order) -> str:
    asked = backlog.plan(device=order.device, is_small=order.is_small)
    with measuring(order.folder) as (place, note):
        outcome = backlog.measure_backlog(asked, folder=place, note=note)
        facts = f"{asked.processes} processes on {asked.device}; {describe_surroundings(place)}, {describe_load()}"
    command = command_of("pipeline", order.options("backlog", None), None)
    return tell(command, facts, backlog.describe(outcome), backlog.targets(outcome))


def _tell_stages(order: _Order) -> str:
    rounds = order.rounds or stages.ROUNDS
    with measuring(order.folder) as (place, note):
        asked = stages.Plan(rounds=rounds, device=order.device, is_small=order.is_small)
        outcome = stages.measure_stages(asked, folder=place, note=note)
        facts = f"medians of {rounds} Jobs of each kind in turn; {describe_surroundings(place)}, {describe_load()}"
    command = command_of("pipeline", order.options("stages", rounds), None)
    return tell(command, facts, stages.describe(outcome), stages.targets(outcome))


def _tell_cold_start(order: _Order) -> str:
    rounds = order.rounds or cold_start.ROUNDS
    with measuring(order.folder) as (place, note):
        starts = cold_start.measure_starts(rounds, folder=place, note=note)
        facts = f"{rounds} starts of each in turn; {describe_surroundings(place)}, {describe_load()}"
    command = command_of("pipeline", f"--part cold --rounds {rounds}", None)
    return tell(command, facts, cold_start.describe(starts), cold_start.targets(starts))


# What is measured with processes of its own.
PARTS: Mapping[str, Callable[[_Order], str]] = {
    "cold": _tell_cold_start,
    "stages": _tell_stages,
    "backlog": _tell_backlog,
}


@reports_errors
def bench_pipeline(
    *,
    part: Annotated[
        list[str] | None, typer.Option("--part", metavar="NAME", help="What is measured; repeat it. Unless given, all.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How often each but the backlog is measured; unless given, as it needs.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    small: Annotated[bool, typer.Option("--small", help="Few and small Studies, to see that it works.")] = False,
    folder: FolderOption = None,
    write: WriteOption = False,
) -> None:
    """Measure stages of a Job, and a mixed backlog: makespan, who waits how long, and a process for each Study."""
    order = _Order(
        rounds=rounds,
        device=device,
        is_small=small,
        folder=folder,
    )
    for name in _chosen(part):
        publish(_tell(name, order), f"pipeline {name}", write=write)


def _tell(name: str, order: _Order) -> str:
    if name in PARTS:
        return PARTS[name](order)
    rounds = order.rounds or WORKER_PARTS[name]
    report = run_in_worker(read_settings(None), name, rounds=rounds)
    return describe_report(report, command_of("pipeline", f"--part {name} --rounds {rounds}", None))


def _chosen(part: Sequence[str] | None) -> Sequence[str]:
    known = (*WORKER_PARTS, *PARTS)
    for name in part or ():
        if name not in known:
            raise NotFound(f"no part is called {name!r}; known are {', '.join(known)}")
    return part or known
