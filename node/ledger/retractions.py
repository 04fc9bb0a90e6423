"""What retraction asks of the ledger: take Results back at once, then hand in what tells the Destinations so."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Column, ColumnElement, Connection, RowMapping, exists, insert, or_, select, update

from node.domain.job import Job, JobID, JobState
from node.domain.result import DeliveryState, Result, ResultKind
from node.domain.retraction import RejectionReason, Retraction, RetractionOrder
from node.domain.uids import InstanceUID, StudyUID
from node.errors import NotFound
from node.ledger.catalogue import strike_empty
from node.ledger.deliveries import RETRACTED
from node.ledger.engine import Desk
from node.ledger.results import keep_result
from node.ledger.rows import add_alarm, to_job, to_result
from node.ledger.schema import deliveries, jobs, results, retractions
from node.ledger.transitions import tell


class RetractionLedger(Desk):
    """Retractions on their way from ordered to done."""

    def order_retraction(self, sop_instance_uid: InstanceUID, order: RetractionOrder, *, now: datetime) -> Retraction:
        """Take back the Results of the Job that wrote this one, in one transaction.

        From then on none of them leaves: what was still PENDING is REFUSED with the code ``retracted``.

        Raises
        ------
        NotFound
            If no such Result stands, it is a rejection note, or a struck finding is not among the Job's.
        """
        with self.writing() as connection:
            job = _find_job(connection, sop_instance_uid)
            _require_findings(job, order.struck, gone=_struck_labels(connection, job.job_id))
            return retract_results(connection, job, order, now=now)

    def pending_retractions(self) -> tuple[Retraction, ...]:
        """Return the orders of which the Destinations do not know yet, oldest first."""
        statement = select(retractions).where(retractions.c.done_at.is_(None)).order_by(retractions.c.ordered_at)
        with self.reading() as connection:
            return tuple(_to_retraction(row) for row in connection.execute(statement).mappings())

    def find_job(self, retraction: Retraction) -> Job:
        """Return the Job whose Results are taken back."""
        with self.reading() as connection:
            return _job_of(connection, retraction)

    def labels_struck_before(self, retraction: Retraction) -> tuple[str, ...]:
        """Return the labels of findings that earlier retractions of the same Job struck."""
        with self.reading() as connection:
            return _struck_labels(connection, retraction.job_id, before=retraction.ordered_at)

    def struck_labels(self, job_id: JobID) -> frozenset[str]:
        """Return the labels of findings of a Job that persons have struck."""
        with self.reading() as connection:
            return frozenset(_struck_labels(connection, job_id))

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

    def record_note(self, retraction: Retraction, note: Result, *, now: datetime) -> None:
        """Commit the rejection note with its Deliveries, once however often it is called."""
        with self.writing() as connection:
            if _mark(connection, retraction, retractions.c.noted_at, now=now):
                job = _job_of(connection, retraction)
                keep_result(connection, note, job.order, now=now)
                tell(connection, job, now=now, kind="rejection-noted", text=f"rejection note {note.sop_instance_uid}")

    def finish_retraction(self, retraction: Retraction, corrected: Sequence[Result], *, now: datetime) -> None:
        """Commit the corrected Results, if any, with their Deliveries, once however often it is called.

        A correction of an answer that a newer one has replaced meanwhile would come too late: it is left out.
        """
        with self.writing() as connection:
            if _mark(connection, retraction, retractions.c.done_at, now=now):
                job = _job_of(connection, retraction)
                written = () if _is_replaced(connection, job) else corrected
                for result in written:
                    keep_result(connection, result, job.order, now=now)
                kinds = ", ".join(result.kind.value for result in written) or "nothing takes their place"
                tell(connection, job, now=now, kind="retraction-done", text=f"corrected Results: {kinds}")

    def record_failure(self, retraction: Retraction, *, reason: tuple[str, str], now: datetime) -> None:
        """Commit why an attempt failed, with an alarm the first time for each reason; the order stays pending."""
        code, text = reason
        with self.writing() as connection:
            changed = connection.execute(
                update(retractions)
                .where(
                    retractions.c.retraction_id == retraction.retraction_id,
                    retractions.c.reason_code.is_distinct_from(code),
                )
                .values(reason_code=code)
            )
            if changed.rowcount:
                job = _job_of(connection, retraction)
                add_alarm(
                    connection,
                    at=now,
                    kind="retraction-failed",
                    text=f"{code}: {text}",
                    study_instance_uid=job.order.study_instance_uid,
                    job_id=job.job_id,
                )


def retract_results(connection: Connection, job: Job, order: RetractionOrder, *, now: datetime) -> Retraction:
    """Take back every standing Result of `job` in the caller's transaction; there must be one."""
    count = withdraw(connection, job.job_id, job.order.study_instance_uid, ordered_at=now, now=now)
    retraction = Retraction(retraction_id=str(uuid.uuid4()), job_id=job.job_id, order=order, ordered_at=now)
    connection.execute(insert(retractions).values(**_to_row(retraction)))
    struck = f"; struck: {', '.join(order.struck)}" if order.struck else ""
    text = f"{count} Results by {order.ordered_by}, reason {order.reason.value}{struck}"
    tell(connection, job, now=now, kind="results-retracted", text=text)
    return retraction


