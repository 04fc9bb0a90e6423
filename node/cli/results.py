"""`radnode results`: what was written, where it went, and whether objects of anybody are true."""

import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from node.audit.account import find_account
from node.cli.context import JsonOption, SettingsOption, look_into_ledger, read_settings, record_audit
from node.cli.output import print_json, print_table, reports_errors, stdout
from node.clock import utc_now
from node.domain.result import Delivery
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.uids import InstanceUID, StudyUID
from node.errors import Broken
from node.ledger.opening import open_retractions, open_view
from node.ledger.views import ResultLine
from node.web.retraction import Retractor
from node.wording import age, short_uid

app = typer.Typer(no_args_is_help=True, help="Results in the ledger, and objects of anybody in a folder.")


@app.command("list")
@reports_errors
def list_results(
    *,
    study: Annotated[str | None, typer.Option(help="Only of this Study Instance UID.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 30,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """List Results, and how far each is on its way to each Destination."""
    found = look_into_ledger(settings).list_results(study=None if study is None else StudyUID(study), limit=limit)
    if as_json:
        print_json([_describe(line) for line in found])
        return
    rows = [
        (
            line.result.sop_instance_uid,
            line.result.kind.value,
            line.pipeline,
            short_uid(line.result.study_instance_uid),
            f"{line.result.size_bytes / 1024:.0f} KiB",
            ", ".join(f"{one.destination} {one.state.value}" for one in line.deliveries),
            _standing(line),
            age(line.created_at),
        )
        for line in found
    ]
    columns = ("Result", "Kind", "Pipeline", "Study", "Size", "Deliveries", "Standing", "Age")
    print_table(columns, rows, empty="No Result yet.")


@app.command("show")
@reports_errors
def show_result(
    sop_instance_uid: Annotated[str, typer.Argument(help="SOP Instance UID, as `radnode results list` shows it.")],
    *,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Show one Result with its file and its Deliveries."""
    line = look_into_ledger(settings).find_result(InstanceUID(sop_instance_uid))
    if as_json:
        print_json(_describe(line))
        return
    result = line.result
    stdout().print(f"[bold]{result.sop_instance_uid}[/bold]  {result.kind.value}  {line.pipeline}  {_standing(line)}")
    facts = (
        ("Study", result.study_instance_uid),
        ("Series", result.series_instance_uid),
        ("SOP Class", result.sop_class_uid),
        ("Transfer Syntax", result.transfer_syntax_uid),
        ("Job", result.job_id),
        ("Written", line.created_at.isoformat(timespec="seconds")),
        ("File", read_settings(settings).store_root / result.path),
        ("Bytes", result.size_bytes),
        ("SHA-256", result.sha256),
    )
    print_table(("", ""), facts, empty="")
    stdout().print("\n[bold]Deliveries[/bold]")
    columns = ("Destination", "State", "Attempts", "Reason")
    print_table(columns, (_tell_delivery(one) for one in line.deliveries), empty="None.")


@app.command("check")
@reports_errors
def check_objects(
    folder: Annotated[Path, typer.Argument(exists=True, help="Folder of DICOM objects, or one file.")],
    *,
    originals: Annotated[Path, typer.Option(exists=True, help="Folder of the images that they speak of.")],
    as_json: JsonOption = False,
) -> None:
    """Prove SEG, SR, SC, KO, PR and PDF of anybody against their originals.

    Exit code 0: all is right; 1: something is wrong; 3: nothing is wrong, but not everything could be proven.
    """
    command = [sys.executable, "-m", "workers", "check", str(folder), "--originals", str(originals)]
    raise typer.Exit(subprocess.run([*command, *(["--json"] if as_json else [])], check=False).returncode)


@app.command("retract")
@reports_errors
def retract_results(
    sop_instance_uid: Annotated[str, typer.Argument(help="SOP Instance UID of one Result; all of its Job are meant.")],
    *,
    reason: Annotated[RejectionReason, typer.Option(help="Why; it becomes the title of the rejection note.")],
    strike: Annotated[
        list[str] | None, typer.Option(help="Label of a finding to leave out of a corrected report; may be repeated.")
    ] = None,
    comment: Annotated[str, typer.Option(help="A sentence for the rejection note.")] = "",
    settings: SettingsOption = None,
) -> None:
    """Take back the Results of a Job: what has not left stays, what has left is rejected by a note (IHE IOCM).

    With --strike the Job's other findings are reported again, by a corrected SR that names the old one. Who ordered it
    and why is an event of the Study.
    """
    loaded = read_settings(settings)
    order = RetractionOrder(
        reason=reason, comment=comment, struck=tuple(dict.fromkeys(strike or ())), ordered_by=find_account()
    )
    record = partial(record_audit, loaded)
    retractor = Retractor(loaded, open_retractions(loaded), open_view(loaded), record=record, clock=utc_now)
    retraction = retractor.order(InstanceUID(sop_instance_uid), order)
    try:
        retractor.tell(retraction)
    finally:
        # Also when the trail cannot be written: the Destinations must know.
        exit_code = retractor.write()
    if exit_code != 0:
        raise Broken("the Results are taken back, but what tells others so could not be written; see above")
    stdout().print("Taken back; `radnode studies show` tells when the Destinations know.")


def _standing(line: ResultLine) -> str:
    if line.result.retracted_at is not None:
        return f"retracted {line.result.retracted_at.isoformat(timespec='minutes')}"
    if line.result.purged_at is not None:
        return f"its file was given up on {line.result.purged_at:%Y-%m-%d}"
    return "substitute" if line.result.is_substitute else "stands"


def _tell_delivery(delivery: Delivery) -> tuple[str, str, int, str]:
    return delivery.destination, delivery.state.value, delivery.attempts, delivery.reason_text or ""


def _describe(line: ResultLine) -> dict[str, Any]:
    """Return a Result with what stands beside it, flat, for JSON."""
    result = line.result
    told = {field.name: getattr(result, field.name) for field in fields(result)}
    return {**told, "pipeline": line.pipeline, "created_at": line.created_at, "deliveries": line.deliveries}
