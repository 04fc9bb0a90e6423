"""The slices that show the Findings best become a Key Object Selection Document (PS3.3 A.35.4)."""

import highdicom as hd
from pydicom import Dataset

from node.domain import codes
from node.domain.result import OWN_MANUFACTURER
from workers.encoding.concepts import DEVICE, to_concept
from workers.encoding.draft import Draft, each_once, list_key_images
from workers.encoding.headers import copy_header, refer_to
from workers.encoding.stamping import describe_request, stamp_object, unname_references
from workers.provenance import KO_SERIES_NUMBER, Provenance

TITLE = to_concept(codes.OF_INTEREST)
DESCRIPTION = "AI result, unverified. Not for diagnosis."


def encode_key_objects(draft: Draft) -> Dataset | None:
    """Return the selection of the key images of all Findings, and of the SR; None when nothing was found.

    Raises
    ------
    ResultCheckFailed
        If a segmented Finding has no mask to stand on.

    References
    ----------
    DICOM PS3.3 A.35.4, PS3.16 TID 2010
    """
    images = list_key_images(draft.analysis)
    if not images:
        return None
    provenance, header = draft.provenance, copy_header(draft.source)
    selected = [*(copy_header(ds) for ds in each_once(images)), refer_to(draft.report)]
    labels = ", ".join(f"AI {finding.label}" for finding, _ in images)
    model = provenance.model
    selection = hd.ko.KeyObjectSelectionDocument(
        evidence=selected,
        content=hd.ko.KeyObjectSelection(
            document_title=TITLE,
            referenced_objects=selected,
            observer_device_context=_observe(provenance),
            description=f"{DESCRIPTION} {labels}. Model {model.name} {model.version}.",
        ),
        series_instance_uid=provenance.uid("KO", "series"),
        series_number=KO_SERIES_NUMBER + model.series_offset,
        sop_instance_uid=provenance.uid("KO"),
        instance_number=1,
        manufacturer=OWN_MANUFACTURER,
        requested_procedures=describe_request(header) or None,
    )
    selection.copy_patient_and_study_information(header)
    selection.ManufacturerModelName = provenance.pipeline
    selection.DeviceSerialNumber = provenance.node_aet
    selection.SoftwareVersions = provenance.software_version
    unname_references(selection)
    stamp_object(selection, header, provenance, kind="KO")
    return selection


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
