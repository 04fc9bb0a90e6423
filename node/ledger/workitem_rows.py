"""Workitems as the ledger has them: read from what others created, and from Jobs, in the caller's transaction."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, exists, select

from node.domain import workitem as ups
from node.domain.job import Job, JobState
from node.domain.workitem import DataSet, Workitem, element
from node.errors import WorkitemUnknown
from node.ledger.job_workitems import Premises, describe_job, in_state, job_of_uid, uid_of_job
from node.ledger.rows import to_job
from node.ledger.schema import jobs, study_entries, workitems

# So many rows are looked at for what no index knows; then a search ends.
MAX_LOOKED_AT = 10_000
# Rows whose attributes are in memory at once.
CHUNK = 200
# What a workitem says for itself that is performed as a Job.
FROM_JOB = (
    ups.PROCEDURE_STEP_STATE, ups.PROGRESS_INFORMATION, ups.PERFORMED_PROCEDURE, ups.INPUT_INFORMATION,
)  # fmt: skip


def find_row(connection: Connection, sop_instance_uid: str) -> RowMapping | None:
    """Return the row of a workitem that somebody created; None: there is none."""
    statement = select(workitems).where(workitems.c.sop_instance_uid == sop_instance_uid)
    return connection.execute(statement).mappings().one_or_none()


def find_job(connection: Connection, sop_instance_uid: str) -> Job | None:
    """Return the Job that is the workitem of this SOP Instance UID, or came of it; None: there is none."""
    row = find_row(connection, sop_instance_uid)
    job_id = job_of_uid(sop_instance_uid) if row is None else row["job_id"]
    if job_id is None:
        return None
    found = connection.execute(select(jobs).where(jobs.c.job_id == job_id)).mappings().one_or_none()
    return None if found is None else to_job(found)


def find_workitem(connection: Connection, sop_instance_uid: str, premises: Premises) -> Workitem:
    """Return a workitem with everything that is known of it.

    Raises
    ------
    WorkitemUnknown
        If there is none of this SOP Instance UID.
    """
    row, job = find_row(connection, sop_instance_uid), find_job(connection, sop_instance_uid)
    if row is not None:
        return _of_row(connection, row, job, premises, in_full=True)
    if job is None:
        raise WorkitemUnknown(f"workitem {sop_instance_uid} is not here")
    return _of_job(connection, job, premises, in_full=True)


def list_candidates(connection: Connection, keys: DataSet, premises: Premises) -> Iterator[Workitem]:
    """Yield every workitem that may match: the youngest of others first, then those of Jobs, the youngest first."""
    uids = [str(uid) for uid in ups.values_of(keys, ups.SOP_INSTANCE_UID) if uid]
    if uids:
        for uid in dict.fromkeys(uids):
            if find_row(connection, uid) is not None or find_job(connection, uid) is not None:
                yield find_workitem(connection, uid, premises)
        return
    hosted = (
        _of_row(
            connection, row, None if row["job_id"] is None else find_job(connection, row["sop_instance_uid"]), premises
        )
        for row in _rows(connection, _select_hosted(keys))
    )
    of_jobs = (_of_job(connection, to_job(row), premises) for row in _rows(connection, _select_jobs(keys)))
    yield from chain(hosted, of_jobs)


def load(row: RowMapping) -> dict[str, Any]:
    """Return the attributes of a row."""
    attributes: dict[str, Any] = json.loads(row["attributes"])
    return attributes


def study_of(attributes: DataSet) -> str:
    """Return the Study of the Input Information (0040,4021); empty: it names none."""
    items = ups.items_of(attributes, ups.INPUT_INFORMATION)
    return next(filter(None, (ups.text_of(item, ups.STUDY_INSTANCE_UID) for item in items)), "")


def _of_row(
    connection: Connection, row: RowMapping, job: Job | None, premises: Premises, *, in_full: bool = False
) -> Workitem:
    state, uid = JobState(row["state"]), row["sop_instance_uid"]
    told = {
        **load(row),
        ups.SOP_CLASS_UID: element("UI", ups.PUSH),
        ups.SOP_INSTANCE_UID: element("UI", uid),
        ups.PROCEDURE_STEP_STATE: element("CS", state.value),
    }
    if job is not None:
        performed = describe_job(connection, job, premises, in_full=in_full)
        told |= {tag: performed[tag] for tag in FROM_JOB}
        state = JobState(ups.text_of(performed, ups.PROCEDURE_STEP_STATE))
    told.pop(ups.TRANSACTION_UID, None)
    return Workitem(
        sop_instance_uid=uid, state=state, attributes=dict(sorted(told.items())), is_ours=row["pipeline"] is not None
    )


def _of_job(connection: Connection, job: Job, premises: Premises, *, in_full: bool = False) -> Workitem:
    attributes = describe_job(connection, job, premises, in_full=in_full)
    state = JobState(ups.text_of(attributes, ups.PROCEDURE_STEP_STATE))
    return Workitem(sop_instance_uid=uid_of_job(job.job_id), state=state, attributes=attributes, is_ours=True)


def _select_hosted(keys: DataSet) -> Select[Any]:
    statement = select(workitems).order_by(workitems.c.workitem_id.desc())
    state, study_uid = _only(keys, ups.PROCEDURE_STEP_STATE), _study_asked(keys)
    if state in set(JobState):
        # The state of one that is performed as a Job is that of the Job.
        statement = statement.where((workitems.c.state == state) | workitems.c.job_id.is_not(None))
    return statement.where(workitems.c.study_instance_uid == study_uid) if study_uid else statement


def _select_jobs(keys: DataSet) -> Select[Any]:
    is_told_already = exists().where(workitems.c.job_id == jobs.c.job_id)
    statement = select(jobs).where(~is_told_already).order_by(jobs.c.accepted_at.desc(), jobs.c.job_id)
    state, study_uid = _only(keys, ups.PROCEDURE_STEP_STATE), _study_asked(keys)
    if state in set(JobState):
        statement = statement.where(in_state(JobState(state)))
    if study_uid:
        statement = statement.where(jobs.c.study_instance_uid == study_uid)
    patient_id = _only(keys, ups.PATIENT_ID)
    if patient_id and not {"*", "?"} & set(patient_id):
        of_patient = select(study_entries.c.study_instance_uid).where(study_entries.c.patient_id == patient_id)
        statement = statement.where(jobs.c.study_instance_uid.in_(of_patient))
    return statement


def _study_asked(keys: DataSet) -> str:
    """Return the one Study that is asked for; empty: none, or several."""
    items = ups.items_of(keys, ups.INPUT_INFORMATION)
    return _only(items[0], ups.STUDY_INSTANCE_UID) if items else ""


def _only(keys: DataSet, tag: str) -> str:
    return ups.text_of(keys, tag) if len(ups.values_of(keys, tag)) == 1 else ""


def _rows(connection: Connection, statement: Select[Any]) -> Iterator[RowMapping]:
    """Yield rows in pages, so that a reader who has enough has read little."""
    for offset in range(0, MAX_LOOKED_AT, CHUNK):
        page = connection.execute(statement.limit(CHUNK).offset(offset)).mappings().all()
        yield from page
        if len(page) < CHUNK:
            return
