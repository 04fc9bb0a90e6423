"""What retraction asks of the ledger: take Results back at once, then hand in what tells the Destinations so."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, exists, insert, or_, select, update

from node.domain.job import Job, JobID
from node.domain.result import DeliveryState, Result, ResultKind
from node.domain.retraction import RejectionReason, Retraction, RetractionOrder
from node.domain.uids import InstanceUID
from node.errors import NotFound
from node.ledger.deliveries import RETRACTED
from node.ledger.engine import Desk
from node.ledger.results import keep_result
from node.ledger.rows import add_event, to_job, to_result
from node.ledger.schema import deliveries, jobs, results, retractions


class RetractionLedger(Desk):
    """Retractions on their way from ordered to done."""

    def order_retraction(self, sop_instance_uid: InstanceUID, order: RetractionOrder, *, now: datetime) -> Retraction:
        """Take back the Results of the Job that wrote this one, in one transaction.

        From then on none of them leaves: what was still PENDING is REFUSED with the code ``retracted``.

        Raises
        ------
        NotFound
            If no such Result stands, or a struck finding is not among the Job's.
        """
        with self.writing() as connection:
            job = _find_job(connection, sop_instance_uid)
            _require_findings(job, order.struck)
            return retract_results(connection, job, order, now=now)

    def pending_retractions(self) -> tuple[Retraction, ...]:
        """Return the orders of which the Destinations do not know yet, oldest first."""
        statement = select(retractions).where(retractions.c.done_at.is_(None)).order_by(retractions.c.ordered_at)
        with self.reading() as connection:
            return tuple(_to_retraction(row) for row in connection.execute(statement).mappings())

    def find_job(self, retraction: Retraction) -> Job:
        """Return the Job whose Results are taken back."""
        with self.reading() as connection:
            row = connection.execute(select(jobs).where(jobs.c.job_id == retraction.job_id)).mappings().one()
            return to_job(row)

    def retracted_results(self, retraction: Retraction) -> tuple[Result, ...]:
        """Return what this order took back and some Destination may hold; what stayed in the node is left out."""
        was_ordered = exists().where(deliveries.c.sop_instance_uid == results.c.sop_instance_uid)
        statement = select(results).where(
            results.c.job_id == retraction.job_id,
            results.c.retracted_at == retraction.ordered_at,
            or_(was_ordered, results.c.is_substitute.is_(False)),
        )
        with self.reading() as connection:
            return tuple(to_result(row) for row in connection.execute(statement.order_by(results.c.kind)).mappings())

    def finish_retraction(self, retraction: Retraction, written: Sequence[Result], *, now: datetime) -> None:
        """Commit rejection note and corrected Results with their Deliveries, once however often it is called."""
        with self.writing() as connection:
            changed = connection.execute(
                update(retractions)
                .where(retractions.c.retraction_id == retraction.retraction_id, retractions.c.done_at.is_(None))
                .values(done_at=now)
            )
            if changed.rowcount == 0:
                return
            job = to_job(connection.execute(select(jobs).where(jobs.c.job_id == retraction.job_id)).mappings().one())
            for result in written:
                keep_result(connection, result, job.order.deliver_to, now=now)
            kinds = ", ".join(result.kind.value for result in written)
            _tell(connection, job, now=now, kind="retraction-done", text=f"written for it: {kinds}")


def retract_results(connection: Connection, job: Job, order: RetractionOrder, *, now: datetime) -> Retraction:
    """Take back every standing Result of `job` in the caller's transaction."""
    standing = (
        (results.c.job_id == job.job_id)
        & results.c.retracted_at.is_(None)
        & (results.c.kind != ResultKind.REJECTION_NOTE.value)
    )
    uids = connection.execute(select(results.c.sop_instance_uid).where(standing)).scalars().all()
    connection.execute(update(results).where(standing).values(retracted_at=now))
    connection.execute(
        update(deliveries)
        .where(deliveries.c.sop_instance_uid.in_(uids), deliveries.c.state == DeliveryState.PENDING.value)
        .values(
            state=DeliveryState.REFUSED.value,
            reason_code=RETRACTED,
            reason_text="the Result was taken back before it left",
            changed_at=now,
        )
    )
    retraction = Retraction(
        retraction_id=str(uuid.uuid4()), job_id=job.job_id, order=order, ordered_at=now, done_at=None
    )
    connection.execute(insert(retractions).values(**_to_row(retraction)))
    struck = f"; struck: {', '.join(order.struck)}" if order.struck else ""
    text = f"{len(uids)} Results by {order.ordered_by}, reason {order.reason.value}{struck}"
    _tell(connection, job, now=now, kind="results-retracted", text=text)
    return retraction


def _find_job(connection: Connection, sop_instance_uid: InstanceUID) -> Job:
    found = connection.execute(
        select(jobs, results.c.retracted_at)
        .join(results, results.c.job_id == jobs.c.job_id)
        .where(results.c.sop_instance_uid == sop_instance_uid)
    ).mappings()
    row = found.first()
    if row is None:
        raise NotFound(f"result {sop_instance_uid} is not in the ledger; see `radnode results list`")
    if row["retracted_at"] is not None:
        raise NotFound(f"result {sop_instance_uid} was retracted at {row['retracted_at']:%Y-%m-%d %H:%M} UTC already")
    return to_job(row)


def _require_findings(job: Job, struck: Sequence[str]) -> None:
    labels = [str(finding["label"]) for finding in job.findings]
    unknown = [label for label in struck if label not in labels]
    if unknown:
        known = ", ".join(labels) or "none"
        raise NotFound(f"job {job.job_id} has no finding {', '.join(unknown)}; its findings: {known}")


def _to_row(retraction: Retraction) -> dict[str, object]:
    order = retraction.order
    return {
        "retraction_id": retraction.retraction_id,
        "job_id": retraction.job_id,
        "reason": order.reason.value,
        "comment": order.comment,
        "struck": list(order.struck),
        "ordered_by": order.ordered_by,
        "ordered_at": retraction.ordered_at,
    }


def _to_retraction(row: RowMapping) -> Retraction:
    order = RetractionOrder(
        reason=RejectionReason(row["reason"]),
        comment=row["comment"],
        struck=tuple(row["struck"]),
        ordered_by=row["ordered_by"],
    )
    return Retraction(
        retraction_id=row["retraction_id"],
        job_id=JobID(row["job_id"]),
        order=order,
        ordered_at=row["ordered_at"],
        done_at=row["done_at"],
    )


def _tell(connection: Connection, job: Job, *, now: datetime, kind: str, text: str) -> None:
    uid = job.order.study_instance_uid
    add_event(connection, at=now, kind=kind, text=text, study_instance_uid=uid, job_id=job.job_id)
