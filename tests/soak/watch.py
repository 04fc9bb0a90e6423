"""What each process of a node holds over its life: memory, descriptors, threads, looked at every few seconds."""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import monotonic

import psutil

from tests.node_process import NodeProcess
from tests.soak.census import Role, take_census

EVERY_S = 2.0
PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one process held at one moment.

    Attributes
    ----------
    at_s
        Since the watch began, seconds.
    pss_bytes
        Proportional set size: shared pages count by their share.
    """

    at_s: float
    pss_bytes: int
    descriptors: int
    threads: int


@dataclass(slots=True, kw_only=True)
class Life:
    """One process, from when it was first seen."""

    role: Role
    samples: list[Sample] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it was seen."""
        return self.samples[-1].at_s - self.samples[0].at_s

    def between(self, begin_s: float, end_s: float) -> list[Sample]:
        """Return the samples of a span of the watch."""
        return [sample for sample in self.samples if begin_s <= sample.at_s < end_s]

    def slope(self, *, after_s: float) -> float:
        """Return bytes a second by which its memory grows, once it is `after_s` old (Theil and Sen's median)."""
        grown = [sample for sample in self.samples if sample.at_s - self.samples[0].at_s >= after_s]
        slopes = [
            (later.pss_bytes - earlier.pss_bytes) / (later.at_s - earlier.at_s)
            for index, earlier in enumerate(grown)
            for later in grown[index + 1 :]
        ]
        return median(slopes) if slopes else 0.0


class Watch(Thread):
    """Looks at a node until `end`."""

    def __init__(self, node: NodeProcess) -> None:
        super().__init__(name="watch", daemon=True)
        self._node = node
        self._ending = Event()
        self._begun = monotonic()
        self._lives: dict[tuple[int, float], Life] = {}

    @property
    def now_s(self) -> float:
        """Seconds since it began."""
        return monotonic() - self._begun

    @property
    def lives(self) -> list[Life]:
        """Every process that was seen so far."""
        return list(self._lives.values())

    def run(self) -> None:
        """Look every few seconds."""
        while not self._ending.wait(EVERY_S):
            for member in take_census(self._node):
                # It may end, and its folder in /proc go, while we look.
                with suppress(psutil.Error, OSError):
                    self._look(member.role, member.process)

    def end(self) -> None:
        """Look no more."""
        self._ending.set()
        self.join()

    def _look(self, role: Role, process: psutil.Process) -> None:
        found = PSS.search(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
        if found is None:
            return
        sample = Sample(
            at_s=self.now_s,
            pss_bytes=int(found[1]) * 1024,
            descriptors=process.num_fds(),
            threads=process.num_threads(),
        )
        self._lives.setdefault((process.pid, process.create_time()), Life(role=role)).samples.append(sample)
