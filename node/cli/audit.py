"""`radnode audit`: who did what to whose Studies, and the proof that nobody changed it since."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from node.audit.account import find_account
from node.audit.events import audit_log_used
from node.audit.inspection import Proof, newest_records, prove_trail
from node.audit.record import Record
from node.cli.context import JsonOption, SettingsOption, read_settings, record_audit
from node.cli.output import EXIT_FAILURE, print_json, print_table, reports_errors, stdout
from node.cli.spans import parse_since
from node.clock import utc_now
from node.data_folder import has_data_folder
from node.errors import NotFound
from node.settings.whole import Settings
from node.volumes import audit_folder

app = typer.Typer(no_args_is_help=True, help="The audit trail (PS3.15 A.5).")


@app.command("show")
@reports_errors
def show_trail(
    *,
    since: Annotated[str | None, typer.Option(help="7d, 12h, 30m, or a date and time (ISO 8601, UTC).")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind, such as association-refused.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 30,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Show records, newest first; --json with the whole messages, Patient IDs included. That you looked is recorded."""
    loaded = read_settings(settings)
    folder = _find_trail(loaded)
    earliest = None if since is None else parse_since(since, utc_now())
    found = list(islice(_wanted(newest_records(folder), earliest, kind), limit))
    if as_json:
        print_json(found)
    else:
        rows = [(r.sequence, r.at.isoformat(timespec="seconds"), r.outcome, r.kind, r.text) for r in found]
        print_table(("Record", "At", "Outcome", "Event", "What"), rows, empty="No such record.")
    if folder.is_dir():
        record_audit(loaded, audit_log_used(folder.resolve().as_uri(), account=find_account()))


@app.command("verify")
@reports_errors
def verify_trail(
    *,
    holds: Annotated[
        str | None, typer.Option(help="Digest of a record, kept elsewhere, that must be in the chain.")
    ] = None,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Prove that no record is missing, changed or in another place; exit code 1 if one is."""
    folder = _find_trail(read_settings(settings))
    proof = prove_trail(folder, holds=holds)
    if as_json:
        print_json({"folder": folder, "is_whole": proof.is_whole, **_facts(proof)})
    else:
        _print_proof(folder, proof)
    if not proof.is_whole:
        raise typer.Exit(EXIT_FAILURE)


def _find_trail(settings: Settings) -> Path:
    """Return the folder of the trail of a node that has begun; raise NotFound where there is none."""
    if not has_data_folder(settings.node.data_dir, writes=False):
        raise NotFound(
            f"no audit trail, for there is no data folder {settings.node.data_dir.absolute()}; name the settings of "
            "the node by --settings, or its data folder by RADNODE__NODE__DATA_DIR"
        )
    folder = audit_folder(settings)
    # Where it is closed its files are not seen, and it would seem empty.
    has_data_folder(folder, writes=False)
    return folder


def _wanted(records: Iterator[Record], earliest: datetime | None, kind: str | None) -> Iterator[Record]:
    for record in records:
        if (earliest is None or record.at >= earliest) and kind in (None, record.kind):
            yield record


def _facts(proof: Proof) -> dict[str, object]:
    names = ("records", "first", "last", "last_digest", "told_damages", "unfinished_bytes", "broken")
    return {name: getattr(proof, name) for name in names}


def _print_proof(folder: Path, proof: Proof) -> None:
    out = stdout()
    if proof.broken is not None:
        out.print(f"BROKEN: {proof.broken}", markup=False)
        out.print(f"{proof.records} records before that place are whole. Keep {folder} as it is.", markup=False)
        return
    if not proof.records:
        out.print(f"There is no record in {folder}.", markup=False)
        return
    out.print(f"{proof.records} records are whole, {proof.first} to {proof.last}.")
    if proof.first > 1:
        out.print(f"Records 1 to {proof.first - 1} are not in this folder.")
    if proof.told_damages or proof.unfinished_bytes:
        count = proof.told_damages + bool(proof.unfinished_bytes)
        out.print(f"{count} lines were left unfinished by a process that was stopped.")
    out.print(f"Digest of the last: {proof.last_digest}")
