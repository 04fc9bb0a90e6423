"""Who is told of workitems, and what they still are to be told (PS3.4 CC.2.3 and CC.2.4)."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, exists, func, insert, select, update

from node.domain import workitem as ups
from node.domain.job import LIVE_STATES, JobID, JobState
from node.domain.workitem import DataSet, Workitem
from node.domain.workitem_query import is_match
from node.errors import ActionUnfit
from node.ledger.engine import Desk, Engine
from node.ledger.job_workitems import Premises, uid_of_job
from node.ledger.rows import add_event
from node.ledger.schema import events, jobs, subscriptions, tallies, workitem_events, workitems
from node.ledger.tallies import TallyName, add_tallies
from node.ledger.workitem_news import WELL_KNOWN, add_subscription, announce, describe_state, introduce, tell_one
from node.ledger.workitem_rows import find_workitem, list_candidates

NOWHERE = Premises()
# Which line of a Job's time line tells which state.
STATES = {
    "job-scheduled": JobState.SCHEDULED,
    "job-started": JobState.IN_PROGRESS,
    "job-completed": JobState.COMPLETED,
    "job-canceled": JobState.CANCELED,
}
READ_AT_ONCE = 500
# An Event: a subscriber was tried in vain, and hears the next news at the earliest.
UNTOLD = "workitems-untold"
OURS = "workitems"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Somebody wants to hear of a workitem, or of all of them.

    Attributes
    ----------
    sop_instance_uid
        Of a workitem, `GLOBAL`, or `FILTERED_GLOBAL`.
    is_locked
        Whether the workitem is to be kept until it is given up.
    keys
        What a workitem must match, for `FILTERED_GLOBAL`.
    """

    aet: str
    sop_instance_uid: str
    is_locked: bool = False
    keys: DataSet = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemEvent:
    """One thing that one subscriber is told.

    Attributes
    ----------
    event_id
        Grows with each.
    event_type
        Event Type ID (PS3.4 table CC.2.4-1).
    information
        Event Information.
    attempts
        How often it was sent in vain.
    """

    event_id: int
    aet: str
    sop_instance_uid: str
    event_type: int
    information: DataSet
    attempts: int


