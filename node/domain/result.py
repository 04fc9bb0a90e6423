"""Result and Delivery: one DICOM object that radnode wrote, and its way to one Destination."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from node.domain.job import JobID
from node.domain.uids import InstanceUID, SeriesUID, StudyUID

# Manufacturer (0008,0070) of every object that radnode writes; by it own Results are known when they come back.
OWN_MANUFACTURER = "radnode"


class ResultKind(StrEnum):
    """Which kind of object a Result is."""

    SEG = "SEG"
    SR = "SR"
    SC = "SC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One DICOM object that a Job produced; its bytes lie in the store."""

    job_id: JobID
    kind: ResultKind
    study_instance_uid: StudyUID
    series_instance_uid: SeriesUID
    sop_instance_uid: InstanceUID
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    size_bytes: int
    sha256: str


class DeliveryState(StrEnum):
    """How far an object is on its way to a Destination."""

    PENDING = "PENDING"
    SENT = "SENT"
    COMMITTED = "COMMITTED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One object to one Destination.

    Attributes
    ----------
    job_id
        None for an Instance that a rule forwards.
    path
        Part 10 file, relative to the store's root.
    not_before
        When the next attempt may begin (UTC).
    reason_code, reason_text
        Why the last attempt failed, or the warning with which the object was taken (Bxxx).
    """

    delivery_id: int
    destination: str
    study_instance_uid: StudyUID
    sop_instance_uid: InstanceUID
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    job_id: JobID | None
    state: DeliveryState
    attempts: int
    not_before: datetime
    reason_code: str | None
    reason_text: str | None
