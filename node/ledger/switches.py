"""Switches of Pipelines, for every node of one ledger; and what an answer in shadow means for its way out."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from node.domain.job import LIVE_STATES, Job, JobID, JobOrder, JobState
from node.domain.result import ResultKind
from node.domain.switch import SWITCHED_OFF, Mode, Switch
from node.errors import WrongState
from node.ledger.catalogue import STANDS, enter_result
from node.ledger.engine import Desk
from node.ledger.orders import add_delivery
from node.ledger.results import delivery_values
from node.ledger.retractions import retract_superseded
from node.ledger.rows import add_event, to_job, to_result
from node.ledger.schema import jobs, results, switches
from node.ledger.transitions import canceled, scheduled_again, tell


class SwitchLedger(Desk):
    """Which Pipelines are on, in shadow, or off."""

    def read_switches(self) -> Mapping[str, Switch]:
        """Return how each Pipeline was switched last; those that never were are absent, and on."""
        with self.reading() as connection:
            return switches_of(connection)

    def read_modes(self) -> Mapping[str, Mode]:
        """Return how each Pipeline stands that was ever switched."""
        return {name: switch.mode for name, switch in self.read_switches().items()}

    def switch_pipeline(self, wanted: Switch) -> int:
        """Commit how a Pipeline stands from now on; returns how many Jobs ended by that.

        What waits or runs when it is switched off is CANCELED, so that no answer comes any more; what was answered
        before, and is on its way, goes out.

        Raises
        ------
        WrongState
            If it stands so already.
        """
        name, now = wanted.pipeline, wanted.changed_at
        with self.writing() as connection:
            known = mode_of(connection, name)
            if known is wanted.mode:
                raise WrongState(f"pipeline {name} is {known.value} already; nothing was changed")
            connection.execute(delete(switches).where(switches.c.pipeline == name))
            values = {field: getattr(wanted, field) for field in ("pipeline", "changed_by", "changed_at", "reason")}
            connection.execute(insert(switches).values(**values, mode=wanted.mode.value))
            why = f": {wanted.reason}" if wanted.reason else ""
            text = f"{name} was {known.value} and is {wanted.mode.value}, by {wanted.changed_by}{why}"
            add_event(connection, at=now, kind="pipeline-switched", text=text)
            return _cancel_live(connection, wanted) if wanted.mode is Mode.OFF else 0


def switches_of(connection: Connection) -> Mapping[str, Switch]:
    """Return how each Pipeline was switched last, in the caller's transaction."""
    rows = connection.execute(select(switches)).mappings()
    return {row["pipeline"]: Switch(**{**row, "mode": Mode(row["mode"])}) for row in rows}


def mode_of(connection: Connection, pipeline: str) -> Mode:
    """Return how a Pipeline stands, in the caller's transaction."""
    statement = select(switches.c.mode).where(switches.c.pipeline == pipeline)
    found = connection.execute(statement).scalar_one_or_none()
    return Mode.ON if found is None else Mode(found)


def order_at_end(connection: Connection, job: Job) -> JobOrder:
    """Return the order of a Job that comes to its end, as it stands now, in the caller's transaction.

    An answer goes out where the Pipeline was on when it was ordered and is on when it is there: what was switched
    meanwhile is a Job in shadow from here on.
    """
    this = jobs.c.job_id == job.job_id
    if mode_of(connection, job.order.pipeline) is not Mode.ON:
        connection.execute(update(jobs).where(this).values(is_shadow=True))
    return to_job(connection.execute(select(jobs).where(this)).mappings().one()).order


def end_where_off(connection: Connection, job: Job, *, now: datetime) -> bool:
    """End a Job whose Pipeline is off, in the caller's transaction; return whether it did."""
    if mode_of(connection, job.order.pipeline) is not Mode.OFF:
        return False
    text = f"{job.order.pipeline} is switched off"
    _write(connection, job.job_id, {**canceled(SWITCHED_OFF, text, now), "fence": job.fence + 1})
    tell(connection, job, now=now, kind="job-canceled", text=f"{SWITCHED_OFF}: {text}")
    return True


def are_outdated(connection: Connection, orders: Sequence[JobOrder]) -> bool:
    """Return whether a Pipeline was switched off, or into shadow, since somebody made these orders."""
    modes = {name: switch.mode for name, switch in switches_of(connection).items()} if orders else {}
    return any(
        modes.get(order.pipeline) is Mode.OFF or (modes.get(order.pipeline) is Mode.SHADOW and not order.is_shadow)
        for order in orders
    )