class SubscriptionLedger(Desk):
    """Subscriptions, and what follows from them; every operation is one transaction."""

    def __init__(self, engine: Engine, premises: Premises = NOWHERE) -> None:
        super().__init__(engine)
        self._premises = premises

    def subscribe(self, wanted: Subscription, *, now: datetime) -> int:
        """Commit a subscription, and tell the state of a workitem; returns 0, or a warning (PS3.4 CC.2.3.4).

        One to all workitems covers those that are not over, and all that come; the states of the former are told where
        it locks them (PS3.4 CC.2.4.3). The warning says that what is locked is not all kept: Jobs go when the rules of
        retention say so.

        Raises
        ------
        WorkitemUnknown
            If there is no such workitem.
        """
        with self.writing() as connection:
            _begin_to_follow(connection, now=now)
            if wanted.sop_instance_uid in WELL_KNOWN:
                return self._subscribe_widely(connection, wanted, now=now)
            found = find_workitem(connection, wanted.sop_instance_uid, self._premises)
            self._add(connection, wanted, found, is_told=True, now=now)
            return ups.LOCK_NOT_GRANTED if wanted.is_locked and found.is_ours else ups.SUCCESS

    def unsubscribe(self, aet: str, sop_instance_uid: str) -> bool:
        """Commit that somebody hears no more of a workitem, or of any; returns whether it did.

        Raises
        ------
        WorkitemUnknown
            If there is no such workitem.
        """
        of_aet = subscriptions.c.aet == aet
        with self.writing() as connection:
            if sop_instance_uid in WELL_KNOWN:
                return connection.execute(delete(subscriptions).where(of_aet)).rowcount > 0
            find_workitem(connection, sop_instance_uid, self._premises)
            of_workitem = subscriptions.c.sop_instance_uid == sop_instance_uid
            return connection.execute(delete(subscriptions).where(of_aet, of_workitem)).rowcount > 0

    def suspend(self, aet: str, sop_instance_uid: str) -> bool:
        """Commit that somebody hears of no workitem that is new; returns whether it did.

        Raises
        ------
        ActionUnfit
            If it is about one workitem: then there is nothing to suspend.
        """
        if sop_instance_uid not in WELL_KNOWN:
            raise ActionUnfit("only a subscription to all workitems is suspended; unsubscribe from a single one")
        key = (subscriptions.c.aet == aet, subscriptions.c.sop_instance_uid == sop_instance_uid)
        with self.writing() as connection:
            return connection.execute(update(subscriptions).where(*key).values(is_suspended=True)).rowcount > 0

    def events_after(self, event_id: int, *, aet: str, limit: int = 100) -> tuple[WorkitemEvent, ...]:
        """Return what a subscriber is told after an event, in order."""
        of_aet = (workitem_events.c.aet == aet, workitem_events.c.event_id > event_id)
        return self._read(select(workitem_events).where(*of_aet).order_by(workitem_events.c.event_id).limit(limit))

    def newest_event(self) -> int:
        """Return the number of the newest event; 0: there is none."""
        with self.reading() as connection:
            return int(connection.execute(select(func.max(workitem_events.c.event_id))).scalar_one() or 0)

    def due_events(self, aets: Collection[str], *, now: datetime, limit: int = 100) -> tuple[WorkitemEvent, ...]:
        """Return what is to be sent to these subscribers, the oldest first."""
        is_due = (workitem_events.c.send_at <= now, workitem_events.c.aet.in_(aets))
        return self._read(select(workitem_events).where(*is_due).order_by(workitem_events.c.event_id).limit(limit))

    def record_sent(self, event_ids: Iterable[int]) -> None:
        """Commit that these need not be sent any more: their subscribers have them."""
        with self.writing() as connection:
            of_events = workitem_events.c.event_id.in_(list(event_ids))
            connection.execute(update(workitem_events).where(of_events).values(send_at=None))

    def record_lost(self, event_ids: Collection[int], *, aet: str, code: str, now: datetime) -> None:
        """Commit that a subscriber is told these no more, and an Event that says so."""
        text = f"{len(event_ids)} events of workitems did not reach {aet} ({code}); it has to look for itself"
        with self.writing() as connection:
            of_events = workitem_events.c.event_id.in_(list(event_ids))
            connection.execute(update(workitem_events).where(of_events).values(send_at=None))
            add_event(connection, at=now, kind=UNTOLD, text=text)

    def record_failed(self, event_ids: Iterable[int], *, send_at: datetime) -> None:
        """Commit that these were sent in vain, and when they are sent again."""
        with self.writing() as connection:
            of_events = workitem_events.c.event_id.in_(list(event_ids))
            values = {"send_at": send_at, "attempts": workitem_events.c.attempts + 1}
            connection.execute(update(workitem_events).where(of_events).values(values))

    def follow_jobs(self, *, now: datetime) -> int:
        """Commit what subscribers are told of Jobs that moved; returns how many lines of time lines were read."""
        with self.reading() as connection:
            if not _has_subscribers(connection) or not _next_lines(connection):
                return 0
        with self.writing() as connection:
            lines = _next_lines(connection)
            for line in lines:
                if line["kind"] in STATES and line["job_id"] is not None:
                    self._tell_job(connection, line, now=now)
            if lines:
                _move_mark(connection, lines[-1]["event_id"], now=now)
            return len(lines)

    def prune(self, *, now: datetime, keep: timedelta, keep_events: timedelta) -> None:
        """Delete workitems of others that have been over for so long and that nobody locks, and old events.

        One whose Job has gone goes too.
        """
        is_locked = exists().where(
            subscriptions.c.sop_instance_uid == workitems.c.sop_instance_uid, subscriptions.c.is_locked
        )
        is_over = workitems.c.state.in_([state.value for state in ups.FINAL])
        has_no_job = workitems.c.job_id.is_not(None) & ~exists().where(jobs.c.job_id == workitems.c.job_id)
        with self.writing() as connection:
            connection.execute(
                delete(workitems).where(workitems.c.changed_at < now - keep, (is_over & ~is_locked) | has_no_job)
            )
            connection.execute(delete(workitem_events).where(workitem_events.c.at < now - keep_events))

    def _subscribe_widely(self, connection: Connection, wanted: Subscription, *, now: datetime) -> int:
        key = {"aet": wanted.aet, "sop_instance_uid": wanted.sop_instance_uid}
        connection.execute(delete(subscriptions).filter_by(**key))
        values: dict[str, Any] = {**key, "is_locked": wanted.is_locked, "filter": json.dumps(dict(wanted.keys))}
        connection.execute(insert(subscriptions).values(**values, is_suspended=False, subscribed_at=now))
        for state in map(JobState, LIVE_STATES):
            in_state = {ups.PROCEDURE_STEP_STATE: ups.element("CS", state.value)}
            for found in list(list_candidates(connection, in_state, self._premises)):
                if found.state is state and is_match(found.attributes, wanted.keys):
                    self._add(connection, wanted, found, is_told=wanted.is_locked, now=now)
        return ups.LOCK_NOT_GRANTED if wanted.is_locked else ups.SUCCESS

    def _add(
        self, connection: Connection, wanted: Subscription, found: Workitem, *, is_told: bool, now: datetime
    ) -> None:
        add_subscription(connection, wanted.aet, found.sop_instance_uid, is_locked=wanted.is_locked, now=now)
        if is_told:
            told = describe_state(found.state, found.attributes)
            tell_one(connection, wanted.aet, found.sop_instance_uid, (ups.STATE_REPORT, told), now=now)

    def _tell_job(self, connection: Connection, line: RowMapping, *, now: datetime) -> None:
        state, uid = STATES[line["kind"]], _workitem_of(connection, line["job_id"])
        if not _is_there(connection, line["job_id"]):
            return
        found = find_workitem(connection, uid, self._premises)
        if state is JobState.SCHEDULED and uid == uid_of_job(line["job_id"]):
            # It may have moved on since.
            introduce(connection, replace(found, state=state), now=now)
            return
        announce(connection, uid, ups.STATE_REPORT, describe_state(state, found.attributes), now=now)

    def _read(self, statement: Select[Any]) -> tuple[WorkitemEvent, ...]:
        with self.reading() as connection:
            return tuple(map(_to_event, connection.execute(statement).mappings()))


