"""`radnode bench …`: what the stages cost on this machine, in tables and as a page of the documents."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from node.benchmark.receive import Load, compare, to_markdown
from node.benchmark.receivers import receivers
from node.benchmark.report import BenchReport, describe_report, refresh_section, run_in_worker
from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import print_json, print_table, reports_errors, stdout

PAGE = Path("docs/benchmarks.md")
CT_SIZE = 512
# What is compared where several send at once; the first is the base.
FORKING = ("storescp fork", "Orthanc tuned", "radnode fsync", "radnode group", "radnode none")
COLUMNS = ("min", "median", "bytes")

RoundsOption = Annotated[int, typer.Option(min=1, help="How often each Subject is measured.")]
WriteOption = Annotated[bool, typer.Option("--write", help=f"Refresh its section of {PAGE}.")]

app = typer.Typer(no_args_is_help=True, help="Measure what the stages cost.")


@app.callback()
def bench() -> None:
    """Measure what the stages cost."""


@app.command("encode")
@reports_errors
def bench_encode(
    *,
    rounds: RoundsOption = 7,
    write: WriteOption = False,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Measure writing and proving SEG, SR and picture of 400 slices, in CPU seconds; takes minutes."""
    report = run_in_worker(read_settings(settings), "encode", rounds=rounds)
    if write:
        refresh_section(PAGE, report.bench, describe_report(report, f"radnode bench encode --rounds {rounds} --write"))
    if as_json:
        print_json(report)
    else:
        _print_report(report)


@app.command("receive")
@reports_errors
def bench_receive(
    *,
    rounds: RoundsOption = 5,
    associations: Annotated[int, typer.Option(min=1, help="Parallel senders.")] = 1,
    instances: Annotated[int, typer.Option(min=1, help="CT Images of 525 KB in each round.")] = 300,
    write: WriteOption = False,
) -> None:
    """Measure receiving beside dcmtk, Orthanc and pynetdicom, in turn; every round begins with an empty store."""
    load = Load(instances=instances, rows=CT_SIZE, columns=CT_SIZE, associations=associations)
    names = FORKING if associations > 1 else tuple(name for name in receivers() if name not in FORKING[:1])
    with tempfile.TemporaryDirectory(prefix="radnode-bench-") as folder:
        told = to_markdown(list(compare(load, names=names, rounds=rounds, folder=Path(folder))))
    options = f"--associations {associations} --rounds {rounds} --instances {instances}"
    if write:
        section = f"`radnode bench receive {options} --write`: medians of {rounds} rounds in turn.\n\n{told}"
        refresh_section(PAGE, f"receive {associations}", section)
    stdout().print(told, markup=False)


def _print_report(report: BenchReport) -> None:
    for table in report.tables:
        print_table((f"{table.title}, {report.unit}", *COLUMNS), (row.cells for row in table.rows), empty="")
        stdout().print()
    rows = [(ratio.name, f"{ratio.times_faster:.1f}") for ratio in report.ratios]
    print_table(("By the medians", "times faster"), rows, empty="")
