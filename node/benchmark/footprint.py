"""How much memory a receiver takes for Instances that are larger than it should ever hold."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.benchmark.crew import TimedCrew
from node.benchmark.large_sender import MEBIBYTE, is_kept
from node.benchmark.receivers import AET, Running, receivers
from node.benchmark.report import Target, to_markdown
from node.errors import NotDicom, StoreFull

NAMES = ("storescp fork", "radnode fsync")
MOST_BYTES = 68 * MEBIBYTE
SAMPLE_S = 0.05
# Beside the Instances themselves: databases, and what the file system needs to be quick.
FREE_BYTES = 512 * MEBIBYTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one receiver took.

    Attributes
    ----------
    idle_bytes, peak_bytes
        Memory before, and the most while it received.
    bytes_per_s
        Of all Instances together.
    is_complete
        Whether every data set is in its files, byte by byte.
    """

    receiver: str
    is_durable: bool
    idle_bytes: int
    peak_bytes: int
    bytes_per_s: float
    is_complete: bool


def measure_memory(
    *, names: Sequence[str], instances: int, mebibytes: int, folder: Path, note: Callable[[str], None]
) -> Sequence[Row]:
    """Return a row for each receiver that received so many Instances at once, each on an Association of its own.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    NotFound
        If a program is not installed, or does not start.
    StoreFull
        If the volume of `folder` has not enough space; nothing was begun.
    """
    _check_space(folder, instances * mebibytes * MEBIBYTE)
    rows = []
    for name in names:
        note(f"{name} receives {instances} Instances of {mebibytes} MiB")
        place = folder / "memory"
        rows.append(_measure(name, instances, mebibytes, place))
        shutil.rmtree(place)
    return rows


def _check_space(folder: Path, needed_bytes: int) -> None:
    free_bytes, needed_bytes = shutil.disk_usage(folder).free, needed_bytes + FREE_BYTES
    if free_bytes < needed_bytes:
        found, needed = (f"{size / 1e9:.1f} GB" for size in (free_bytes, needed_bytes))
        raise StoreFull(f"{folder} has {found} of free space, and the Instances need {needed}; choose another --folder")


def _measure(name: str, instances: int, mebibytes: int, place: Path) -> Row:
    receiver = receivers(associations=instances)[name]
    with Running(receiver, place) as running:
        senders = [("large_sender", str(running.port), AET, str(number), str(mebibytes)) for number in range(instances)]
        # Idle is what it was before anybody called: the Associations are a part of the price.
        with running.watch_memory(sample_s=SAMPLE_S) as memory, TimedCrew(senders) as crew:
            sending = crew.go()
        running.wait_until_calm()
        return Row(
            receiver=name,
            is_durable=receiver.is_durable,
            idle_bytes=memory.begin_bytes,
            peak_bytes=memory.peak_bytes,
            bytes_per_s=instances * mebibytes * MEBIBYTE / sending.seconds,
            is_complete=running.stored == _count_kept(running, instances, mebibytes) == instances,
        )


def _count_kept(running: Running, instances: int, mebibytes: int) -> int:
    found: set[int] = set()
    for path in running.kept():
        if path.stat().st_size >= mebibytes * MEBIBYTE:
            try:
                found.update(number for number in range(instances) if is_kept(path, number, mebibytes))
            except NotDicom:
                continue  # a database of the receiver
    return len(found)


def describe_rows(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header = ("receiver", "durable", "idle MiB", "peak MiB", "above idle MiB", "MB/s", "stored == sent")
    return to_markdown(header, [_cells(row) for row in rows])


def _cells(row: Row) -> Sequence[str]:
    sizes = (row.idle_bytes, row.peak_bytes, row.peak_bytes - row.idle_bytes)
    return (
        row.receiver,
        "yes" if row.is_durable else "no",
        *(f"{size / MEBIBYTE:.1f}" for size in sizes),
        f"{row.bytes_per_s / 1e6:.0f}",
        "yes" if row.is_complete else "NO",
    )


def targets(rows: Sequence[Row]) -> Sequence[Target]:
    """Return what was promised of these figures."""
    return [
        Target(
            what=f"{row.receiver}, MiB above idle",
            at_most=MOST_BYTES / MEBIBYTE,
            measured=(row.peak_bytes - row.idle_bytes) / MEBIBYTE,
        )
        for row in rows
        if row.receiver.startswith("radnode")
    ]
