"""What is still to be proven of a sending: noted in the transaction that says it was sent."""

from datetime import datetime

from sqlalchemy import Connection, delete, exists, insert, select

from node.domain.result import Delivery, ResultKind
from node.ledger.schema import confirmations, results


def begin_proof(connection: Connection, delivery: Delivery, *, now: datetime) -> None:
    """Note that the Destination took an object and is to be asked whether it holds it; what was lost before counts on.

    Rejection notes are not asked about: a Destination may heed one and keep nothing of it.
    """
    is_note = exists().where(
        results.c.sop_instance_uid == delivery.sop_instance_uid, results.c.kind == ResultKind.REJECTION_NOTE.value
    )
    if connection.execute(select(is_note)).scalar_one():
        return
    same = confirmations.c.delivery_id == delivery.delivery_id
    losses = connection.execute(select(confirmations.c.losses).where(same)).scalar_one_or_none()
    connection.execute(delete(confirmations).where(same))
    connection.execute(
        insert(confirmations).values(
            delivery_id=delivery.delivery_id,
            destination=delivery.destination,
            sent_at=now,
            ask_at=now,
            losses=losses or 0,
        )
    )
