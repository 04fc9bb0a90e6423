"""One walk through an object: which Instances it refers to, and which of its UIDs are none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from node.domain.uids import check_uid
from node.errors import BadIdentifier

INSTANCE, SOP_CLASS = Tag("ReferencedSOPInstanceUID"), Tag("ReferencedSOPClassUID")
SERIES, STUDY = Tag("SeriesInstanceUID"), Tag("StudyInstanceUID")
PREDECESSORS = Tag("PredecessorDocumentsSequence")
UNREAD_SEQUENCES = frozenset(
    Tag(keyword)
    for keyword in (
        # These name a Study, a request, a step or another document, not an Instance that was read.
        "ReferencedStudySequence",
        "ReferencedPatientSequence",
        "ReferencedRequestSequence",
        "ReferencedPerformedProcedureStepSequence",
        "IdenticalDocumentsSequence",
        # Most of an SR is codes; none of them refers to an Instance (PS3.3 8).
        "ConceptNameCodeSequence",
        "ConceptCodeSequence",
        "MeasuredValueSequence",
        # Most of a SEG of organs: place and meaning of thousands of Frames.
        "DerivationCodeSequence",
        "PurposeOfReferenceCodeSequence",
        "FrameContentSequence",
        "PlanePositionSequence",
        "SegmentIdentificationSequence",
    )
)
UNDEFINED_LENGTH = 0xFFFFFFFF  # PS3.5 7.5.2
EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
LISTINGS = (*EVIDENCE, "ReferencedSeriesSequence", "StudiesContainingOtherReferencedInstancesSequence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One mention of another Instance.

    Attributes
    ----------
    sop_class_uid
        Referenced SOP Class UID (0008,1150); empty where it is absent.
    series_instance_uid, study_instance_uid
        Where the object says that the Instance belongs; empty where it says nothing.
    place
        Keyword of the outermost element that holds the mention.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    place: str

    @property
    def is_listing(self) -> bool:
        """True where the object lists what it refers to elsewhere (PS3.3 C.12.2, C.17.2.3)."""
        return self.place in LISTINGS


@dataclass(slots=True, kw_only=True)
class Inventory:
    """What one walk found.

    Attributes
    ----------
    bad_uids
        What is wrong with each UID that is none.
    cut
        Keyword of each element whose value is shorter than its length says.
    predecessors
        SOP Instance UIDs of the documents that this one replaces.
    """

    references: list[Reference] = field(default_factory=list)
    bad_uids: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    predecessors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where in the object the walk is."""

    keyword: str = ""
    series_instance_uid: str = ""
    study_instance_uid: str = ""
    is_predecessor: bool = False


def take_inventory(ds: Dataset) -> Inventory:
    """Return what `ds` refers to.

    Elements are looked at as they were read, without converting what holds no UID: half of the time of the gate
    went into that.

    References
    ----------
    DICOM PS3.3 C.12.2, C.17.2; PS3.5 9.1
    """
    inventory = Inventory()
    known: set[str] = set()
    for part in (ds.get("file_meta"), ds):
        if part is not None:
            _walk(part, _Place(), inventory, known)
    return inventory


def _walk(ds: Dataset, place: _Place, inventory: Inventory, known: set[str]) -> None:
    uids: dict[BaseTag, str] = {}
    sequences = []
    for element in _elements(ds):
        if isinstance(element, RawDataElement) and _is_cut(element):
            inventory.cut.append(_name(element.tag))
        if element.VR == "UI":
            uids[element.tag] = _note_uids(element, inventory, known)
        elif element.VR == "SQ" and element.tag not in UNREAD_SEQUENCES:
            sequences.append(element.tag)
    _note_reference(uids, place, inventory)
    for tag in sequences:
        inner = _step_into(tag, place, uids)
        for item in ds[tag].value or ():
            _walk(item, inner, inventory, known)


def _elements(ds: Dataset) -> Iterator[DataElement | RawDataElement]:
    for element in ds.values():
        # Implicit VR tells no VR before it is looked up (PS3.5 7.1.3).
        yield ds[element.tag] if element.VR is None or element.VR == "UN" else element


def _read_uids(value: object) -> Sequence[str]:
    if isinstance(value, bytes):
        value = value.decode("ascii", "backslashreplace").strip(" \0")
        return value.split("\\") if value else ()
    if isinstance(value, MultiValue):
        return [str(one) for one in value]
    return (str(value),) if value else ()


def _note_uids(element: DataElement | RawDataElement, inventory: Inventory, known: set[str]) -> str:
    """Return the first UID of an element; judge those that were not seen before."""
    values = _read_uids(element.value)
    for value in values:
        if value not in known:
            known.add(value)
            try:
                check_uid(value, keyword=_name(element.tag))
            except BadIdentifier as exc:
                inventory.bad_uids.append(str(exc))
    return values[0] if values else ""


def _is_cut(element: RawDataElement) -> bool:
    is_told = element.length != UNDEFINED_LENGTH and isinstance(element.value, bytes)
    return is_told and len(element.value or b"") < element.length


def _name(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or str(tag)


def _note_reference(uids: dict[BaseTag, str], place: _Place, inventory: Inventory) -> None:
    uid = uids.get(INSTANCE)
    if uid is None:
        return
    if place.is_predecessor:
        inventory.predecessors.append(uid)
        return
    inventory.references.append(
        Reference(
            sop_instance_uid=uid,
            sop_class_uid=uids.get(SOP_CLASS, ""),
            series_instance_uid=place.series_instance_uid,
            study_instance_uid=place.study_instance_uid,
            place=place.keyword,
        )
    )


def _step_into(tag: BaseTag, place: _Place, uids: dict[BaseTag, str]) -> _Place:
    if not place.keyword:
        # The root's own Study and Series say nothing about what it refers to.
        return _Place(keyword=_name(tag), is_predecessor=tag == PREDECESSORS)
    return _Place(
        keyword=place.keyword,
        series_instance_uid=uids.get(SERIES, place.series_instance_uid),
        study_instance_uid=uids.get(STUDY, place.study_instance_uid),
        is_predecessor=place.is_predecessor,
    )
