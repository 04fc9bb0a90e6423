"""Workitems of others that ask for one of our Pipelines, and become Jobs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update

from node.domain import workitem as ups
from node.domain.job import JobOrder, JobState, Priority
from node.domain.study import SeriesState
from node.domain.uids import SeriesUID, StudyUID
from node.domain.workitem import element, moment
from node.ledger.engine import Desk, Engine
from node.ledger.job_workitems import code_of
from node.ledger.schema import studies, workitems
from node.ledger.studies import add_job
from node.ledger.switches import are_outdated
from node.ledger.workitem_news import announce, describe_state
from node.ledger.workitem_rows import load

PRIORITIES: Mapping[str, Priority] = {"HIGH": Priority.HIGH, "MEDIUM": Priority.ROUTINE, "LOW": Priority.LOW}
ORDERS_A_TICK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOrder:
    """One workitem that asks for a Pipeline.

    Attributes
    ----------
    series_instance_uids
        The Series that its Input Information (0040,4021) names; none: the whole Study.
    ordered_by
        Who created it.
    """

    sop_instance_uid: str
    study_instance_uid: StudyUID
    series_instance_uids: frozenset[SeriesUID]
    pipeline: str
    priority: Priority
    ordered_by: str


class WorkOrderLedger(Desk):
    """Orders by workitem."""

    def __init__(self, engine: Engine, *, rejects_superseded: bool = False) -> None:
        super().__init__(engine)
        self._rejects_superseded = rejects_superseded

    def waiting_orders(self) -> tuple[WorkOrder, ...]:
        """Return orders whose Study is here and complete, the oldest first."""
        statement = (
            select(workitems)
            .join(studies, studies.c.study_instance_uid == workitems.c.study_instance_uid)
            .where(
                workitems.c.state == JobState.SCHEDULED.value,
                workitems.c.pipeline.is_not(None),
                workitems.c.job_id.is_(None),
                studies.c.state == SeriesState.ROUTED.value,
            )
            .order_by(workitems.c.workitem_id)
            .limit(ORDERS_A_TICK)
        )
        found = []
        with self.reading() as connection:
            for row in connection.execute(statement).mappings():
                attributes = load(row)
                items = ups.items_of(attributes, ups.INPUT_INFORMATION)
                named = {ups.text_of(item, ups.SERIES_INSTANCE_UID) for item in items} - {""}
                found.append(
                    WorkOrder(
                        sop_instance_uid=row["sop_instance_uid"],
                        study_instance_uid=StudyUID(row["study_instance_uid"]),
                        series_instance_uids=frozenset(map(SeriesUID, named)),
                        pipeline=row["pipeline"],
                        priority=PRIORITIES.get(ups.text_of(attributes, ups.PRIORITY), Priority.ROUTINE),
                        ordered_by=row["created_by"],
                    )
                )
        return tuple(found)

    def take_order(self, work: WorkOrder, order: JobOrder, *, revision: int, now: datetime) -> bool:
        """Commit the Job that a workitem asks for, or that answers the same already; return whether it did.

        Parameters
        ----------
        revision
            That of the Study when `order` was made; nothing is written where it has changed.
        """
        of_study = studies.c.study_instance_uid == work.study_instance_uid
        is_unchanged = (studies.c.state == SeriesState.ROUTED.value, studies.c.revision == revision)
        this = (
            workitems.c.sop_instance_uid == work.sop_instance_uid,
            workitems.c.state == JobState.SCHEDULED.value,
        )
        with self.writing() as connection:
            if are_outdated(connection, [order]):
                return False
            if connection.execute(select(studies.c.revision).where(of_study, *is_unchanged)).first() is None:
                return False
            if connection.execute(select(workitems.c.workitem_id).where(*this)).first() is None:
                return False
            job_id = add_job(connection, order, rejects_superseded=self._rejects_superseded, now=now, is_wished=True)
            connection.execute(update(workitems).where(*this).values(job_id=job_id, changed_at=now))
            return True

    def refuse_order(self, work: WorkOrder, *, code: str, reason: str, now: datetime) -> None:
        """Commit CANCELED for a workitem that asks for what cannot be done."""
        of_workitem = workitems.c.sop_instance_uid == work.sop_instance_uid
        with self.writing() as connection:
            statement = select(workitems).where(of_workitem, workitems.c.state == JobState.SCHEDULED.value)
            row = connection.execute(statement).mappings().one_or_none()
            if row is None:
                return
            why = {
                ups.CANCELLATION_AT: element("DT", moment(now)),
                ups.DISCONTINUATION_CODE: element("SQ", code_of(code)),
                ups.REASON_FOR_CANCELLATION: element("LT", reason),
            }
            attributes = {**load(row), ups.PROGRESS_INFORMATION: element("SQ", why)}
            values = {"state": JobState.CANCELED.value, "attributes": json.dumps(attributes), "changed_at": now}
            connection.execute(update(workitems).where(of_workitem).values(**values))
            told = describe_state(JobState.CANCELED, attributes)
            announce(connection, work.sop_instance_uid, ups.STATE_REPORT, told, now=now)
