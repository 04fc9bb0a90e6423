"""What a program and every process below it use: processor time, and memory that no page is counted twice in."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from types import TracebackType

PROC = Path("/proc")
# Places in /proc/PID/stat behind the name of the program, which may hold spaces.
PARENT, CPU_TICKS = 1, slice(11, 15)
# Places in the first line of /proc/stat: idle and waiting for a disk; behind the first eight, guests, told already.
IDLE_TICKS, TOLD_TICKS = slice(3, 5), 8
SAMPLE_S = 0.1
# A program that takes no more processor time than this in such a period has nothing to do.
CALM_S = 0.02
CALM_PERIOD_S = 0.5
PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    parent: int
    cpu_ticks: int


def cpu_s(pid: int) -> float:
    """Return the processor time of `pid` and of all its descendants, those that have ended included; seconds.

    A process that was not waited for counts as itself, one that was in the time of its parent's children; read it when
    nothing is coming or going, for a process that ends between two looks is counted once or twice.
    """
    return sum(process.cpu_ticks for process in _family(pid).values()) / os.sysconf("SC_CLK_TCK")


def machine_cpu_s() -> float:
    """Return the processor time that everybody on this machine has taken since it was started."""
    ticks = list(map(int, (PROC / "stat").read_text(encoding="ascii").splitlines()[0].split()[1:]))
    return (sum(ticks[:TOLD_TICKS]) - sum(ticks[IDLE_TICKS])) / os.sysconf("SC_CLK_TCK")


def count_cores() -> int:
    """Return on how many cores this process may run."""
    return len(os.sched_getaffinity(0))


def memory_bytes(pid: int) -> int:
    """Return the proportional set size of `pid` and of all its descendants: what they share is counted once."""
    return sum(_pss_bytes(member) for member in _family(pid))


def wait_until_calm(pid: int, *, limit_s: float) -> None:
    """Return when `pid` and its descendants have nothing more to do, or after so long; seconds."""
    deadline_s, busy_s = monotonic() + limit_s, CALM_S + 1
    while busy_s > CALM_S and monotonic() < deadline_s:
        before_s = cpu_s(pid)
        sleep(CALM_PERIOD_S)
        busy_s = cpu_s(pid) - before_s


class MemoryWatch:
    """The most memory that a program and its descendants held while it was watched; a context manager.

    Parameters
    ----------
    sample_s
        How often one looks; seconds, > 0. What comes and goes between two looks is not seen.

    Attributes
    ----------
    begin_bytes, peak_bytes
        At the beginning, and the most that was seen.
    """

    def __init__(self, pid: int, *, sample_s: float = SAMPLE_S) -> None:
        self._pid = pid
        self._sample_s = sample_s
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="memory-watch", daemon=True)
        self.begin_bytes = self.peak_bytes = 0

    def __enter__(self) -> "MemoryWatch":
        """Look for the first time, and go on looking."""
        self.begin_bytes = self.peak_bytes = memory_bytes(self._pid)
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Look for the last time."""
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(self._sample_s):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, memory_bytes(self._pid))


def _family(root: int) -> Mapping[int, _Process]:
    """Return `root` and its descendants that exist, those included that ended and were not waited for."""
    everybody = dict(_processes())
    family = {root: everybody[root]} if root in everybody else {}
    newest = set(family)
    while newest:
        newest = {pid for pid, process in everybody.items() if process.parent in newest}
        family.update((pid, everybody[pid]) for pid in newest)
    return family


def _processes() -> Iterator[tuple[int, _Process]]:
    for entry in os.scandir(PROC):
        if entry.name.isdigit():
            try:
                stat = (PROC / entry.name / "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            fields = stat.rsplit(")", 1)[1].split()
            yield int(entry.name), _Process(parent=int(fields[PARENT]), cpu_ticks=sum(map(int, fields[CPU_TICKS])))


def _pss_bytes(pid: int) -> int:
    try:
        rollup = (PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended while we looked, or is not waited for
    found = PSS.search(rollup)
    return int(found[1]) * 1024 if found else 0
