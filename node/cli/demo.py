"""`radnode demo`: the main job from end to end, on phantoms or on a folder of studies."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from node.cli.context import SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, reports_errors, stdout
from node.cli.process import describe_finding
from node.demonstration import Case, Demonstration, Outcome, folder_case, phantom_cases
from node.logs import configure_logging
from node.wording import short_uid


@reports_errors
def demo(
    *,
    studies: Annotated[Path | None, typer.Option(help="Folder of DICOM files to send instead of the phantoms.")] = None,
    out: Annotated[Path, typer.Option(help="Where the PACS's files and the pictures go.")] = Path("demo-output/pacs"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the node running afterwards, until Ctrl-C.")] = False,
    settings: SettingsOption = None,
) -> None:
    """Show the main job: modality → node → AI → PACS; exit code 0 only if every expected Result arrived."""
    loaded = read_settings(settings)
    cases = phantom_cases() if studies is None else (folder_case(studies),)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="radnode-demo-") as folder, (out / "node.log").open("w") as log:
        configure_logging(loaded.log.level, log)
        _send_worker_log_to(log.fileno())
        node = loaded.node.model_copy(update={"data_dir": Path(folder)})
        with Demonstration(loaded.model_copy(update={"node": node}), out, with_web=keep) as stage:
            outcomes = _play(stage, cases)
            _print_outcomes(outcomes, out)
            if keep:
                _wait_for_end(stage)
    if not all(outcome.is_right for outcome in outcomes):
        raise typer.Exit(EXIT_FAILURE)


def _play(stage: Demonstration, cases: Sequence[Case]) -> list[Outcome]:
    console = stdout()
    outcomes: list[Outcome] = []
    with console.status("") as status:
        for case in cases:
            status.update(f"{case.name}: sent, and waiting for its Results")
            outcomes += stage.play(case)
    return outcomes


def _print_outcomes(outcomes: Sequence[Outcome], out: Path) -> None:
    console = stdout()
    for outcome in outcomes:
        mark = "[green]right[/green]" if outcome.is_right else "[red]WRONG[/red]"
        truth = f"  truth: {outcome.verdict.said}" if outcome.verdict else ""
        console.print(f"\n[bold]{outcome.name}[/bold]  {mark}{truth}")
        for job in outcome.story.jobs:
            reason = escape(f"  {job.reason_code}: {job.reason_text}") if job.reason_code else ""
            console.print(
                f"  {job.order.pipeline} ({job.order.model} {job.order.model_version}) {job.state.value}{reason}"
            )
            for finding in job.findings:
                console.print(f"    {describe_finding(dict(finding))}")
        results = ", ".join(f"{r.kind.value} {short_uid(r.sop_instance_uid)}" for r in outcome.story.results)
        console.print(f"  Results on the PACS: {results or 'none'}")
        if outcome.picture is not None:
            console.print(f"  Picture: {outcome.picture}")
    _print_seconds(outcomes)
    console.print(f"\nWhat the PACS received: {out}   The node's log: {out / 'node.log'}")
    console.print("Reference models, not for diagnosis.")


def _print_seconds(outcomes: Sequence[Outcome]) -> None:
    stages = list(dict.fromkeys(stage for outcome in outcomes for stage in outcome.seconds))
    table = Table("Seconds by stage", *stages, "total", box=None, header_style="bold", pad_edge=False)
    for outcome in outcomes:
        cells = [f"{outcome.seconds[stage]:.1f}" if stage in outcome.seconds else "" for stage in stages]
        table.add_row(outcome.name, *cells, f"{sum(outcome.seconds.values()):.1f}")
    stdout().print()
    stdout().print(table)


def _send_worker_log_to(descriptor: int) -> None:
    # The worker and the broker inherit standard error; a demonstration keeps it for people.
    os.dup2(descriptor, sys.stderr.fileno())


def _wait_for_end(stage: Demonstration) -> None:
    ending = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: ending.set())
    stdout().print(f"\nThe node still receives DICOM at {stage.peer}. Make an account, and look at it in the console:")
    stdout().print(stage.open_console())
    stdout().print("Ctrl-C ends it.")
    sys.stdout.flush()
    ending.wait()
