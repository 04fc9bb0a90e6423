"""Private copies of source headers: complete, in UTF-8, safe to hand to highdicom; sources are never touched."""

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.config import IGNORE, RAISE
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName, format_number_as_ds, validate_value

from workers.volume import Volume

UTF_8 = "ISO_IR 192"
# Identity, patient, de-identification, acquisition, relationship, pixel description, request; no bulk data.
COPIED_GROUPS = (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x0032, 0x0040)
BULK_VRS = ("OB", "OW", "OD", "OF", "OL", "OV", "UN")
# A malformed value of these breaks the object it is copied into; it is dropped. Text is kept as it is.
STRICT_VRS = ("AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI")
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
KNOWN_SEXES = ("M", "F", "O")
SLICE_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "SliceThickness",
)


def copy_header(ds: Dataset) -> Dataset:
    """Return everything of `ds` that a Result may need, transcoded to UTF-8 and without private elements.

    Required elements that the source lacks are there and empty.
    """
    header = _copy_elements(ds, groups=COPIED_GROUPS)
    header.SpecificCharacterSet = UTF_8
    for keyword in REQUIRED_KEYWORDS:
        if keyword not in header:
            setattr(header, keyword, "")
    if header.PatientSex not in KNOWN_SEXES:
        header.PatientSex = ""
    return header


def copy_slices(volume: Volume, indices: Sequence[int]) -> list[Dataset]:
    """Return headers of some slices of a Volume, in slice order; the first is complete, the others geometry only.

    Parameters
    ----------
    indices
        Positions along the first axis of the Volume; not empty.
    """
    slices = [copy_header(volume.datasets[indices[0]])]
    slices += [_copy_geometry(volume.datasets[index]) for index in indices[1:]]
    distance = format_number_as_ds(volume.spacing_mm[0])
    for header in slices:
        # highdicom wants one orientation to the last digit; scanners round each slice by itself.
        header.ImageOrientationPatient = list(volume.datasets[0].ImageOrientationPatient)
        header.FrameOfReferenceUID = volume.frame_of_reference_uid
        # Geometry is proven, Spacing Between Slices is hearsay (PS3.3 C.7.6.2.1.1).
        header.SpacingBetweenSlices = distance
        if not header.get("SliceThickness"):
            header.SliceThickness = distance
    return slices


def refer_to(ds: Dataset) -> Dataset:
    """Return a header that holds no more than a reference to `ds` needs."""
    reference = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(reference, keyword, str(ds.get(keyword)))
    return reference


def _copy_geometry(ds: Dataset) -> Dataset:
    header = Dataset()
    for keyword in SLICE_KEYWORDS:
        if keyword in ds and ds[keyword].value is not None:
            setattr(header, keyword, ds[keyword].value)
    return header


def _copy_elements(ds: Dataset, *, groups: Sequence[int] | None) -> Dataset:
    """Return a transcoded copy; `groups` None takes all."""
    copied = Dataset()
    for tag in sorted(ds.keys()):
        if tag.is_private or (groups is not None and tag.group not in groups):
            continue
        element = _read_element(ds, tag)
        if element is None or element.VR in BULK_VRS or element.keyword == "SpecificCharacterSet":
            continue
        value = _copy_value(element)
        if element.VR in STRICT_VRS and not _is_valid(element.VR, value):
            continue
        copied.add(DataElement(tag, element.VR, value, validation_mode=IGNORE))
    return copied


def _read_element(ds: Dataset, tag: BaseTag) -> DataElement | None:
    """Return an element, or None where its bytes are no value of its VR (letters in a DS)."""
    try:
        return ds[tag]
    except (ValueError, TypeError, OverflowError, NotImplementedError):
        return None


def _copy_value(element: DataElement) -> object:
    if element.VR == "SQ":
        return DicomSequence([_copy_elements(item, groups=None) for item in element.value or []])
    values = list(element.value) if isinstance(element.value, MultiValue) else [element.value]
    if element.VR == "PN":
        # str() joins the component groups after decoding each in its own character set.
        values = [PersonName(str(value)) if value else "" for value in values]
    return values if isinstance(element.value, MultiValue) else values[0]


def _is_valid(vr: str, value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    try:
        for one in values:
            if one is not None:
                validate_value(vr, str(one), RAISE)
    except ValueError:
        return False
    return True
