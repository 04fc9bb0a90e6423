"""What a collector of traces is told: the stages that ended, each read once, however often the node starts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, RowMapping, Select, func, select, update

from node.domain.span import Span
from node.ledger.engine import Desk
from node.ledger.schema import deliveries, events, instances, jobs, tallies
from node.ledger.spans import ENDINGS, TimeLine, make_spans
from node.ledger.tallies import TallyName, add_tallies

READ_AT_ONCE = 200
# What a collector did not take for so long is not told any more.
KEPT = timedelta(days=1)
MARK = (tallies.c.name == TallyName.TRACES_READ, tallies.c.subject == "")
COLUMNS = (
    events.c.event_id, events.c.at, events.c.kind, events.c.text, events.c.study_instance_uid, events.c.job_id,
)  # fmt: skip
JOB_COLUMNS = (
    jobs.c.job_id, jobs.c.pipeline, jobs.c.model, jobs.c.model_version, jobs.c.attempts, jobs.c.reason_code,
    jobs.c.seconds, jobs.c.study_instance_uid,
)  # fmt: skip
DELIVERY_COLUMNS = (
    deliveries.c.study_instance_uid, deliveries.c.sop_instance_uid, deliveries.c.sop_class_uid,
    deliveries.c.destination, deliveries.c.attempts, deliveries.c.created_at, deliveries.c.reason_code,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """Spans that nobody was told of.

    Attributes
    ----------
    read_to
        Event ID to commit by `record_told` when they were taken; None: there is nothing new.
    is_full
        There may be more.
    """

    spans: tuple[Span, ...]
    read_to: int | None
    is_full: bool = False


class TraceLedger(Desk):
    """Stages that ended, as spans, and how far a collector was told of them."""

    def next_harvest(self, now: datetime) -> Harvest:
        """Return the next spans, in the order in which they ended; the first call begins with what comes after it."""
        with self.reading() as connection:
            mark = connection.execute(select(tallies.c.value).where(*MARK)).scalar_one_or_none()
            if mark is None:
                newest = connection.execute(select(func.max(events.c.event_id))).scalar_one()
                return Harvest(spans=(), read_to=newest or 0)
            told = _events_after(connection, mark)
            if not told:
                return Harvest(spans=(), read_to=None)
            ended = [event for event in told if _is_told(event, now)]
            lines = _read_lines(connection, ended)
        spans = tuple(span for event in ended for span in make_spans(lines[event["study_instance_uid"]], event))
        return Harvest(spans=spans, read_to=told[-1]["event_id"], is_full=len(told) == READ_AT_ONCE)

    def record_told(self, read_to: int, *, now: datetime) -> None:
        """Commit that everything up to an Event was told; the mark never goes back to what another node told before."""
        with self.writing() as connection:
            mark = connection.execute(select(tallies.c.value).where(*MARK)).scalar_one_or_none()
            if mark is None:
                add_tallies(connection, {(TallyName.TRACES_READ, ""): read_to}, at=now)
            elif mark < read_to:
                connection.execute(update(tallies).where(*MARK).values(value=read_to, counted_at=now))


def _is_told(event: RowMapping, now: datetime) -> bool:
    return event["kind"] in ENDINGS and event["study_instance_uid"] is not None and event["at"] > now - KEPT


def _events_after(connection: Connection, mark: int) -> Sequence[RowMapping]:
    newer = select(*COLUMNS).where(events.c.event_id > mark).order_by(events.c.event_id).limit(READ_AT_ONCE)
    return connection.execute(newer).mappings().all()


def _read_lines(connection: Connection, ended: Sequence[RowMapping]) -> Mapping[str, TimeLine]:
    uids = {event["study_instance_uid"] for event in ended}
    # By Study alone: a database that is told the kinds too may well read every Event of those kinds.
    of_studies = select(*COLUMNS).where(events.c.study_instance_uid.in_(uids)).order_by(events.c.event_id)
    lines = _by_study(connection.execute(of_studies).mappings())
    worked = _by_study(connection.execute(_of(JOB_COLUMNS, jobs.c.study_instance_uid, uids)).mappings())
    given = _by_study(connection.execute(_of(DELIVERY_COLUMNS, deliveries.c.study_instance_uid, uids)).mappings())
    received = {
        event["event_id"]: at
        for event in ended
        if event["kind"] == "study-settled" and (at := _last_received(connection, event)) is not None
    }
    return {
        uid: TimeLine(
            uid,
            events=lines.get(uid, ()),
            jobs=worked.get(uid, ()),
            deliveries=given.get(uid, ()),
            last_received=received,
        )
        for uid in uids
    }


def _of(columns: Sequence[Column[Any]], study: Column[Any], uids: Collection[str]) -> Select[Any]:
    return select(*columns).where(study.in_(uids))


def _by_study(rows: Iterable[RowMapping]) -> Mapping[str, Sequence[RowMapping]]:
    found: dict[str, list[RowMapping]] = {}
    for row in rows:
        found.setdefault(row["study_instance_uid"], []).append(row)
    return found


def _last_received(connection: Connection, settled: RowMapping) -> datetime | None:
    last = func.max(instances.c.received_at, type_=instances.c.received_at.type)
    of_study = instances.c.study_instance_uid == settled["study_instance_uid"]
    found: datetime | None = connection.execute(
        select(last).where(of_study, instances.c.received_at <= settled["at"])
    ).scalar_one()
    return found