def _to_event(row: RowMapping) -> WorkitemEvent:
    return WorkitemEvent(
        event_id=row["event_id"],
        aet=row["aet"],
        sop_instance_uid=row["sop_instance_uid"],
        event_type=row["event_type"],
        information=json.loads(row["information"]),
        attempts=row["attempts"],
    )


def _workitem_of(connection: Connection, job_id: JobID) -> str:
    ordered = select(workitems.c.sop_instance_uid).where(workitems.c.job_id == job_id)
    return connection.execute(ordered).scalars().first() or uid_of_job(job_id)


def _is_there(connection: Connection, job_id: JobID) -> bool:
    return connection.execute(select(jobs.c.job_id).where(jobs.c.job_id == job_id)).first() is not None


def _has_subscribers(connection: Connection) -> bool:
    return connection.execute(select(subscriptions.c.aet).limit(1)).first() is not None


def _begin_to_follow(connection: Connection, *, now: datetime) -> None:
    """Move the mark to now where nobody has listened: what happened before is nobody's news."""
    if not _has_subscribers(connection):
        _move_mark(connection, int(connection.execute(select(func.max(events.c.event_id))).scalar_one() or 0), now=now)


def _mark() -> Mapping[str, Any]:
    return {"name": TallyName.EVENTS_READ.value, "subject": OURS}


def _next_lines(connection: Connection) -> list[RowMapping]:
    mark = select(tallies.c.value).filter_by(**_mark()).scalar_subquery()
    statement = (
        select(events.c.event_id, events.c.kind, events.c.job_id)
        .where(events.c.event_id > func.coalesce(mark, 0))
        .order_by(events.c.event_id)
        .limit(READ_AT_ONCE)
    )
    return list(connection.execute(statement).mappings())


def _move_mark(connection: Connection, event_id: int, *, now: datetime) -> None:
    moved = connection.execute(update(tallies).filter_by(**_mark()).values(value=event_id, counted_at=now))
    if moved.rowcount == 0:
        add_tallies(connection, {(TallyName.EVENTS_READ, OURS): event_id}, at=now)
