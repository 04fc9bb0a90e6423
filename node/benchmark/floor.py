"""Below what no receiver in Python can go here: the same bytes, received and kept with nothing of DICOM around them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from node.benchmark.bare_receiver import SYNCED, UNSYNCED, WAYS
from node.benchmark.load import KILOBYTE, Load
from node.benchmark.report import to_markdown
from node.errors import Broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one way took.

    Attributes
    ----------
    cpu_s_per_gb
        Processor time of the receiving processes alone.
    """

    way: str
    durability: str
    instances: int
    rate: float
    cpu_s_per_gb: float


def measure_floor(load: Load, *, senders: int, rounds: int, folder: Path, note: Callable[[str], None]) -> Sequence[Row]:
    """Return a row for each way, after rounds in which they took turns.

    A process for each sender reads what comes, writes it to a file under a passing name, closes and renames it, and
    answers one byte. There are no PDUs, no header is read, nothing is recorded.

    Parameters
    ----------
    load
        What each of `senders` sends, one Instance after the answer to the one before.

    Raises
    ------
    Broken
        If a process ends with an error.
    """
    ways = [(way, durability) for durability in (UNSYNCED, SYNCED) for way in WAYS]
    found: dict[tuple[str, str], list[Row]] = {way: [] for way in ways}
    for number in range(rounds):
        for way, durability in ways:
            note(f"Round {number + 1} of {rounds}: {way}, {durability}")
            found[way, durability].append(_measure(way, durability, load, senders=senders, folder=folder))
    return [_middle(rows) for rows in found.values()]


def describe_rows(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header = ("what is done with the bytes", "durable", "Instances", "Instances/s", "CPU s/GB")
    return to_markdown(header, [_cells(row) for row in rows])


def _cells(row: Row) -> Sequence[str]:
    durable = "yes" if row.durability == SYNCED else "no"
    return row.way, durable, str(row.instances), f"{row.rate:.0f}", f"{row.cpu_s_per_gb:.2f}"


def _middle(rows: Sequence[Row]) -> Row:
    return Row(
        way=rows[0].way,
        durability=rows[0].durability,
        instances=rows[0].instances,
        rate=median(row.rate for row in rows),
        cpu_s_per_gb=median(row.cpu_s_per_gb for row in rows),
    )


def _measure(way: str, durability: str, load: Load, *, senders: int, folder: Path) -> Row:
    size_bytes = load.kilobytes * KILOBYTE
    places = [folder / str(number) for number in range(senders)]
    started = []
    for place in places:
        place.mkdir()
        command = [sys.executable, "-m", "node.benchmark.bare_receiver", way, durability, str(place)]
        command += [str(load.instances), str(size_bytes)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    shares = [_read_share(process) for process in started]
    for place in places:
        shutil.rmtree(place)
    return Row(
        way=way,
        durability=durability,
        instances=load.instances * senders,
        rate=sum(load.instances / seconds for seconds, _ in shares),
        cpu_s_per_gb=sum(cpu_s for _, cpu_s in shares) / (load.instances * senders * size_bytes / 1e9),
    )


def _read_share(process: subprocess.Popen[str]) -> tuple[float, float]:
    said, _ = process.communicate()
    if process.returncode:
        raise Broken("a process of the benchmark ended with an error; what it wrote is on standard error")
    figures = json.loads(said)
    return figures["seconds"], figures["cpu_s"]
