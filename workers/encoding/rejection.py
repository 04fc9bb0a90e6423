"""A rejection note tells archives and viewers that Results were taken back (IHE IOCM; PS3.3 A.35.4)."""

from collections.abc import Sequence

import highdicom as hd
from pydicom import Dataset

from node.domain import codes
from node.domain.result import OWN_MANUFACTURER, ResultKind
from node.domain.retraction import RejectionReason, Retraction
from node.errors import ResultCheckFailed
from workers.encoding.concepts import DEVICE, to_concept
from workers.encoding.encoder import EncodedResult, serialize
from workers.encoding.headers import copy_header
from workers.encoding.quiet import quiet_libraries
from workers.encoding.stamping import describe_request, stamp_object, unname_references
from workers.provenance import Provenance

REJECTION_SERIES_NUMBER = 9700
# PS3.16 CID 7010; IHE RAD TF-3 4.66.4.1.3.
TITLES = {
    RejectionReason.QUALITY: to_concept(codes.REJECTED_FOR_QUALITY),
    RejectionReason.PATIENT_SAFETY: to_concept(codes.REJECTED_FOR_SAFETY),
    RejectionReason.WRONG_WORKLIST_ENTRY: to_concept(codes.WRONG_WORKLIST_ENTRY),
}
TAG = "rejection note"


def encode_rejection(rejected: Sequence[Dataset], retraction: Retraction, provenance: Provenance) -> EncodedResult:
    """Return the Key Object Selection Document that rejects these objects.

    Parameters
    ----------
    rejected
        The Results as they were written, all of one Study; not empty.
    provenance
        Of the Job that wrote them, its time the moment of the order.

    Raises
    ------
    ResultCheckFailed
        If they belong to more than one patient or Study.

    References
    ----------
    DICOM PS3.16 TID 2010, CID 7010
    """
    for keyword in ("PatientID", "StudyInstanceUID"):
        if len({str(ds.get(keyword)) for ds in rejected}) != 1:
            raise ResultCheckFailed(f"rejection note: the objects differ in {keyword}; each Study needs its own note")
    with quiet_libraries():
        note = _write_note(rejected, retraction, provenance)
    return serialize(note, ResultKind.REJECTION_NOTE)


def _write_note(rejected: Sequence[Dataset], retraction: Retraction, provenance: Provenance) -> Dataset:
    header = copy_header(rejected[0])
    headers = [header, *(copy_header(ds) for ds in rejected[1:])]
    note = hd.ko.KeyObjectSelectionDocument(
        evidence=headers,
        content=hd.ko.KeyObjectSelection(
            document_title=TITLES[retraction.order.reason],
            referenced_objects=headers,
            observer_device_context=_observe(provenance),
            description=retraction.order.comment or None,
        ),
        series_instance_uid=provenance.uid(TAG, retraction.retraction_id, "series"),
        series_number=REJECTION_SERIES_NUMBER + provenance.model.series_offset,
        sop_instance_uid=provenance.uid(TAG, retraction.retraction_id),
        instance_number=1,
        manufacturer=OWN_MANUFACTURER,
        requested_procedures=describe_request(header) or None,
    )
    unname_references(note)
    stamp_object(note, header, provenance, kind=TAG)
    return note


def _observe(provenance: Provenance) -> hd.sr.ObserverContext:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=provenance.device_uid(), name=provenance.node_aet, manufacturer_name=OWN_MANUFACTURER
    )
    return hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept.from_code(DEVICE), observer_identifying_attributes=device
    )
