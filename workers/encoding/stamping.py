"""What every object gets after highdicom made it: our Series, our time stamps, nothing random."""

from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from node.domain.codes import LOCAL_SCHEME
from node.domain.result import OWN_MANUFACTURER
from node.domain.uids import derive_uid
from workers.provenance import Provenance

DATE_AND_TIME = (
    ("SeriesDate", "SeriesTime"),
    ("ContentDate", "ContentTime"),
    ("InstanceCreationDate", "InstanceCreationTime"),
)
# Copied where highdicom does not: they are in modules that it does not read.
COPIED_KEYWORDS = ("TimezoneOffsetFromUTC", "InstitutionName")
LIBRARY_NAME = "highdicom"
REFERENCE_TYPES = ("IMAGE", "COMPOSITE")
# Any other value may call for a Laterality that the source need not have.
UNPAIRED_BODY_PARTS = ("CHEST", "BRAIN", "HEAD", "SKULL", "NECK", "ABDOMEN", "PELVIS")


def identify_object(provenance: Provenance, *tag: str, series_number: int) -> dict[str, Any]:
    """Return of which Series a new object is, which one of it, and who made it, in the words of highdicom.

    Parameters
    ----------
    tag
        What tells it from the other objects of its Job.
    series_number
        Of its kind of objects, before the offset of the model.
    """
    return {
        "series_instance_uid": provenance.uid(*tag, "series"),
        "series_number": series_number + provenance.model.series_offset,
        "sop_instance_uid": provenance.uid(*tag),
        "instance_number": 1,
        "manufacturer": OWN_MANUFACTURER,
        "manufacturer_model_name": provenance.pipeline,
        "software_versions": provenance.software_version,
        "device_serial_number": provenance.node_aet,
    }


def stamp_object(ds: Dataset, source: Dataset, provenance: Provenance, *, kind: str) -> None:
    """Overwrite in place what highdicom drew from the clock or from chance.

    Parameters
    ----------
    ds
        The new object.
    source
        Complete header of the source (`workers.encoding.headers.copy_header`).
    kind
        ``SEG``, ``SR`` or ``SC``.
    """
    for keyword in COPIED_KEYWORDS:
        if source.get(keyword):
            setattr(ds, keyword, source.get(keyword))
    date, time = provenance.date_and_time(str(source.get("TimezoneOffsetFromUTC") or ""))
    for date_keyword, time_keyword in DATE_AND_TIME:
        setattr(ds, date_keyword, date)
        setattr(ds, time_keyword, time)
    ds.SeriesDescription = provenance.series_description(kind)
    for equipment in ds.get("ContributingEquipmentSequence") or ():
        if equipment.get("ManufacturerModelName") == LIBRARY_NAME:
            equipment.ContributionDateTime = date + time
    _name_dimensions(ds, provenance.uid(kind, "dimensions"))


def name_body_part(ds: Dataset, source: Dataset) -> None:
    """Put in place Body Part Examined where it is no paired organ, else an empty Laterality (2C, PS3.3 C.7.3.1)."""
    if source.get("BodyPartExamined") in UNPAIRED_BODY_PARTS:
        ds.BodyPartExamined = source.BodyPartExamined
    else:
        ds.Laterality = None


def describe_request(source: Dataset) -> list[Dataset]:
    """Return the items of Referenced Request Sequence (0040,A370), one for each request that the source names.

    A source that tells no request but an Accession Number was requested nonetheless.

    References
    ----------
    DICOM PS3.3 C.17.2
    """
    requests = []
    bare = [Dataset()] if source.get("AccessionNumber") else []
    for attributes in source.get("RequestAttributesSequence") or bare:
        item = Dataset()
        item.StudyInstanceUID = source.StudyInstanceUID
        item.ReferencedStudySequence = DicomSequence()
        item.AccessionNumber = attributes.get("AccessionNumber") or source.AccessionNumber or ""
        for keyword in ("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"):
            setattr(item, keyword, attributes.get(keyword) or source.get(keyword) or "")
        item.RequestedProcedureID = attributes.get("RequestedProcedureID") or ""
        item.RequestedProcedureDescription = (
            attributes.get("RequestedProcedureDescription") or source.get("RequestedProcedureDescription") or ""
        )
        codes = attributes.get("RequestedProcedureCodeSequence") or source.get("RequestedProcedureCodeSequence")
        item.RequestedProcedureCodeSequence = codes or DicomSequence()
        requests.append(item)
    return requests


def name_coding_schemes(ds: Dataset, schemes: set[str]) -> None:
    """Explain in place the local coding schemes that `ds` uses (PS3.3 C.12.1.1.7)."""
    local = sorted(scheme for scheme in schemes if scheme.startswith("99"))
    if not local:
        return
    items = []
    for scheme in local:
        item = Dataset()
        item.CodingSchemeDesignator = scheme
        if scheme == LOCAL_SCHEME:
            # Of the scheme of somebody's model no more is known than its name.
            item.CodingSchemeUID = derive_uid("coding scheme", scheme)
            item.CodingSchemeName = "Codes of radnode"
            item.CodingSchemeResponsibleOrganization = "radnode project"
        items.append(item)
    ds.CodingSchemeIdentificationSequence = DicomSequence(items)


def unname_references(selection: Dataset) -> None:
    """Take off, in place, the purpose that highdicom gives each object of a Key Object Selection.

    Without it, TID 2010 is met as PixelMed's validator reads it, and nobody needs it: the title says why an object is
    selected.

    References
    ----------
    DICOM PS3.16 TID 2010
    """
    for item in selection.ContentSequence:
        if item.ValueType in REFERENCE_TYPES:
            del item.ConceptNameCodeSequence


def _name_dimensions(ds: Dataset, uid: str) -> None:
    for keyword in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in ds.get(keyword) or ():
            item.DimensionOrganizationUID = uid
