"""Rounds in which receivers take turns, each with a fresh process and an empty folder, and what comes of them all."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

from node.benchmark.crew import Crew, Sending
from node.benchmark.load import Sent
from node.benchmark.receivers import Receiver, Running
from node.benchmark.report import quantile
from node.benchmark.usage import SAMPLE_S

GIGABYTE = 1e9
Key = TypeVar("Key")
Turn = TypeVar("Turn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who receives in one turn, and what.

    Attributes
    ----------
    instances
        How many of the load's Instances are sent.
    open_crew
        Returns the senders for a port, and for the files.
    """

    receiver: Receiver
    instances: int
    open_crew: Callable[[int, Sequence[Path]], Crew]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one turn gave; `Figures` says what each is."""

    instances_per_s: float
    latencies_s: tuple[float, ...]
    cpu_s_per_gb: float
    peak_bytes: int
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one receiver did in all rounds.

    Attributes
    ----------
    instances
        In each round.
    instances_per_s
        Median of the rounds.
    ratios
        Of its rate to that of each base in the same round, median of the rounds; by the name of the base.
    latencies_s
        From the first byte of a request to its response, of every round, sorted; empty where the client tells none.
    cpu_s_per_gb
        Processor time of the receiver and of everything below it, per 10^9 bytes of files, median.
    peak_bytes
        Most memory that it held while it received, the highest of the rounds.
    is_complete
        Whether it says that it has what was sent, and every data set is in its files, byte by byte, in every round.
    """

    instances: int
    instances_per_s: float
    ratios: Mapping[str, float]
    latencies_s: Sequence[float]
    cpu_s_per_gb: float
    peak_bytes: int
    is_complete: bool

    @property
    def cells(self) -> tuple[str, ...]:
        """The figures as people read them, in the order of `heads`."""
        latencies_ms = [
            f"{quantile(self.latencies_s, share) * 1e3:.1f}" if self.latencies_s else "" for share in (0.5, 0.99)
        ]
        return (
            str(self.instances),
            f"{self.instances_per_s:.0f}",
            *(f"{ratio:.2f}" for ratio in self.ratios.values()),
            *latencies_ms,
            f"{self.cpu_s_per_gb:.2f}",
            f"{self.peak_bytes / 1e6:.0f}",
            "yes" if self.is_complete else "NO",
        )


def heads(bases: Sequence[str]) -> tuple[str, ...]:
    """Return what stands above the cells of `Figures`."""
    times = (f"times {base}" for base in bases)
    return ("Instances", "Instances/s", *times, "p50 ms", "p99 ms", "CPU s/GB", "peak MB", "stored == sent")


def take_turns(
    entries: Mapping[Key, Entry], *, rounds: int, sent: Sent, folder: Path, note: Callable[[str], None]
) -> Mapping[Key, Sequence[Round]]:
    """Return what each entry did in each round; every turn begins with a fresh process and an empty folder.

    Each round begins with the next entry, so that none always follows the same one.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    NotFound
        If a program is not installed, or does not start.
    """
    measured: dict[Key, list[Round]] = {key: [] for key in entries}
    for number in range(rounds):
        for key, entry in order_of(tuple(entries.items()), number):
            note(f"Round {number + 1} of {rounds}: {entry.receiver.name}")
            place = folder / f"round-{number}"
            measured[key].append(_measure(entry, sent, place))
            shutil.rmtree(place)
    return measured


def order_of(entries: Sequence[Turn], number: int) -> Sequence[Turn]:
    """Return the order in which entries have their turns in the round of this number, from 0."""
    begin = number % len(entries)
    return (*entries[begin:], *entries[:begin])


def summarize(entry: Entry, rounds: Sequence[Round], bases: Mapping[str, Sequence[Round]]) -> Figures:
    """Return the figures of all rounds, beside those of each base in the same round."""
    return Figures(
        instances=entry.instances,
        instances_per_s=median(one.instances_per_s for one in rounds),
        ratios={
            name: median(one.instances_per_s / other.instances_per_s for one, other in zip(rounds, base, strict=True))
            for name, base in bases.items()
        },
        latencies_s=sorted(latency_s for one in rounds for latency_s in one.latencies_s),
        cpu_s_per_gb=median(one.cpu_s_per_gb for one in rounds),
        peak_bytes=max(one.peak_bytes for one in rounds),
        is_complete=all(one.is_complete for one in rounds),
    )


def _measure(entry: Entry, sent: Sent, place: Path) -> Round:
    files = sent.files[: entry.instances]
    with Running(entry.receiver, place) as running, entry.open_crew(running.port, files) as crew:
        before_s = running.cpu_s()
        with running.watch_memory(sample_s=SAMPLE_S) as memory:
            sending = crew.go()
        # What a receiver puts off until after its answers is work for these Instances as well.
        running.wait_until_calm()
        cpu_s = running.cpu_s() - before_s
        return _round(sending, running, sent, entry.instances, cpu_s=cpu_s, peak_bytes=memory.peak_bytes)


def _round(sending: Sending, running: Running, sent: Sent, instances: int, *, cpu_s: float, peak_bytes: int) -> Round:
    return Round(
        instances_per_s=instances / sending.seconds,
        latencies_s=sending.latencies_s,
        cpu_s_per_gb=cpu_s / (sent.size_bytes(instances) / GIGABYTE),
        peak_bytes=peak_bytes,
        is_complete=running.stored == sent.count_kept(running.kept(), instances) == instances,
    )
