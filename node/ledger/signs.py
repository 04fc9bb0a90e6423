"""Signs by which alarms are judged; each question is answered from an index, however large the ledger is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, exists, func, select

from node.domain.job import JobState, Priority
from node.domain.result import DeliveryState
from node.domain.switch import Switch
from node.ledger.bell import FAULTS, HEALED
from node.ledger.commitments import UNCONFIRMED
from node.ledger.deliveries import find_waiting
from node.ledger.engine import Desk
from node.ledger.priors import AWAITS_PRIOR
from node.ledger.schema import EPOCH, deliveries, events, jobs
from node.ledger.switches import switches_of

# Of each priority so many are looked at: a person may have tried an old Job again a moment ago, and that one is young.
LOOKED_AT = 25
WAITS = jobs.c.state == JobState.SCHEDULED.value
PENDING = deliveries.c.state == DeliveryState.PENDING.value
# What begins a wait; see `node.ledger.studies` and `node.ledger.interventions`.
SCHEDULED_ANEW = "job-scheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """A Job that no worker has taken yet, or not again."""

    job_id: str
    pipeline: str
    since: datetime


class SignLedger(Desk):
    """What waits, for how long, and what happened last."""

    def last_job_at(self, pipeline: str) -> datetime | None:
        """Return when a Pipeline was last asked for something; None: never."""
        with self.reading() as connection:
            found = [
                connection.execute(
                    select(func.max(jobs.c.accepted_at, type_=jobs.c.accepted_at.type)).where(
                        jobs.c.pipeline == pipeline, jobs.c.state == state.value
                    )
                ).scalar_one()
                for state in JobState
            ]
        return max((at for at in found if at is not None), default=None)

    def read_switches(self) -> Mapping[str, Switch]:
        """Return how each Pipeline was switched last; those that never were are absent."""
        with self.reading() as connection:
            return switches_of(connection)

    def count_routed_since(self, since: datetime, *, limit: int) -> int:
        """Return how many Studies were routed after `since`, or `limit` when there are more."""
        newest = (
            select(events.c.at)
            .where(events.c.kind == "study-routed")
            .order_by(events.c.event_id.desc())
            .limit(limit)
            .subquery()
        )
        with self.reading() as connection:
            return int(connection.execute(select(func.count()).where(newest.c.at > since)).scalar_one())

    def oldest_waiting_job(self) -> WaitingJob | None:
        """Return the Job that has waited longest since it was ordered, or last tried again by hand."""
        with self.reading() as connection:
            found = [job for priority in Priority for job in _oldest_waiting(connection, priority)]
        return min(found, key=lambda job: job.since, default=None)

    def overdue_jobs(self, now: datetime, *, due_before: datetime) -> tuple[int, int]:
        """Return how many Jobs have been due since before `due_before`, and how many a worker has at `now`."""
        overdue = select(func.count()).select_from(
            select(jobs.c.job_id).where(WAITS, jobs.c.not_before < due_before).limit(1000).subquery()
        )
        held = (
            select(func.count())
            .select_from(jobs)
            .where(jobs.c.state == JobState.IN_PROGRESS.value, jobs.c.lease_expires_at > now)
        )
        with self.reading() as connection:
            return int(connection.execute(overdue).scalar_one()), int(connection.execute(held).scalar_one())

    def given_up_jobs(self, since: datetime, codes: Collection[str]) -> Mapping[str, int]:
        """Return Pipeline to how many Jobs were CANCELED after `since` for one of the reasons `codes`."""
        statement = (
            select(jobs.c.pipeline, func.count())
            .where(
                jobs.c.state == JobState.CANCELED.value,
                jobs.c.finished_at > since,
                jobs.c.reason_code.in_(codes),
            )
            .group_by(jobs.c.pipeline)
        )
        with self.reading() as connection:
            return {pipeline: count for pipeline, count in connection.execute(statement)}  # noqa: C416 a Row is no tuple to the type checker

    def oldest_pending_at(self, destination: str) -> datetime | None:
        """Return when the Delivery was ordered that has waited longest for a Destination; None: nothing waits."""
        oldest = func.min(deliveries.c.created_at, type_=deliveries.c.created_at.type)
        with self.reading() as connection:
            found: datetime | None = connection.execute(
                select(oldest).where(deliveries.c.destination == destination, PENDING)
            ).scalar_one()
            return found

    def waiting_destinations(self) -> frozenset[str]:
        """Return every Destination for which something is PENDING, or LOST and not taken note of."""
        with self.reading() as connection:
            return find_waiting(connection)

    def is_obstructed(self, destination: str, codes: Collection[str]) -> bool:
        """Return whether something waits for a Destination for one of the reasons, and it took nothing since.

        What became of an object after it was taken, such as a late report that it is held, says nothing of that.
        """
        changed_at, there = deliveries.c.changed_at, deliveries.c.destination == destination
        was_taken = and_(
            deliveries.c.state == DeliveryState.SENT.value, deliveries.c.reason_code.is_distinct_from(UNCONFIRMED)
        )
        with self.reading() as connection:
            # No max(): it would read all that was ever taken, where the index ends with the newest.
            last_taken_at = connection.execute(
                select(changed_at).where(there, was_taken).order_by(changed_at.desc()).limit(1)
            ).scalar_one_or_none()
            waits = exists().where(
                there, PENDING, changed_at > (last_taken_at or EPOCH), deliveries.c.reason_code.in_(codes)
            )
            return bool(connection.execute(select(waits)).scalar_one())

    def last_event_at(self, kind: str) -> datetime | None:
        """Return when something of this kind was last told; None: never."""
        statement = select(events.c.at).where(events.c.kind == kind).order_by(events.c.event_id.desc()).limit(1)
        with self.reading() as connection:
            found: datetime | None = connection.execute(statement).scalar_one_or_none()
            return found

    def told_broker_fault(self) -> str | None:
        """Return the code of the broker's fault that was told last; None when its end was told too, or none ever."""
        with self.reading() as connection:
            newest = {kind: _newest_event(connection, kind) for kind in (HEALED, *FAULTS)}
        kind = max(newest, key=newest.__getitem__)
        return None if kind == HEALED or not newest[kind] else kind


def _newest_event(connection: Connection, kind: str) -> int:
    statement = select(func.coalesce(func.max(events.c.event_id), 0)).where(events.c.kind == kind)
    return int(connection.execute(statement).scalar_one())


def _oldest_waiting(connection: Connection, priority: Priority) -> tuple[WaitingJob, ...]:
    waiting = (
        select(jobs.c.job_id, jobs.c.pipeline, jobs.c.study_instance_uid, jobs.c.accepted_at)
        .where(WAITS, jobs.c.priority == int(priority), jobs.c.reason_code.is_distinct_from(AWAITS_PRIOR))
        .order_by(jobs.c.accepted_at)
        .limit(LOOKED_AT)
    )
    rows = connection.execute(waiting).all()
    # By Study alone: a database that is told the kind too may well read every Event of that kind.
    told = select(events.c.job_id, events.c.kind, events.c.at).where(
        events.c.study_instance_uid.in_({row.study_instance_uid for row in rows})
    )
    ordered_at: dict[str | None, datetime] = {}
    for job_id, kind, at in connection.execute(told) if rows else ():
        if kind == SCHEDULED_ANEW:
            ordered_at[job_id] = max(at, ordered_at.get(job_id, at))
    return tuple(
        WaitingJob(job_id=row.job_id, pipeline=row.pipeline, since=ordered_at.get(row.job_id, row.accepted_at))
        for row in rows
    )
