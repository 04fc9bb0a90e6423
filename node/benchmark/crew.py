"""Senders that begin together: dcmtk's storescu, and ours, which tells how long each C-STORE took."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import NoReturn, Protocol

from node.benchmark.receivers import AET, NODELAY, find_dcmtk
from node.benchmark.timed_sender import READY, Timing
from node.errors import Broken


class Client(StrEnum):
    """Who sends.

    ``storescu`` opens its Associations and reads its files while the clock runs, as it does for its users. ``timed``
    has done both before, so that its figures are the receiver's.
    """

    STORESCU = "storescu"
    TIMED = "timed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How long it took.

    Attributes
    ----------
    seconds
        From the beginning of the first sender to the end of the last.
    latencies_s
        Of each C-STORE; empty where the client does not tell.
    """

    seconds: float
    latencies_s: tuple[float, ...] = ()


class Crew(Protocol):
    """Senders that are ready; a context manager that ends those that are left."""

    def __enter__(self) -> "Crew":
        """Get ready."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what still runs."""

    def go(self) -> Sending:
        """Send everything."""


def open_crew(client: Client, port: int, shares: Sequence[Sequence[Path]]) -> Crew:
    """Return a crew of `client` with an Association for each share of the files."""
    match client:
        case Client.STORESCU:
            return StorescuCrew(port, shares)
        case Client.TIMED:
            return TimedCrew([("timed_sender", str(port), AET, *map(str, share)) for share in shares])


def shares_of(files: Sequence[Path], senders: int) -> Sequence[Sequence[Path]]:
    """Return the files dealt out to so many senders; none has an empty share."""
    shares = [files[part::senders] for part in range(senders)]
    return [share for share in shares if share]


class StorescuCrew:
    """dcmtk's storescu, a process for each share."""

    def __init__(self, port: int, shares: Sequence[Sequence[Path]]) -> None:
        program = find_dcmtk("storescu")
        self._commands = [(program, "-aec", AET, "127.0.0.1", str(port), *map(str, share)) for share in shares]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "StorescuCrew":
        """There is nothing to prepare."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what still runs."""
        for process in self._processes:
            process.kill()
            process.wait()

    def go(self) -> Sending:
        """Start them all, and wait for their ends."""
        quiet, environment = subprocess.DEVNULL, dict(NODELAY)
        begun_s = monotonic()
        for command in self._commands:
            self._processes.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment))
        for process in self._processes:
            process.wait()
        return Sending(seconds=monotonic() - begun_s)


class TimedCrew:
    """Our senders, a process each.

    Parameters
    ----------
    arguments
        Of each: module of this package, and its command line.

    Raises
    ------
    Broken
        If one ends without saying what it saw; its words are in the message.
    """

    def __init__(self, arguments: Sequence[Sequence[str]]) -> None:
        self._arguments = arguments
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "TimedCrew":
        """Start them, and wait until each is ready."""
        for module, *words in self._arguments:
            command = (sys.executable, "-m", f"node.benchmark.{module}", *words)
            pipe = subprocess.PIPE
            self._processes.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        for process in self._processes:
            if _read_line(process) != READY:
                _give_up(process)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what still runs."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def go(self) -> Sending:
        """Let them all send, and wait for what they saw."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.write("\n")
                process.stdin.flush()
        timings = [_read_timing(process) for process in self._processes]
        return Sending(
            seconds=max(timing.ended_s for timing in timings) - min(timing.begun_s for timing in timings),
            latencies_s=tuple(latency_s for timing in timings for latency_s in timing.latencies_s),
        )


def _read_timing(process: "subprocess.Popen[str]") -> Timing:
    line = _read_line(process)
    if not line:
        _give_up(process)
    return Timing(**json.loads(line))


def _give_up(process: "subprocess.Popen[str]") -> NoReturn:
    _, words = process.communicate()
    raise Broken(f"a sender of the benchmark ended: {words.strip().splitlines()[-1] if words.strip() else 'silently'}")


def _read_line(process: "subprocess.Popen[str]") -> str:
    return process.stdout.readline().strip() if process.stdout is not None else ""
