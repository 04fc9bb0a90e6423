"""The one-page picture becomes a Secondary Capture Image (PS3.3 A.8)."""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from workers.drawing.canvas import Drawing
from workers.encoding.concepts import SOURCE_IMAGE
from workers.encoding.headers import copy_header
from workers.encoding.stamping import identify_object, name_body_part, stamp_object
from workers.frames import gather_frames
from workers.pipelines.base import Analysis, find_key_slice, require_mask
from workers.provenance import SC_SERIES_NUMBER, Provenance

# highdicom wants an orientation of a page of many images; it is emptied afterwards (type 2C, PS3.3 C.7.6.1.1.1).
ANY_ORIENTATION = ("L", "P")


def encode_picture(drawing: Drawing, analysis: Analysis, provenance: Provenance, *, source: Dataset) -> Dataset:
    """Return the summary page of an Analysis as Secondary Capture, RGB.

    Parameters
    ----------
    drawing
        The page (`workers.drawing.page.draw_page`).
    source
        The Instance from which patient and Study are taken: the first reference slice, or the radiograph.

    References
    ----------
    DICOM PS3.3 A.8.1, C.8.6
    """
    header = copy_header(source)
    sc = _capture(drawing.pixels, provenance, header)
    sc.PatientOrientation = None
    sc.ImageType = ["DERIVED", "SECONDARY"]
    sc.ConversionType = "WSD"
    sc.BurnedInAnnotation = "YES"
    sc.DerivationDescription = f"AI summary, {provenance.model.name} {provenance.model.version}, unverified"
    sc.SourceImageSequence = DicomSequence(_refer(_list_shown(analysis, source)))
    name_body_part(sc, header)
    stamp_object(sc, header, provenance, kind="SC")
    sc.DateOfSecondaryCapture, sc.TimeOfSecondaryCapture = sc.ContentDate, sc.ContentTime
    return sc


def _capture(pixels: NDArray[np.uint8], provenance: Provenance, header: Dataset) -> Dataset:
    captured = hd.sc.SCImage.from_ref_dataset(
        header,
        pixel_array=pixels,
        photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        **identify_object(provenance, "SC", series_number=SC_SERIES_NUMBER),
        patient_orientation=ANY_ORIENTATION,
    )
    # Issuer of Patient ID, Study Description and their like: the constructor takes only what is required.
    captured.copy_patient_and_study_information(header)
    return captured


def _list_shown(analysis: Analysis, source: Dataset) -> list[Dataset]:
    """Return the source slices of the findings, or the one the page stands for."""
    if analysis.reference is None or analysis.mask is None:
        return [source]
    volume, mask = require_mask(analysis)
    keys = sorted({find_key_slice(finding, mask) for finding in analysis.findings})
    return [volume.datasets[key] for key in keys]


def _refer(slices: Sequence[Dataset]) -> list[Dataset]:
    items = []
    for (sop_class_uid, sop_instance_uid), numbers in gather_frames(slices).items():
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class_uid
        item.ReferencedSOPInstanceUID = sop_instance_uid
        if numbers:
            item.ReferencedFrameNumber = numbers
        item.PurposeOfReferenceCodeSequence = DicomSequence([hd.sr.CodedConcept.from_code(SOURCE_IMAGE)])
        items.append(item)
    return items
