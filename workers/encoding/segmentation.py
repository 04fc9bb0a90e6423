"""A mask becomes a DICOM Segmentation of type BINARY (PS3.3 A.51)."""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.coding import Code as CodedConcept

from node.domain.codes import MORPHOLOGICALLY_ABNORMAL
from node.domain.finding import Finding
from node.domain.result import OWN_MANUFACTURER
from node.errors import ResultCheckFailed
from workers.encoding.concepts import ARTIFICIAL_INTELLIGENCE, OTHER_COLOR, SEGMENT_COLORS, to_concept
from workers.encoding.headers import copy_slices
from workers.encoding.provenance import SEG_SERIES_NUMBER, Provenance
from workers.encoding.stamping import name_coding_schemes, stamp_object
from workers.pipelines.base import Analysis
from workers.volume import Volume

CONTENT_LABEL = "AI_SEGMENTATION"
MAX_SEGMENT_LABEL = 64


def track(provenance: Provenance, finding: Finding) -> tuple[str, str]:
    """Return Tracking UID (0062,0021) and Tracking ID (0062,0020) of a Finding; SEG and SR share them."""
    return provenance.uid("track", str(finding.segment_number or finding.label)), f"AI {finding.label}"


def number_segment(finding: Finding) -> int:
    """Return the Segment Number of a Finding.

    Raises
    ------
    ResultCheckFailed
        If it has none.
    """
    if finding.segment_number is None:
        raise ResultCheckFailed(f"the finding {finding.label} has no segment in the mask; the Pipeline is at fault")
    return finding.segment_number


def find_key_slice(finding: Finding, mask: NDArray[np.uint8]) -> int:
    """Return the index of the slice that stands for a Finding: its own, else the one where it is largest."""
    if finding.key_slice is not None and (mask[finding.key_slice] == finding.segment_number).any():
        return finding.key_slice
    return int((mask == finding.segment_number).sum(axis=(1, 2)).argmax())


def encode_segmentation(analysis: Analysis, provenance: Provenance) -> Dataset:
    """Return the SEG of all Findings, one Segment each.

    Only slices with a Finding become Frames; the whole source Series is referenced.

    Parameters
    ----------
    analysis
        With `reference` and `mask`.

    Raises
    ------
    ResultCheckFailed
        If a Finding has no Segment, or a Segment no Finding or no voxel.

    References
    ----------
    DICOM PS3.3 A.51, C.8.20
    """
    volume, mask = require_mask(analysis)
    touched = np.flatnonzero(mask.any(axis=(1, 2))).tolist()
    sources = copy_slices(volume, touched)
    findings = sorted(analysis.findings, key=number_segment)
    _check_segments(findings, mask[touched])
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=mask[touched],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe_segment(finding, provenance) for finding in findings],
        series_instance_uid=provenance.uid("SEG", "series"),
        series_number=SEG_SERIES_NUMBER + provenance.model.series_offset,
        sop_instance_uid=provenance.uid("SEG"),
        instance_number=1,
        manufacturer=OWN_MANUFACTURER,
        manufacturer_model_name=provenance.pipeline,
        software_versions=provenance.software_version,
        device_serial_number=provenance.node_aet,
        content_label=CONTENT_LABEL,
        content_description=provenance.series_description("SEG"),
        content_creator_name=f"AI^{provenance.node_aet}",
    )
    seg.ReferencedSeriesSequence = _refer_to_series(volume)
    stamp_object(seg, sources[0], provenance, kind="SEG")
    name_coding_schemes(seg, {finding.code.scheme for finding in findings})
    return seg


def require_mask(analysis: Analysis) -> tuple[Volume, NDArray[np.uint8]]:
    """Return the reference Volume and the mask on its grid.

    Raises
    ------
    ResultCheckFailed
        If one is absent, the shapes differ, or the mask is empty.
    """
    volume, mask = analysis.reference, analysis.mask
    if volume is None or mask is None or mask.shape != volume.voxels.shape:
        raise ResultCheckFailed("the mask has not the grid of the reference volume; the Pipeline is at fault")
    if not mask.any():
        raise ResultCheckFailed("the mask is empty although something was found; the Pipeline is at fault")
    return volume, mask


def _check_segments(findings: Sequence[Finding], mask: NDArray[np.uint8]) -> None:
    expected = list(range(1, len(findings) + 1))
    if [finding.segment_number for finding in findings] != expected:
        raise ResultCheckFailed(f"Segment Numbers of {len(findings)} findings are not 1 to {len(findings)}")
    found = [int(number) for number in np.unique(mask) if number]
    if found != expected:
        raise ResultCheckFailed(f"the mask holds segments {found}, the findings {expected}")


def _describe_segment(finding: Finding, provenance: Provenance) -> hd.seg.SegmentDescription:
    tracking_uid, tracking_id = track(provenance, finding)
    described = hd.seg.SegmentDescription(
        segment_number=number_segment(finding),
        segment_label=finding.label[:MAX_SEGMENT_LABEL],
        segmented_property_category=to_concept(MORPHOLOGICALLY_ABNORMAL),
        segmented_property_type=to_concept(finding.code),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_identify_algorithm(provenance),
        tracking_uid=tracking_uid,
        tracking_id=tracking_id,
        anatomic_regions=[to_concept(finding.site)] if finding.site else None,
        display_color=hd.color.CIELabColor.from_rgb(*SEGMENT_COLORS.get(finding.code.value, OTHER_COLOR)),
    )
    if finding.site and finding.laterality:
        region = described.AnatomicRegionSequence[0]
        # highdicom has no argument for the modifier (PS3.3 10.5).
        region.AnatomicRegionModifierSequence = DicomSequence([_to_item(to_concept(finding.laterality))])
    return described


def _identify_algorithm(provenance: Provenance) -> hd.AlgorithmIdentificationSequence:
    return hd.AlgorithmIdentificationSequence(
        name=provenance.model.name,
        version=provenance.model.version,
        family=ARTIFICIAL_INTELLIGENCE,
        source=OWN_MANUFACTURER,
        parameters={"weights_sha256": provenance.model.weights_sha256},
    )


def _to_item(concept: CodedConcept) -> Dataset:
    item: Dataset = hd.sr.CodedConcept.from_code(concept)
    return item


def _refer_to_series(volume: Volume) -> list[Dataset]:
    """Return Referenced Series Sequence (0008,1115) of the whole source Series."""
    series = Dataset()
    series.SeriesInstanceUID = volume.datasets[0].SeriesInstanceUID
    instances = []
    for ds in volume.datasets:
        instance = Dataset()
        instance.ReferencedSOPClassUID = ds.SOPClassUID
        instance.ReferencedSOPInstanceUID = ds.SOPInstanceUID
        instances.append(instance)
    series.ReferencedInstanceSequence = DicomSequence(instances)
    return [series]
