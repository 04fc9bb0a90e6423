"""Counters that several processes share: each is raised in the transaction that does what is counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, bindparam, select, text

from node.ledger.engine import Desk
from node.ledger.schema import UtcTime, tallies

# SQLite and PostgreSQL read it alike.
ADD = text(
    "INSERT INTO tallies (name, subject, value, counted_at) VALUES (:name, :subject, :value, :counted_at) "
    "ON CONFLICT (name, subject) DO UPDATE SET value = tallies.value + excluded.value, counted_at = excluded.counted_at"
).bindparams(bindparam("counted_at", type_=UtcTime))
MAX_SUBJECT = 128


class TallyName(StrEnum):
    """What is counted; refusals are counted under the kind of their Event."""

    INSTANCES = "instances"
    BYTES = "bytes"
    STAGE_SECONDS = "stage-seconds"
    STAGE_MILLISECONDS = "stage-milliseconds"
    WORK_MILLISECONDS = "work-milliseconds"
    EVENTS_READ = "events-read"
    TRACES_READ = "traces-read"
    RETRIES_ORDERED = "retries-ordered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One counter.

    Attributes
    ----------
    counted_at
        When it last grew (UTC).
    """

    value: int
    counted_at: datetime


def add_tallies(connection: Connection, counts: Mapping[tuple[str, str], int], *, at: datetime) -> None:
    """Raise counters in the caller's transaction.

    Parameters
    ----------
    counts
        Name and subject to how much is added.
    """
    if counts:
        rows = [
            {"name": name, "subject": subject[:MAX_SUBJECT], "value": value, "counted_at": at}
            for (name, subject), value in counts.items()
        ]
        connection.execute(ADD, rows)


class TallyLedger(Desk):
    """Counters as they stand."""

    def read_tallies(self, name: str) -> Mapping[str, Tally]:
        """Return subject to counter."""
        with self.reading() as connection:
            return tallies_of(connection, name)


def tallies_of(connection: Connection, name: str) -> Mapping[str, Tally]:
    """Return subject to counter, in the caller's transaction."""
    statement = select(tallies.c.subject, tallies.c.value, tallies.c.counted_at).where(tallies.c.name == name)
    return {
        subject: Tally(value=value, counted_at=counted_at)
        for subject, value, counted_at in connection.execute(statement)
    }
