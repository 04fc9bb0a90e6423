"""`radnode orders`: what RIS and HIS asked for."""

from typing import Annotated

import typer

from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import print_json, print_table, reports_errors, stdout
from node.ledger.opening import open_orders
from node.wording import age, short_uid

app = typer.Typer(no_args_is_help=True, help="Orders of RIS and HIS in the ledger.")


@app.command("list")
@reports_errors
def list_orders(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 30,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """List the orders that changed last."""
    orders = open_orders(read_settings(settings)).list_orders(limit)
    if as_json:
        print_json(orders)
        return
    rows = [
        (
            one.order_id,
            one.state.value,
            "" if one.priority is None else one.priority.word,
            one.accession_number,
            one.procedure_text,
            one.origin.value,
            age(one.changed_at),
        )
        for one in orders
    ]
    print_table(("Order", "State", "Priority", "Accession", "Procedure", "Told by", "Age"), rows, empty="No order yet.")


@app.command("show")
@reports_errors
def show_order(
    order_id: Annotated[int, typer.Argument(help="Number, as `radnode orders list` shows it.")],
    *,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Show one order with all that is known of it, and the Studies here that it is about."""
    ledger = open_orders(read_settings(settings))
    order = ledger.find_order(order_id)
    studies = ledger.studies_of(order)
    if as_json:
        print_json({"order": order, "studies": studies})
        return
    out = stdout()
    out.print(f"Order {order.order_id}: {order.words}", markup=False)
    rows = (
        ("State", order.state.value),
        ("Placer Order Number", order.placer_order_number),
        ("Filler Order Number", order.filler_order_number),
        ("Accession Number", order.accession_number),
        ("Study Instance UID", order.study_instance_uid),
        ("Patient ID", order.patient_id),
        ("Issuer of Patient ID", order.patient_id_issuer),
        ("Procedure", order.procedure_text),
        ("Procedure codes", ", ".join(order.procedure_codes)),
        ("Requested by", order.requested_by),
        ("Requesting service", order.requesting_service),
        ("Scheduled", "" if order.scheduled_at is None else order.scheduled_at.isoformat(timespec="seconds")),
        ("Last message", order.control_id),
    )
    print_table(("What", "Value"), [row for row in rows if row[1]], empty="Nothing is known of it.")
    print_table(("Study here",), [(short_uid(uid),) for uid in studies], empty="No Study of it is here.")
