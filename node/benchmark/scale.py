"""What more workers give before one ledger, one broker and one store: Studies an hour, and where they stop to grow."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

from node.benchmark.clerk import READY, TRANSACTIONS
from node.benchmark.invented_backlog import SMALL, XRAY, KindPress
from node.benchmark.postgres import open_postgres
from node.benchmark.report import to_markdown
from node.benchmark.usage import count_cores, machine_cpu_s
from node.benchmark.yard import Worker, Yard, open_yard
from node.clock import utc_now
from node.errors import Broken
from node.settings.whole import Settings

WORKER = "workers.benchmark.simulated"
CLERK = "node.benchmark.clerk"
# Of each worker; one has the device while others read and write.
PROCESSES = 3
HOUR_S = 3600.0
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
# No picture: drawing it would be most of what is measured.
ADDED = """
[pipelines.chest_xray]
optional_results = []
"""
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes
    ----------
    workers
        How many run at a time, one after the other.
    device_s
        How long their devices take for a Study; seconds.
    seconds
        How long one device is kept busy.
    handed_in
        Jobs that are handed in without any work, for what the ledger takes.
    """

    workers: Sequence[int] = (1, 2, 4)
    device_s: Sequence[float] = (1.0, 0.2)
    seconds: float = 15.0
    handed_in: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What so many workers did.

    Attributes
    ----------
    seconds
        From the first Job's begin to the last one's end.
    cores_busy
        Share of the processor time of this machine that somebody used meanwhile, 0..1.
    """

    workers: int
    device_s: float
    studies: int
    seconds: float
    cores_busy: float

    @property
    def busy(self) -> float:
        """Share of the time in which the devices were held, 0..1."""
        return self.studies * self.device_s / (self.workers * self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a ledger took of so many processes that do nothing else."""

    ledger: str
    clerks: int
    per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that was measured."""

    points: Sequence[Point]
    rates: Sequence[Rate]


def measure_scale(asked: Plan, *, folder: Path, note: Note) -> Outcome:
    """Return what workers with simulated devices do before one PostgreSQL, and what ledgers take.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    NotFound
        If PostgreSQL is not installed.
    Broken
        If a Job is not answered.
    """
    note("Drawing a film")
    press = KindPress(SMALL)
    points: list[Point] = []
    rates: list[Rate] = []
    for workers in asked.workers:
        with open_postgres() as url:
            points += _run_workers(asked, workers, press, url=url, folder=folder, note=note)
        note(f"What SQLite takes from {workers} processes")
        rates.append(_rate(SQLITE, workers, asked, press, url="", folder=folder))
        note(f"What PostgreSQL takes from {workers} processes")
        with open_postgres() as url:
            rates.append(_rate(POSTGRESQL, workers, asked, press, url=url, folder=folder))
    return Outcome(points=points, rates=rates)


def describe(outcome: Outcome) -> str:
    """Return what was measured as Markdown tables."""
    points = sorted(outcome.points, key=lambda point: (-point.device_s, point.workers))
    head = ("a device takes s", "workers", "Studies", "Studies/hour", "devices busy", "cores busy")
    rows = [
        (
            f"{point.device_s:g}",
            str(point.workers),
            str(point.studies),
            f"{HOUR_S * point.studies / point.seconds:,.0f}",
            f"{point.busy:.0%}",
            f"{point.cores_busy:.0%}",
        )
        for point in points
    ]
    rates = [(rate.ledger, str(rate.clerks), f"{rate.per_s:.0f}") for rate in outcome.rates]
    clerks = to_markdown(("ledger", "processes that do nothing else", "transactions/s"), sorted(rates))
    return f"{to_markdown(head, rows)}\n\n{clerks}"


def _run_workers(asked: Plan, workers: int, press: KindPress, *, url: str, folder: Path, note: Note) -> Sequence[Point]:
    told = folder / "device"
    told.write_text("0", encoding="ascii")
    with open_yard(folder / "yard", partial(hire_simulated, workers=workers, told=told), added=_on_ledger(url)) as yard:
        note(f"{workers} workers warm up")
        _serve(yard, press, count=workers * PROCESSES, folder=folder)
        points = []
        for device_s in asked.device_s:
            note(f"{workers} workers, whose devices take {device_s:g} s")
            told.write_text(str(device_s), encoding="ascii")
            count = max(workers, round(workers * asked.seconds / device_s))
            points.append(_measure(yard, press, workers, device_s, count=count, folder=folder))
    return points


def _measure(yard: Yard, press: KindPress, workers: int, device_s: float, *, count: int, folder: Path) -> Point:
    since = utc_now()
    cores_busy = _serve(yard, press, count=count, folder=folder)
    served = yard.served_since(since)
    if len(served) != count:
        raise Broken(f"{len(served)} of {count} Studies had a Job; see the rules")
    begun_at = served[0].begun_at
    return Point(
        workers=workers,
        device_s=device_s,
        studies=count,
        seconds=max(one.since_s(begun_at) for one in served),
        cores_busy=cores_busy,
    )


def _serve(yard: Yard, press: KindPress, *, count: int, folder: Path) -> float:
    """Let so many Studies be done; returns how busy the cores were meanwhile, 0..1."""
    yard.take_in([press.write(XRAY, folder / "in") for _ in range(count)])
    shutil.rmtree(folder / "in")
    with yard.node():
        yard.wait_until_begun()
        begun_s, spent_s = monotonic(), machine_cpu_s()
        yard.wait_until_done()
        return (machine_cpu_s() - spent_s) / ((monotonic() - begun_s) * count_cores())


def hire_simulated(settings: Settings, *, workers: int, told: Path) -> Sequence[Worker]:
    """Return workers that have started; the seconds that their devices take for a Study stand in the file `told`."""
    command = [sys.executable, "-m", WORKER, "--ends-with-parent", str(os.getpid()), "--told", str(told)]
    command += ["--processes", str(PROCESSES)]
    environment = {**os.environ, **settings.as_environment()}
    return [
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
        for _ in range(workers)
    ]


def _rate(ledger: str, clerks: int, asked: Plan, press: KindPress, *, url: str, folder: Path) -> Rate:
    with open_yard(folder / "yard", lambda _: (), added=_on_ledger(url)) as yard:
        yard.take_in([press.write(XRAY, folder / "in") for _ in range(asked.handed_in)])
        shutil.rmtree(folder / "in")
        environment = {**os.environ, **yard.settings.as_environment()}
        with ExitStack() as stack:
            running = [
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-m", CLERK, str(place), str(clerks)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                        env=environment,
                    )
                )
                for place in range(clerks)
            ]
            return Rate(ledger=ledger, clerks=clerks, per_s=TRANSACTIONS * asked.handed_in / _let_go(running))


def _let_go(running: "Sequence[subprocess.Popen[str]]") -> float:
    """Let all begin when each is ready; returns the seconds of the one that took longest."""
    pipes = [(process.stdin, process.stdout) for process in running]
    for _, said in pipes:
        if said is None or said.readline().strip() != READY:
            raise Broken("one who hands in Jobs did not start; its log is on standard error")
    for told, _ in pipes:
        if told is not None:
            told.write("\n")
            told.flush()
    return max(float(said.readline()) for _, said in pipes if said is not None)


def _on_ledger(url: str) -> str:
    return f'{ADDED}\n[ledger]\nurl = "{url}"\n' if url else ADDED
