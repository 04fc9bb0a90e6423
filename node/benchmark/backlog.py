"""A mixed backlog before real workers: how long it takes beside what the cores need for it, and who waits how long."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from time import sleep

from node.benchmark.alone import Alone, run_alone
from node.benchmark.invented_backlog import CT, MR, SMALL, USUAL, XRAY, KindPress
from node.benchmark.report import Target, quantile, to_markdown
from node.benchmark.usage import count_cores, machine_cpu_s
from node.benchmark.yard import Served, Yard, hire_one, open_yard
from node.clock import utc_now
from node.errors import Broken

Note = Callable[[str], None]
MOST_OF_BOUND, MOST_OF_FIFO, LEAST_BUSY = 1.2, 0.4, 0.85
# With so short an ageing every Job stands in the foremost lane at once: who came first is served first.
NO_LANES_S = 0.001
CPU = "cpu"
# As many as a worker has by itself.
DEVICE_PROCESSES = 3
LANES, FIFO = "lanes, as shipped", "first in, first out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What waits, and for whom.

    Attributes
    ----------
    counts
        Kind to how many Studies of it.
    rush_cts
        CT Studies before which X-rays arrive.
    rush_every_s
        How often one arrives; seconds, > 0.
    """

    counts: Mapping[str, int]
    rush_cts: int
    rush_every_s: float
    device: str
    processes: int
    is_small: bool = False


