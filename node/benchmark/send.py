"""How fast files are sent: radnode beside dcmtk's and pynetdicom's storescu, in interleaved rounds."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from time import monotonic

from node.benchmark.load import KILOBYTE, Load, Sent
from node.benchmark.receivers import AET, NODELAY, PDU_BYTES, Receiver, Running, find_dcmtk
from node.benchmark.report import Target, to_markdown
from node.errors import Broken

HOST = "127.0.0.1"
GIGABYTE = 1e9
MEGABYTE = 1e6
BASE = "storescu"
PYNETDICOM = "pynetdicom storescu"
OURS = "radnode send"
NAMES = (BASE, PYNETDICOM, OURS)
AT_LEAST = 1.0
# As large as a SEG of a whole chest, and a CT; the first of each is what tells what it costs to begin.
LOADS = (Load(instances=25, kilobytes=64_000), Load(instances=1501, kilobytes=525))
# Different files of a load; the others are further names of these.
DIFFERENT_BYTES = 128e6

# pynetdicom's program as it is, with the same clock as ours (`node.benchmark.prepared_sender`).
PYNETDICOM_STORESCU = """
import json, sys, time
from pynetdicom.apps.storescu.storescu import main
aet, port, folder = sys.argv[1:]
sys.argv = ["storescu", "-q", "-aec", aet, "127.0.0.1", port, folder]
begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
main()
taken = {"seconds": time.perf_counter() - begun_s, "cpu_s": time.process_time() - begun_cpu_s}
print(json.dumps(taken))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """How one program sends every file of a folder.

    Attributes
    ----------
    command
        Returns the command line for a port of the loopback and a folder.
    is_prepared
        Whether it measures itself, from when Python has loaded it on, as in a node that runs.
    share
        Of the load that it is given; less for one that is so slow that the rounds would take for ever.
    environment
        Variables that it is started with.
    """

    name: str
    command: Callable[[int, Path], Sequence[str]]
    is_prepared: bool = True
    share: float = 1.0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one sender did.

    Attributes
    ----------
    instances
        How many were measured: one less than were sent.
    megabytes_per_s
        Bytes of files per second, 10^6, median of the rounds.
    ratio
        Of that to the base's in the same round; median of the rounds.
    cpu_s_per_gb
        Processor time of the sender per 10^9 bytes of files, median.
    is_complete
        Whether every data set arrived, byte by byte.
    """

    sender: str
    load: Load
    instances: int
    megabytes_per_s: float
    ratio: float
    cpu_s_per_gb: float
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One run of one program, or the difference of two; seconds."""

    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contestant:
    """A sender with what it sends: one Instance, and many.

    Attributes
    ----------
    size_bytes
        Of what the many are beyond the one.
    """

    sender: Sender
    one: Path
    many: Path
    size_bytes: int

    @property
    def instances(self) -> int:
        """How many Instances are measured."""
        return len(_files(self.many)) - 1

    def run(self, port: int) -> _Run:
        """Return what it takes to send the many, without what it takes to begin and to end."""
        one, many = (_run(self.sender, port, folder) for folder in (self.one, self.many))
        return _Run(seconds=many.seconds - one.seconds, cpu_s=many.cpu_s - one.cpu_s)


def senders() -> Sequence[Sender]:
    """Return every sender that can be compared."""
    return (
        Sender(
            name=BASE,
            command=lambda port, folder: (find_dcmtk("storescu"), "-aec", AET, HOST, str(port), *_files(folder)),
            is_prepared=False,
            environment=NODELAY,
        ),
        Sender(
            name=PYNETDICOM,
            command=lambda port, folder: (sys.executable, "-c", PYNETDICOM_STORESCU, AET, str(port), str(folder)),
            share=0.1,
        ),
        Sender(
            name=OURS,
            command=lambda port, folder: (
                *(sys.executable, "-m", "node.benchmark.prepared_sender"),
                *(AET, str(port), str(folder)),
            ),
        ),
    )


def compare(load: Load, *, names: Sequence[str], rounds: int, folder: Path) -> Sequence[Row]:
    """Return a row for each sender of `names`, after rounds in which they took turns; the first is the base.

    Before the rounds, each sends everything to a receiver that keeps it, and what arrived is compared with what was
    sent. In the rounds the receiver throws everything away, so that the sender is what is measured.

    Raises
    ------
    NotFound
        If a program is not installed, or the receiver does not start.
    Broken
        If a sender ends with an error.
    """
    different = max(1, min(load.instances, int(DIFFERENT_BYTES / KILOBYTE / load.kilobytes)))
    sent = Sent(folder / "different", Load(instances=different, kilobytes=load.kilobytes))
    known = {sender.name: sender for sender in senders()}
    contestants = [_contestant(known[name], sent, load, folder / str(place)) for place, name in enumerate(names)]
    complete = [_arrives(contestant.sender, sent, folder / "kept") for contestant in contestants]
    measured: list[list[_Run]] = [[] for _ in contestants]
    with Running(_storescp("--ignore"), folder / "receiver") as receiver:
        for _ in range(rounds):
            for contestant, runs in zip(contestants, measured, strict=True):
                runs.append(contestant.run(receiver.port))
    base = [contestants[0].size_bytes / run.seconds for run in measured[0]]
    return [
        _row(contestant, load, runs, base, is_complete=is_complete)
        for contestant, runs, is_complete in zip(contestants, measured, complete, strict=True)
    ]


