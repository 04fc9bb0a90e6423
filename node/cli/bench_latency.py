"""`radnode bench latency`: from the last slice to SEG and SR in the PACS, beside Orthanc and a script."""

from typing import Annotated

import typer

from node.benchmark import latency
from node.benchmark.surroundings import describe_load, describe_surroundings
from node.cli.bench_page import FolderOption, WriteOption, command_of, measuring, publish, tell
from node.cli.output import reports_errors


@reports_errors
def bench_latency(
    *,
    runs: Annotated[int, typer.Option(min=1, help="How often each takes its turn.")] = 50,
    slices: Annotated[int, typer.Option(min=3, help="Instances of each Study.")] = 120,
    matrix: Annotated[int, typer.Option(min=32, help="Their rows and columns.")] = 512,
    pause: Annotated[
        float, typer.Option(min=0.0, help="Of the sender of one more Study in mid-Series, seconds; 0: none.")
    ] = 0.0,
    folder: FolderOption = None,
    write: WriteOption = False,
) -> None:
    """Measure the time from the last slice to SEG and SR in an Orthanc, with a source that is asked by C-FIND."""
    contest = latency.Contest(runs=runs, slices=slices, matrix=matrix, pause_s=pause)
    with measuring(folder) as (place, note):
        outcome = latency.compare(contest, folder=place, note=note)
        facts = f"in turn, after a run that does not count; {describe_surroundings(place)}, {describe_load()}"
    options = f"--runs {runs} --slices {slices} --matrix {matrix}{f' --pause {pause:g}' if pause else ''}"
    told = tell(command_of("latency", options, None), facts, latency.describe(outcome), latency.targets(outcome))
    publish(told, "latency", write=write)
