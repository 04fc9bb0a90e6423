"""Subjects that are measured in turn: what slows the machine for a while slows all of them."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One thing to measure.

    Attributes
    ----------
    name
        What a person reads.
    run
        Does it once; returns how many bytes it made, None where it makes none.
    """

    name: str
    run: Callable[[], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What came of one Subject.

    Attributes
    ----------
    seconds
        CPU time of this process, one value a round.
    size_bytes
        What the last round made.
    """

    name: str
    seconds: tuple[float, ...]
    size_bytes: int | None

    @property
    def median_s(self) -> float:
        """The middle of all rounds, CPU s."""
        return median(self.seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the form in which `radnode bench` takes it."""
        return {
            "name": self.name,
            "min_s": round(min(self.seconds), 4),
            "median_s": round(self.median_s, 4),
            "size_bytes": self.size_bytes,
        }


def measure_in_turn(subjects: Sequence[Subject], *, rounds: int) -> dict[str, Measurement]:
    """Run all Subjects round by round, after one round that does not count; return what they took, by name."""
    seconds: Mapping[str, list[float]] = {subject.name: [] for subject in subjects}
    sizes: dict[str, int | None] = {}
    for number in range(rounds + 1):
        for subject in subjects:
            # The rubbish of the Subject before is not this one's.
            gc.collect()
            start = time.process_time()
            sizes[subject.name] = subject.run()
            if number:
                seconds[subject.name].append(time.process_time() - start)
    return {name: Measurement(name=name, seconds=tuple(seconds[name]), size_bytes=sizes[name]) for name in seconds}
