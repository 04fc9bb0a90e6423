"""`radnode bench scale`: 1, 2 and 4 workers before one PostgreSQL, one broker and one store."""

from typing import Annotated

import typer

from node.benchmark import scale
from node.benchmark.surroundings import describe_load, describe_surroundings
from node.cli.bench_page import FolderOption, WriteOption, command_of, measuring, publish, tell
from node.cli.output import reports_errors


@reports_errors
def bench_scale(
    *,
    workers: Annotated[
        list[int] | None, typer.Option(min=1, help="How many run at a time; repeat it. Unless given, 1, 2 and 4.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="For which each device is kept busy.")] = 15.0,
    handed_in: Annotated[int, typer.Option(min=4, help="Jobs without work, for what a ledger takes.")] = 200,
    folder: FolderOption = None,
    write: WriteOption = False,
) -> None:
    """Measure Studies an hour by workers whose device is simulated, and what a ledger takes; wants PostgreSQL."""
    asked = scale.Plan(workers=workers or scale.Plan().workers, seconds=seconds, handed_in=handed_in)
    with measuring(folder) as (place, note):
        outcome = scale.measure_scale(asked, folder=place, note=note)
        facts = (
            f"{scale.PROCESSES} processes a worker, one of which has the device; {describe_surroundings(place)}, "
            f"{describe_load()}"
        )
    options = " ".join((*(f"--workers {count}" for count in workers or ()), f"--seconds {seconds:g}"))
    command = command_of("scale", f"{options} --handed-in {handed_in}", None)
    publish(tell(command, facts, scale.describe(outcome), ()), "scale", write=write)