def withdraw(
    connection: Connection, job_id: JobID, study_instance_uid: StudyUID, *, ordered_at: datetime, now: datetime
) -> int:
    """Take back every standing Result of a Job, and what of it waits to leave, and return how many they are."""
    standing = _standing(job_id)
    uids = connection.execute(select(results.c.sop_instance_uid).where(standing)).scalars().all()
    connection.execute(update(results).where(standing).values(retracted_at=ordered_at))
    strike_empty(connection, study_instance_uid)
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
    return len(uids)


def retract_superseded(connection: Connection, job_id: JobID, *, now: datetime) -> None:
    """Take back what a Job wrote whose place a newer answer has taken, if any of it stands, in the transaction."""
    if not connection.execute(select(exists().where(_standing(job_id)))).scalar_one():
        return
    order = RetractionOrder(
        reason=RejectionReason.QUALITY, comment="A newer answer replaces this one.", struck=(), ordered_by="radnode"
    )
    predecessor = to_job(connection.execute(select(jobs).where(jobs.c.job_id == job_id)).mappings().one())
    retract_results(connection, predecessor, order, now=now)


def _standing(job_id: JobID) -> ColumnElement[bool]:
    is_note = results.c.kind == ResultKind.REJECTION_NOTE.value
    return (results.c.job_id == job_id) & results.c.retracted_at.is_(None) & results.c.purged_at.is_(None) & ~is_note


def _mark(connection: Connection, retraction: Retraction, column: Column[datetime], *, now: datetime) -> bool:
    """Set a time that is set once; return whether it was this call that set it."""
    same = retractions.c.retraction_id == retraction.retraction_id
    changed = connection.execute(update(retractions).where(same, column.is_(None)).values({column: now}))
    return bool(changed.rowcount)


def _job_of(connection: Connection, retraction: Retraction) -> Job:
    return to_job(connection.execute(select(jobs).where(jobs.c.job_id == retraction.job_id)).mappings().one())


def _is_replaced(connection: Connection, job: Job) -> bool:
    # What is in shadow takes the place of nothing that went out.
    is_newer = jobs.c.supersedes == job.job_id, jobs.c.state == JobState.COMPLETED.value, ~jobs.c.is_shadow
    newer = exists().where(*is_newer)
    return bool(connection.execute(select(newer)).scalar_one())


def _find_job(connection: Connection, sop_instance_uid: InstanceUID) -> Job:
    found = connection.execute(
        select(jobs, results.c.retracted_at, results.c.purged_at, results.c.kind)
        .join(results, results.c.job_id == jobs.c.job_id)
        .where(results.c.sop_instance_uid == sop_instance_uid)
    ).mappings()
    row = found.first()
    if row is None:
        raise NotFound(f"result {sop_instance_uid} is not in the ledger; see `radnode results list`")
    if row["kind"] == ResultKind.REJECTION_NOTE.value:
        raise NotFound(f"result {sop_instance_uid} is a rejection note, which stands; name what it did not reject")
    if row["purged_at"] is not None:
        raise NotFound(
            f"result {sop_instance_uid} was purged at {row['purged_at']:%Y-%m-%d %H:%M} UTC; reject it at Destinations"
        )
    if row["retracted_at"] is not None:
        raise NotFound(f"result {sop_instance_uid} was retracted at {row['retracted_at']:%Y-%m-%d %H:%M} UTC already")
    return to_job(row)


def _struck_labels(connection: Connection, job_id: JobID, *, before: datetime | None = None) -> tuple[str, ...]:
    statement = select(retractions.c.struck).where(retractions.c.job_id == job_id)
    if before is not None:
        statement = statement.where(retractions.c.ordered_at < before)
    return tuple(label for labels in connection.execute(statement).scalars() for label in labels)


def _require_findings(job: Job, struck: Sequence[str], *, gone: Sequence[str]) -> None:
    labels = [str(finding["label"]) for finding in job.findings if finding["label"] not in gone]
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
        noted_at=row["noted_at"],
        done_at=row["done_at"],
        reason_code=row["reason_code"],
    )
