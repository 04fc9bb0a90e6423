"""The summary page becomes an Encapsulated PDF (PS3.3 A.45.1)."""

import highdicom as hd
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from node.domain import codes
from workers.drawing.pdf import write_pdf
from workers.encoding.concepts import to_concept
from workers.encoding.draft import Draft
from workers.encoding.headers import copy_header
from workers.encoding.stamping import identify_object, stamp_object
from workers.provenance import DOC_SERIES_NUMBER

FRAMES = Tag("ReferencedFrameNumber")
MIME_TYPE = "application/pdf"
# What the SR of the same Job is called too.
TITLE = to_concept(codes.IMAGING_MEASUREMENT_REPORT)


def encode_document(draft: Draft) -> Dataset:
    """Return the summary page as a document of one sheet; its words can be searched.

    References
    ----------
    DICOM PS3.3 A.45.1, C.24.2
    """
    provenance, header = draft.provenance, copy_header(draft.source)
    document = hd.SOPClass(
        study_instance_uid=header.StudyInstanceUID,
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        **identify_object(provenance, "DOC", series_number=DOC_SERIES_NUMBER),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        patient_id=header.PatientID,
        patient_name=header.PatientName,
        patient_birth_date=header.PatientBirthDate,
        patient_sex=header.PatientSex,
        accession_number=header.AccessionNumber,
        study_id=header.StudyID,
        study_date=header.StudyDate,
        study_time=header.StudyTime,
        referring_physician_name=header.ReferringPhysicianName,
        specific_character_set=header.SpecificCharacterSet,
    )
    document.copy_patient_and_study_information(header)
    _enclose(document, draft)
    stamp_object(document, header, provenance, kind="DOC")
    return document


def _enclose(document: Dataset, draft: Draft) -> None:
    """Put the sheet in place, and what is said of it (PS3.3 C.24.2)."""
    title = f"AI {draft.provenance.title} summary (unverified)"
    content = write_pdf(draft.page, title=title, created_at=draft.provenance.accepted_at)
    document.ConversionType = "WSD"
    document.BurnedInAnnotation = "YES"
    document.VerificationFlag = "UNVERIFIED"
    document.AcquisitionDateTime = None
    document.DocumentTitle = title
    document.ConceptNameCodeSequence = DicomSequence([hd.sr.CodedConcept.from_code(TITLE)])
    document.SourceInstanceSequence = DicomSequence(_without_frames(item) for item in draft.picture.SourceImageSequence)
    document.MIMETypeOfEncapsulatedDocument = MIME_TYPE
    # A value has an even length; how much of it is the document stands beside it.
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    document.EncapsulatedDocumentLength = len(content)


def _without_frames(reference: Dataset) -> Dataset:
    """Return a reference to the whole Instance: no other has a place there (PS3.3 Table 10-11)."""
    return Dataset({tag: element for tag, element in reference.items() if tag != FRAMES})
