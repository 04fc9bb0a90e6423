"""What the ledger holds, in numbers: counted from indexes, for metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from node.domain.result import DeliveryState
from node.ledger.engine import Desk
from node.ledger.schema import deliveries, jobs, studies

Counts = Mapping[tuple[str, ...], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What there is.

    Attributes
    ----------
    studies, jobs, deliveries
        State; Pipeline and state; Destination and state; each to how many there are.
    pending_since
        Destination to when the Delivery was ordered that has waited longest (UTC).
    """

    studies: Counts
    jobs: Counts
    deliveries: Counts
    pending_since: Mapping[str, datetime]


class GaugeLedger(Desk):
    """Numbers of rows by state."""

    def count_holdings(self) -> Holdings:
        """Return how much there is of everything, at one moment."""
        oldest = func.min(deliveries.c.created_at, type_=deliveries.c.created_at.type)
        waiting = (
            select(deliveries.c.destination, oldest)
            .where(deliveries.c.state == DeliveryState.PENDING.value)
            .group_by(deliveries.c.destination)
        )
        with self.reading() as connection:

            def count(statement: Select[Any]) -> Counts:
                return {tuple(row[:-1]): int(row[-1]) for row in connection.execute(statement)}

            return Holdings(
                studies=count(select(studies.c.state, func.count()).group_by(studies.c.state)),
                jobs=count(select(jobs.c.pipeline, jobs.c.state, func.count()).group_by(jobs.c.pipeline, jobs.c.state)),
                deliveries=count(
                    select(deliveries.c.destination, deliveries.c.state, func.count()).group_by(
                        deliveries.c.destination, deliveries.c.state
                    )
                ),
                pending_since={name: at for name, at in connection.execute(waiting)},  # noqa: C416 a Row is no tuple to the type checker
            )
