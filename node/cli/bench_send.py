"""`radnode bench send` and `radnode bench responses`: what sending costs, and whether a response is ever lost."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from node.benchmark.load import parse_load
from node.benchmark.report import PAGE, describe_targets, refresh_section
from node.benchmark.responses import count_responses
from node.benchmark.send import LOADS, NAMES, Row, compare, describe_rows, targets
from node.cli.output import EXIT_FAILURE, reports_errors, stdout


@reports_errors
def bench_send(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="How often each sender is measured.")] = 5,
    load: Annotated[
        list[str] | None,
        typer.Option(
            help="INSTANCESxKILOBYTES of CT Images, one of which tells what it costs to start; several times."
        ),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help=f"Refresh its section of {PAGE}.")] = False,
) -> None:
    """Measure sending beside dcmtk's and pynetdicom's storescu, to a storescp that throws everything away."""
    loads = [parse_load(text) for text in load] if load else LOADS
    rows: list[Row] = []
    for chosen in loads:
        with tempfile.TemporaryDirectory(prefix="radnode-bench-") as folder:
            rows += compare(chosen, names=NAMES, rounds=rounds, folder=Path(folder))
    told = f"{describe_rows(rows)}\n\n{describe_targets(targets(rows))}"
    if write:
        options = " ".join(f"--load {chosen}" for chosen in loads)
        command = f"radnode bench send --rounds {rounds} {options} --write"
        refresh_section(PAGE, "send", f"`{command}`: medians of {rounds} rounds in turn.\n\n{told}")
    stdout().print(told, markup=False)


@reports_errors
def bench_responses(
    *,
    instances: Annotated[int, typer.Option(min=1, help="Objects of 2 KB to send.")] = 100_000,
    associations: Annotated[int, typer.Option(min=1, max=64, help="Parallel Associations.")] = 1,
) -> None:
    """Send many small objects to dcmtk's storescp and count the responses; exit code 1 if one was lost."""
    with tempfile.TemporaryDirectory(prefix="radnode-bench-") as folder:
        found = count_responses(instances=instances, associations=associations, folder=Path(folder))
    stdout().print(
        f"{found.sent} sent, {found.requests} came, {found.answered} answered with Success, {found.failed} failed, "
        f"{found.twice} reported twice; {found.seconds:.1f} s on {associations} Associations"
    )
    if not found.is_whole:
        raise typer.Exit(EXIT_FAILURE)
