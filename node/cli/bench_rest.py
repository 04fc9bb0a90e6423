"""`radnode bench rest`: the memory of a node and of a warm worker that have nothing to do."""

from typing import Annotated

import typer

from node.benchmark import rest
from node.benchmark.surroundings import describe_load, describe_surroundings
from node.cli.bench_page import FolderOption, WriteOption, command_of, measuring, publish, tell
from node.cli.output import reports_errors


@reports_errors
def bench_rest(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="How often each node is started; the worker once.")] = 3,
    without_worker: Annotated[bool, typer.Option("--without-worker", help="Measure nodes alone.")] = False,
    folder: FolderOption = None,
    write: WriteOption = False,
) -> None:
    """Measure the memory of a node and of a warm worker at rest, and how soon they are ready."""
    with measuring(folder) as (place, note):
        rows = rest.measure_rest(rounds=rounds, with_worker=not without_worker, folder=place, note=note)
        facts = f"medians of {rounds} starts; {describe_surroundings(place)}, {describe_load()}"
    options = f"--rounds {rounds}{' --without-worker' if without_worker else ''}"
    told = tell(command_of("rest", options, None), facts, rest.describe_rows(rows), rest.targets(rows))
    publish(told, "rest", write=write)
