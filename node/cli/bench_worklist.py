"""`radnode bench worklist`: what a page of the worklist takes before very many Studies."""

from typing import Annotated

import typer

from node.benchmark.report import describe_targets
from node.benchmark.surroundings import file_system
from node.benchmark.worklist import describe_rows, measure, targets
from node.cli.bench_page import FolderOption, WriteOption, measuring, publish
from node.cli.output import reports_errors


@reports_errors
def bench_worklist(
    *,
    studies: Annotated[int, typer.Option(min=1000, help="In the ledger.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each page is asked for.")] = 20,
    ledger: Annotated[
        str | None,
        typer.Option(help="URL of an empty database of PostgreSQL, which is left filled; unless given, SQLite."),
    ] = None,
    folder: FolderOption = None,
    write: WriteOption = False,
) -> None:
    """Measure pages of the worklist, filters and searches, over HTTP; a million Studies take minutes to write."""
    with measuring(folder) as (place, note):
        url = ledger or f"sqlite:///{place / 'ledger.sqlite'}"
        rows = measure(url, studies=studies, rounds=rounds, folder=place, note=note)
        where = file_system(place)
    kind = url.partition(":")[0].partition("+")[0]
    option = " --ledger postgresql://…" if ledger else ""
    command = f"radnode bench worklist --studies {studies} --rounds {rounds}{option} --write"
    often = f"each page {rounds} times in turn, after one round that does not count"
    facts = f"{studies:,} Studies, {kind} on {where}; {often}; over HTTP, HTML included"
    told = f"`{command}`: {facts}.\n\n{describe_rows(rows)}\n\n{describe_targets(targets(rows))}"
    publish(told, f"worklist {kind}", write=write)
