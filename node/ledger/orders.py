"""Deliveries are ordered: each once, in the caller's transaction."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, exists, insert, select

from node.ledger.schema import deliveries


def add_delivery(connection: Connection, values: Mapping[str, object], *, now: datetime) -> None:
    """Order one Delivery; the same order twice is one."""
    known = exists().where(
        deliveries.c.destination == values["destination"],
        deliveries.c.sop_instance_uid == values["sop_instance_uid"],
        deliveries.c.path == values["path"],
    )
    if connection.execute(select(known)).scalar_one():
        return
    connection.execute(insert(deliveries).values(**values, not_before=now, created_at=now, changed_at=now))
