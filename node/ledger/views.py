"""The ledger as people and programs read it: Studies, Jobs, Deliveries, time lines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from node.domain.completeness import Statement
from node.domain.decision import Decision
from node.domain.imaging_order import KeptOrder
from node.domain.job import LIVE_STATES, Job, JobID, JobState
from node.domain.result import Delivery, DeliveryState, Result
from node.domain.uids import InstanceUID, StudyUID
from node.errors import NotFound
from node.ledger.engine import Desk, Engine
from node.ledger.expectations import read_statements
from node.ledger.imaging_orders import orders_of
from node.ledger.listings import (
    DeliveryFilter,
    Event,
    EventFilter,
    JobFilter,
    Listings,
    ResultLine,
    describe_results,
    to_event,
)
from node.ledger.pages import USUAL, PageAsked, PageFound, Reach, Row
from node.ledger.placement import WITH_FATE
from node.ledger.rows import to_decision, to_delivery, to_job, to_result
from node.ledger.schema import decisions, deliveries, events, instances, jobs, results, series, studies

__all__ = ["Event", "LedgerView", "ResultLine", "SeriesLine", "StudyStory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesLine:
    """One Series of a Study, in short."""

    series_instance_uid: str
    state: str
    reason: str
    instances: int
    modality: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStory:
    """Everything that happened to one Study.

    Attributes
    ----------
    statements
        What is known of how much of it should have come.
    orders
        What RIS and HIS asked for.
    """

    study_instance_uid: StudyUID
    state: str
    reason: str
    first_instance_at: datetime
    series: tuple[SeriesLine, ...]
    decisions: tuple[Decision, ...]
    jobs: tuple[Job, ...]
    results: tuple[Result, ...]
    deliveries: tuple[Delivery, ...]
    events: tuple[Event, ...]
    statements: tuple[Statement, ...] = ()
    orders: tuple[KeptOrder, ...] = ()

    @property
    def is_finished(self) -> bool:
        """True when nothing will change any more without a new Instance or a person."""
        waiting = any(job.state in LIVE_STATES for job in self.jobs)
        pending = any(delivery.state is DeliveryState.PENDING for delivery in self.deliveries)
        return self.state in {"ROUTED", "PURGED"} and not waiting and not pending


class LedgerView(Desk):
    """Read-only questions; what is listed is the beginning of `node.ledger.listings`.

    Parameters
    ----------
    reach
        How much one page of a listing may cost.
    """

    def __init__(self, engine: Engine, *, reach: Reach = USUAL) -> None:
        super().__init__(engine)
        self._listings = Listings(engine, reach=reach)

    def list_studies(self, limit: int) -> tuple[StudyStory, ...]:
        """Return the Studies that changed last, newest first."""
        statement = select(studies.c.study_instance_uid).order_by(studies.c.changed_at.desc()).limit(limit)
        with self.reading() as connection:
            uids = connection.execute(statement).scalars().all()
        return tuple(self.study_story(StudyUID(uid)) for uid in uids)

    def study_story(self, study_instance_uid: StudyUID) -> StudyStory:
        """Return the story of one Study.

        Raises
        ------
        NotFound
            If the Study is unknown.
        """
        uid = study_instance_uid
        with self.reading() as connection:
            study = connection.execute(select(studies).where(studies.c.study_instance_uid == uid)).mappings().first()
            if study is None:
                raise NotFound(f"study {uid} is not in the ledger; see `radnode studies list`")

            def rows(statement: Select[Any]) -> Sequence[Any]:
                return connection.execute(statement).mappings().all()

            asked = (decisions.c.study_instance_uid == uid, decisions.c.revision == study["revision"])
            ordered = WITH_FATE.where(jobs.c.study_instance_uid == uid)
            return StudyStory(
                study_instance_uid=uid,
                state=study["state"],
                reason=study["reason"],
                first_instance_at=study["first_instance_at"],
                series=tuple(SeriesLine(**row) for row in rows(_series_lines(uid))),
                decisions=tuple(
                    map(to_decision, rows(select(decisions).where(*asked).order_by(decisions.c.decision_id)))
                ),
                jobs=tuple(map(to_job, rows(ordered.order_by(jobs.c.accepted_at, jobs.c.pipeline)))),
                results=tuple(map(to_result, rows(_of_study(results, uid).order_by(results.c.kind)))),
                deliveries=tuple(map(to_delivery, rows(_of_study(deliveries, uid).order_by(deliveries.c.delivery_id)))),
                events=tuple(map(to_event, rows(_of_study(events, uid).order_by(events.c.event_id)))),
                statements=read_statements(connection, uid),
                orders=orders_of(connection, uid),
            )

    def patient_id(self, study_instance_uid: StudyUID) -> str:
        """Return the Patient ID (0010,0020) of a Study, for the audit trail only; empty when none is known."""
        patient_id = func.min(instances.c.attributes["PatientID"].as_string())
        statement = select(func.coalesce(patient_id, "")).where(instances.c.study_instance_uid == study_instance_uid)
        with self.reading() as connection:
            found: str = connection.execute(statement).scalar_one()
            return found

    def list_jobs(self, *, state: JobState | None, limit: int) -> tuple[Job, ...]:
        """Return Jobs, newest first."""
        return _first(limit, lambda asked: self._listings.jobs(JobFilter(state=state), asked))

    def find_job(self, job_id: JobID) -> Job:
        """Return one Job.

        Raises
        ------
        NotFound
            If the Job is unknown.
        """
        with self.reading() as connection:
            row = connection.execute(WITH_FATE.where(jobs.c.job_id == job_id)).mappings().first()
        if row is None:
            raise NotFound(f"job {job_id} is not in the ledger; see `radnode jobs list`")
        return to_job(row)

    def job_events(self, job: Job) -> tuple[Event, ...]:
        """Return the time line of one Job, and of its Results on their way."""
        statement = _of_study(events, job.order.study_instance_uid).order_by(events.c.event_id)
        with self.reading() as connection:
            told = map(to_event, connection.execute(statement).mappings())
            return tuple(event for event in told if event.job_id == job.job_id)

    def list_deliveries(
        self, *, destination: str | None, state: DeliveryState | None, limit: int
    ) -> tuple[Delivery, ...]:
        """Return Deliveries, newest first."""
        wanted = DeliveryFilter(destination=destination, state=state)
        return _first(limit, lambda asked: self._listings.deliveries(wanted, asked))

    def list_results(self, *, study: StudyUID | None, limit: int) -> tuple[ResultLine, ...]:
        """Return Results, newest first; of one Study where it is named."""
        return _first(limit, lambda asked: self._listings.results(study=study, asked=asked))

    def find_result(self, sop_instance_uid: InstanceUID) -> ResultLine:
        """Return one Result.

        Raises
        ------
        NotFound
            If the Result is unknown.
        """
        statement = select(results).where(results.c.sop_instance_uid == sop_instance_uid)
        with self.reading() as connection:
            found = describe_results(connection, connection.execute(statement).mappings().all())
        if not found:
            raise NotFound(f"result {sop_instance_uid} is not in the ledger; see `radnode results list`")
        return found[0]

    def list_events(self, limit: int) -> tuple[Event, ...]:
        """Return the last events of the node, newest first."""
        return self._listings.events(EventFilter(), PageAsked(limit=limit)).rows


def _first(limit: int, read: Callable[[PageAsked], PageFound[Row]]) -> tuple[Row, ...]:
    """Return the first rows of a listing, however many pages are short before there are so many."""
    found = read(PageAsked(limit=limit))
    rows = found.rows
    while found.rest is not None and len(rows) < limit:
        found = read(PageAsked(limit=limit - len(rows), behind=found.rest))
        rows += found.rows
    return rows


def _of_study(table: Any, uid: StudyUID) -> Select[Any]:
    return select(table).where(table.c.study_instance_uid == uid)


def _series_lines(uid: StudyUID) -> Select[Any]:
    modality = func.min(instances.c.attributes["Modality"].as_string())
    description = func.min(instances.c.attributes["SeriesDescription"].as_string())
    return (
        select(
            series.c.series_instance_uid,
            series.c.state,
            series.c.reason,
            func.count(instances.c.sop_instance_uid).label("instances"),
            func.coalesce(modality, "").label("modality"),
            func.coalesce(description, "").label("description"),
        )
        .join(
            instances,
            (instances.c.study_instance_uid == series.c.study_instance_uid)
            & (instances.c.series_instance_uid == series.c.series_instance_uid),
        )
        .where(series.c.study_instance_uid == uid)
        .group_by(series.c.series_instance_uid, series.c.state, series.c.reason)
        .order_by(series.c.series_instance_uid)
    )