def revive_job(
    connection: Connection, job_id: JobID, order: JobOrder, *, rejects_superseded: bool, now: datetime
) -> bool:
    """Let a Job that is there do what `order` asks for anew, where a switch kept it from that, in the transaction.

    One that ended because its Pipeline was off is SCHEDULED again. The answer of one in shadow, whose Pipeline is on
    now, enters the catalogue and gets its Deliveries; a Job that still runs does at its end.

    Parameters
    ----------
    rejects_superseded
        Whether the Results that such an answer replaces are taken back where they were delivered.

    Returns
    -------
    bool
        False: no switch kept it from anything.
    """
    job = to_job(connection.execute(select(jobs).where(jobs.c.job_id == job_id)).mappings().one())
    anew = {
        "is_shadow": order.is_shadow,
        "priority": int(order.priority),
        "deliver_to": list(order.deliver_to),
        "rule": order.rule,
    }
    if job.state is JobState.CANCELED and job.reason_code == SWITCHED_OFF:
        _write(connection, job_id, {**anew, **scheduled_again(None, now), "attempts": 0, "fence": job.fence + 1})
        text = f"{order.pipeline} was switched off, and is {'in shadow' if order.is_shadow else 'on'} now"
        tell(connection, job, now=now, kind="job-scheduled", text=text)
        return True
    # What is of an earlier version does not go out anew.
    if not job.order.is_shadow or order.is_shadow or job.outdated_at is not None:
        return False
    _write(connection, job_id, anew)
    if job.state is JobState.COMPLETED:
        count = _publish(connection, job_id, order, now=now)
        predecessor = find_predecessor(connection, order, but=job_id)
        _write(connection, job_id, {"supersedes": predecessor})
        if count and rejects_superseded and predecessor is not None:
            retract_superseded(connection, predecessor, now=now)
        text = f"{order.pipeline} answered this in shadow and is on now: {count} Results go out"
        tell(connection, job, now=now, kind="job-published", text=text)
    return True


def find_predecessor(connection: Connection, order: JobOrder, *, but: JobID | None = None) -> JobID | None:
    """Return the Job that answered last for this Pipeline and Study, of which somebody outside may have the answer.

    Parameters
    ----------
    but
        A Job that is not its own predecessor.
    """
    completed = (
        select(jobs.c.job_id)
        .where(
            jobs.c.study_instance_uid == order.study_instance_uid,
            jobs.c.pipeline == order.pipeline,
            jobs.c.state == JobState.COMPLETED.value,
            jobs.c.job_id.is_distinct_from(but),
            # What nobody outside has seen is not replaced outside.
            ~jobs.c.is_shadow,
        )
        .order_by(jobs.c.finished_at.desc())
        .limit(1)
    )
    found = connection.execute(completed).scalar_one_or_none()
    return None if found is None else JobID(found)


def _publish(connection: Connection, job_id: JobID, order: JobOrder, *, now: datetime) -> int:
    # The Job is in shadow no more, so that its Results stand. A note on what nobody was sent rejects nothing.
    is_note = results.c.kind == ResultKind.REJECTION_NOTE.value
    rows = connection.execute(select(results).where(results.c.job_id == job_id, STANDS, ~is_note)).mappings().all()
    for row in rows:
        enter_result(connection, dict(row))
        result = to_result(row)
        for destination in () if result.is_substitute else order.deliver_to:
            add_delivery(connection, delivery_values(result, destination), now=now)
    return len(rows)


def _write(connection: Connection, job_id: JobID, values: Mapping[str, object]) -> None:
    connection.execute(update(jobs).where(jobs.c.job_id == job_id).values(**values))


def _cancel_live(connection: Connection, wanted: Switch) -> int:
    text = f"{wanted.pipeline} was switched off by {wanted.changed_by}"
    ended = connection.execute(
        update(jobs)
        .where(jobs.c.pipeline == wanted.pipeline, jobs.c.state.in_(LIVE_STATES))
        .values(**canceled(SWITCHED_OFF, text, wanted.changed_at), fence=jobs.c.fence + 1)
        .returning(jobs)
    ).mappings()
    found = [to_job(row) for row in ended]
    for job in found:
        tell(connection, job, now=wanted.changed_at, kind="job-canceled", text=f"{SWITCHED_OFF}: {text}")
    return len(found)
