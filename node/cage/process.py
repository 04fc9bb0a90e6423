"""A process in a cage, as its owner sees it: asked over a pipe, told no secrets, killed when it does not answer."""

import json
import os
import selectors
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, Generic, TypeVar

from node.errors import DecoderDied

# Before each answer: whether it is one, and its length in bytes.
HEAD = struct.Struct("<cQ")
DONE, REFUSED = b"+", b"-"
CHUNK_BYTES = 1024 * 1024
# All that such a process is told of our environment: where libraries are, and how this machine writes and tells time.
TOLD_VARIABLES = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much one process may take.

    Attributes
    ----------
    memory_bytes
        Address space; Python and its libraries take 0.2 GB of it.
    seconds
        Of one request; beyond, the process is killed.
    """

    memory_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a process says; its pieces must be read before it is asked again."""

    status: bytes
    size_bytes: int
    pieces: Iterator[bytes]


class CagedProcess:
    """One process, and the pipes to it.

    Parameters
    ----------
    module
        What it runs: a module that calls `node.cage.inmate.serve_requests`.
    words
        Further words of its command line.
    descriptors
        Files that it gets from us, under the numbers that they have here.

    Attributes
    ----------
    is_late
        Whether it was asked something and did not answer in time.
    """

    def __init__(
        self, module: str, bounds: Bounds, *, words: Sequence[str] = (), descriptors: Sequence[int] = ()
    ) -> None:
        self.is_late = False
        self._seconds = bounds.seconds
        limits = ("--memory-bytes", str(bounds.memory_bytes), "--seconds", str(bounds.seconds))
        # What reads hostile bytes is told no secrets. For each thread, a library of linear algebra takes address space.
        told = {name: os.environ[name] for name in TOLD_VARIABLES if name in os.environ}
        environment = {**told, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *limits, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What decoders say may quote values of a patient.
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=descriptors,
            # A terminal's Ctrl-C reaches whole groups, also while modules are imported; what ends it is the end of its
            # standard input, with us.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def ask(self, request: Mapping[str, Any]) -> Answer:
        """Return the answer.

        Raises
        ------
        DecoderDied
            If the process is gone, or does not answer in time; also while the pieces of its answer are read.
        """
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None  # noqa: S101 for the type checker: both are pipes
        assert answers is not None  # noqa: S101
        try:
            asked.write(json.dumps(request).encode() + b"\n")
            asked.flush()
        except OSError as exc:
            raise self._died() from exc
        # Starting it takes a part of the time; it counts the rest itself.
        deadline = monotonic() + 2 * self._seconds
        status, size = HEAD.unpack(b"".join(self._pieces(answers.fileno(), HEAD.size, deadline)))
        return Answer(status=status, size_bytes=size, pieces=self._pieces(answers.fileno(), size, deadline))

    def end(self) -> None:
        """Kill it, and let go of the pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # What it was asked last may still wait to be written.
                with suppress(OSError):
                    pipe.close()

    def _pieces(self, descriptor: int, size: int, deadline: float) -> Iterator[bytes]:
        left = size
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while left:
                if not selector.select(max(deadline - monotonic(), 0)):
                    self.is_late = True
                    raise self._died()
                piece = os.read(descriptor, min(left, CHUNK_BYTES))
                if not piece:
                    raise self._died()
                left -= len(piece)
                yield piece

    def _died(self) -> DecoderDied:
        return DecoderDied(
            f"the process that read the Instance died, or took more than {self._seconds:g} s; other requests are "
            "served; look at the Instance before asking again"
        )


Caged = TypeVar("Caged", bound=CagedProcess)


class Idlers(Generic[Caged]):
    """Processes that wait for work; each is started when it is needed first, and ended when anything goes wrong.

    How many are lent at a time is the caller's to bound.
    """

    def __init__(self, start: Callable[[], Caged]) -> None:
        self._start = start
        self._lock = Lock()
        self._idle: list[Caged] = []

    @contextmanager
    def lend(self, *, is_fresh: bool = False) -> Iterator[Caged]:
        """Give a process; it is ended instead of kept when the block does not come to its end.

        Parameters
        ----------
        is_fresh
            Whether it must be one that was asked nothing before.
        """
        process = (None if is_fresh else self._take()) or self._start()
        try:
            yield process
        except BaseException:
            # Half an answer may be on its way; the next must not read it.
            process.end()
            raise
        with self._lock:
            self._idle.append(process)

    def _take(self) -> Caged | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                process = self._idle.pop()
            if process.is_alive:
                return process
            process.end()

    def list_pids(self) -> tuple[int, ...]:
        """Return the process ids of those that wait."""
        with self._lock:
            return tuple(process.pid for process in self._idle)

    def close(self) -> None:
        """End every process that waits."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()