def plan(*, device: str, is_small: bool) -> Plan:
    """Return a backlog as after a night, or a small one that only shows that all of it works."""
    usual = Plan(
        counts={CT: 10, MR: 10, XRAY: 100},
        rush_cts=20,
        rush_every_s=0.7,
        device=device,
        processes=DEVICE_PROCESSES if device != CPU else count_cores(),
    )
    if not is_small:
        return usual
    return replace(usual, counts={CT: 1, MR: 1, XRAY: 3}, rush_cts=usual.processes + 2, rush_every_s=0.5, is_small=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What came of Studies that all waited at the beginning.

    Attributes
    ----------
    begun_at
        When a worker took the first of them.
    worker_cpu_s, node_cpu_s
        Processor time of the worker's processes, and of node and broker.
    machine_cpu_s
        Of all that ran on this machine meanwhile.
    """

    served: Sequence[Served]
    begun_at: datetime
    worker_cpu_s: float
    node_cpu_s: float
    machine_cpu_s: float

    @property
    def makespan_s(self) -> float:
        """From the first Job's begin to the last one's end."""
        return max(one.since_s(self.begun_at) for one in self.served)

    @property
    def busy(self) -> float:
        """Share of the makespan in which some network had the device, 0..1; of a CPU it may be more."""
        return sum(one.network_s for one in self.served) / self.makespan_s

    @property
    def answers(self) -> int:
        """How many different answers there were for a kind, at most; all Studies of a kind have the same pixels."""
        kinds = {one.kind for one in self.served}
        return max(len({one.answer for one in self.served if one.kind == kind}) for kind in kinds)

    @property
    def gaps_s(self) -> Sequence[float]:
        """Seconds from the end of each Job to the begin of the next one in the same process, sorted."""
        owners = {one.owner for one in self.served}
        lines = [[one for one in self.served if one.owner == owner] for owner in owners]
        return sorted(
            (after.begun_at - before.ended_at).total_seconds() for line in lines for before, after in pairwise(line)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rush:
    """What came of X-rays that arrived while CT Studies were worked on.

    Attributes
    ----------
    xrays_s, cts_s
        From the order to the end of each Job, sorted.
    """

    name: str
    xrays_s: Sequence[float]
    cts_s: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that was measured."""

    plan: Plan
    backlog: Backlog
    rushes: Sequence[Rush]
    alone: Sequence[Alone]
    cores: int

    @property
    def bound_s(self) -> float:
        """What the cores need for the Jobs at least: the processor time of the worker by their number."""
        return self.backlog.worker_cpu_s / self.cores


def measure_backlog(asked: Plan, *, folder: Path, note: Note) -> Outcome:
    """Return what a backlog takes, what X-rays wait that arrive during one, and what a process for each Study takes.

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
    with open_yard(folder / "yard", hire_one(asked.device, asked.processes)) as yard:
        note("Warming up")
        _run(yard, press, dict.fromkeys(asked.counts, asked.processes), folder=folder)
        note("Writing the backlog")
        backlog = _run(yard, press, asked.counts, folder=folder, note=note)
        rushes = []
        for name, ageing_s in ((LANES, None), (FIFO, NO_LANES_S)):
            note(f"X-rays arrive before {asked.rush_cts} CT: {name}")
            rushes.append(_rush(yard, press, asked, name=name, ageing_s=ageing_s, folder=folder))
        alone = []
        for kind in asked.counts:
            note(f"A process of its own for one {kind}")
            alone.append(run_alone(kind, press, yard.settings, folder=folder / "alone"))
    return Outcome(plan=asked, backlog=backlog, rushes=rushes, alone=alone, cores=count_cores())


def describe(outcome: Outcome) -> str:
    """Return what was measured as Markdown tables."""
    return "\n\n".join(
        (
            _describe_kinds(outcome.backlog),
            _describe_bounds(outcome),
            _describe_rushes(outcome.rushes),
            _describe_alone(outcome),
        )
    )


def targets(outcome: Outcome) -> Sequence[Target]:
    """Return what was promised of these figures."""
    by_name = {rush.name: rush for rush in outcome.rushes}
    share = quantile(by_name[LANES].xrays_s, 0.95) / quantile(by_name[FIFO].xrays_s, 0.95)
    ratio = outcome.backlog.makespan_s / outcome.bound_s
    busy = Target(what="device busy", measured=outcome.backlog.busy, at_least=LEAST_BUSY)
    return (
        *((busy,) if outcome.plan.device != CPU else ()),
        Target(what="different answers to the same pixels", measured=outcome.backlog.answers, at_most=1),
        Target(what="makespan, times its bound", measured=ratio, at_most=MOST_OF_BOUND),
        Target(what=f"X-ray p95 during a CT backlog, times {FIFO}", measured=share, at_most=MOST_OF_FIFO),
    )


def _describe_kinds(backlog: Backlog) -> str:
    rows = []
    for kind in dict.fromkeys(one.kind for one in backlog.served):
        ended = sorted(one.since_s(backlog.begun_at) for one in backlog.served if one.kind == kind)
        work = sorted(one.work_s for one in backlog.served if one.kind == kind)
        figures = (quantile(work, 0.5), quantile(ended, 0.5), quantile(ended, 0.95), ended[-1])
        rows.append((kind, str(len(ended)), *(f"{figure:.2f}" for figure in figures)))
    rows.sort()
    return to_markdown(("kind", "Studies", "in work p50 s", "wait and work p50 s", "p95 s", "longest s"), rows)


def _describe_bounds(outcome: Outcome) -> str:
    backlog, cores = outcome.backlog, outcome.cores
    rows = []
    for name, spent_s in (
        ("the worker's processes", backlog.worker_cpu_s),
        ("the same, node and broker", backlog.worker_cpu_s + backlog.node_cpu_s),
        ("everybody on this machine", backlog.machine_cpu_s),
    ):
        bound_s = spent_s / cores
        rows.append(
            (
                name,
                f"{spent_s:.1f}",
                f"{bound_s:.1f}",
                f"{backlog.makespan_s:.1f}",
                f"{backlog.makespan_s / bound_s:.2f}",
            )
        )
    head = ("processor time of", "CPU s", f"by {cores} cores: bound s", "makespan s", "times the bound")
    gaps_s = backlog.gaps_s
    told = (
        f"Between two Jobs of one process there are {quantile(gaps_s, 0.5) * 1e3:.0f} ms (p50), "
        f"{quantile(gaps_s, 0.95) * 1e3:.0f} ms (p95), {sum(gaps_s):.1f} s in all. Networks took {backlog.busy:.0%} of "
        "the makespan."
    )
    return f"{to_markdown(head, rows)}\n\n{told}"


def _describe_rushes(rushes: Sequence[Rush]) -> str:
    rows = [
        (
            rush.name,
            str(len(rush.xrays_s)),
            *(f"{quantile(rush.xrays_s, share):.2f}" for share in (0.5, 0.95, 1.0)),
            str(len(rush.cts_s)),
            f"{rush.cts_s[-1]:.2f}",
        )
        for rush in rushes
    ]
    head = ("X-rays arrive during a CT backlog", "X-rays", "p50 s", "p95 s", "longest s", "CT", "longest CT s")
    return to_markdown(head, rows)


def _describe_alone(outcome: Outcome) -> str:
    counts, makespan_s = outcome.plan.counts, outcome.backlog.makespan_s
    rows = [(one.kind, f"{one.seconds:.2f}", f"{one.cpu_s:.2f}", str(counts[one.kind])) for one in outcome.alone]
    seconds = sum(one.seconds * counts[one.kind] for one in outcome.alone)
    spent_s = sum(one.cpu_s * counts[one.kind] for one in outcome.alone)
    told = (
        f"One after the other the backlog would take {seconds:.0f} s so, reckoned from one Study of each kind: "
        f"{seconds / makespan_s:.1f} times the makespan above, and {spent_s:.0f} CPU s."
    )
    head = ("a fresh process for each Study", "seconds", "CPU s", "Studies in the backlog")
    return f"{to_markdown(head, rows)}\n\n{told}"


def _run(
    yard: Yard, press: KindPress, counts: Mapping[str, int], *, folder: Path, note: Note = lambda _: None
) -> Backlog:
    """Let Studies wait in the ledger, then run a node until the worker has done them."""
    _fill(yard, press, counts, folder=folder)
    note("Working on the backlog")
    since = utc_now()
    with yard.node() as node:
        # The start of the node is no part of it.
        yard.wait_until_begun()
        worker_s, node_s, machine_s = yard.worker_cpu_s, node.cpu_s + yard.broker_cpu_s, machine_cpu_s()
        yard.wait_until_done()
        worker_s, machine_s = yard.worker_cpu_s - worker_s, machine_cpu_s() - machine_s
        node_s = node.cpu_s + yard.broker_cpu_s - node_s
    served = yard.served_since(since)
    if len(served) != sum(counts.values()):
        raise Broken(f"{len(served)} of {sum(counts.values())} Studies of the backlog had a Job; see the rules")
    return Backlog(
        served=served,
        begun_at=served[0].begun_at,
        worker_cpu_s=worker_s,
        node_cpu_s=node_s,
        machine_cpu_s=machine_s,
    )


def _fill(yard: Yard, press: KindPress, counts: Mapping[str, int], *, folder: Path) -> None:
    # In the order of their kinds, as after a night: what is short came last.
    studies = [press.write(kind, folder / "in") for kind, count in counts.items() for _ in range(count)]
    yard.take_in(studies)
    shutil.rmtree(folder / "in")


def _rush(yard: Yard, press: KindPress, asked: Plan, *, name: str, ageing_s: float | None, folder: Path) -> Rush:
    """Let X-rays come in one after the other as long as a CT waits."""
    _fill(yard, press, {CT: asked.rush_cts}, folder=folder)
    since = utc_now()
    with yard.node(ageing_s=ageing_s) as node:
        node.wait_until_listening()
        while yard.is_waiting(CT):
            yard.send(press.write(XRAY, folder / "rush"), node.peer)
            shutil.rmtree(folder / "rush")
            sleep(asked.rush_every_s)
        yard.wait_until_done()
    served = yard.served_since(since)
    waits = {kind: sorted(one.since_s(one.ordered_at) for one in served if one.kind == kind) for kind in (CT, XRAY)}
    return Rush(name=name, xrays_s=waits[XRAY], cts_s=waits[CT])
