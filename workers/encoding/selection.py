"""A Key Object Selection Document: some objects of a Study, a title and a sentence (PS3.3 A.35.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.coding import Code as CodedConcept

from node.domain.result import OWN_MANUFACTURER
from workers.encoding.concepts import DEVICE
from workers.encoding.stamping import describe_request, identify_object, stamp_object, unname_references
from workers.provenance import Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is selected, and how the document is called.

    Attributes
    ----------
    objects
        Headers of what is selected, each Instance once, complete enough to be referred to.
    frames
        SOP Instance UID to the numbers of the Frames that are meant; empty or absent where all are.
    kind
        Stands in Series Description.
    tag
        What tells the document's UIDs from those of the Job's other objects.
    """

    title: CodedConcept
    description: str | None
    objects: Sequence[Dataset]
    kind: str
    tag: tuple[str, ...]
    series_number: int
    frames: Mapping[str, Sequence[int]] = field(default_factory=dict)


def write_selection(selection: Selection, header: Dataset, provenance: Provenance) -> Dataset:
    """Return the document.

    Parameters
    ----------
    header
        From which patient and Study are taken (`workers.encoding.headers.copy_header`).

    References
    ----------
    DICOM PS3.3 A.35.4, PS3.16 TID 2010
    """
    document = hd.ko.KeyObjectSelectionDocument(
        evidence=selection.objects,
        content=hd.ko.KeyObjectSelection(
            document_title=selection.title,
            referenced_objects=selection.objects,
            observer_device_context=_observe(provenance),
            description=selection.description,
        ),
        **identify_object(provenance, *selection.tag, series_number=selection.series_number),
        requested_procedures=describe_request(header) or None,
    )
    document.copy_patient_and_study_information(header)
    unname_references(document)
    _name_frames(document, selection.frames)
    stamp_object(document, header, provenance, kind=selection.kind)
    return document


def _name_frames(document: Dataset, frames: Mapping[str, Sequence[int]]) -> None:
    """Put in place which Frames are selected; highdicom has no argument for it (PS3.3 C.18.4)."""
    for item in document.ContentSequence:
        for reference in item.get("ReferencedSOPSequence") or ():
            numbers = frames.get(str(reference.ReferencedSOPInstanceUID))
            if numbers:
                reference.ReferencedFrameNumber = list(numbers)


def _observe(provenance: Provenance) -> hd.sr.ObserverContext:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=provenance.device_uid(),
        name=provenance.node_aet,
        manufacturer_name=OWN_MANUFACTURER,
        model_name=provenance.pipeline,
        serial_number=provenance.node_aet,
    )
    return hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept.from_code(DEVICE), observer_identifying_attributes=device
    )
