"""`radnode deliveries`: what is on its way to which Destination."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import typer

from node.audit.account import find_account
from node.cli.context import JsonOption, SettingsOption, look_into_ledger, read_settings
from node.cli.output import print_json, print_table, reports_errors, stdout
from node.clock import utc_now
from node.domain.capability import name_kind
from node.domain.result import Delivery, DeliveryState
from node.domain.uids import StudyUID
from node.errors import SettingsInvalid
from node.ledger.fates import tell_delivery
from node.ledger.opening import open_commitments, open_deliveries
from node.wording import short_uid

# How often a Delivery was asked about, and when that is done next.
Proofs = Mapping[int, tuple[int, datetime | None]]

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
    waiting = open_commitments(read_settings(settings)).waiting_proofs([d.delivery_id for d in found])
    rows = [
        (
            d.delivery_id,
            d.destination,
            name_kind(d.sop_class_uid),
            short_uid(d.sop_instance_uid),
            d.state.value,
            d.attempts,
            _next_at(d, waiting),
            (d.reason_text and tell_delivery(d)) or _describe_proof(d, waiting) or tell_delivery(d),
        )
        for d in found
    ]
    columns = ("Delivery", "Destination", "Kind", "Object", "State", "Attempts", "Next", "In words")
    print_table(columns, rows, empty="No Delivery yet.")


@app.command("retry")
@reports_errors
def retry_deliveries(
    *,
    destination: Annotated[str | None, typer.Option(help="Only to this Destination.")] = None,
    settings: SettingsOption = None,
) -> None:
    """Make every waiting, refused or lost Delivery due again."""
    ledger = open_deliveries(read_settings(settings))
    count = ledger.retry_deliveries(destination=destination, ordered_by=find_account(), now=utc_now())
    stdout().print(f"{count} Deliveries are due again.")


@app.command("dismiss")
@reports_errors
def dismiss_deliveries(
    *,
    destination: Annotated[str | None, typer.Option(help="Only to this Destination.")] = None,
    study: Annotated[str | None, typer.Option(help="Only of this Study Instance UID.")] = None,
    settings: SettingsOption = None,
) -> None:
    """Take note that Deliveries stay refused, lost or unconfirmed; retention keeps their Studies no longer."""
    if destination is None and study is None:
        raise SettingsInvalid("say --destination or --study: what is dismissed was looked at by a person")
    count = open_deliveries(read_settings(settings)).dismiss_deliveries(
        destination=destination,
        study=None if study is None else StudyUID(study),
        ordered_by=find_account(),
        now=utc_now(),
    )
    stdout().print(f"{count} refused, lost or unconfirmed Deliveries are taken note of.")


def _next_at(delivery: Delivery, waiting: Proofs) -> str:
    """Return when something is done next: it is sent, or the Destination is asked whether it holds it."""
    _, asked_at = waiting.get(delivery.delivery_id, (0, None))
    at = delivery.not_before if delivery.state is DeliveryState.PENDING else asked_at
    return "" if at is None else at.isoformat(timespec="seconds")


def _describe_proof(delivery: Delivery, waiting: Proofs) -> str:
    """Return in words how far it is proven that the Destination holds an object; empty where nobody asks."""
    if delivery.delivery_id not in waiting:
        return ""
    asked, _ = waiting[delivery.delivery_id]
    return f"not confirmed yet, asked {asked} times" if asked else "not asked yet whether it is held"
