"""What the ledger tells of the broker: that it failed, that it is well again, and what it forgot."""

from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from node.errors import BrokerLoginRefused, BrokerTakesNothing, BrokerUnreachable
from node.ledger.engine import Desk
from node.ledger.rows import add_alarm, add_event
from node.ledger.schema import events

HEALED = "broker-healed"
FORGOT = "broker-forgot"
ODD_MESSAGE = "odd-message"
DAMAGED = "broker-memory-damaged"
FAULTS = (BrokerUnreachable.code, BrokerLoginRefused.code, BrokerTakesNothing.code)


class BellLedger(Desk):
    """The story of the broker, in Events."""

    def told_fault(self) -> str | None:
        """Return the code of the fault that was told last; None when none was, or its end was told too."""
        statement = (
            select(events.c.kind)
            .where(events.c.kind.in_((*FAULTS, HEALED)))
            .order_by(events.c.event_id.desc())
            .limit(1)
        )
        with self.reading() as connection:
            kind = connection.execute(statement).scalar_one_or_none()
        return None if kind == HEALED else kind

    def tell_fault(self, fault: BrokerUnreachable, now: datetime) -> None:
        """Commit an alarm: the broker does not do its work."""
        with self.writing() as connection:
            add_alarm(connection, at=now, kind=fault.code, text=str(fault))

    def tell_healed(self, now: datetime) -> None:
        """Commit that the broker does its work again."""
        text = "the broker takes messages again; every waiting Job was rung"
        with self.writing() as connection:
            add_event(connection, at=now, kind=HEALED, text=text)

    def tell_forgot(self, count: int, now: datetime) -> None:
        """Commit an alarm: the broker lost the messages of so many Jobs, which were sent again."""
        text = f"the broker lost its messages; {count} waiting Jobs were rung again. Give it an append-only file"
        with self.writing() as connection:
            add_alarm(connection, at=now, kind=FORGOT, text=text)

    def tell_damaged(self, aside: Path, now: datetime) -> None:
        """Commit an alarm: the embedded broker could not read its memory, which lies `aside` now."""
        text = f"the broker could not read its own file and began without it; it lies in {aside}. See to the disk"
        with self.writing() as connection:
            add_alarm(connection, at=now, kind=DAMAGED, text=text)

    def tell_odd_message(self, count: int, now: datetime) -> None:
        """Commit an alarm: a worker took what is no message of ours out of the broker, `count` times by now."""
        text = (
            f"a worker found what is no message of radnode in the broker, and dropped it unread ({count} since it "
            "started); see who else may write there"
        )
        with self.writing() as connection:
            add_alarm(connection, at=now, kind=ODD_MESSAGE, text=text)
