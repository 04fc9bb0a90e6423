"""The belt at one moment: what stands at each station, since when, and what passed it of late."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import BigInteger, Column, ColumnElement, Connection, func, select, type_coerce

from node.domain.job import JobState
from node.domain.result import DeliveryState
from node.domain.study import SeriesState
from node.ledger.engine import Desk
from node.ledger.schema import EPOCH, confirmations, deliveries, events, jobs, series, studies


class Station(StrEnum):
    """What a Study passes, in this order."""

    INTAKE = "intake"
    ASSEMBLY = "assembly"
    ROUTING = "routing"
    DISPATCH = "dispatch"
    WORKER = "worker"
    DELIVERY = "delivery"
    CONFIRMATION = "confirmation"


# The Event that tells of something that has left a station.
PASSED = {
    "study-opened": Station.INTAKE,
    "study-settled": Station.ASSEMBLY,
    "study-routed": Station.ROUTING,
    "job-started": Station.DISPATCH,
    "job-completed": Station.WORKER,
    "delivery-sent": Station.DELIVERY,
    "delivery-committed": Station.CONFIRMATION,
}
FAILED = {
    "instance-refused": Station.INTAKE,
    "job-attempt-failed": Station.WORKER,
    "job-canceled": Station.WORKER,
    "delivery-refused": Station.DELIVERY,
    "delivery-lost": Station.CONFIRMATION,
}
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What stands at a station.

    Attributes
    ----------
    oldest_at
        Since when the first of them does (UTC); None where nothing does.
    """

    count: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What a station did in a span of time.

    Attributes
    ----------
    counts
        How much left it in each of the equal parts of the span, the oldest first.
    failed
        How much failed there.
    """

    counts: tuple[int, ...]
    failed: int

    @property
    def total(self) -> int:
        """How much left it in all of the span."""
        return sum(self.counts)


class FlowLedger(Desk):
    """Whether the belt moves; each question is answered from an index."""

    def read_queues(self, destinations: Collection[str]) -> Mapping[Station, Queue]:
        """Return what stands at each station now, at one moment; on its way to these Destinations."""
        to_them = deliveries.c.destination.in_(destinations)
        asked = confirmations.c.destination.in_(destinations), confirmations.c.ask_at.is_not(None)
        with self.reading() as connection:
            is_open = series.c.state == SeriesState.OPEN.value
            is_settled = studies.c.state == SeriesState.SETTLED.value
            waits = jobs.c.state == JobState.SCHEDULED.value
            runs = jobs.c.state == JobState.IN_PROGRESS.value
            pending = deliveries.c.state == DeliveryState.PENDING.value
            return {
                Station.INTAKE: Queue(count=0, oldest_at=None),
                Station.ASSEMBLY: _queue(connection, series.c.last_instance_at, is_open),
                Station.ROUTING: _queue(connection, studies.c.changed_at, is_settled),
                Station.DISPATCH: _queue(connection, jobs.c.accepted_at, waits),
                Station.WORKER: _queue(connection, jobs.c.accepted_at, runs),
                Station.DELIVERY: _queue(connection, deliveries.c.created_at, to_them, pending),
                Station.CONFIRMATION: _queue(connection, confirmations.c.sent_at, *asked),
            }

    def read_passages(self, since: datetime, *, part: timedelta, parts: int) -> Mapping[Station, Passage]:
        """Return what each station did in `parts` spans of time, the first of which begins at `since`."""
        at_us = type_coerce(events.c.at, BigInteger)
        begin_us, part_us = (since - EPOCH) // MICROSECOND, part // MICROSECOND
        number = ((at_us - begin_us) // part_us).label("number")
        within = events.c.at >= since, events.c.at < since + part * parts
        statement = (
            select(events.c.kind, number, func.count())
            # As a bare column, the kind would lead to every Event of these kinds that there ever was.
            .where(*within, func.coalesce(events.c.kind, "").in_([*PASSED, *FAILED]))
            .group_by(events.c.kind, number)
        )
        counts = {station: [0] * parts for station in Station}
        failed = dict.fromkeys(Station, 0)
        with self.reading() as connection:
            for kind, index, count in connection.execute(statement):
                if kind in PASSED:
                    counts[PASSED[kind]][int(index)] += count
                else:
                    failed[FAILED[kind]] += count
        return {station: Passage(counts=tuple(counts[station]), failed=failed[station]) for station in Station}

    def count_answers(self, since: datetime) -> Mapping[str, int]:
        """Return Pipeline to how many Jobs were COMPLETED after `since`."""
        statement = (
            select(jobs.c.pipeline, func.count())
            .where(jobs.c.state == JobState.COMPLETED.value, jobs.c.finished_at > since)
            .group_by(jobs.c.pipeline)
        )
        with self.reading() as connection:
            return {pipeline: count for pipeline, count in connection.execute(statement)}  # noqa: C416 a Row is no tuple to the type checker

    def read_holders(self, now: datetime) -> Sequence[tuple[str, int]]:
        """Return each worker that holds Jobs under a lease that has not run out, and how many."""
        statement = (
            select(jobs.c.lease_owner, func.count())
            .where(jobs.c.state == JobState.IN_PROGRESS.value, jobs.c.lease_expires_at > now)
            .group_by(jobs.c.lease_owner)
            .order_by(jobs.c.lease_owner)
        )
        with self.reading() as connection:
            return [(str(owner), int(count)) for owner, count in connection.execute(statement)]


def _queue(connection: Connection, since: Column[datetime], *conditions: ColumnElement[bool]) -> Queue:
    count, oldest_at = connection.execute(
        select(func.count(), func.min(since, type_=since.type)).where(*conditions)
    ).one()
    return Queue(count=int(count), oldest_at=oldest_at)
