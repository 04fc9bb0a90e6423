"""Result and Delivery: one DICOM object that radnode wrote, and its way to one Destination."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from node.domain.job import JobID
from node.domain.study import Attributes
from node.domain.uids import InstanceUID, SeriesUID, StudyUID

# Manufacturer (0008,0070) of every object that radnode writes; by it own Results are known when they come back.
OWN_MANUFACTURER = "radnode"


class ResultKind(StrEnum):
    """Which kind of object a Result is; its Modality (0008,0060), but for SC (OT) and rejection notes (KO)."""

    SEG = "SEG"
    SR = "SR"
    SC = "SC"
    KO = "KO"
    PR = "PR"
    DOC = "DOC"
    REJECTION_NOTE = "REJECT"


class SegmentationForm(StrEnum):
    """How the pixels of a SEG are kept; PS3.3 C.8.20.2.3."""

    BINARY = "binary"
    LABELMAP = "labelmap"


class OptionalResult(StrEnum):
    """What a Job writes beside SEG and SR where the settings ask for it."""

    PICTURE = "picture"
    KEY_OBJECTS = "key-objects"
    PRESENTATION_STATE = "presentation-state"
    PDF = "pdf"
    HEAT_MAP = "heat-map"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultWishes:
    """Which Results a Job is to write beside its SR.

    Attributes
    ----------
    optional
        Delivered like SEG and SR. The picture is written without being wished for: it then only stands in where a
        Destination takes no SEG or SR.
    """

    segmentation: SegmentationForm = SegmentationForm.BINARY
    optional: frozenset[OptionalResult] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One DICOM object that a Job produced; its bytes lie in the store.

    Attributes
    ----------
    is_substitute
        True for the picture that nobody wished for: it is delivered only where a Destination takes no SEG or SR.
    retracted_at
        When a person took it back (UTC).
    purged_at
        When its file was given up (UTC).
    attributes
        What is searched of it and its Series, by keyword, and nothing of the patient; empty when an earlier version
        wrote it.
    """

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
    is_substitute: bool = False
    retracted_at: datetime | None = None
    purged_at: datetime | None = None
    attributes: Attributes = field(default_factory=dict)


class DeliveryState(StrEnum):
    """How far an object is on its way to a Destination.

    SENT is what the Destination answered; COMMITTED, that it was asked later and holds the object; LOST, that it does
    not.
    """

    PENDING = "PENDING"
    SENT = "SENT"
    COMMITTED = "COMMITTED"
    LOST = "LOST"
    REFUSED = "REFUSED"

    @property
    def has_arrived(self) -> bool:
        """Whether the Destination took the object, and nothing says that it lost it."""
        return self in (DeliveryState.SENT, DeliveryState.COMMITTED)


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
    seen_at
        When a person took note that it stays refused (UTC).
    size_bytes
        Length of the file when it was stored; None where that is not asked for, or not known.
    doubts
        How many of its attempts ended in an answer that is not believed for ever, since it was ordered or last made due
        by hand.
    ordered_at
        When it was ordered, or last made due anew (UTC); None where that is not asked for.
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
    seen_at: datetime | None = None
    size_bytes: int | None = None
    doubts: int = 0
    ordered_at: datetime | None = None
