"""Instance, Series and Study: what the node keeps of their headers, and nothing of their pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from node.domain.imaging_order import ImagingOrder
from node.domain.prior import PriorState, PriorTerms
from node.domain.steering import Answered
from node.domain.uids import InstanceUID, SeriesUID, StudyUID

# What rules, routing and worklists read of a header. Values are kept as JSON: str, float, list, or absent.
KEPT_KEYWORDS = (
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "StudyTime", "SeriesDate",
    "SeriesTime", "AcquisitionDate", "AcquisitionTime", "AccessionNumber", "Modality", "ConversionType",
    "PresentationIntentType", "Manufacturer", "InstitutionName", "ReferringPhysicianName", "StationName",
    "StudyDescription",
    "SeriesDescription", "InstitutionalDepartmentName", "ManufacturerModelName", "PatientName", "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate", "PatientSex", "PatientAge", "ContrastBolusAgent", "BodyPartExamined", "ScanningSequence",
    "SequenceVariant", "ScanOptions", "SequenceName", "SliceThickness", "KVP", "RepetitionTime", "EchoTime",
    "InversionTime", "SpacingBetweenSlices", "DeviceSerialNumber", "ProtocolName", "ConvolutionKernel",
    "GantryDetectorTilt", "PatientPosition", "ViewPosition", "StudyInstanceUID", "SeriesInstanceUID", "StudyID",
    "SeriesNumber", "AcquisitionNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "FrameOfReferenceUID", "Laterality", "ImageLaterality", "NumberOfFrames", "Rows", "Columns", "PixelSpacing",
    "ImagerPixelSpacing", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation",
    "RescaleIntercept", "RescaleSlope", "BurnedInAnnotation", "RequestedProcedureDescription",
    "DiffusionBValue", "NominalPercentageOfCardiacPhase", "TemporalPositionIdentifier", "RequestingService",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "ImagesInAcquisition",
)  # fmt: skip

# What is the same in every Instance of a Study, or it is not of one patient.
PATIENT_KEYWORDS = ("PatientID", "PatientBirthDate")
# Image Position (Patient) of the Frames of a multi-frame image, mm: all x, all y, all z, each once where all Frames
# have the same; beside the attributes that its functional groups hold. No keyword of DICOM.
FRAME_POSITIONS = "FramePlaces"
# Whether contrast was given, where not Contrast/Bolus Agent (0018,0010) tells but a Sequence, or the lack of one:
# "YES" or "NO". No keyword of DICOM.
CONTRAST_GIVEN = "ContrastGiven"
# Code Sequences; kept as a list of codes, each behind its Coding Scheme Designator: ``SCT:51185008``.
CODED_KEYWORDS = ("AnatomicRegionSequence", "ProcedureCodeSequence", "RequestedProcedureCodeSequence")
# Kept in a form that is not DICOM's.
FOR_RULES = frozenset({FRAME_POSITIONS, CONTRAST_GIVEN, *CODED_KEYWORDS})

Attributes = Mapping[str, Any]


def list_frame_positions(attributes: Attributes) -> list[list[float]]:
    """Return Image Position (Patient) of each Frame of a multi-frame image, mm; empty where they are not told."""
    columns = attributes.get(FRAME_POSITIONS) or []
    count = int(attributes.get("NumberOfFrames") or 0)
    spread = [column * count if len(column) == 1 else column for column in columns]
    return [[x, y, z] for x, y, z in zip(*spread, strict=True)]


class Place(NamedTuple):
    """Where an Instance belongs, as its data set says."""

    study_instance_uid: StudyUID
    series_instance_uid: SeriesUID
    sop_instance_uid: InstanceUID


class KnownInstance(NamedTuple):
    """The version of an Instance that counts.

    Attributes
    ----------
    digest
        Of its data set.
    says
        Digest of the version that said first what this one says, in whatever encoding; its own, if nobody did before.
    path
        Where its file lies, relative to the store's root.
    """

    study_instance_uid: str
    series_instance_uid: str
    digest: str
    says: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a version of an Instance says, beside the one that counted before.

    Attributes
    ----------
    says
        As `KnownInstance.says`.
    difference
        How it differs, in words and without values; empty where it says the same.
    """

    says: str
    difference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFacts:
    """One received Instance, as the ledger keeps it.

    Attributes
    ----------
    attributes
        Keyword to value for those of `KEPT_KEYWORDS` and `CODED_KEYWORDS` that are present and not empty, and
        `FRAME_POSITIONS` and `CONTRAST_GIVEN` where a multi-frame image tells them.
    path
        Where the Part 10 file lies, relative to the store's root.
    pixel_data_offset
        Byte of the file at which the value of Pixel Data (7FE0,0010) begins; None when there is none or the data set
        is deflated.
    digest
        BLAKE3 of the data set as received, without preamble and File Meta Information.
    association_id
        Which Association or request brought it.
    comparison
        With the version that counted; None: it is the first, or nobody has compared them.
    """

    study_instance_uid: StudyUID
    series_instance_uid: SeriesUID
    sop_instance_uid: InstanceUID
    sop_class_uid: str
    transfer_syntax_uid: str
    attributes: Attributes
    path: str
    size_bytes: int
    digest: str
    pixel_data_offset: int | None
    association_id: str
    calling_aet: str
    received_at: datetime
    comparison: Comparison | None = None

    @property
    def place(self) -> Place:
        """Where it belongs."""
        return Place(self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)

    @property
    def says(self) -> str:
        """As `KnownInstance.says`."""
        return self.digest if self.comparison is None else self.comparison.says


