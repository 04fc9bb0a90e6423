"""`radnode bench stow`: storing by STOW-RS beside Orthanc on this machine."""

from typing import Annotated

import typer

from node.benchmark import stow
from node.benchmark.load import parse_load
from node.benchmark.surroundings import describe_surroundings
from node.cli.bench_page import FolderOption, OnlyOption, WriteOption, chosen, command_of, measuring, publish, tell
from node.cli.output import reports_errors


@reports_errors
def bench_stow(  # noqa: PLR0913 each is an option of the command line
    *,
    load: Annotated[str, typer.Option(help="Instances and kilobytes of each; also 2000x30.")] = "300x525",
    connections: Annotated[int, typer.Option(min=1, help="Parallel senders.")] = 1,
    parts: Annotated[int, typer.Option(min=1, help="Instances in each request.")] = 25,
    rounds: Annotated[int, typer.Option(min=1, help="How often each takes its turn.")] = 5,
    only: OnlyOption = None,
    folder: FolderOption = None,
    write: WriteOption = False,
) -> None:
    """Measure rate, latency, processor time and memory of STOW-RS; every turn begins with an empty store."""
    names = chosen(only, stow.web_receivers()) or stow.NAMES
    contest = stow.Contest(load=parse_load(load), connections=connections, parts=parts, rounds=rounds, names=names)
    with measuring(folder) as (place, note):
        rows = stow.compare(contest, folder=place, note=note)
        facts = f"medians of the rounds, which are in turn; {describe_surroundings(place)}"
    options = f"--load {contest.load} --connections {connections} --parts {parts} --rounds {rounds}"
    told = tell(command_of("stow", options, only), facts, stow.describe_rows(rows), stow.targets(rows))
    publish(told, f"stow {contest.load}, {connections}", write=write)
