"""Answers of an earlier version: an Instance that they were made from came again with other content."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, exists, or_, select, update

from node.domain.job import LIVE_STATES, JobID, JobOrder, JobState, digest_versions
from node.domain.later_version import LaterVersion
from node.domain.study import InstanceFacts
from node.domain.uids import InstanceUID
from node.ledger.catalogue import STANDS
from node.ledger.placement import touch
from node.ledger.rows import add_alarm, to_job
from node.ledger.schema import instances, jobs, results

ANSWER_OUTDATED = "answer-outdated"
BEGUN = (JobState.IN_PROGRESS.value, JobState.COMPLETED.value)


def find_readers(connection: Connection, facts: InstanceFacts) -> dict[JobID, int]:
    """Return the Jobs that may have read another version than `facts`, which counts now, each with its fence.

    Called for each Instance that comes again: which versions a question names is looked at when they are compared.
    """
    uid = facts.study_instance_uid
    of_study = or_(jobs.c.study_instance_uid == uid, jobs.c.prior_study_instance_uid == uid)
    begun = select(jobs).where(of_study, jobs.c.state.in_(BEGUN), jobs.c.outdated_at.is_(None))
    return {
        JobID(row["job_id"]): row["fence"] for row in connection.execute(begun).mappings().all() if _reads(row, facts)
    }


def mark_outdated(connection: Connection, version: LaterVersion, difference: str, *, now: datetime) -> None:
    """Mark the Jobs that have read what came before `version`, in the caller's transaction.

    The first Instance of each answer that counts raises an alarm; for the others, the time line has a line each.
    """
    uids = list(version.readers)
    rows = connection.execute(select(jobs).where(jobs.c.job_id.in_(uids), jobs.c.outdated_at.is_(None))).mappings()
    # One that began again has read what counts.
    begun = [row for row in rows.all() if row["fence"] == version.readers[JobID(row["job_id"])]]
    read = [row for row in begun if not _is_current(connection, row)]
    marked = [row["job_id"] for row in read]
    connection.execute(update(jobs).where(jobs.c.job_id.in_(marked)).values(outdated_at=version.came_at))
    for row in read:
        touch(connection, row["study_instance_uid"])
        is_answering = row["state"] == JobState.IN_PROGRESS.value or _stands(connection, row["job_id"])
        if is_answering and _is_last(connection, row):
            _raise_alarm(connection, row, version, difference, now=now)


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
        found = connection.execute(select(instances.c.sop_instance_uid, instances.c.digest).where(*of_series))
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


def _is_last(connection: Connection, row: RowMapping) -> bool:
    """Return whether no Job of this Study and Pipeline that began came after it, but in shadow."""
    of_pipeline = (
        jobs.c.study_instance_uid == row["study_instance_uid"],
        jobs.c.pipeline == row["pipeline"],
        jobs.c.state.in_(BEGUN),
        jobs.c.is_shadow.is_(False),
    )
    newest_first = jobs.c.accepted_at.desc(), jobs.c.job_id.desc()
    newest = connection.execute(select(jobs.c.job_id).where(*of_pipeline).order_by(*newest_first).limit(1))
    return bool(newest.scalar_one_or_none() == row["job_id"])


def _raise_alarm(
    connection: Connection, row: RowMapping, version: LaterVersion, difference: str, *, now: datetime
) -> None:
    order = to_job(row).order
    is_answered = row["state"] == JobState.COMPLETED.value
    reader, answer = ("was made from", "is") if is_answered else ("may have read", "may be")
    add_alarm(
        connection,
        at=now,
        kind=ANSWER_OUTDATED,
        text=(
            f"{order.pipeline} {reader} Instance {version.sop_instance_uid} of Series {version.series_instance_uid}; "
            f"what came again under its UID {difference}, and the answer {answer} of the earlier version. Look at it, "
            f"and let `radnode studies reprocess {order.study_instance_uid}` read the later one"
        ),
        study_instance_uid=order.study_instance_uid,
        job_id=JobID(row["job_id"]),
    )


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
