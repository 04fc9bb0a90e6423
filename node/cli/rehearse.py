"""`radnode rehearse`: site acceptance of any node, with faults, and a report to sign."""

import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from node.audit.account import find_account
from node.cli.context import SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, reports_errors, stdout
from node.cli.send import find_destination
from node.clock import utc_now
from node.commissioning import PACS_AET, PACS_PORT, Cast, Venue, own_node, running_node
from node.errors import NotFound
from node.logs import configure_logging
from node.peers.sender import parse_peer
from node.rehearsal.pacs import LOOPBACK
from node.rehearsal.page import report_as_page
from node.rehearsal.repertoire import Piece, Repertoire, pieces
from node.rehearsal.report import report_as_json
from node.rehearsal.scenario import Outcome, RehearsalReport, Scenario, Verdict
from node.rehearsal.script import Signature, perform, sign, write_script
from node.rehearsal.stage import Expects, Pace
from node.settings.loading import load_settings

PAGE, DATA, LOG = "rehearsal.html", "rehearsal.json", "node.log"
STYLES = {
    Verdict.PASSED: "green",
    Verdict.LIMITED: "yellow",
    Verdict.FAILED: "bold red",
    Verdict.NOT_PLAYED: "red",
}

ToOption = Annotated[
    str | None,
    typer.Option(help="AET@HOST:PORT of a running node; unless given, one is started for the rehearsal alone."),
]
FaultsOption = Annotated[bool, typer.Option("--faults", help="Let modality and PACS do what they should not, too.")]
PacsOption = Annotated[
    str, typer.Option(help="AET@HOST:PORT at which the simulated PACS listens: a Destination of the running node.")
]
CallingOption = Annotated[str, typer.Option(help="AE title of the simulated modality; the node must take it.")]
ExpectOption = Annotated[
    Expects, typer.Option(help="What must reach the PACS: Results of the AI, or, for a router, the originals.")
]
PatienceOption = Annotated[float, typer.Option(min=1.0, help="How long a running node may take for a Study; seconds.")]
PhantomOption = Annotated[
    list[str] | None,
    typer.Option("--phantom", metavar="NAME", help="chest-xray, mr-brain or ct-chest; repeat it. All unless given."),
]
OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="NAME", help="A fault to play, no other; repeat it.")
]
OutOption = Annotated[Path, typer.Option(help="Folder for the report, and for what the PACS received.")]


@reports_errors
def rehearse(  # noqa: PLR0913 - each is an option of its own to who types it
    *,
    to: ToOption = None,
    faults: FaultsOption = False,
    pacs: PacsOption = f"{PACS_AET}@{LOOPBACK}:{PACS_PORT}",
    calling_aet: CallingOption = "MODALITY",
    expect: ExpectOption = Expects.RESULTS,
    patience: PatienceOption = 300.0,
    phantom: PhantomOption = None,
    only: OnlyOption = None,
    out: OutOption = Path("rehearsal-output"),
    settings: SettingsOption = None,
) -> None:
    """Rehearse a node between a simulated modality and a simulated PACS; exit code 0 only if it passes."""
    chosen = _choose(phantom or ())
    script = write_script(chosen, with_faults=faults or bool(only), only=only or ())
    run = f"{utc_now():%Y%m%d-%H%M%S}"
    out.mkdir(parents=True, exist_ok=True)
    cast = Cast(repertoire=Repertoire(run, chosen), calling_aet=calling_aet, expects=expect, out=out)
    if to is None:
        with _log_kept_apart(out / LOG), own_node(read_settings(settings), cast) as venue:
            report = _play(venue, script, run)
    else:
        known = None if settings is None else load_settings(settings)
        node = parse_peer(to, calling_aet=calling_aet) if "@" in to else find_destination(read_settings(settings), to)
        with running_node(node, cast, pacs=parse_peer(pacs), pace=Pace(patience_s=patience), settings=known) as venue:
            report = _play(venue, script, run)
    _keep(report, out)
    if report.verdict in {Verdict.FAILED, Verdict.NOT_PLAYED}:
        raise typer.Exit(EXIT_FAILURE)


def _choose(names: Sequence[str]) -> tuple[Piece, ...]:
    known = {piece.name: piece for piece in pieces()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise NotFound(f"no phantom is called {', '.join(unknown)}; known are {', '.join(known)}")
    return tuple(piece for piece in known.values() if not names or piece.name in names)


def _play(venue: Venue, script: Sequence[Scenario], run: str) -> RehearsalReport:
    outcomes: list[Outcome] = []
    with stdout().status("Drawing the phantoms") as status:
        for name in venue.stage.repertoire.pieces:
            venue.stage.repertoire.prepare(name)
        for number, scenario in enumerate(script, start=1):
            status.update(f"{number} of {len(script)}: {scenario.title}")
            outcomes.append(perform(venue.stage, scenario))
    by = f"{find_account()} on {socket.gethostname()}"
    return sign(Signature(run=run, by=by, node=venue.identity, facts=venue.facts), outcomes)


def _keep(report: RehearsalReport, out: Path) -> None:
    """Write the report into files, and print it."""
    data = json.dumps(report_as_json(report), indent=2, ensure_ascii=False) + "\n"
    (out / DATA).write_text(data, encoding="utf-8")
    (out / PAGE).write_text(report_as_page(report), encoding="utf-8")
    console = stdout()
    table = Table("Verdict", "Scenario", "Seconds", "What did not hold", box=None, header_style="bold", pad_edge=False)
    for outcome in report.outcomes:
        verdict = Text(outcome.verdict.value, style=STYLES[outcome.verdict])
        table.add_row(verdict, outcome.title, f"{outcome.seconds:.1f}", Text("\n".join(_complaints(outcome))))
    console.print(table)
    console.print(f"\n{report.node.address}: [{STYLES[report.verdict]}]{report.verdict.value}[/]")
    console.print(f"To sign: {out / PAGE}   The same as data: {out / DATA}   What the PACS got: {out / 'pacs'}")


def _complaints(outcome: Outcome) -> Iterator[str]:
    if outcome.remark:
        yield outcome.remark
    for check in outcome.checks:
        if not check.holds:
            yield f"{check.expected}: {check.seen}"


@contextmanager
def _log_kept_apart(path: Path) -> Iterator[None]:
    """Let the log of the node, its worker and its broker go into a file, not between the lines for people."""
    with path.open("w", encoding="utf-8") as log:
        configure_logging("INFO", log)
        errors = os.dup(sys.stderr.fileno())
        # Worker and broker inherit standard error.
        os.dup2(log.fileno(), sys.stderr.fileno())
        try:
            yield
        finally:
            os.dup2(errors, sys.stderr.fileno())
            os.close(errors)
