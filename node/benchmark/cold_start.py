"""How long a worker takes from its start until it may take a Job."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic

from node.benchmark.report import Target, to_markdown
from node.benchmark.usage import cpu_s
from node.benchmark.yard import STOP_S, open_yard
from node.children import end_child
from node.errors import Broken
from node.settings.whole import Settings

ROUNDS = 5
MOST_S = 4.0
# What a process of the pool says in its log.
READY = b'"worker process ready"'
PLAIN, WARM = "radnode worker", "radnode worker --warm"
WAYS: Mapping[str, tuple[str, ...]] = {PLAIN: (), WARM: ("--warm",)}
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of a worker of one process.

    Attributes
    ----------
    seconds
        Until it is ready for a Job.
    cpu_s
        Processor time of all its processes until then.
    """

    way: str
    seconds: float
    cpu_s: float


def measure_starts(rounds: int, *, folder: Path, note: Note) -> Sequence[Start]:
    """Return starts of a worker, in turn plain and warm, after one of each that does not count.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    Broken
        If a worker ends before it is ready.
    """
    with open_yard(folder / "yard", lambda _: ()) as yard:
        note("Calibrating, as the first warm worker of a machine does")
        for way in WAYS:
            _start(way, yard.settings)
        note(f"{rounds} starts of each kind")
        return [_start(way, yard.settings) for _ in range(rounds) for way in WAYS]


def describe(starts: Sequence[Start]) -> str:
    """Return what was measured as a Markdown table."""
    rows = []
    for way in WAYS:
        seconds, spent_s = _seconds(starts, way), [start.cpu_s for start in starts if start.way == way]
        rows.append((way, f"{min(seconds):.2f}", f"{median(seconds):.2f}", f"{median(spent_s):.2f}"))
    return to_markdown(("until it is ready", "min s", "median s", "CPU s"), rows)


def targets(starts: Sequence[Start]) -> Sequence[Target]:
    """Return what was promised of these figures."""
    return [Target(what=f"{PLAIN}: ready, s", at_most=MOST_S, measured=median(_seconds(starts, PLAIN)))]


def _seconds(starts: Sequence[Start], way: str) -> Sequence[float]:
    return [start.seconds for start in starts if start.way == way]


def _start(way: str, settings: Settings) -> Start:
    with ready_worker(way, settings) as (_, start):
        return start


@contextmanager
def ready_worker(way: str, settings: Settings) -> Iterator[tuple[int, Start]]:
    """Start a worker, and give its process id and what the start took when it is ready; it ends with the block.

    Raises
    ------
    Broken
        If it ends before it is ready.
    """
    command = [sys.executable, "-m", "workers", "--ends-with-parent", str(os.getpid()), "serve", "--processes", "1"]
    # Its log tells when it is ready.
    log = settings.log.model_copy(update={"level": "INFO"})
    environment = {**os.environ, **settings.model_copy(update={"log": log}).as_environment()}
    began_s = monotonic()
    with subprocess.Popen(
        [*command, *WAYS[way]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    ) as worker:
        try:
            if not any(READY in line for line in worker.stderr or ()):
                raise Broken(f"`{way}` ended before it was ready")
            yield worker.pid, Start(way=way, seconds=monotonic() - began_s, cpu_s=cpu_s(worker.pid))
        finally:
            end_child(worker, timeout_s=STOP_S)
