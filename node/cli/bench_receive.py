"""`radnode bench receive …`: receiving beside dcmtk, Orthanc and pynetdicom on this machine."""

from collections.abc import Sequence
from typing import Annotated

import typer

from node.benchmark import floor, footprint, idle, receive, set_up
from node.benchmark.large_sender import MAX_MEBIBYTES
from node.benchmark.load import parse_load
from node.benchmark.receivers import receivers
from node.benchmark.surroundings import describe_surroundings
from node.cli.bench_page import FolderOption, OnlyOption, WriteOption, chosen, command_of, measuring, publish, tell
from node.cli.output import reports_errors


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
    with measuring(folder) as (place, note):
        rows = receive.compare(contest, folder=place, note=note)
        facts = f"medians of the rounds, which are in turn; {describe_surroundings(place)}"
    command = command_of("receive", f"--load {contest.load} --associations {associations} --rounds {rounds}", only)
    told = tell(command, facts, receive.describe_rows(rows), receive.targets(contest, rows))
    publish(told, f"receive {contest.load}, {associations}", write=write)


@reports_errors
def bench_receive_set_up(
    *,
    associations: Annotated[int, typer.Option(min=1, help="Of each kind in each round, one after the other.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often each takes its turn.")] = 3,
    only: OnlyOption = None,
    write: WriteOption = False,
) -> None:
    """Measure opening an Association, from the TCP connection to the acceptance, with 3 contexts and with 128."""
    with measuring(None) as (place, note):
        rows = set_up.measure_set_up(
            names=_chosen(only) or set_up.NAMES, rounds=rounds, associations=associations, folder=place, note=note
        )
        facts = f"of all rounds, which are in turn; {describe_surroundings(place)}"
    command = command_of("receive-set-up", f"--associations {associations} --rounds {rounds}", only)
    publish(tell(command, facts, set_up.describe_rows(rows), set_up.targets(rows)), "receive set-up", write=write)


@reports_errors
def bench_receive_idle(
    *,
    associations: Annotated[int, typer.Option(min=1, help="Held at a time.")] = 50,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long they are held.")] = 25.0,
    only: OnlyOption = None,
    write: WriteOption = False,
) -> None:
    """Measure what Associations cost that are open and silent."""
    with measuring(None) as (place, note):
        rows = idle.measure_idle(
            names=_chosen(only) or idle.NAMES, associations=associations, seconds=seconds, folder=place, note=note
        )
        facts = describe_surroundings(place)
    command = command_of("receive-idle", f"--associations {associations} --seconds {seconds:g}", only)
    publish(tell(command, facts, idle.describe_rows(rows), idle.targets(rows)), "receive idle", write=write)


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
    with measuring(folder) as (place, note):
        rows = footprint.measure_memory(
            names=_chosen(only) or footprint.NAMES, instances=instances, mebibytes=mebibytes, folder=place, note=note
        )
        facts = describe_surroundings(place)
    command = command_of("receive-memory", f"--instances {instances} --mebibytes {mebibytes}", only)
    told = tell(command, facts, footprint.describe_rows(rows), footprint.targets(rows))
    publish(told, "receive memory", write=write)


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
    with measuring(folder) as (place, note):
        rows = floor.measure_floor(sent, senders=associations, rounds=rounds, folder=place, note=note)
        facts = f"medians of the rounds, which are in turn; {describe_surroundings(place)}"
    command = command_of("receive-floor", f"--load {sent} --associations {associations} --rounds {rounds}", None)
    publish(tell(command, facts, floor.describe_rows(rows), ()), f"receive floor {sent}, {associations}", write=write)


def _chosen(only: Sequence[str] | None) -> Sequence[str]:
    return chosen(only, receivers())
