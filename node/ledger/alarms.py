"""Alarms in the ledger: each stands once, heals once, and is told outside once for either."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import RowMapping, and_, insert, or_, select, update

from node.domain.alarm import Alarm, AlarmKind, News
from node.ledger.engine import Desk
from node.ledger.pages import Listing, PageAsked, PageFound, read_page
from node.ledger.schema import alarms

STANDING = alarms.c.healed_at.is_(None)


class AlarmLedger(Desk):
    """What is wrong, and was."""

    def standing_alarms(self) -> tuple[Alarm, ...]:
        """Return what is wrong now, the oldest first."""
        statement = select(alarms).where(STANDING).order_by(alarms.c.alarm_id)
        with self.reading() as connection:
            return tuple(_to_alarm(row) for row in connection.execute(statement).mappings())

    def list_alarms(self, limit: int) -> tuple[Alarm, ...]:
        """Return the alarms that were raised last, newest first, healed or not."""
        return self.page_alarms(PageAsked(limit=limit)).rows

    def page_alarms(self, asked: PageAsked) -> PageFound[Alarm]:
        """Return a page of all alarms, that which was raised last first."""
        with self.reading() as connection:
            found = read_page(connection, Listing(rows=select(alarms), key=(alarms.c.alarm_id,)), asked)
        return PageFound(rows=tuple(map(_to_alarm, found.rows)), rest=found.rest)

    def raise_alarm(self, kind: AlarmKind, subject: str, text: str, *, now: datetime) -> bool:
        """Commit that something is wrong; returns False when that stands already."""
        same = (alarms.c.kind == kind.value, alarms.c.subject == subject, STANDING)
        with self.writing() as connection:
            if connection.execute(select(alarms.c.alarm_id).where(*same)).first() is not None:
                return False
            values = {"kind": kind.value, "subject": subject, "text": text, "raised_at": now, "seen_at": now}
            connection.execute(insert(alarms).values(**values))
            return True

    def confirm_alarms(self, alarm_ids: Collection[int], *, now: datetime) -> None:
        """Commit that these still stand, and rightly."""
        with self.writing() as connection:
            connection.execute(update(alarms).where(alarms.c.alarm_id.in_(alarm_ids), STANDING).values(seen_at=now))

    def heal_alarm(self, alarm_id: int, *, now: datetime) -> bool:
        """Commit that it is well again; returns False when somebody did that before."""
        with self.writing() as connection:
            changed = connection.execute(
                update(alarms).where(alarms.c.alarm_id == alarm_id, STANDING).values(healed_at=now)
            )
            return changed.rowcount == 1

    def untold_news(self, *, healed_since: datetime, limit: int) -> tuple[News, ...]:
        """Return what nobody outside was told, in the order in which it happened to each alarm.

        Parameters
        ----------
        healed_since
            Of what was well again before, nobody is told any more.
        """
        untold = or_(
            and_(STANDING, alarms.c.raise_posted_at.is_(None)),
            and_(alarms.c.healed_at >= healed_since, alarms.c.heal_posted_at.is_(None)),
        )
        with self.reading() as connection:
            rows = connection.execute(select(alarms).where(untold).order_by(alarms.c.alarm_id).limit(limit)).mappings()
            found = []
            for row in rows:
                alarm = _to_alarm(row)
                if row["raise_posted_at"] is None:
                    found.append(News(alarm=alarm, is_healed=False))
                if alarm.healed_at is not None:
                    found.append(News(alarm=alarm, is_healed=True))
            return tuple(found)

    def record_told(self, news: News, *, now: datetime) -> None:
        """Commit that somebody outside took note of it."""
        column = alarms.c.heal_posted_at if news.is_healed else alarms.c.raise_posted_at
        with self.writing() as connection:
            connection.execute(update(alarms).where(alarms.c.alarm_id == news.alarm.alarm_id).values({column: now}))


def _to_alarm(row: RowMapping) -> Alarm:
    kept = ("alarm_id", "subject", "text", "raised_at", "seen_at", "healed_at")
    return Alarm(kind=AlarmKind(row["kind"]), **{name: row[name] for name in kept})
