"""What the ledger lists, noun by noun, page by page: Studies, Jobs, Results, Deliveries, Events."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, exists, func, select

from node.domain.job import Job, JobState
from node.domain.result import Delivery, DeliveryState, Result
from node.domain.study import Attributes, SeriesState
from node.domain.uids import StudyUID
from node.ledger.candidates import Search, study_conditions
from node.ledger.engine import Desk, Engine
from node.ledger.matching import Condition
from node.ledger.pages import USUAL, Listing, PageAsked, PageFound, Reach, Sieve, equals, read_page
from node.ledger.placement import WITH_FATE
from node.ledger.rows import to_delivery, to_job, to_result
from node.ledger.schema import (
    deliveries,
    events,
    instances,
    jobs,
    results,
    series_entries,
    studies,
    study_entries,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a time line."""

    at: datetime
    kind: str
    text: str
    study_instance_uid: str | None
    job_id: str | None
    is_alarm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLine:
    """One Result, who wrote it, and its way to each Destination."""

    result: Result
    pipeline: str
    created_at: datetime
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLine:
    """One Study in short.

    Attributes
    ----------
    attributes
        Of the Study and its patient, by keyword; empty where none of its Instances is kept any more.
    instances
        Received and kept.
    jobs
        The oldest first.
    deliveries
        How many are in each state.
    """

    study_instance_uid: StudyUID
    state: SeriesState
    reason: str
    first_instance_at: datetime
    changed_at: datetime
    attributes: Attributes
    modalities: tuple[str, ...]
    instances: int
    jobs: tuple[Job, ...]
    deliveries: Mapping[DeliveryState, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFilter:
    """Which Studies are listed; None, or nothing, asks nothing.

    Attributes
    ----------
    modality
        Of one Series at least.
    pipeline
        One Job at least is on it.
    since, until
        When the Study changed last, the first included and the second not.
    patient
        Conditions on the attributes that the catalogue keeps an index of, by keyword.
    """

    state: SeriesState | None = None
    modality: str | None = None
    pipeline: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    patient: Mapping[str, Condition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which Jobs are listed; `since` and `until` are about when they were accepted."""

    state: JobState | None = None
    pipeline: str | None = None
    study: StudyUID | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which Deliveries are listed."""

    destination: str | None = None
    state: DeliveryState | None = None
    study: StudyUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which Events are listed."""

    kind: str | None = None
    study: StudyUID | None = None
    only_alarms: bool = False


class Listings(Desk):
    """Listings, the newest first.

    Parameters
    ----------
    reach
        How much one page may cost.
    """

    def __init__(self, engine: Engine, *, reach: Reach = USUAL) -> None:
        super().__init__(engine)
        self._reach = reach

    def studies(self, wanted: StudyFilter, asked: PageAsked) -> PageFound[StudyLine]:
        """Return Studies, that which changed last first; one that changes is met again by who begins anew."""
        with self.reading() as connection:
            found = read_page(connection, _studies(connection, wanted), asked, self._reach)
            lines = _describe(connection, found.rows)
        return PageFound(rows=lines, rest=found.rest)

    def jobs(self, wanted: JobFilter, asked: PageAsked) -> PageFound[Job]:
        """Return Jobs, that which was accepted last first."""
        listing = Listing(
            rows=WITH_FATE,
            key=(jobs.c.accepted_at, jobs.c.job_id),
            bounds=_between(jobs.c.accepted_at, wanted.since, wanted.until),
            sieves=(
                *equals(jobs.c.study_instance_uid, wanted.study, is_indexed=True),
                *equals(jobs.c.state, wanted.state, is_indexed=True),
                *equals(jobs.c.pipeline, wanted.pipeline, is_indexed=True),
            ),
        )
        with self.reading() as connection:
            found = read_page(connection, listing, asked, self._reach)
        return PageFound(rows=tuple(map(to_job, found.rows)), rest=found.rest)

    def results(self, *, study: StudyUID | None, asked: PageAsked) -> PageFound[ResultLine]:
        """Return Results, that which was written last first."""
        listing = Listing(
            rows=select(results),
            key=(results.c.created_at, results.c.sop_instance_uid),
            sieves=equals(results.c.study_instance_uid, study, is_indexed=True),
        )
        with self.reading() as connection:
            found = read_page(connection, listing, asked, self._reach)
            return PageFound(rows=describe_results(connection, found.rows), rest=found.rest)

    def deliveries(self, wanted: DeliveryFilter, asked: PageAsked) -> PageFound[Delivery]:
        """Return Deliveries, that which was ordered last first."""
        listing = Listing(
            rows=select(deliveries),
            key=(deliveries.c.delivery_id,),
            sieves=(
                *equals(deliveries.c.study_instance_uid, wanted.study, is_indexed=True),
                *equals(deliveries.c.destination, wanted.destination, is_indexed=True),
                *equals(deliveries.c.state, wanted.state, is_indexed=False),
            ),
        )
        with self.reading() as connection:
            found = read_page(connection, listing, asked, self._reach)
        return PageFound(rows=tuple(map(to_delivery, found.rows)), rest=found.rest)

    def events(self, wanted: EventFilter, asked: PageAsked) -> PageFound[Event]:
        """Return what happened, the last first."""
        alarms = (Sieve(sift=events.c.is_alarm.is_(True)),) if wanted.only_alarms else ()
        listing = Listing(
            rows=select(events),
            key=(events.c.event_id,),
            sieves=(
                *equals(events.c.study_instance_uid, wanted.study, is_indexed=True),
                *equals(events.c.kind, wanted.kind, is_indexed=True),
                *alarms,
            ),
        )
        with self.reading() as connection:
            found = read_page(connection, listing, asked, self._reach)
        return PageFound(rows=tuple(map(to_event, found.rows)), rest=found.rest)


def to_event(row: RowMapping) -> Event:
    """Return the Event of a row of `events`."""
    return Event(**{name: row[name] for name in ("at", "kind", "text", "study_instance_uid", "job_id", "is_alarm")})


def describe_results(connection: Connection, rows: Sequence[RowMapping]) -> tuple[ResultLine, ...]:
    """Return each Result of rows of `results` with what stands beside it, in the caller's transaction."""
    wrote = select(jobs.c.job_id, jobs.c.pipeline).where(jobs.c.job_id.in_({row["job_id"] for row in rows}))
    pipelines = {row.job_id: row.pipeline for row in connection.execute(wrote)}
    sent = select(deliveries).where(deliveries.c.path.in_([row["path"] for row in rows]))
    sent = sent.where(deliveries.c.study_instance_uid.in_({row["study_instance_uid"] for row in rows}))
    by_path: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in map(to_delivery, connection.execute(sent.order_by(deliveries.c.delivery_id)).mappings()):
        by_path[delivery.path].append(delivery)
    return tuple(
        ResultLine(
            result=to_result(row),
            pipeline=pipelines[row["job_id"]],
            created_at=row["created_at"],
            deliveries=tuple(by_path[row["path"]]),
        )
        for row in rows
    )


def _studies(connection: Connection, wanted: StudyFilter) -> Listing:
    uid = studies.c.study_instance_uid
    sieves = [*equals(studies.c.state, wanted.state, is_indexed=True)]
    if wanted.patient:
        conditions = study_conditions(connection, Search(study=wanted.patient))
        sieves.append(_of_others(study_entries.c.study_instance_uid, conditions))
    if wanted.pipeline is not None:
        sieves.append(_of_others(jobs.c.study_instance_uid, [jobs.c.pipeline == wanted.pipeline]))
    if wanted.modality is not None:
        sieves.append(_of_others(series_entries.c.study_instance_uid, [series_entries.c.modality == wanted.modality]))
    return Listing(
        rows=select(studies),
        key=(studies.c.changed_at, uid),
        bounds=_between(studies.c.changed_at, wanted.since, wanted.until),
        sieves=tuple(sieves),
    )


def _of_others(column: Any, conditions: Sequence[ColumnElement[bool]]) -> Sieve:
    """Return that a Study has a row in another table that meets these conditions."""
    uid = studies.c.study_instance_uid
    led = select(column).where(*conditions)
    return Sieve(sift=exists().where(column == uid, *conditions), lead=uid.in_(led), led=led)


def _between(column: Any, since: datetime | None, until: datetime | None) -> tuple[ColumnElement[bool], ...]:
    after = () if since is None else (column >= since,)
    before = () if until is None else (column < until,)
    return (*after, *before)


def _describe(connection: Connection, rows: Sequence[RowMapping]) -> tuple[StudyLine, ...]:
    uids = [row["study_instance_uid"] for row in rows]
    attributes = {
        row.study_instance_uid: row.attributes
        for row in connection.execute(_of(study_entries, uids, "study_instance_uid", "attributes"))
    }
    modalities: dict[str, set[str]] = defaultdict(set)
    for row in connection.execute(_of(series_entries, uids, "study_instance_uid", "modality")):
        modalities[row.study_instance_uid].add(row.modality)
    ordered: dict[str, list[Job]] = defaultdict(list)
    of_studies = WITH_FATE.where(jobs.c.study_instance_uid.in_(uids)).order_by(jobs.c.accepted_at)
    for job in map(to_job, connection.execute(of_studies).mappings()):
        ordered[job.order.study_instance_uid].append(job)
    counts, ways = _count(connection, uids), _count_ways(connection, uids)
    kept = ("study_instance_uid", "reason", "first_instance_at", "changed_at")
    return tuple(
        StudyLine(
            **{name: row[name] for name in kept},
            state=SeriesState(row["state"]),
            attributes=attributes.get(uid, {}),
            modalities=tuple(sorted(filter(None, modalities[uid]))),
            instances=counts.get(uid, 0),
            jobs=tuple(ordered[uid]),
            deliveries=ways[uid],
        )
        for uid, row in zip(uids, rows, strict=True)
    )


def _of(table: Any, uids: Sequence[str], *names: str) -> Select[Any]:
    columns = [table.c[name] for name in names] if names else [table]
    return select(*columns).where(table.c.study_instance_uid.in_(uids))


def _count(connection: Connection, uids: Sequence[str]) -> Mapping[str, int]:
    uid = instances.c.study_instance_uid
    counted = connection.execute(select(uid, func.count()).where(uid.in_(uids)).group_by(uid))
    return {study: number for study, number in counted.all()}  # noqa: C416 dict() has no type for rows


def _count_ways(connection: Connection, uids: Sequence[str]) -> Mapping[str, Mapping[DeliveryState, int]]:
    key = deliveries.c.study_instance_uid, deliveries.c.state
    ways: dict[str, Counter[DeliveryState]] = defaultdict(Counter)
    counted = select(*key, func.count()).where(key[0].in_(uids)).group_by(*key)
    for study, state, number in connection.execute(counted).all():
        ways[study][DeliveryState(state)] = number
    return ways
