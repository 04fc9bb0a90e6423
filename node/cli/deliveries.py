"""`radnode deliveries`: what is on its way to which Destination."""

from typing import Annotated

import typer

from node.app import open_deliveries
from node.audit.account import find_account
from node.cli.context import JsonOption, SettingsOption, look_into_ledger, read_settings
from node.cli.output import print_json, print_table, reports_errors, short_uid, stdout
from node.clock import utc_now
from node.domain.capability import name_kind
from node.domain.result import DeliveryState
from node.domain.uids import StudyUID
from node.errors import SettingsInvalid

app = typer.Typer(no_args_is_help=True, help="Deliveries in the ledger.")


@app.command("list")
@reports_errors
def list_deliveries(
    *,
    destination: Annotated[str | None, typer.Option(help="Only to this Destination.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 30,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """List Deliveries."""
    found = look_into_ledger(settings).list_deliveries(destination=destination, state=state, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            d.delivery_id,
            d.destination,
            name_kind(d.sop_class_uid),
            short_uid(d.sop_instance_uid),
            d.state.value,
            d.attempts,
            d.not_before.isoformat(timespec="seconds") if d.state is DeliveryState.PENDING else "",
            d.reason_text or "",
        )
        for d in found
    ]
    columns = ("Delivery", "Destination", "Kind", "Object", "State", "Attempts", "Not before", "Reason")
    print_table(columns, rows, empty="No Delivery yet.")


@app.command("retry")
@reports_errors
def retry_deliveries(
    *,
    destination: Annotated[str | None, typer.Option(help="Only to this Destination.")] = None,
    settings: SettingsOption = None,
) -> None:
    """Make every waiting or refused Delivery due again."""
    count = open_deliveries(read_settings(settings)).retry_deliveries(destination=destination, now=utc_now())
    stdout().print(f"{count} Deliveries are due again.")


@app.command("dismiss")
@reports_errors
def dismiss_deliveries(
    *,
    destination: Annotated[str | None, typer.Option(help="Only to this Destination.")] = None,
    study: Annotated[str | None, typer.Option(help="Only of this Study Instance UID.")] = None,
    settings: SettingsOption = None,
) -> None:
    """Take note that refused Deliveries stay refused; retention keeps their Studies no longer."""
    if destination is None and study is None:
        raise SettingsInvalid("say --destination or --study: what is dismissed was looked at by a person")
    count = open_deliveries(read_settings(settings)).dismiss_deliveries(
        destination=destination,
        study=None if study is None else StudyUID(study),
        ordered_by=find_account(),
        now=utc_now(),
    )
    stdout().print(f"{count} refused Deliveries are taken note of.")
