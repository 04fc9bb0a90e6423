"""Private copies of source headers: complete, in UTF-8, safe to hand to highdicom; sources are never touched."""

import re
from collections.abc import Container, Sequence

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, CTImageStorage
from pydicom.valuerep import DSfloat, format_number_as_ds

from workers.encoding.character_sets import UTF_8
from workers.encoding.source_elements import read_element, read_terms
from workers.pixels import FrameHeader
from workers.volume import Volume

# Identity, patient, de-identification, acquisition, relationship, pixel description, request; no bulk data.
COPIED_GROUPS = frozenset((0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x0032, 0x0040))
CHARACTER_SET = 0x00080005
BULK_VRS = frozenset(("OB", "OW", "OD", "OF", "OL", "OV", "UN"))
# Type 2: highdicom raises AttributeError where one is absent (PS3.3 C.7.1.1, C.7.2.1).
REQUIRED_KEYWORDS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
# Enumerated values: what is none of these says nothing (PS3.3 C.7.1.1, C.7.2.2).
ENUMERATED = {
    "PatientSex": ("M", "F", "O"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "PatientSexNeutered": ("ALTERED", "UNALTERED"),
    "PregnancyStatus": (1, 2, 3, 4),
    "QualityControlSubject": ("YES", "NO"),
    "SmokingStatus": ("YES", "NO", "UNKNOWN"),
}
# What means nothing without the other (type 1C each).
PAIRS = (
    ("ResponsiblePerson", "ResponsiblePersonRole"),
    ("PatientBirthDateInAlternativeCalendar", "PatientAlternativeCalendar"),
)
# Type 2C of animals; any other Sequence without Items is malformed where a Result may hold it.
MAY_BE_EMPTY = ("PatientBreedCodeSequence", "BreedRegistrationSequence")
TIMEZONE = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
# An Item says something when it holds one of each of these; by the end of the Sequence's keyword.
NEEDED_IN_ITEMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "CodeSequence": (
        ("CodeValue", "LongCodeValue", "URNCodeValue"),
        ("CodingSchemeDesignator", "URNCodeValue"),
        ("CodeMeaning",),
    ),
    "PatientIDsSequence": (("PatientID",), ("TypeOfPatientID",)),
    "IssuerOfAccessionNumberSequence": (("LocalNamespaceEntityID", "UniversalEntityID"),),
    "PhysicianIdentificationSequence": (
        ("PersonIdentificationCodeSequence",),
        ("InstitutionName", "InstitutionCodeSequence"),
    ),
    "ReferencedPatientSequence": (("ReferencedSOPClassUID",), ("ReferencedSOPInstanceUID",)),
    "ReferencedStudySequence": (("ReferencedSOPClassUID",), ("ReferencedSOPInstanceUID",)),
}
TRIAL_TYPE_1 = ("ClinicalTrialSponsorName", "ClinicalTrialProtocolID")
TRIAL_TYPE_2 = ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName")
TRIAL_FIRST, TRIAL_LAST = 0x00120010, 0x00120042
TRIAL_SUBJECTS = ("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID")
# What a reference to an Instance needs, and what places a slice.
REFERENCE_TAGS = tuple(
    Tag(keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
)
SLICE_TAGS = (
    *REFERENCE_TAGS,
    *(Tag(keyword) for keyword in ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "SliceThickness")),
)
IMAGE_ORIENTATION, FRAME_OF_REFERENCE = Tag("ImageOrientationPatient"), Tag("FrameOfReferenceUID")
SOP_CLASS = Tag("SOPClassUID")
MODALITY, SLICE_DISTANCE, SLICE_THICKNESS = Tag("Modality"), Tag("SpacingBetweenSlices"), Tag("SliceThickness")


def copy_header(ds: Dataset) -> Dataset:
    """Return everything of `ds` that a Result may need, transcoded to UTF-8 and without private elements.

    Names and identifiers are copied to the letter; malformed values, and Items that lack what gives them a meaning,
    stay behind. Required elements that the source lacks are there and empty.

    References
    ----------
    DICOM PS3.3 C.7.1, C.7.2
    """
    header = _copy_elements(ds, inherited=(), groups=COPIED_GROUPS)
    header.SpecificCharacterSet = UTF_8
    _leave_out_meaningless(header)
    _complete_trial(header)
    for keyword in REQUIRED_KEYWORDS:
        if keyword not in header:
            setattr(header, keyword, "")
    if "Modality" not in header:
        header.Modality = "OT"
    if header.get("PatientIdentityRemoved") == "YES" and not _tells_how(header):
        header.DeidentificationMethod = "Not stated by the source"
    return header