def _contestant(sender: Sender, sent: Sent, load: Load, folder: Path) -> _Contestant:
    instances = max(2, round(load.instances * sender.share))
    for name, count in (("one", 1), ("many", instances)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            os.link(sent.files[number % len(sent.files)], folder / name / f"{number:05}.dcm")
    sizes = [path.stat().st_size for path in (folder / "many").iterdir()]
    size_bytes = sum(sizes) - sent.size_bytes(1)
    return _Contestant(sender=sender, one=folder / "one", many=folder / "many", size_bytes=size_bytes)


def _row(contestant: _Contestant, load: Load, runs: Sequence[_Run], base: Sequence[float], *, is_complete: bool) -> Row:
    rates = [contestant.size_bytes / run.seconds for run in runs]
    return Row(
        sender=contestant.sender.name,
        load=load,
        instances=contestant.instances,
        megabytes_per_s=median(rates) / MEGABYTE,
        ratio=median(rate / other for rate, other in zip(rates, base, strict=True)),
        cpu_s_per_gb=median(run.cpu_s for run in runs) / (contestant.size_bytes / GIGABYTE),
        is_complete=is_complete,
    )


def _arrives(sender: Sender, sent: Sent, place: Path) -> bool:
    """Return whether a receiver has every data set that `sender` sent, byte by byte."""
    with Running(_storescp("+B"), place) as receiver:
        _run(sender, receiver.port, sent.files[0].parent)
        is_complete = receiver.stored == sent.count_kept(receiver.kept(), len(sent.files)) == len(sent.files)
    shutil.rmtree(place)
    return is_complete


def _run(sender: Sender, port: int, folder: Path) -> _Run:
    """Run a program to its end."""
    # What the person who measures has set for himself would change what is compared.
    plain = {name: value for name, value in os.environ.items() if name not in NODELAY and "RADNODE" not in name}
    command, environment = sender.command(port, folder), {**plain, **sender.environment}
    quiet = subprocess.DEVNULL
    before, begun_s = getrusage(RUSAGE_CHILDREN), monotonic()
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=quiet, env=environment, check=False)
    seconds, after = monotonic() - begun_s, getrusage(RUSAGE_CHILDREN)
    if ended.returncode != 0:
        raise Broken(f"{sender.name} ended with {ended.returncode}; run it by hand: {' '.join(command[:6])} ...")
    if sender.is_prepared:
        return _Run(**json.loads(ended.stdout.splitlines()[-1]))
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Run(seconds=seconds, cpu_s=cpu_s)


def _files(folder: Path) -> Sequence[str]:
    return [str(path) for path in sorted(folder.iterdir())]


def _storescp(mode: str) -> Receiver:
    """Return dcmtk's storescp without Nagle's delay and with its longest PDUs.

    Parameters
    ----------
    mode
        ``--ignore`` throws away what comes, ``+B`` keeps it bit by bit.
    """

    def command(port: int, folder: Path) -> Sequence[str]:
        received = folder / "received"
        received.mkdir(exist_ok=True)
        program = find_dcmtk("storescp")
        return (program, mode, "--max-pdu", str(PDU_BYTES), "-od", str(received), "-aet", AET, str(port))

    return Receiver(
        name=f"storescp {mode}",
        is_durable=False,
        command=command,
        count=lambda _port, folder: sum(1 for _ in (folder / "received").iterdir()),
        kept="received",
        environment=NODELAY,
    )


def describe_rows(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header = ("sender", "load", "MB/s", "Instances/s", f"times {BASE}", "CPU s/GB", "arrived == sent")
    return to_markdown(header, [_cells(row) for row in rows])


def _cells(row: Row) -> Sequence[str]:
    return (
        row.sender,
        f"{row.instances} x {row.load.kilobytes} KB",
        f"{row.megabytes_per_s:.0f}",
        f"{row.megabytes_per_s * 1e3 / row.load.kilobytes:.0f}",
        f"{row.ratio:.2f}",
        f"{row.cpu_s_per_gb:.2f}",
        "yes" if row.is_complete else "NO",
    )


def targets(rows: Sequence[Row]) -> Sequence[Target]:
    """Return what was promised of these figures."""
    return [
        Target(what=f"{OURS}, {row.load.kilobytes} KB, times {BASE}", at_least=AT_LEAST, measured=row.ratio)
        for row in rows
        if row.sender == OURS
    ]
