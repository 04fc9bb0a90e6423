"""Unified Procedure Steps: their states, what may be said of them when, and what they hold (PS3.4 CC).

Data sets are in the DICOM JSON Model (PS3.18 annex F): eight hexadecimal digits to ``vr`` and ``Value``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from node.domain.job import JobState
from node.domain.uids import UID_PATTERN
from node.errors import (
    AttributeEmpty,
    AttributeInvalid,
    AttributeMissing,
    NotCreatedScheduled,
    ScheduledByCreation,
    TransactionWrong,
    WorkitemCompleted,
    WorkitemFinal,
    WorkitemIncomplete,
    WorkitemNotStarted,
    WorkitemTaken,
)

# A data set, or an item of a sequence in one.
DataSet = Mapping[str, Any]

PUSH: Final = "1.2.840.10008.5.1.4.34.6.1"
WATCH: Final = "1.2.840.10008.5.1.4.34.6.2"
PULL: Final = "1.2.840.10008.5.1.4.34.6.3"
EVENT: Final = "1.2.840.10008.5.1.4.34.6.4"
QUERY: Final = "1.2.840.10008.5.1.4.34.6.5"
# UPS Global and UPS Filtered Global Subscription SOP Instance (PS3.4 CC.2.3.2).
GLOBAL: Final = "1.2.840.10008.5.1.4.34.5"
FILTERED_GLOBAL: Final = "1.2.840.10008.5.1.4.34.5.1"

SOP_CLASS_UID, SOP_INSTANCE_UID = "00080016", "00080018"
SPECIFIC_CHARACTER_SET, TRANSACTION_UID = "00080005", "00081195"
ACCESSION_NUMBER, RETRIEVE_AE_TITLE, RETRIEVE_URL = "00080050", "00080054", "00081190"
CODE_VALUE, CODING_SCHEME, CODE_MEANING = "00080100", "00080102", "00080104"
REFERENCED_SOP_SEQUENCE, REFERENCED_CLASS, REFERENCED_INSTANCE = "00081199", "00081150", "00081155"
STUDY_INSTANCE_UID, SERIES_INSTANCE_UID = "0020000D", "0020000E"
PATIENT_NAME, PATIENT_ID, PATIENT_BIRTH_DATE, PATIENT_SEX = "00100010", "00100020", "00100030", "00100040"
ADMISSION_ID, REFERENCED_REQUESTS = "00380010", "0040A370"
PROCEDURE_STEP_STATE, PROGRESS_INFORMATION, PROGRESS, PROGRESS_DESCRIPTION = (
    "00741000", "00741002", "00741004", "00741006",
)  # fmt: skip
CONTACT_URI, CONTACT_NAME, DISCONTINUATION_CODE = "0074100A", "0074100C", "0074100E"
PRIORITY, WORKLIST_LABEL, STEP_LABEL = "00741200", "00741202", "00741204"
PERFORMED_PROCEDURE, REQUESTING_AE, REASON_FOR_CANCELLATION = "00741216", "00741236", "00741238"
SCHEDULED_START, CANCELLATION_AT, MODIFIED_AT = "00404005", "00404052", "00404010"
SCHEDULED_WORKITEM_CODE, PERFORMED_WORKITEM_CODE = "00404018", "00404019"
INPUT_INFORMATION, INPUT_READINESS, OUTPUT_INFORMATION = "00404021", "00404041", "00404033"
STATION_NAME_CODE, STATION_CLASS_CODE, STATION_PLACE_CODE = "00404025", "00404026", "00404027"
SCHEDULED_PERFORMERS, PROCESSING_PARAMETERS = "00404034", "00741210"
DIAGNOSES_DESCRIPTION, DIAGNOSES_CODE, ISSUER_OF_ADMISSION = "00081080", "00081084", "00380014"
OTHER_PATIENT_IDS, REPLACED_STEP = "00101002", "00741224"
PERFORMED_STATION_CODE, PERFORMED_START, PERFORMED_END = "00404028", "00404050", "00404051"
TYPE_OF_INSTANCES, DICOM_RETRIEVAL, WADO_RS_RETRIEVAL = "0040E020", "0040E021", "0040E025"
DICOMWEB_RETRIEVE_URI = "00081196"

PRIORITIES = frozenset({"HIGH", "MEDIUM", "LOW"})
READINESS = frozenset({"READY", "UNAVAILABLE", "INCOMPLETE"})
# N-CREATE, Type 1 (PS3.4 table CC.2.5-3).
CREATED_WITH = (PRIORITY, STEP_LABEL, SCHEDULED_START, INPUT_READINESS)
# N-CREATE: there without a value, or not at all.
CREATED_WITHOUT = (TRANSACTION_UID, PROGRESS_INFORMATION, PERFORMED_PROCEDURE)
# N-CREATE, Type 2: filled in where the sender leaves them out, so that whoever reads finds them.
CREATED_EMPTY = {
    SCHEDULED_WORKITEM_CODE: "SQ", STATION_NAME_CODE: "SQ", STATION_CLASS_CODE: "SQ", STATION_PLACE_CODE: "SQ",
    INPUT_INFORMATION: "SQ", REFERENCED_REQUESTS: "SQ", PROGRESS_INFORMATION: "SQ", PERFORMED_PROCEDURE: "SQ",
    PROCESSING_PARAMETERS: "SQ",
    PATIENT_NAME: "PN", PATIENT_ID: "LO", PATIENT_BIRTH_DATE: "DA", PATIENT_SEX: "CS",
    ADMISSION_ID: "LO",
}  # fmt: skip
# Of those that name no list: Worklist Label is Type 2 for whoever creates, and Type 1 for whoever keeps.
WORKLIST: Final = "radnode"
# N-SET, Not Allowed.
NEVER_CHANGED = (
    SOP_CLASS_UID, SOP_INSTANCE_UID, PROCEDURE_STEP_STATE, PATIENT_NAME, PATIENT_ID, PATIENT_BIRTH_DATE, PATIENT_SEX,
    OTHER_PATIENT_IDS, ADMISSION_ID, ISSUER_OF_ADMISSION, DIAGNOSES_DESCRIPTION, DIAGNOSES_CODE, REFERENCED_REQUESTS,
    REPLACED_STEP,
)  # fmt: skip
# Final state requirement P: of a step that is COMPLETED (PS3.4 CC.2.5.1.1).
COMPLETED_WITH = (PERFORMED_STATION_CODE, PERFORMED_START, PERFORMED_WORKITEM_CODE, PERFORMED_END)

SUCCESS: Final = 0x0000
# Why a step ended that nobody gave a reason for (PS3.16 CID 9300).
UNSPECIFIED_REASON = ("110513", "DCM", "Discontinued for unspecified reason")
# Warnings, PS3.4 CC.2.1.4 and CC.2.3.4.
LOCK_NOT_GRANTED: Final = 0xB301
ALREADY_CANCELED: Final = 0xB304
ALREADY_COMPLETED: Final = 0xB306
FINAL = (JobState.COMPLETED, JobState.CANCELED)

# Event Type ID (PS3.4 table CC.2.4-1).
STATE_REPORT: Final = 1
CANCEL_REQUESTED: Final = 2
PROGRESS_REPORT: Final = 3
ASSIGNED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Workitem:
    """One Unified Procedure Step as it stands.

    Attributes
    ----------
    attributes
        All of them, state and SOP Instance UID too; never the Transaction UID (PS3.4 CC.2.5.1.1).
    is_ours
        True where this node performs it: a Job, or what becomes one.
    """

    sop_instance_uid: str
    state: JobState
    attributes: DataSet
    is_ours: bool


def check_creation(attributes: DataSet) -> None:
    """Return where a workitem may be created with these attributes.

    Raises
    ------
    NotCreatedScheduled
        If its state is another than SCHEDULED.
    AttributeMissing, AttributeEmpty, AttributeInvalid
        If an attribute is not what it must be.

    References
    ----------
    DICOM PS3.4 CC.2.5.1.1 and table CC.2.5-3
    """
    if require_text(attributes, PROCEDURE_STEP_STATE) != JobState.SCHEDULED:
        raise NotCreatedScheduled("Procedure Step State (0074,1000) must be SCHEDULED when a workitem is created")
    for tag in CREATED_WITH:
        require_text(attributes, tag)
    for tag in CREATED_WITHOUT:
        if values_of(attributes, tag):
            raise AttributeInvalid(f"{show(tag)} has a value; it must have none at creation", int(tag, 16))
    _check_values(attributes)


def check_change(attributes: DataSet) -> None:
    """Return where a workitem may be changed so, whatever its state is.

    Raises
    ------
    AttributeInvalid
        If an attribute never changes, or has a value that it must not have.

    References
    ----------
    DICOM PS3.4 CC.2.6 and table CC.2.5-3
    """
    for tag in NEVER_CHANGED:
        if tag in attributes:
            raise AttributeInvalid(f"{show(tag)} may not be changed", int(tag, 16))
    _check_values(attributes)


def check_writer(state: JobState, held: str | None, given: str) -> None:
    """Return where somebody who gives this Transaction UID may change the attributes of a workitem.

    Parameters
    ----------
    held
        The Transaction UID under which it is performed.
    given
        Empty: none.

    Raises
    ------
    WorkitemFinal
        If it is over.
    TransactionWrong
        If it is performed under another Transaction UID, or by nobody and one is given.

    References
    ----------
    DICOM PS3.4 CC.2.6.2 and CC.2.6.3
    """
    if state in FINAL:
        raise WorkitemFinal(f"the workitem is {state.value}, and may no longer be updated")
    if given != (held or ""):
        raise TransactionWrong(f"the workitem is {state.value}; the Transaction UID (0008,1195) is not the right one")


def next_state(state: JobState, wanted: str, *, held: str | None, given: str) -> int:
    """Return the status with which a workitem takes a state; a warning where it has it already.

    Parameters
    ----------
    wanted
        Procedure Step State (0074,1000) of the request.
    held, given
        As for `check_writer`.

    Raises
    ------
    TransactionWrong, WorkitemTaken, ScheduledByCreation, WorkitemNotStarted, WorkitemFinal
        As table CC.1.1-2 has it.
    AttributeInvalid
        If there is no such state.

    References
    ----------
    DICOM PS3.4 table CC.1.1-2
    """
    if wanted not in set(JobState):
        raise AttributeInvalid(f"{show(PROCEDURE_STEP_STATE)} is no state of a workitem", int(PROCEDURE_STEP_STATE, 16))
    if wanted == JobState.SCHEDULED:
        # Whoever asks: this row of the table tells no Transaction UIDs apart.
        raise ScheduledByCreation("a workitem becomes SCHEDULED by its creation only")
    is_known = UID_PATTERN.match(given) is not None and (state is JobState.SCHEDULED or given == held)
    if not is_known:
        raise TransactionWrong(f"the workitem is {state.value}; the Transaction UID (0008,1195) is not the right one")
    if wanted == JobState.IN_PROGRESS:
        return _claim(state)
    if wanted == JobState.COMPLETED:
        return _end(state, JobState.COMPLETED, ALREADY_COMPLETED)
    return _end(state, JobState.CANCELED, ALREADY_CANCELED)


def _claim(state: JobState) -> int:
    if state is JobState.IN_PROGRESS:
        raise WorkitemTaken("the workitem is IN PROGRESS already")
    if state in FINAL:
        raise WorkitemFinal(f"the workitem is {state.value}, and may no longer be updated")
    return SUCCESS


def _end(state: JobState, wanted: JobState, warning: int) -> int:
    if state is JobState.SCHEDULED:
        raise WorkitemNotStarted(f"the workitem is SCHEDULED; it is {wanted.value} only after it was IN PROGRESS")
    if state is wanted:
        return warning
    if state in FINAL:
        raise WorkitemFinal(f"the workitem is {state.value}, and may no longer be updated")
    return SUCCESS


def check_cancelable(state: JobState) -> int:
    """Return the status with which a request to cancel is taken; a warning where it is CANCELED already.

    Raises
    ------
    WorkitemCompleted
        If it is COMPLETED.

    References
    ----------
    DICOM PS3.4 table CC.1.1-2
    """
    if state is JobState.COMPLETED:
        raise WorkitemCompleted("the workitem is COMPLETED, and cannot be canceled any more")
    return ALREADY_CANCELED if state is JobState.CANCELED else SUCCESS


def check_final(attributes: DataSet, wanted: JobState) -> None:
    """Return where a workitem holds what one must that goes to a final state.

    Raises
    ------
    WorkitemIncomplete
        If it lacks something; of one that is CANCELED the node tells itself what is needed.

    References
    ----------
    DICOM PS3.4 CC.2.5.1.1 (Final State Codes)
    """
    if wanted is not JobState.COMPLETED:
        return
    performed = items_of(attributes, PERFORMED_PROCEDURE)
    lacking = [tag for tag in COMPLETED_WITH if not performed or not values_of(performed[0], tag)]
    if performed and OUTPUT_INFORMATION not in performed[0]:
        lacking.append(OUTPUT_INFORMATION)
    if lacking:
        names = ", ".join(map(show, lacking))
        raise WorkitemIncomplete(f"the workitem cannot be COMPLETED without {names} in {show(PERFORMED_PROCEDURE)}")


def values_of(attributes: DataSet, tag: str) -> Sequence[Any]:
    """Return the values of an attribute; none where it is absent, or is not as PS3.18 F.2 has it."""
    entry = attributes.get(tag)
    values = entry.get("Value") if isinstance(entry, Mapping) else None
    return values if isinstance(values, list) else []


def text_of(attributes: DataSet, tag: str) -> str:
    """Return the first value as text; of a Person Name its first writing. Empty where there is none."""
    values = values_of(attributes, tag)
    value = values[0] if values else None
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("Alphabetic", "Ideographic", "Phonetic") if value.get(name)), None)
    return "" if value is None else str(value).strip()


def items_of(attributes: DataSet, tag: str) -> Sequence[DataSet]:
    """Return the items of a sequence."""
    return [item for item in values_of(attributes, tag) if isinstance(item, Mapping)]


def require_text(attributes: DataSet, tag: str) -> str:
    """Return the first value of an attribute of Type 1.

    Raises
    ------
    AttributeMissing, AttributeEmpty
        If it is not there.
    """
    text = text_of(attributes, tag)
    if not text:
        if tag in attributes:
            raise AttributeEmpty(f"{show(tag)} has no value; it needs one", int(tag, 16))
        raise AttributeMissing(f"{show(tag)} is not there; it is needed", int(tag, 16))
    return text


def element(vr: str, *values: Any) -> Mapping[str, Any]:
    """Return an element; an empty one without values."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def code_item(value: str, scheme: str, meaning: str) -> DataSet:
    """Return an item of a code sequence (PS3.3 8.8)."""
    return {
        CODE_VALUE: element("SH", value),
        CODING_SCHEME: element("SH", scheme),
        CODE_MEANING: element("LO", meaning),
    }


def moment(at: datetime) -> str:
    """Return an instant as a DT in UTC."""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def show(tag: str) -> str:
    """Return a tag as people write it."""
    return f"({tag[:4]},{tag[4:]})"


def _check_values(attributes: DataSet) -> None:
    for tag, allowed in ((PRIORITY, PRIORITIES), (INPUT_READINESS, READINESS)):
        if tag in attributes and text_of(attributes, tag) not in allowed:
            raise AttributeInvalid(f"{show(tag)} must be one of {', '.join(sorted(allowed))}", int(tag, 16))
