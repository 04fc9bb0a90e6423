"""`radnode bench …`: what the stages cost on this machine, in tables and as a page of the documents."""

from typing import Annotated

import typer

from node.benchmark.report import PAGE, BenchReport, describe_report, refresh_section, run_in_worker
from node.cli.bench_latency import bench_latency
from node.cli.bench_pipeline import bench_pipeline
from node.cli.bench_receive import (
    bench_receive,
    bench_receive_floor,
    bench_receive_idle,
    bench_receive_memory,
    bench_receive_set_up,
)
from node.cli.bench_rest import bench_rest
from node.cli.bench_scale import bench_scale
from node.cli.bench_send import bench_responses, bench_send
from node.cli.bench_stow import bench_stow
from node.cli.bench_worklist import bench_worklist
from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import print_json, print_table, reports_errors, stdout

COLUMNS = ("min", "median", "bytes")

RoundsOption = Annotated[int, typer.Option(min=1, help="How often each Subject is measured.")]
WriteOption = Annotated[bool, typer.Option("--write", help=f"Refresh its section of {PAGE}.")]

app = typer.Typer(no_args_is_help=True, help="Measure what the stages cost.")

app.command("receive")(bench_receive)
app.command("receive-set-up")(bench_receive_set_up)
app.command("receive-floor")(bench_receive_floor)
app.command("receive-idle")(bench_receive_idle)
app.command("receive-memory")(bench_receive_memory)
app.command("stow")(bench_stow)
app.command("latency")(bench_latency)
app.command("pipeline")(bench_pipeline)
app.command("rest")(bench_rest)
app.command("scale")(bench_scale)
app.command("send")(bench_send)
app.command("responses")(bench_responses)
app.command("worklist")(bench_worklist)


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


def _print_report(report: BenchReport) -> None:
    for table in report.tables:
        print_table((f"{table.title}, {report.unit}", *COLUMNS), (row.cells for row in table.rows), empty="")
        stdout().print()
    rows = [(ratio.name, f"{ratio.times_faster:.3g}") for ratio in report.ratios]
    print_table(("By the medians", "times faster"), rows, empty="")
