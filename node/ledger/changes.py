"""Whether anything happened that a page shows; asked each second, so it costs five looks into indexes."""

from sqlalchemy import func, select

from node.ledger.engine import Desk
from node.ledger.schema import alarms, events, tallies, workitem_events

_NEWEST = select(
    select(func.max(events.c.event_id)).scalar_subquery(),
    select(func.max(alarms.c.alarm_id)).scalar_subquery(),
    select(func.max(alarms.c.healed_at)).scalar_subquery(),
    # Instances of a Study that is open tell no Event.
    select(func.max(tallies.c.counted_at)).scalar_subquery(),
    # What subscribers of workitems are told.
    select(func.max(workitem_events.c.event_id)).scalar_subquery(),
)


class ChangeLedger(Desk):
    """The newest of everything that tells of a change; what people's sessions write is none."""

    def sign(self) -> tuple[object, ...]:
        """Return what is another value after each change."""
        with self.reading() as connection:
            return tuple(connection.execute(_NEWEST).one())
