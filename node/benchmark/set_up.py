"""How long a receiver takes to open an Association: from the TCP connection to its A-ASSOCIATE-AC."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1

from node.benchmark.receivers import AET, Running, receivers
from node.benchmark.report import Target, quantile, to_markdown
from node.benchmark.requestor import Proposal, Requestor
from node.dimse.contexts import storage_sop_classes

NAMES = ("storescp tuned", "Orthanc tuned", "pynetdicom raw", "radnode fsync")
MOST_S = 0.010
# The first ones read programs from the disk.
WARM_UP = 3
# So that the end of one Association does not delay the next.
PAUSE_S = 0.02
SYNTAXES = (str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian), str(JPEGLosslessSV1))
# CT Image, X-Ray Radiation Dose SR and Secondary Capture Image Storage: what a scanner proposes.
OF_A_SCANNER = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.67", "1.2.840.10008.5.1.4.1.1.7")
# As many as one Association can have (PS3.8 9.3.2.2).
MANY = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one receiver did with Associations of one kind.

    Attributes
    ----------
    proposed, accepted
        Presentation Contexts of each.
    latencies_s
        Of every round, sorted; seconds.
    """

    receiver: str
    proposed: int
    accepted: int
    latencies_s: Sequence[float]


def measure_set_up(
    *, names: Sequence[str], rounds: int, associations: int, folder: Path, note: Callable[[str], None]
) -> Sequence[Row]:
    """Return a row for each receiver and each kind of Association, after rounds in which they took turns.

    Parameters
    ----------
    associations
        Of each kind in each round, one after the other; each is released.
    note
        Told what is measured now.

    Raises
    ------
    NotFound
        If a program is not installed, or does not start.
    DestinationDown
        If a receiver refuses an Association.
    """
    found: dict[tuple[str, int], list[_SetUp]] = {(name, count): [] for name in names for count in proposals()}
    for number in range(rounds):
        for name in names:
            note(f"Round {number + 1} of {rounds}: {name}")
            place = folder / f"round-{number}"
            with Running(receivers()[name], place) as running:
                for count, proposed in proposals().items():
                    found[name, count] += list(_set_up(running.port, proposed, associations))[WARM_UP:]
            shutil.rmtree(place)
    return [
        Row(
            receiver=name,
            proposed=count,
            accepted=min(one.accepted for one in measured),
            latencies_s=sorted(one.latency_s for one in measured),
        )
        for (name, count), measured in found.items()
    ]


def proposals() -> Mapping[int, Sequence[Proposal]]:
    """Return what is proposed, by the number of Presentation Contexts."""
    return {
        len(uids): [Proposal(sop_class_uid=uid, transfer_syntax_uids=SYNTAXES) for uid in uids]
        for uids in (OF_A_SCANNER, storage_sop_classes()[:MANY])
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _SetUp:
    latency_s: float
    accepted: int


def _set_up(port: int, proposed: Sequence[Proposal], associations: int) -> Iterator[_SetUp]:
    for _ in range(WARM_UP + associations):
        requestor = Requestor(port, proposed, aet=AET)
        begun_s = perf_counter()
        with requestor:
            latency_s = perf_counter() - begun_s
        yield _SetUp(latency_s=latency_s, accepted=len(requestor.accepted))
        sleep(PAUSE_S)


def describe_rows(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header = ("receiver", "contexts proposed", "accepted", "Associations", "p50 ms", "p99 ms")
    return to_markdown(header, [_cells(row) for row in rows])


def _cells(row: Row) -> Sequence[str]:
    figures_ms = [f"{quantile(row.latencies_s, share) * 1e3:.2f}" for share in (0.5, 0.99)]
    return row.receiver, str(row.proposed), str(row.accepted), str(len(row.latencies_s)), *figures_ms


def targets(rows: Sequence[Row]) -> Sequence[Target]:
    """Return what was promised of these figures."""
    return [
        Target(
            what=f"{row.receiver}, {row.proposed} contexts, p50 ms",
            at_most=MOST_S * 1e3,
            measured=quantile(row.latencies_s, 0.5) * 1e3,
        )
        for row in rows
        if row.receiver.startswith("radnode")
    ]
