"""A mask becomes a DICOM Segmentation, BINARY or LABELMAP (PS3.3 A.51)."""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.coding import Code as CodedConcept
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from node.domain.finding import Finding
from node.domain.result import OWN_MANUFACTURER, SegmentationForm
from node.errors import ResultCheckFailed
from workers.encoding.concepts import ARTIFICIAL_INTELLIGENCE, OTHER_COLOR, SEGMENT_COLORS, to_concept
from workers.encoding.frames import (
    compress_slices,
    pack_segments,
    refer_to_images,
    refer_to_instances,
    write_frame_groups,
)
from workers.encoding.headers import copy_slices
from workers.encoding.raw_elements import keep_raw, put_items, write_sequence, write_text
from workers.encoding.stamping import identify_object, name_coding_schemes, stamp_object
from workers.pipelines.base import Analysis, find_key_slice, number_segment, require_mask
from workers.provenance import SEG_SERIES_NUMBER, Provenance
from workers.volume import Volume

CONTENT_LABEL = "AI_SEGMENTATION"
MAX_SEGMENT_LABEL = 64
TRANSFER_SYNTAXES = {
    SegmentationForm.BINARY: ExplicitVRLittleEndian,
    SegmentationForm.LABELMAP: JPEGLSLossless,
}


def track(provenance: Provenance, finding: Finding) -> tuple[str, str]:
    """Return Tracking UID (0062,0021) and Tracking ID (0062,0020) of a Finding; SEG and SR share them."""
    return provenance.uid("track", str(finding.segment_number or finding.label)), f"AI {finding.label}"


def encode_segmentation(analysis: Analysis, provenance: Provenance) -> Dataset:
    """Return the SEG of all Findings, one Segment each.

    Only slices with a Finding become Frames; the whole source Series is referenced.

    Parameters
    ----------
    analysis
        With `reference` and `mask`.
    provenance
        Its `segmentation` BINARY gives a Frame for each Segment on each slice, one bit a pixel; LABELMAP a Frame a
        slice, JPEG-LS without loss, under a SOP Class of its own.

    Raises
    ------
    ResultCheckFailed
        If a Finding has no Segment, or a Segment no Finding or no voxel.

    References
    ----------
    DICOM PS3.3 A.51, C.8.20
    """
    volume, mask = require_mask(analysis)
    # highdicom orders Frames against the normal of Image Orientation; so do we.
    touched = np.flatnonzero(mask.any(axis=(1, 2)))[::-1].tolist()
    slices = [mask[index] for index in touched]
    findings = sorted(analysis.findings, key=number_segment)
    _check_segments(findings, mask)
    header = copy_slices(volume, touched[-1:])[0]
    seg = _start_with(header, slices[-1], findings, provenance)
    _put_frames(seg, slices, [volume.datasets[index] for index in touched], provenance.segmentation)
    put_items(seg, "SourceImageSequence", refer_to_images([volume.datasets[index] for index in reversed(touched)]))
    _refer_to_series(seg, volume)
    stamp_object(seg, header, provenance, kind="SEG")
    used = [code for f in findings for code in (f.code, f.category, f.site, f.laterality) if code]
    name_coding_schemes(seg, {code.scheme for code in used})
    keep_raw(seg)
    return seg


def _check_segments(findings: Sequence[Finding], mask: NDArray[np.uint8]) -> None:
    """Hold the Findings, ordered by Segment Number, against the labels of the mask: each has the other."""
    if [finding.segment_number for finding in findings] != list(range(1, len(findings) + 1)):
        raise ResultCheckFailed(f"Segment Numbers of {len(findings)} findings are not 1 to {len(findings)}")
    largest = int(mask.max())
    if largest > len(findings):
        raise ResultCheckFailed(f"the mask holds segment {largest}, the findings end at {len(findings)}")
    for finding in findings:
        if not (mask[find_key_slice(finding, mask)] == finding.segment_number).any():
            raise ResultCheckFailed(f"the mask has no voxel of segment {finding.segment_number}, {finding.label}")


