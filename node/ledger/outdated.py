"""Answers of an earlier version: an Instance that they were made from came again with other content."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping, exists, func, or_, select, update

from node.domain.job import LIVE_STATES, JobID, JobOrder, JobState, digest_versions
from node.domain.study import InstanceFacts
from node.domain.uids import InstanceUID
from node.ledger.catalogue import STANDS
from node.ledger.rows import add_alarm, to_job
from node.ledger.schema import instances, jobs, results

ANSWER_OUTDATED = "answer-outdated"
# What the version that counts of an Instance says, in whatever encoding.
SAYS = func.coalesce(instances.c.says, instances.c.digest).label("says")
BEGUN = (JobState.IN_PROGRESS.value, JobState.COMPLETED.value)


def mark_outdated(connection: Connection, facts: InstanceFacts) -> None:
    """Mark the Jobs that have read the earlier version of `facts`, in the caller's transaction.

    The first Instance of each answer that counts raises an alarm; for the others, the time line has a line each.
    """
    uid = facts.study_instance_uid
    of_study = or_(jobs.c.study_instance_uid == uid, jobs.c.prior_study_instance_uid == uid)
    begun = select(jobs).where(of_study, jobs.c.state.in_(BEGUN)).order_by(jobs.c.accepted_at, jobs.c.job_id)
    rows = connection.execute(begun).mappings().all()
    read = [
        row for row in rows if row["outdated_at"] is None and _reads(row, facts) and not _is_current(connection, row)
    ]
    if not read:
        return
    uids = [row["job_id"] for row in read]
    connection.execute(update(jobs).where(jobs.c.job_id.in_(uids)).values(outdated_at=facts.received_at))
    last = {(row["study_instance_uid"], row["pipeline"]): row["job_id"] for row in rows if not row["is_shadow"]}
    for row in read:
        is_last = row["job_id"] in last.values()
        if is_last and (row["state"] == JobState.IN_PROGRESS.value or _stands(connection, row["job_id"])):
            _raise_alarm(connection, row, facts)


def read_again(connection: Connection, job_id: JobID, order: JobOrder, *, is_wished: bool) -> JobOrder | None:
    """Return the order of an outdated Job whose question is put anew, of the versions that count now.

    Parameters
    ----------
    is_wished
        Whether a person wants it; else it is put only in place of one that a person wanted, and that has not answered.

    Returns
    -------
    order or None
        None: the Job stands, since it read what counts, or nobody wants it to be read again.
    """
    outdated = select(jobs.c.job_id).where(jobs.c.job_id == job_id, jobs.c.outdated_at.is_not(None))
    if connection.execute(outdated).first() is None or not (is_wished or _is_being_read(connection, order)):
        return None
    return replace(order, content=_digest_now(connection, order))


def clear_outdated(connection: Connection, job_id: JobID) -> None:
    """Note that the answer of a Job is of the versions that count again."""
    connection.execute(update(jobs).where(jobs.c.job_id == job_id).values(outdated_at=None))


def _digest_now(connection: Connection, order: JobOrder) -> str:
    """Return the digest of the versions that count, of every Instance that an order is about."""
    versions: dict[str, list[tuple[InstanceUID, str]]] = {}
    for role, series in order.inputs.items():
        of_series = (
            instances.c.study_instance_uid == order.study_of(role),
            instances.c.series_instance_uid == series,
        )
        found = connection.execute(select(instances.c.sop_instance_uid, SAYS).where(*of_series))
        versions[role] = [(InstanceUID(uid), digest) for uid, digest in found]
    return digest_versions(versions)


def _is_current(connection: Connection, row: RowMapping) -> bool:
    """Return whether a Job was put on just the versions that count now."""
    order = to_job(row).order
    return order.content == _digest_now(connection, order)


def _reads(row: RowMapping, facts: InstanceFacts) -> bool:
    order = to_job(row).order
    return any(
        (order.study_of(role), series) == (facts.study_instance_uid, facts.series_instance_uid)
        for role, series in order.inputs.items()
    )


def _stands(connection: Connection, job_id: str) -> bool:
    return bool(connection.execute(select(exists().where(results.c.job_id == job_id, STANDS))).scalar_one())


def _raise_alarm(connection: Connection, row: RowMapping, facts: InstanceFacts) -> None:
    order = to_job(row).order
    is_answered = row["state"] == JobState.COMPLETED.value
    reader, answer = ("was made from", "is") if is_answered else ("may have read", "may be")
    add_alarm(
        connection,
        at=facts.received_at,
        kind=ANSWER_OUTDATED,
        text=(
            f"{order.pipeline} {reader} Instance {facts.sop_instance_uid} of Series {facts.series_instance_uid}; what "
            f"came again under its UID {_tell_difference(facts)}, and the answer {answer} of the earlier version. Look "
            f"at it, and let `radnode studies reprocess {order.study_instance_uid}` read the later one"
        ),
        study_instance_uid=order.study_instance_uid,
        job_id=JobID(row["job_id"]),
    )


def _tell_difference(facts: InstanceFacts) -> str:
    return (facts.comparison and facts.comparison.difference) or "has other content"


def _is_being_read(connection: Connection, order: JobOrder) -> bool:
    """Return whether a Job is under way that reads other versions of the same Series."""
    live = select(jobs.c.inputs).where(
        jobs.c.study_instance_uid == order.study_instance_uid,
        jobs.c.pipeline == order.pipeline,
        jobs.c.model == order.model,
        jobs.c.model_version == order.model_version,
        jobs.c.content != order.content,
        jobs.c.state.in_(LIVE_STATES),
    )
    inputs: Sequence[Mapping[str, Any]] = connection.execute(live).scalars().all()
    return any(one == dict(order.inputs) for one in inputs)
