"""`radnode bench receive …`: receiving beside dcmtk, Orthanc and pynetdicom on this machine."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from node.benchmark import floor, footprint, idle, receive, set_up
from node.benchmark.large_sender import MAX_MEBIBYTES
from node.benchmark.load import parse_load
from node.benchmark.receivers import receivers
from node.benchmark.report import PAGE, Target, describe_targets, refresh_section
from node.benchmark.surroundings import describe_surroundings
from node.cli.output import reports_errors, stdout
from node.errors import NotFound

WriteOption = Annotated[bool, typer.Option("--write", help=f"Refresh its section of {PAGE}.")]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="A receiver; repeat it. Unless given, the usual ones."),
]
FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="Where all is stored; on the file system that shall be measured.")
]
Note = Callable[[str], None]


@reports_errors
def bench_receive(
    *,
    load: Annotated[str, typer.Option(help="Instances and kilobytes of each; also 2000x30.")] = "300x525",
    associations: Annotated[int, typer.Option(min=1, help="Parallel senders.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="How often each takes its turn.")] = 5,
    only: OnlyOption = None,
    folder: FolderOption = None,
    write: WriteOption = False,
) -> None:
    """Measure rate, latency, processor time and memory of receiving; every turn begins with an empty store."""
    names = _chosen(only) or receive.usual_names(associations)
    contest = receive.Contest(load=parse_load(load), associations=associations, rounds=rounds, names=names)
    with _measuring(folder) as (place, note):
        rows = receive.compare(contest, folder=place, note=note)
        facts = f"medians of the rounds, which are in turn; {describe_surroundings(place)}"
    command = _command("receive", f"--load {contest.load} --associations {associations} --rounds {rounds}", only)
    told = _tell(command, facts, receive.describe_rows(rows), receive.targets(contest, rows))
    _publish(told, f"receive {contest.load}, {associations}", write=write)


@reports_errors
def bench_receive_set_up(
    *,
    associations: Annotated[int, typer.Option(min=1, help="Of each kind in each round, one after the other.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often each takes its turn.")] = 3,
    only: OnlyOption = None,
    write: WriteOption = False,
) -> None:
    """Measure opening an Association, from the TCP connection to the acceptance, with 3 contexts and with 128."""
    with _measuring(None) as (place, note):
        rows = set_up.measure_set_up(
            names=_chosen(only) or set_up.NAMES, rounds=rounds, associations=associations, folder=place, note=note
        )
        facts = f"of all rounds, which are in turn; {describe_surroundings(place)}"
    command = _command("receive-set-up", f"--associations {associations} --rounds {rounds}", only)
    _publish(_tell(command, facts, set_up.describe_rows(rows), set_up.targets(rows)), "receive set-up", write=write)


@reports_errors
def bench_receive_idle(
    *,
    associations: Annotated[int, typer.Option(min=1, help="Held at a time.")] = 50,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long they are held.")] = 25.0,
    only: OnlyOption = None,
    write: WriteOption = False,
) -> None:
    """Measure what Associations cost that are open and silent."""
    with _measuring(None) as (place, note):
        rows = idle.measure_idle(
            names=_chosen(only) or idle.NAMES, associations=associations, seconds=seconds, folder=place, note=note
        )
        facts = describe_surroundings(place)
    command = _command("receive-idle", f"--associations {associations} --seconds {seconds:g}", only)
    _publish(_tell(command, facts, idle.describe_rows(rows), idle.targets(rows)), "receive idle", write=write)


@reports_errors
def bench_receive_memory(
    *,
    instances: Annotated[int, typer.Option(min=1, help="Received at once, an Association for each.")] = 4,
    mebibytes: Annotated[int, typer.Option(min=1, max=MAX_MEBIBYTES, help="Of each.")] = 1024,
    only: OnlyOption = None,
    folder: FolderOption = None,
    write: WriteOption = False,
) -> None:
    """Measure the memory for Instances of 1 GiB; the disk must have room for them."""
    with _measuring(folder) as (place, note):
        rows = footprint.measure_memory(
            names=_chosen(only) or footprint.NAMES, instances=instances, mebibytes=mebibytes, folder=place, note=note
        )
        facts = describe_surroundings(place)
    command = _command("receive-memory", f"--instances {instances} --mebibytes {mebibytes}", only)
    told = _tell(command, facts, footprint.describe_rows(rows), footprint.targets(rows))
    _publish(told, "receive memory", write=write)


@reports_errors
def bench_receive_floor(
    *,
    load: Annotated[str, typer.Option(help="Instances and kilobytes of each, from every sender.")] = "300x525",
    associations: Annotated[int, typer.Option(min=1, help="Parallel senders, with a process for each.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="How often each takes its turn.")] = 5,
    folder: FolderOption = None,
    write: WriteOption = False,
) -> None:
    """Measure keeping the same bytes without DICOM: what no receiver in Python can be faster than here."""
    sent = parse_load(load)
    with _measuring(folder) as (place, note):
        rows = floor.measure_floor(sent, senders=associations, rounds=rounds, folder=place, note=note)
        facts = f"medians of the rounds, which are in turn; {describe_surroundings(place)}"
    command = _command("receive-floor", f"--load {sent} --associations {associations} --rounds {rounds}", None)
    _publish(_tell(command, facts, floor.describe_rows(rows), ()), f"receive floor {sent}, {associations}", write=write)


def _chosen(only: Sequence[str] | None) -> Sequence[str]:
    known = receivers()
    for name in only or ():
        if name not in known:
            raise NotFound(f"no receiver is called {name!r}; known are {', '.join(known)}")
    return only or ()


@contextmanager
def _measuring(folder: Path | None) -> Iterator[tuple[Path, Note]]:
    if folder is not None and not folder.is_dir():
        raise NotFound(f"--folder {folder} is no folder; make it, or name another")
    with tempfile.TemporaryDirectory(prefix="radnode-bench-", dir=folder) as place, stdout().status("") as status:
        yield Path(place), status.update


def _command(name: str, options: str, only: Sequence[str] | None) -> str:
    return " ".join(("radnode bench", name, options, *(f'--only "{one}"' for one in only or ()), "--write"))


def _tell(command: str, facts: str, table: str, targets: Sequence[Target]) -> str:
    told = f"`{command}`: {facts}.\n\n{table}"
    return f"{told}\n\n{describe_targets(targets)}" if targets else told


def _publish(told: str, section: str, *, write: bool) -> None:
    if write:
        refresh_section(PAGE, section, told)
    stdout().print(told, markup=False)
