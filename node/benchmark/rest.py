"""What a node and a warm worker hold in memory when they have nothing to do, and how soon they are there."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic

from node.benchmark.cold_start import WARM, ready_worker
from node.benchmark.receivers import free_port, radnode_command
from node.benchmark.report import Target, to_markdown
from node.benchmark.usage import cpu_s, memory_bytes, wait_until_calm
from node.benchmark.yard import STOP_S, open_yard
from node.children import end_child
from node.errors import Broken
from node.metrics.memory import measure_memory
from node.settings.whole import Settings

MOST_OF_A_NODE_MB = 150
MOST_OF_A_WORKER_MB = 700
NODE, WITH_WEB = "radnode serve", "radnode serve, with the web"
# Its own processes; the broker is another product.
PARTS = ("node", "nursery", "receiver", "web")
CALM_LIMIT_S = 60.0
# The first words of a node that receives.
RECEIVES = b"radnode receives"
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one program held at rest, in the middle of several starts.

    Attributes
    ----------
    sum_bytes
        Proportional set size of all its processes.
    parts_bytes
        Of those of a node, by kind.
    ready_s, ready_cpu_s
        Until it was ready: seconds, and processor time of all its processes.
    """

    program: str
    sum_bytes: float
    ready_s: float
    ready_cpu_s: float
    parts_bytes: Mapping[str, float] = field(default_factory=dict)


def measure_rest(*, rounds: int, with_worker: bool, folder: Path, note: Note) -> Sequence[Row]:
    """Return a row for a node without the web, one with it, and one for a warm worker where that is wanted.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    Broken
        If a program ends before it is ready.
    """
    ports = {NODE: 0, WITH_WEB: free_port()}
    starts: dict[str, list[Row]] = {name: [] for name in ports}
    for turn in range(rounds):
        for name, web_port in ports.items():
            note(f"{name}, {turn + 1} of {rounds}")
            starts[name].append(_start_node(name, folder / "node", web_port))
    rows = [_middle(found) for found in starts.values()]
    if with_worker:
        note(WARM)
        with open_yard(folder / "yard", lambda _: ()) as yard:
            # The first warm worker of a machine calibrates, which takes minutes.
            _start_worker(yard.settings)
            rows.append(_start_worker(yard.settings))
    return rows


def _start_node(name: str, place: Path, web_port: int) -> Row:
    place.mkdir()
    command = radnode_command(place, "fsync", f"port = {free_port()}", web_port=web_port)
    plain = {name: value for name, value in os.environ.items() if "RADNODE" not in name}
    began_s = monotonic()
    with (
        (place / "log.txt").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=plain) as node,
    ):
        try:
            _wait_for(RECEIVES, node.stdout or (), name)
            ready_s, ready_cpu_s = monotonic() - began_s, cpu_s(node.pid)
            wait_until_calm(node.pid, limit_s=CALM_LIMIT_S)
            held = measure_memory(place / "data")
        finally:
            end_child(node, timeout_s=STOP_S)
    shutil.rmtree(place)
    parts = {kind: held[kind] for kind in PARTS if kind in held}
    return Row(program=name, sum_bytes=sum(parts.values()), parts_bytes=parts, ready_s=ready_s, ready_cpu_s=ready_cpu_s)


def _start_worker(settings: Settings) -> Row:
    with ready_worker(WARM, settings) as (pid, start):
        wait_until_calm(pid, limit_s=CALM_LIMIT_S)
        return Row(program=WARM, sum_bytes=memory_bytes(pid), ready_s=start.seconds, ready_cpu_s=start.cpu_s)


def _wait_for(word: bytes, lines: Iterable[bytes], name: str) -> None:
    if not any(word in line for line in lines):
        raise Broken(f"`{name}` ended before it was ready")


def _middle(starts: Sequence[Row]) -> Row:
    kinds = starts[0].parts_bytes
    return Row(
        program=starts[0].program,
        sum_bytes=median(start.sum_bytes for start in starts),
        parts_bytes={kind: median(start.parts_bytes[kind] for start in starts) for kind in kinds},
        ready_s=median(start.ready_s for start in starts),
        ready_cpu_s=median(start.ready_cpu_s for start in starts),
    )


def describe_rows(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header = ("program", *(f"{kind} MB" for kind in PARTS), "together MB", "s until ready", "CPU s until ready")
    return to_markdown(header, [_cells(row) for row in rows])


def _cells(row: Row) -> Sequence[str]:
    parts = (f"{row.parts_bytes[kind] / 1e6:.0f}" if kind in row.parts_bytes else "" for kind in PARTS)
    return row.program, *parts, f"{row.sum_bytes / 1e6:.0f}", f"{row.ready_s:.1f}", f"{row.ready_cpu_s:.1f}"


def targets(rows: Sequence[Row]) -> Sequence[Target]:
    """Return what was promised of these figures."""
    promised = {NODE: MOST_OF_A_NODE_MB, WARM: MOST_OF_A_WORKER_MB}
    return [
        Target(what=f"{row.program}, MB at rest", at_most=promised[row.program], measured=row.sum_bytes / 1e6)
        for row in rows
        if row.program in promised
    ]
