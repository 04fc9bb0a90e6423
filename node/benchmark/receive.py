"""How fast Instances are received: radnode beside dcmtk, Orthanc and pynetdicom, in interleaved rounds."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from node.benchmark.crew import Client, Sending, open_crew
from node.benchmark.load import Load, Sent
from node.benchmark.receivers import Receiver, Running, receivers
from node.benchmark.report import Target, quantile, to_markdown
from node.benchmark.usage import SAMPLE_S

GIGABYTE = 1e9
# Where Nagle's delay is on, the rate is the same with few Instances.
INSTANCES_WITH_NAGLE = 40
# What others are compared with; the first two of each are named by the targets.
BASES_OF_ONE = ("storescp tuned", "Orthanc tuned", "pynetdicom raw")
BASES_OF_SEVERAL = ("storescp fork", "Orthanc tuned", "pynetdicom raw")
DEFAULTS = ("storescp default", "Orthanc default")
OURS = ("radnode fsync", "radnode group", "radnode none")
# Receiver, base, how many times as fast; and processor time that an Instance of the usual size may take.
FASTER_WITH_ONE = (
    ("radnode fsync", "Orthanc tuned", 1.5),
    ("radnode fsync", "pynetdicom raw", 2.0),
    ("radnode none", "storescp tuned", 1.0),
)
FASTER_WITH_SEVERAL = (("radnode fsync", "storescp fork", 1.0), ("radnode fsync", "Orthanc tuned", 2.5))
MOST_CPU_S_PER_GB = 1.6
USUAL_KILOBYTES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Who receives what, and how often.

    Attributes
    ----------
    associations
        Parallel senders, each with its share of the load.
    names
        Receivers, in the order in which they take turns.
    """

    load: Load
    associations: int
    rounds: int
    names: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one receiver did with one client.

    Attributes
    ----------
    instances
        In each round.
    instances_per_s
        Median of the rounds.
    ratios
        Of its rate to that of each base in the same round, median of the rounds; by the name of the base.
    latencies_s
        From the first byte of a C-STORE to its response, of every round, sorted; empty where the client tells none.
    cpu_s_per_gb
        Processor time of the receiver and of everything below it, per 10^9 bytes of files, median.
    peak_bytes
        Most memory that it held while it received, the highest of the rounds.
    is_complete
        Whether it says that it has what was sent, and every data set is in its files, byte by byte, in every round.
    """

    receiver: str
    is_durable: bool
    client: Client
    instances: int
    instances_per_s: float
    ratios: Mapping[str, float]
    latencies_s: Sequence[float]
    cpu_s_per_gb: float
    peak_bytes: int
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    instances_per_s: float
    latencies_s: tuple[float, ...]
    cpu_s_per_gb: float
    peak_bytes: int
    is_complete: bool


def usual_names(associations: int) -> Sequence[str]:
    """Return who is compared unless somebody chooses: those that take so many Associations at a time."""
    return (*BASES_OF_SEVERAL, *OURS) if associations > 1 else (*BASES_OF_ONE, *DEFAULTS, *OURS)


def compare(contest: Contest, *, folder: Path, note: Callable[[str], None]) -> Sequence[Row]:
    """Return a row for each receiver and client, after rounds in which they took turns.

    Every round begins with a fresh process and an empty folder.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    NotFound
        If a program is not installed, or does not start.
    """
    sent = Sent(folder / "load", contest.load)
    known = receivers(associations=contest.associations)
    measured: dict[tuple[str, Client], list[_Round]] = {
        (name, client): [] for name in contest.names for client in Client
    }
    for number in range(contest.rounds):
        for (name, client), rounds in measured.items():
            note(f"Round {number + 1} of {contest.rounds}: {name}, {client}")
            place = folder / f"round-{number}"
            rounds.append(_measure(known[name], client, contest, sent, place))
            shutil.rmtree(place)
    return [
        _row(
            known[name],
            client,
            instances=_instances(known[name], contest.load),
            rounds=rounds,
            bases={base: measured[base, client] for base in _bases(contest)},
        )
        for (name, client), rounds in measured.items()
    ]


def _bases(contest: Contest) -> Sequence[str]:
    bases = BASES_OF_SEVERAL if contest.associations > 1 else BASES_OF_ONE
    return [name for name in bases if name in contest.names]


def _instances(receiver: Receiver, load: Load) -> int:
    return min(load.instances, INSTANCES_WITH_NAGLE) if receiver.has_nagle else load.instances


def _measure(receiver: Receiver, client: Client, contest: Contest, sent: Sent, place: Path) -> _Round:
    instances = _instances(receiver, contest.load)
    shares = [sent.files[:instances][part :: contest.associations] for part in range(contest.associations)]
    with Running(receiver, place) as running, open_crew(client, running.port, [s for s in shares if s]) as crew:
        before_s = running.cpu_s()
        with running.watch_memory(sample_s=SAMPLE_S) as memory:
            sending = crew.go()
        # What a receiver puts off until after its answers is work for these Instances as well.
        running.wait_until_calm()
        return _round(sending, running, sent, instances, cpu_s=running.cpu_s() - before_s, peak_bytes=memory.peak_bytes)


def _round(sending: Sending, running: Running, sent: Sent, instances: int, *, cpu_s: float, peak_bytes: int) -> _Round:
    return _Round(
        instances_per_s=instances / sending.seconds,
        latencies_s=sending.latencies_s,
        cpu_s_per_gb=cpu_s / (sent.size_bytes(instances) / GIGABYTE),
        peak_bytes=peak_bytes,
        is_complete=running.stored == sent.count_kept(running.kept(), instances) == instances,
    )


def _row(
    receiver: Receiver,
    client: Client,
    *,
    instances: int,
    rounds: Sequence[_Round],
    bases: Mapping[str, Sequence[_Round]],
) -> Row:
    return Row(
        receiver=receiver.name,
        is_durable=receiver.is_durable,
        client=client,
        instances=instances,
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


def describe_rows(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    bases = list(rows[0].ratios)
    header = ("receiver", "durable", "client", "Instances", "Instances/s", *(f"times {base}" for base in bases))
    figures = ("p50 ms", "p99 ms", "CPU s/GB", "peak MB", "stored == sent")
    return to_markdown((*header, *figures), [_cells(row) for row in rows])


def _cells(row: Row) -> Sequence[str]:
    latencies_ms = [f"{quantile(row.latencies_s, share) * 1e3:.1f}" if row.latencies_s else "" for share in (0.5, 0.99)]
    return (
        row.receiver,
        "yes" if row.is_durable else "no",
        row.client,
        str(row.instances),
        f"{row.instances_per_s:.0f}",
        *(f"{ratio:.2f}" for ratio in row.ratios.values()),
        *latencies_ms,
        f"{row.cpu_s_per_gb:.2f}",
        f"{row.peak_bytes / 1e6:.0f}",
        "yes" if row.is_complete else "NO",
    )


def targets(contest: Contest, rows: Sequence[Row]) -> Sequence[Target]:
    """Return what was promised of these figures; storescu is the client."""
    found = {row.receiver: row for row in rows if row.client is Client.STORESCU}
    promised = FASTER_WITH_SEVERAL if contest.associations > 1 else FASTER_WITH_ONE
    held = [
        Target(what=f"{name}, times {base}", at_least=factor, measured=found[name].ratios[base])
        for name, base, factor in promised
        if name in found and base in found[name].ratios
    ]
    durable = found.get("radnode fsync")
    if durable is not None and contest.load.kilobytes >= USUAL_KILOBYTES:
        measured = durable.cpu_s_per_gb
        held.append(Target(what="radnode fsync, CPU s/GB", at_most=MOST_CPU_S_PER_GB, measured=measured))
    return held
