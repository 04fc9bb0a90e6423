"""What goes to one Destination: what waits, what ended badly, what was taken last."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from node.domain.result import Delivery, DeliveryState
from node.ledger.engine import Desk
from node.ledger.rows import to_delivery
from node.ledger.schema import deliveries

BAD = (DeliveryState.REFUSED.value, DeliveryState.LOST.value)
TAKEN = (DeliveryState.SENT.value, DeliveryState.COMMITTED.value)
# What stands on a page; the counts are of all.
SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How it stands with one Destination.

    Attributes
    ----------
    waiting
        How many Deliveries are PENDING; the oldest since `oldest_at`, the next is tried at `next_at` (UTC).
    reason
        Why the one that was tried last waits, in words; empty where none was tried.
    bad
        How many are REFUSED or LOST, and nobody took note of it.
    last_taken_at
        When it last took something, or proved it (UTC); None: never.
    taken_since
        How many it took since the time that was asked for.
    """

    destination: str
    waiting: int
    oldest_at: datetime | None
    next_at: datetime | None
    reason: str
    bad: int
    last_taken_at: datetime | None
    taken_since: int


class TrafficLedger(Desk):
    """Deliveries by Destination; each question is answered from an index."""

    def read_traffic(self, destination: str, *, since: datetime) -> Traffic:
        """Return how it stands; what was taken counts from `since`."""
        there = deliveries.c.destination == destination
        pending = there, deliveries.c.state == DeliveryState.PENDING.value
        changed_at = deliveries.c.changed_at
        tried = (
            select(deliveries.c.reason_text)
            .where(*pending, deliveries.c.reason_text.is_not(None))
            .order_by(changed_at.desc())
            .limit(1)
        )
        bad = select(func.count()).where(there, deliveries.c.state.in_(BAD), deliveries.c.seen_at.is_(None))
        with self.reading() as connection:
            waiting, oldest_at, next_at = connection.execute(
                select(
                    func.count(),
                    func.min(deliveries.c.created_at, type_=changed_at.type),
                    func.min(deliveries.c.not_before, type_=changed_at.type),
                ).where(*pending)
            ).one()
            # One look into the index for each state: a max() over both would read all that was ever taken.
            last = [
                connection.execute(
                    select(changed_at).where(there, deliveries.c.state == state).order_by(changed_at.desc()).limit(1)
                ).scalar_one_or_none()
                for state in TAKEN
            ]
            taken = select(func.count()).where(there, deliveries.c.state.in_(TAKEN), changed_at > since)
            return Traffic(
                destination=destination,
                waiting=int(waiting),
                oldest_at=oldest_at,
                next_at=next_at,
                reason=connection.execute(tried).scalar_one_or_none() or "",
                bad=int(connection.execute(bad).scalar_one()),
                last_taken_at=max((at for at in last if at is not None), default=None),
                taken_since=int(connection.execute(taken).scalar_one()),
            )

    def list_open(self, destination: str) -> Sequence[Delivery]:
        """Return what waits for a Destination or ended badly there, the oldest first, at most `SHOWN`."""
        is_open = {DeliveryState.PENDING.value: (), **dict.fromkeys(BAD, (deliveries.c.seen_at.is_(None),))}
        with self.reading() as connection:
            # An index leads to the oldest of each state; to sort them all would read whatever waits.
            found = [
                row
                for state, conditions in is_open.items()
                for row in connection.execute(_oldest(destination, state).where(*conditions)).mappings()
            ]
        found.sort(key=lambda row: (row["created_at"], row["delivery_id"]))
        return [to_delivery(row) for row in found[:SHOWN]]


def _oldest(destination: str, state: str) -> Select[Any]:
    there = deliveries.c.destination == destination, deliveries.c.state == state
    order = deliveries.c.created_at, deliveries.c.delivery_id
    return select(deliveries).where(*there).order_by(*order).limit(SHOWN)
