"""What Associations cost that are open and silent: a modality may hold one all day."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from node.benchmark.receivers import AET, Running, receivers
from node.benchmark.report import Target, to_markdown
from node.benchmark.requestor import Requestor
from node.benchmark.set_up import OF_A_SCANNER, proposals

NAMES = ("storescp fork", "Orthanc tuned", "pynetdicom raw", "radnode fsync")
# Share of a core.
MOST_OF_A_CORE = 0.002
# What a receiver does anyway is measured for so long.
REST_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one receiver took.

    Attributes
    ----------
    held, still_open
        Associations at the beginning and at the end.
    rest, busy
        Share of a core that it took before there were any, and with them.
    bytes_each
        Memory that each took.
    """

    receiver: str
    held: int
    still_open: int
    rest: float
    busy: float
    bytes_each: float

    @property
    def each(self) -> float:
        """Share of a core that each took; 0 where less than nothing was measured."""
        return max(self.busy - self.rest, 0.0) / self.held


def measure_idle(
    *, names: Sequence[str], associations: int, seconds: float, folder: Path, note: Callable[[str], None]
) -> Sequence[Row]:
    """Return a row for each receiver that held so many silent Associations for so long.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    NotFound
        If a program is not installed, or does not start.
    DestinationDown
        If a receiver refuses an Association.
    """
    rows = []
    for name in names:
        note(f"{name} holds {associations} Associations")
        place = folder / "idle"
        rows.append(_hold(name, associations, seconds, place))
        shutil.rmtree(place)
    return rows


def _hold(name: str, associations: int, seconds: float, place: Path) -> Row:
    # What is over but not yet forgotten counts with some.
    receiver = receivers(associations=associations + 1)[name]
    with Running(receiver, place) as running, ExitStack() as stack:
        rest = _share_of_a_core(running, min(seconds, REST_S))
        before_bytes = running.memory_bytes()
        proposed = proposals()[len(OF_A_SCANNER)]
        held = [stack.enter_context(Requestor(running.port, proposed, aet=AET)) for _ in range(associations)]
        running.wait_until_calm()
        busy = _share_of_a_core(running, seconds)
        return Row(
            receiver=name,
            held=len(held),
            still_open=sum(requestor.is_open for requestor in held),
            rest=rest,
            busy=busy,
            bytes_each=(running.memory_bytes() - before_bytes) / associations,
        )


def _share_of_a_core(running: Running, seconds: float) -> float:
    before_s, begun_s = running.cpu_s(), monotonic()
    sleep(seconds)
    return (running.cpu_s() - before_s) / (monotonic() - begun_s)


def describe_rows(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header = (
        "receiver",
        "Associations",
        "still open",
        "core at rest",
        "core with them",
        "core for each",
        "KB for each",
    )
    return to_markdown(header, [_cells(row) for row in rows])


def _cells(row: Row) -> Sequence[str]:
    shares = (f"{row.rest:.2%}", f"{row.busy:.2%}", f"{row.each:.3%}")
    return row.receiver, str(row.held), str(row.still_open), *shares, f"{row.bytes_each / 1e3:.0f}"


def targets(rows: Sequence[Row]) -> Sequence[Target]:
    """Return what was promised of these figures."""
    return [
        Target(what=f"{row.receiver}, % of a core for each", at_most=MOST_OF_A_CORE * 100, measured=row.each * 100)
        for row in rows
        if row.receiver.startswith("radnode")
    ]
