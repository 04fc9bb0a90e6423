"""Jobs as Unified Procedure Steps: told from their rows, and kept nowhere else."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from node.domain import workitem as ups
from node.domain.codes import LOCAL_SCHEME
from node.domain.job import Job, JobID, JobState, Priority
from node.domain.uids import SeriesUID
from node.domain.workitem import DataSet, code_item, element, moment
from node.ledger.catalogue import STANDS
from node.ledger.schema import instances, jobs, results, study_entries

UUID_ROOT = "2.25."
PRIORITY_WORDS = {Priority.STAT: "HIGH", Priority.HIGH: "HIGH", Priority.ROUTINE: "MEDIUM", Priority.LOW: "LOW"}
# Code Value (0008,0100) is SH; what is longer is a Long Code Value (PS3.3 8.1).
MAX_CODE_VALUE, LONG_CODE_VALUE = 16, "00080119"
MAX_LABEL = 64
# Taken from the Study, where an Instance told it.
OF_STUDY = (
    ("PatientName", ups.PATIENT_NAME, "PN"),
    ("PatientID", ups.PATIENT_ID, "LO"),
    ("PatientBirthDate", ups.PATIENT_BIRTH_DATE, "DA"),
    ("PatientSex", ups.PATIENT_SEX, "CS"),
)
NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """Where what is listed can be had.

    Attributes
    ----------
    aet
        AE title of this node.
    wado_root
        URL below which Studies are retrieved by WADO-RS; empty: nobody serves them.
    """

    aet: str = ""
    wado_root: str = ""


def uid_of_job(job_id: JobID) -> str:
    """Return the SOP Instance UID of the workitem that a Job is (PS3.5 B.2)."""
    return f"{UUID_ROOT}{uuid.UUID(job_id).int}"


def job_of_uid(sop_instance_uid: str) -> JobID | None:
    """Return the Job whose workitem has this SOP Instance UID; None: that of no Job."""
    digits = sop_instance_uid.removeprefix(UUID_ROOT)
    if digits == sop_instance_uid or not digits.isdecimal() or int(digits) >= 1 << 128:
        return None
    return JobID(str(uuid.UUID(int=int(digits))))


def state_of(job: Job) -> JobState:
    """Return the state that others are told of a Job.

    One that waits for its next attempt stays IN PROGRESS: no workitem goes back to SCHEDULED (PS3.4 CC.1.1).
    """
    is_begun = job.state is JobState.SCHEDULED and job.reason_code is not None
    return JobState.IN_PROGRESS if is_begun else job.state


def in_state(state: JobState) -> ColumnElement[bool]:
    """Return the condition of rows of `jobs` for `state_of`."""
    waits_again = and_(jobs.c.state == JobState.SCHEDULED.value, jobs.c.reason_code.is_not(None))
    match state:
        case JobState.SCHEDULED:
            return and_(jobs.c.state == state.value, jobs.c.reason_code.is_(None))
        case JobState.IN_PROGRESS:
            return or_(jobs.c.state == state.value, waits_again)
        case JobState.COMPLETED | JobState.CANCELED:
            return jobs.c.state == state.value


def describe_job(connection: Connection, job: Job, premises: Premises, *, in_full: bool) -> DataSet:
    """Return the attributes of the workitem that a Job is, in the caller's transaction.

    Parameters
    ----------
    in_full
        With the Instances of its inputs; whoever searches does not wait for them.
    """
    state, order = state_of(job), job.order
    told: dict[str, Any] = {
        ups.SOP_CLASS_UID: element("UI", ups.PUSH),
        ups.SOP_INSTANCE_UID: element("UI", uid_of_job(job.job_id)),
        **_describe_study(connection, order.study_instance_uid),
        ups.SCHEDULED_START: element("DT", moment(job.accepted_at)),
        ups.SCHEDULED_WORKITEM_CODE: element("SQ", code_of(order.pipeline)),
        ups.INPUT_INFORMATION: element("SQ", *_describe_inputs(connection, job, premises, in_full=in_full)),
        ups.STATION_NAME_CODE: element("SQ", code_of(premises.aet)) if premises.aet else element("SQ"),
        ups.STATION_CLASS_CODE: element("SQ"),
        ups.STATION_PLACE_CODE: element("SQ"),
        ups.INPUT_READINESS: element("CS", "READY"),
        ups.REFERENCED_REQUESTS: element("SQ"),
        ups.PROCEDURE_STEP_STATE: element("CS", state.value),
        ups.PROGRESS_INFORMATION: element("SQ", *_describe_progress(job, state)),
        ups.PRIORITY: element("CS", PRIORITY_WORDS[order.priority]),
        ups.WORKLIST_LABEL: element("LO", ups.WORKLIST),
        ups.STEP_LABEL: element("LO", f"{order.pipeline} by rule {order.rule}"[:MAX_LABEL]),
        ups.PERFORMED_PROCEDURE: element("SQ", *_describe_performed(connection, job, state, premises)),
    }
    return dict(sorted(told.items()))


def code_of(value: str) -> DataSet:
    """Return an item of a code sequence of ours."""
    if len(value) <= MAX_CODE_VALUE:
        return code_item(value, LOCAL_SCHEME, value)
    return {
        ups.CODING_SCHEME: element("SH", LOCAL_SCHEME),
        ups.CODE_MEANING: element("LO", value[:MAX_LABEL]),
        LONG_CODE_VALUE: element("UC", value),
    }


def pipeline_of(attributes: DataSet) -> str:
    """Return what the Scheduled Workitem Code (0040,4018) names in our scheme; empty: nothing."""
    for item in ups.items_of(attributes, ups.SCHEDULED_WORKITEM_CODE):
        if ups.text_of(item, ups.CODING_SCHEME) == LOCAL_SCHEME:
            return ups.text_of(item, ups.CODE_VALUE) or ups.text_of(item, LONG_CODE_VALUE)
    return ""


def _describe_study(connection: Connection, study_instance_uid: str) -> Mapping[str, Any]:
    of_study = study_entries.c.study_instance_uid == study_instance_uid
    known = connection.execute(select(study_entries.c.attributes).where(of_study)).scalar_one_or_none() or {}
    told = {tag: _name_or_text(vr, known.get(keyword)) for keyword, tag, vr in OF_STUDY}
    return {**told, ups.ADMISSION_ID: element("LO")}


def _name_or_text(vr: str, value: Any) -> Mapping[str, Any]:
    if value in (None, "", []):
        return element(vr)
    text = str(value[0] if isinstance(value, list) else value)
    if vr != "PN":
        return element(vr, text)
    groups = zip(NAME_GROUPS, text.split("="), strict=False)
    return element(vr, {name: group for name, group in groups if group})


def _describe_inputs(connection: Connection, job: Job, premises: Premises, *, in_full: bool) -> Sequence[DataSet]:
    studies = {series_uid: job.order.study_of(role) for role, series_uid in job.order.inputs.items()}
    found = []
    for series_uid, uid in studies.items():
        of_series = (instances.c.study_instance_uid == uid, instances.c.series_instance_uid == series_uid)
        statement = select(instances.c.sop_class_uid, instances.c.sop_instance_uid).where(*of_series)
        references = [(one, other) for one, other in connection.execute(statement)] if in_full else []
        found.append(_describe_series(uid, series_uid, references, premises))
    return found


def _describe_series(
    study_uid: str, series_uid: SeriesUID | str, references: Iterable[tuple[str, str]], premises: Premises
) -> DataSet:
    referenced = [
        {ups.REFERENCED_CLASS: element("UI", one), ups.REFERENCED_INSTANCE: element("UI", other)}
        for one, other in references
    ]
    told: dict[str, Any] = {
        ups.REFERENCED_SOP_SEQUENCE: element("SQ", *referenced),
        ups.STUDY_INSTANCE_UID: element("UI", study_uid),
        ups.SERIES_INSTANCE_UID: element("UI", series_uid),
        ups.TYPE_OF_INSTANCES: element("CS", "DICOM"),
        ups.DICOM_RETRIEVAL: element("SQ", {ups.RETRIEVE_AE_TITLE: element("AE", premises.aet)}),
    }
    if premises.wado_root:
        url = f"{premises.wado_root}/studies/{study_uid}/series/{series_uid}"
        told[ups.WADO_RS_RETRIEVAL] = element("SQ", {ups.RETRIEVE_URL: element("UR", url)})
    return told


def _describe_progress(job: Job, state: JobState) -> Sequence[DataSet]:
    match state:
        case JobState.SCHEDULED:
            return ()
        case JobState.IN_PROGRESS:
            waits = f"attempt {job.attempts} ended ({job.reason_code}); another follows" if job.reason_code else ""
            return ({ups.PROGRESS: element("DS", 0), ups.PROGRESS_DESCRIPTION: element("ST", *filter(None, [waits]))},)
        case JobState.COMPLETED:
            return ({ups.PROGRESS: element("DS", 100)},)
        case JobState.CANCELED:
            return (describe_cancellation(job),)


def describe_cancellation(job: Job) -> DataSet:
    """Return why a Job is CANCELED: when, the coded reason, and its words."""
    told: dict[str, Any] = {ups.DISCONTINUATION_CODE: element("SQ", code_of(job.reason_code or "canceled"))}
    if job.finished_at is not None:
        told[ups.CANCELLATION_AT] = element("DT", moment(job.finished_at))
    if job.reason_text:
        told[ups.REASON_FOR_CANCELLATION] = element("LT", job.reason_text)
    return told


def _describe_performed(connection: Connection, job: Job, state: JobState, premises: Premises) -> Sequence[DataSet]:
    if state is not JobState.COMPLETED or job.finished_at is None:
        return ()
    statement = (
        select(results.c.series_instance_uid, results.c.sop_class_uid, results.c.sop_instance_uid)
        .where(results.c.job_id == job.job_id, STANDS)
        .order_by(results.c.created_at, results.c.sop_instance_uid)
    )
    by_series: dict[str, list[tuple[str, str]]] = {}
    for series_uid, class_uid, instance_uid in connection.execute(statement):
        by_series.setdefault(series_uid, []).append((class_uid, instance_uid))
    uid = job.order.study_instance_uid
    outputs = [_describe_series(uid, series_uid, found, premises) for series_uid, found in by_series.items()]
    return (
        {
            ups.PERFORMED_WORKITEM_CODE: element("SQ", code_of(job.order.pipeline)),
            ups.PERFORMED_STATION_CODE: element("SQ", code_of(premises.aet or ups.WORKLIST)),
            ups.OUTPUT_INFORMATION: element("SQ", *outputs),
            ups.PERFORMED_START: element("DT", moment(job.accepted_at)),
            ups.PERFORMED_END: element("DT", moment(job.finished_at)),
        },
    )
