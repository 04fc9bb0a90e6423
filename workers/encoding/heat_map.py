"""The heat map of a classifier becomes a DICOM Segmentation, FRACTIONAL (PS3.3 A.51)."""

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalIntraOralXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from node.domain.codes import CLASS_ACTIVATION, SPATIAL_CONCEPT
from node.domain.finding import Finding, Presence
from node.errors import ResultCheckFailed
from workers.encoding.concepts import OTHER_COLOR, to_concept
from workers.encoding.draft import Draft
from workers.encoding.headers import copy_header
from workers.encoding.segmentation import MAX_SEGMENT_LABEL, identify_algorithm
from workers.encoding.stamping import identify_object, stamp_object
from workers.pipelines.base import Analysis
from workers.provenance import SEG_SERIES_NUMBER, Provenance

CONTENT_LABEL = "AI_HEAT_MAP"
KIND = "heat map"
MEANING = "What moved the score of the classifier; not an outline of disease."
MAX_FRACTION = 255
# A projection has one plane, which needs no place in the patient; images of other classes must have one (PS3.3 A.51).
PROJECTIONS = frozenset({
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalIntraOralXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
})  # fmt: skip
ORIENTATION_LENGTH = 2
PLACE_KEYWORDS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def encode_heat_map(draft: Draft) -> Dataset | None:
    """Return where the classifier saw evidence, as the one Segment of a SEG on the radiograph.

    One map moved the scores of all labels that are present, and it outlines no disease: so there is one Segment, whose
    property is a class activation and no label. Its values are on a scale on which the place that moved the score most
    carries the probability of the model, in steps of 1/255.

    None without a heat map, where it is below half a step everywhere, or on an image that is no projection.

    Raises
    ------
    ResultCheckFailed
        If the heat map has not the matrix of the radiograph, or leaves 0..1.

    References
    ----------
    DICOM PS3.3 A.51, C.8.20.2.3
    """
    heat = require_heat(draft.analysis)
    if heat is None or draft.source.SOPClassUID not in PROJECTIONS:
        return None
    fractions = quantize_heat(heat)
    if not fractions.any():
        return None
    header = _copy_film(draft.source)
    seg = _describe(header, fractions, draft)
    # Without a place in the patient, these letters alone say which side is which (PS3.3 C.7.6.1.1.1).
    letters = header.get("PatientOrientation") or ""
    seg.PatientOrientation = letters if len(letters) == ORIENTATION_LENGTH and not isinstance(letters, str) else ""
    seg.PixelData = fractions.tobytes() + b"\0" * (fractions.size % 2)
    stamp_object(seg, header, draft.provenance, kind=KIND)
    return seg


def require_heat(analysis: Analysis) -> NDArray[np.float32] | None:
    """Return the heat map of the radiograph, (rows, columns) float32, 0..1; None where the Analysis has none.

    Raises
    ------
    ResultCheckFailed
        If it has not the matrix of the radiograph, or a value is NaN or leaves 0..1.
    """
    heat = analysis.heat
    if heat is None or analysis.radiograph is None:
        return None
    if heat.shape != analysis.radiograph.pixels.shape:
        raise ResultCheckFailed("the heat map has not the matrix of the radiograph; the Pipeline is at fault")
    # NaN answers no comparison with yes.
    if not (float(heat.min()) >= 0.0 and float(heat.max()) <= 1.0):
        raise ResultCheckFailed("the heat map leaves 0..1; the Pipeline is at fault")
    return heat


def quantize_heat(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a heat map in steps of 1/255."""
    return np.rint(heat * MAX_FRACTION).astype(np.uint8)


def _copy_film(source: Dataset) -> Dataset:
    """Return the header of a film without place and spacing, which one plane beside its source does not need.

    highdicom's reader, and with a Frame of Reference the standard, want a Slice Thickness beside a spacing; a
    projection has none (PS3.3 C.7.6.16.2.1). And some films state a pixel of no size.
    """
    header = copy_header(source)
    for keyword in PLACE_KEYWORDS:
        if keyword in header:
            delattr(header, keyword)
    return header


def _describe(header: Dataset, fractions: NDArray[np.uint8], draft: Draft) -> Dataset:
    provenance = draft.provenance
    # highdicom would look for every single value of a fractional array, which takes seconds; it gets the outline.
    seg: Dataset = hd.seg.Segmentation(
        source_images=[header],
        pixel_array=(fractions > 0).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.FRACTIONAL,
        segment_descriptions=[_describe_segment(draft.analysis, provenance)],
        **identify_object(provenance, KIND, series_number=SEG_SERIES_NUMBER),
        fractional_type=hd.seg.SegmentationFractionalTypeValues.PROBABILITY,
        max_fractional_value=MAX_FRACTION,
        content_label=CONTENT_LABEL,
        content_description=provenance.series_description(KIND),
        content_creator_name=f"AI^{provenance.node_aet}",
    )
    return seg


def _describe_segment(analysis: Analysis, provenance: Provenance) -> hd.seg.SegmentDescription:
    described = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=name_segment(analysis.findings)[:MAX_SEGMENT_LABEL],
        segmented_property_category=to_concept(SPATIAL_CONCEPT),
        segmented_property_type=to_concept(CLASS_ACTIVATION),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=identify_algorithm(provenance),
        display_color=hd.color.CIELabColor.from_rgb(*OTHER_COLOR),
    )
    # highdicom has no argument for it (PS3.3 C.8.20.4).
    described.SegmentDescription = MEANING
    return described


def name_segment(findings: tuple[Finding, ...]) -> str:
    """Return the Segment Label (0062,0005): what the map speaks for, such as ``AI attention: Pneumonia``."""
    present = [finding.label for finding in findings if finding.presence is Presence.PRESENT]
    return f"AI attention: {', '.join(present)}"