def copy_slices(volume: Volume, indices: Sequence[int]) -> list[Dataset]:
    """Return headers of some slices of a Volume, in this order; the first is complete, the others geometry only.

    Those of Frames look like a CT's of one Frame: highdicom asks the SOP Class whether to look for functional groups.

    Parameters
    ----------
    indices
        Positions along the first axis of the Volume; not empty.
    """
    first, *others = sources = [volume.datasets[index] for index in indices]
    headers = [copy_header(first), *map(_copy_geometry, others)]
    # Geometry is proven, Spacing Between Slices is hearsay (PS3.3 C.7.6.2.1.1).
    distance = DSfloat(format_number_as_ds(volume.spacing_mm[0]))
    # highdicom wants one orientation to the last digit; scanners round each slice by itself.
    orientation = volume.datasets[0][IMAGE_ORIENTATION].value
    for header, source in zip(headers, sources, strict=True):
        if isinstance(source, FrameHeader):
            header[SOP_CLASS] = _element(SOP_CLASS, "UI", CTImageStorage)
        header[MODALITY] = _element(MODALITY, "CS", headers[0].Modality)
        header[IMAGE_ORIENTATION] = _element(IMAGE_ORIENTATION, "DS", orientation)
        header[FRAME_OF_REFERENCE] = _element(FRAME_OF_REFERENCE, "UI", UID(volume.frame_of_reference_uid))
        header[SLICE_DISTANCE] = _element(SLICE_DISTANCE, "DS", distance)
        if SLICE_THICKNESS not in header or not header[SLICE_THICKNESS].value:
            header[SLICE_THICKNESS] = _element(SLICE_THICKNESS, "DS", distance)
    return headers


def refer_to(ds: Dataset) -> Dataset:
    """Return a header that holds no more than a reference to `ds` needs."""
    return Dataset({tag: _element(tag, "UI", ds[tag].value) for tag in REFERENCE_TAGS})


def _element(tag: BaseTag, vr: str, value: object) -> DataElement:
    return DataElement(tag, vr, value, already_converted=True)


def _copy_geometry(ds: Dataset) -> Dataset:
    elements = (read_element(ds, tag, ()) for tag in SLICE_TAGS)
    return Dataset({element.tag: element for element in elements if element is not None})


def _copy_elements(ds: Dataset, *, inherited: Sequence[str], groups: Container[int] | None) -> Dataset:
    """Return a transcoded copy; `groups` None takes all."""
    terms = read_terms(ds, inherited)
    copied: dict[BaseTag, DataElement | RawDataElement] = {}
    for tag in sorted(ds.keys(), key=int):
        group = tag >> 16
        if group % 2 or (groups is not None and group not in groups) or int(tag) == CHARACTER_SET:
            continue
        element = read_element(ds, tag, terms)
        if element is None or element.VR in BULK_VRS:
            continue
        if element.VR == "SQ":
            items = _copy_items(element, terms)
            if not items and element.keyword not in MAY_BE_EMPTY:
                continue
            element = _element(tag, "SQ", DicomSequence(items))
        copied[tag] = element
    return Dataset(copied)


def _copy_items(sequence: DataElement, terms: Sequence[str]) -> list[Dataset]:
    """Return the Items that say something, without empty elements."""
    needed = next((some for end, some in NEEDED_IN_ITEMS.items() if sequence.keyword.endswith(end)), ())
    items = []
    for source in sequence.value or ():
        item = _copy_elements(source, inherited=terms, groups=None)
        for tag in [element.tag for element in item if element.is_empty]:
            del item[tag]
        if len(item) and all(any(keyword in item for keyword in some) for some in needed):
            items.append(item)
    return items


def _leave_out_meaningless(header: Dataset) -> None:
    """Take away in place what its own standard forbids: unknown enumerated values, halves of pairs, odd offsets."""
    meaningless = [keyword for keyword, known in ENUMERATED.items() if (header.get(keyword) or known[0]) not in known]
    for pair in PAIRS:
        if len([keyword for keyword in pair if header.get(keyword)]) == 1:
            meaningless += pair
    if not TIMEZONE.fullmatch(str(header.get("TimezoneOffsetFromUTC"))):
        meaningless.append("TimezoneOffsetFromUTC")
    for keyword in meaningless:
        if keyword in header:
            delattr(header, keyword)


def _complete_trial(header: Dataset) -> None:
    """Fill or take away in place the Clinical Trial Subject Module: it is whole or absent (PS3.3 C.7.1.3)."""
    is_named = all(header.get(keyword) for keyword in TRIAL_TYPE_1)
    if is_named and any(header.get(keyword) for keyword in TRIAL_SUBJECTS):
        for keyword in TRIAL_TYPE_2:
            if keyword not in header:
                setattr(header, keyword, "")
        return
    for element in header[TRIAL_FIRST : TRIAL_LAST + 1]:
        del header[element.tag]


def _tells_how(header: Dataset) -> bool:
    """Return whether the source says how the identity was removed (type 1C, PS3.3 C.7.1.1)."""
    return bool(header.get("DeidentificationMethod") or header.get("DeidentificationMethodCodeSequence"))