def call_highdicom(
    findings: Sequence[Finding], provenance: Provenance, *, sources: Sequence[Dataset], labels: NDArray[np.uint8]
) -> hd.seg.Segmentation:
    """Return the SEG as highdicom makes it, background last: right, and slow where there are many Frames.

    Parameters
    ----------
    findings
        In the order of their Segment Numbers.
    sources
        Headers of source slices.
    labels
        The mask on these, (slices, rows, columns) uint8.
    """
    form = provenance.segmentation
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=labels,
        segmentation_type=hd.seg.SegmentationTypeValues[form.name],
        segment_descriptions=[_describe_segment(finding, provenance) for finding in findings],
        **identify_object(provenance, "SEG", series_number=SEG_SERIES_NUMBER),
        content_label=CONTENT_LABEL,
        content_description=provenance.series_description("SEG"),
        content_creator_name=f"AI^{provenance.node_aet}",
        transfer_syntax_uid=TRANSFER_SYNTAXES[form],
    )
    # A LABELMAP describes its background, number 0, too. It goes last: OHIF 3.13 colors Segment 1 by the first item.
    seg.SegmentSequence = sorted(seg.SegmentSequence, key=lambda item: item.SegmentNumber == 0)
    return seg


def _start_with(
    header: Dataset, labels: NDArray[np.uint8], findings: Sequence[Finding], provenance: Provenance
) -> Dataset:
    """Return the SEG with one slice of its Frames: the model for all others."""
    seg = call_highdicom(findings, provenance, sources=[header], labels=labels[np.newaxis])
    # highdicom's object keeps tables of the Frames that it made itself; this one is to have others.
    plain = Dataset(seg)
    plain.file_meta = seg.file_meta
    correct_ambiguous_vr(plain, True)
    return plain


def _put_frames(
    seg: Dataset, slices: Sequence[NDArray[np.uint8]], sources: Sequence[Dataset], form: SegmentationForm
) -> None:
    """Replace in place the Frames of one slice by those of all."""
    if form is SegmentationForm.LABELMAP:
        indices, pixels = compress_slices(slices)
    else:
        indices, pixels = pack_segments(slices, segments=len(seg.SegmentSequence))
    model = seg.PerFrameFunctionalGroupsSequence[0]
    put_items(seg, "PerFrameFunctionalGroupsSequence", write_frame_groups(model, sources, indices))
    seg.NumberOfFrames = len(indices)
    seg.add(DataElement("PixelData", "OB", pixels))
    if "SegmentIdentificationSequence" not in model and len(sources) > 1 and _is_even(sources):
        seg.DimensionOrganizationType = "3D"


def _is_even(sources: Sequence[Dataset]) -> bool:
    """Return whether the slices follow each other at one distance, as Dimension Organization Type 3D promises."""
    spacing, _ = hd.spatial.get_volume_positions(
        image_positions=[ds.ImagePositionPatient for ds in sources],
        image_orientation=sources[0].ImageOrientationPatient,
        sort=False,
    )
    return spacing is not None


def _describe_segment(finding: Finding, provenance: Provenance) -> hd.seg.SegmentDescription:
    tracking_uid, tracking_id = track(provenance, finding)
    described = hd.seg.SegmentDescription(
        segment_number=number_segment(finding),
        segment_label=finding.label[:MAX_SEGMENT_LABEL],
        segmented_property_category=to_concept(finding.category),
        segmented_property_type=to_concept(finding.code),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=identify_algorithm(provenance),
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


def identify_algorithm(provenance: Provenance) -> hd.AlgorithmIdentificationSequence:
    """Return the model's name, version and weights as a SEG names them (PS3.3 10.16)."""
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


def _refer_to_series(seg: Dataset, volume: Volume) -> None:
    """Name the whole source Series in Referenced Series Sequence (0008,1115)."""
    instances = write_sequence("ReferencedInstanceSequence", refer_to_instances(volume.datasets))
    series = write_text("SeriesInstanceUID", "UI", str(volume.datasets[0].SeriesInstanceUID))
    put_items(seg, "ReferencedSeriesSequence", [instances + series])
