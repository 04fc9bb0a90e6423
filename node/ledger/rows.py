"""Between rows and nouns: the only place that knows both."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert

from node.domain.decision import Clause, Decision, Outcome
from node.domain.job import Job, JobID, JobOrder, JobState, Priority
from node.domain.result import Delivery, DeliveryState, Result, ResultKind
from node.domain.study import Comparison, InstanceFacts
from node.domain.uids import SeriesUID, StudyUID
from node.domain.work import list_parts, sum_stages
from node.ledger.placement import UNMOVED, is_given_up, touch
from node.ledger.schema import events


def to_instance(row: RowMapping) -> InstanceFacts:
    """Return the Instance of a row of `instances`."""
    kept = dict(row)
    says = kept.pop("says")
    return InstanceFacts(**kept, comparison=None if says is None else Comparison(says=says))


def to_job(row: RowMapping) -> Job:
    """Return the Job of a row of `jobs`; only of one of `WITH_FATE` it is known whether its findings were given up."""
    order = JobOrder(
        study_instance_uid=StudyUID(row["study_instance_uid"]),
        pipeline=row["pipeline"],
        model=row["model"],
        model_version=row["model_version"],
        rule=row["rule"],
        priority=Priority(row["priority"]),
        inputs={role: SeriesUID(uid) for role, uid in row["inputs"].items()},
        content=row["content"],
        deliver_to=tuple(row["deliver_to"]),
        is_shadow=row["is_shadow"],
        prior_study_instance_uid=StudyUID(row["prior_study_instance_uid"]) if row["prior_study_instance_uid"] else None,
    )
    kept = (
        "accepted_at", "attempts", "fence", "lease_owner", "lease_expires_at", "not_before", "reason_code",
        "reason_text", "threshold", "model_sha256", "finished_at", "outdated_at",
    )  # fmt: skip
    return Job(
        job_id=JobID(row["job_id"]),
        order=order,
        state=JobState(row["state"]),
        findings=tuple(row["findings"]),
        notes=tuple(row["notes"]),
        seconds=sum_stages(row["seconds"]),
        stages=list_parts(row["seconds"]),
        supersedes=None if row["supersedes"] is None else JobID(row["supersedes"]),
        is_given_up=is_given_up(row),
        **{name: row[name] for name in kept},
    )


def from_order(order: JobOrder) -> dict[str, Any]:
    """Return `order` as columns of `jobs`."""
    return {
        "study_instance_uid": order.study_instance_uid,
        "pipeline": order.pipeline,
        "model": order.model,
        "model_version": order.model_version,
        "content": order.content,
        "rule": order.rule,
        "priority": int(order.priority),
        "inputs": dict(order.inputs),
        "deliver_to": list(order.deliver_to),
        "is_shadow": order.is_shadow,
        "prior_study_instance_uid": order.prior_study_instance_uid,
    }


def to_result(row: RowMapping) -> Result:
    """Return the Result of a row of `results`."""
    fields = {key: value for key, value in row.items() if key not in {"created_at", "kind"}}
    return Result(kind=ResultKind(row["kind"]), **fields)


def to_delivery(row: RowMapping) -> Delivery:
    """Return the Delivery of a row of `deliveries`."""
    fields = {key: value for key, value in row.items() if key not in {"created_at", "changed_at", "state"}}
    return Delivery(state=DeliveryState(row["state"]), ordered_at=row["created_at"], **fields)


def to_decision(row: RowMapping) -> Decision:
    """Return the Decision of a row of `decisions`."""
    return Decision(
        study_instance_uid=StudyUID(row["study_instance_uid"]),
        rule=row["rule"],
        outcome=Outcome(row["outcome"]),
        clause=row["clause"],
        found=row["found"],
        reason=row["reason"],
        inputs={role: SeriesUID(uid) for role, uid in row["inputs"].items()},
        trace=tuple(to_clause(entry) for entry in row["trace"]),
    )


def to_clause(entry: dict[str, Any]) -> Clause:
    """Return the Clause that `from_clause` wrote."""
    uid = entry["series_instance_uid"]
    return Clause(
        text=entry["text"],
        outcome=Outcome(entry["outcome"]),
        found=entry["found"],
        series_instance_uid=None if uid is None else SeriesUID(uid),
    )


def from_clause(clause: Clause) -> dict[str, Any]:
    """Return `clause` as JSON."""
    return {
        "text": clause.text,
        "outcome": clause.outcome.value,
        "found": clause.found,
        "series_instance_uid": clause.series_instance_uid,
    }


def add_event(
    connection: Connection,
    *,
    at: datetime,
    kind: str,
    text: str,
    study_instance_uid: StudyUID | None = None,
    job_id: JobID | None = None,
) -> None:
    """Write one line of the time line, in the caller's transaction.

    Parameters
    ----------
    kind
        Constant, kebab-case: ``study-settled``.
    text
        One sentence for people; no patient values.
    """
    values = {"at": at, "kind": kind, "text": text, "study_instance_uid": study_instance_uid, "job_id": job_id}
    connection.execute(insert(events).values(**values))
    if study_instance_uid is not None and kind not in UNMOVED:
        touch(connection, study_instance_uid)


def add_alarm(
    connection: Connection,
    *,
    at: datetime,
    kind: str,
    text: str,
    study_instance_uid: StudyUID | None = None,
    job_id: JobID | None = None,
) -> None:
    """Write one line that a person must act on; see `add_event`."""
    values = {"at": at, "kind": kind, "text": text, "study_instance_uid": study_instance_uid, "job_id": job_id}
    connection.execute(insert(events).values(**values, is_alarm=True))
    if study_instance_uid is not None:
        touch(connection, study_instance_uid)