class SeriesState(StrEnum):
    """How far a Series (and a Study) has come; PURGED is a Study whose Instances are no longer kept."""

    OPEN = "OPEN"
    SETTLED = "SETTLED"
    ROUTED = "ROUTED"
    PURGED = "PURGED"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """One Series with what rules may ask of it.

    Attributes
    ----------
    attributes
        Attributes of the Instance with the lowest Instance Number; `ImageType` and the like are those of all Instances
        when they agree, else of that one.
    slice_positions_mm
        Distance of each slice along the normal, sorted, mm; empty without Image Position (Patient).
    slice_spacing_mm
        Median distance of neighbouring positions, mm; None with fewer than two positions.
    sop_instance_uids
        Every Instance, sorted.
    says
        What each of them says, in the same order (`KnownInstance.says`); empty outside the ledger.
    disputed
        Keyword to the values that Instances have, for each of `PATIENT_KEYWORDS` in which they differ.
    calling_aet
        AE title that sent the first Instance.
    is_own_result
        True when radnode wrote it; never processed again.
    """

    series_instance_uid: SeriesUID
    study_instance_uid: StudyUID
    state: SeriesState
    attributes: Attributes
    sop_class_uids: tuple[str, ...]
    sop_instance_uids: tuple[InstanceUID, ...]
    slice_positions_mm: tuple[float, ...]
    slice_spacing_mm: float | None
    calling_aet: str
    is_own_result: bool
    says: tuple[str, ...] = ()
    disputed: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class SoughtPriors:
    """How far one search for priors of a Study has come.

    Attributes
    ----------
    until
        So long Jobs wait for it.
    is_late
        True when it was not over by then.
    text
        Why there is none, in words; empty unless there is none.
    studies
        Earlier Studies that were found and are here, the newest first.
    """

    terms: PriorTerms
    state: PriorState
    until: datetime
    is_late: bool
    text: str
    studies: tuple["StudyFacts", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """One Study with its Series, sorted by Series Number, then UID.

    Attributes
    ----------
    revision
        Grows each time the Study is reopened; 0 outside the ledger. Decisions are about one revision.
    answered
        What Pipelines concluded so far about what the Study holds now.
    orders
        What RIS and HIS asked for, as far as it is about the Study.
    priors
        Searches for earlier Studies of the patient.
    is_prior
        True when it is here only because another Study wanted it; no rule is asked of it.
    """

    study_instance_uid: StudyUID
    state: SeriesState
    attributes: Attributes
    series: tuple[SeriesFacts, ...]
    revision: int = 0
    answered: tuple[Answered, ...] = ()
    orders: tuple[ImagingOrder, ...] = ()
    priors: tuple[SoughtPriors, ...] = ()
    is_prior: bool = False
