"""A Result enters the ledger together with the orders to deliver it."""

from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert

from node.domain.job import JobOrder
from node.domain.result import DeliveryState, Result
from node.ledger.catalogue import enter_result
from node.ledger.orders import add_delivery
from node.ledger.schema import results


def keep_result(connection: Connection, result: Result, order: JobOrder, *, now: datetime) -> None:
    """Insert `result` and, unless it only stands in for others, its Deliveries, in the caller's transaction.

    Parameters
    ----------
    order
        Of its Job, as it stands now: a Job in shadow has no recipients.
    """
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    # JSON takes a dict, not any Mapping.
    row = {**values, "kind": result.kind.value, "attributes": dict(result.attributes)}
    connection.execute(insert(results).values(**row, created_at=now))
    enter_result(connection, row)
    if not result.is_substitute:
        for destination in order.recipients:
            add_delivery(connection, delivery_values(result, destination), now=now)


def delivery_values(result: Result, destination: str) -> dict[str, Any]:
    """Return the row that orders `result` for `destination`."""
    return {
        "destination": destination,
        "study_instance_uid": result.study_instance_uid,
        "sop_instance_uid": result.sop_instance_uid,
        "sop_class_uid": result.sop_class_uid,
        "transfer_syntax_uid": result.transfer_syntax_uid,
        "path": result.path,
        "job_id": result.job_id,
        "state": DeliveryState.PENDING.value,
    }
