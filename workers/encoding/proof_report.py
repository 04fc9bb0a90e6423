"""Proof of an SR: it says of each Finding what the Analysis and the SEG say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from node.domain.finding import Finding, Presence
from workers.encoding.concepts import (
    CERTAINTY,
    PRESENCE,
    PRESENCE_VALUES,
    SUMMARY,
    VOLUME,
    WITH_FINDINGS,
    WITHOUT_FINDINGS,
)
from workers.encoding.groups import MEASUREMENTS
from workers.encoding.proof import require
from workers.encoding.proof_segmentation import ProvenSegment
from workers.encoding.segmentation import number_segment, require_mask
from workers.pipelines.base import Analysis

VOLUME_TOLERANCE = 0.01
# Certainty is written in percent with one digit behind the point.
CERTAINTY_TOLERANCE = 0.06
# Half of the last digit that `workers.encoding.groups` writes, and a little.
ROUNDING = {name: 0.51 * 10.0**-digits for name, (_, _, _, digits) in MEASUREMENTS.items()}
MEASUREMENT_GROUP = "125007"
TRACKING_IDENTIFIER = "112039"
TRACKING_UID = "112040"
FLAGS = (("CompletionFlag", "COMPLETE"), ("VerificationFlag", "UNVERIFIED"), ("PreliminaryFlag", "PRELIMINARY"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """One Measurement Group, as read from the SR."""

    tracking_uid: str
    tracking_id: str
    numbers: Mapping[str, float]
    codes: Mapping[str, str]
    segments: tuple[tuple[str, int], ...]
    outlines: tuple[Dataset, ...]


def prove_report(
    sr: Dataset,
    analysis: Analysis,
    inputs: Mapping[str, Sequence[Dataset]],
    *,
    segmentation: Dataset | None,
    segments: Mapping[int, ProvenSegment],
) -> None:
    """Prove the SR of an Analysis.

    Parameters
    ----------
    segmentation, segments
        The SEG of the same Analysis and what was proven of it; None and empty without one.

    Raises
    ------
    ResultCheckFailed
        If the SR contradicts the Analysis, the SEG or itself.
    """
    for keyword, value in FLAGS:
        require(sr.get(keyword) == value, f"SR: {keyword} is not {value}")
    _prove_evidence(sr, inputs, segmentation)
    _prove_summary(sr, analysis)
    groups = [_read_group(item) for item in _walk(sr) if _name(item) == MEASUREMENT_GROUP]
    if segmentation is None:
        _prove_labels(groups, analysis)
        return
    for finding in analysis.findings:
        number = number_segment(finding)
        _prove_segment_group(groups, finding, str(segmentation.SOPInstanceUID), segments[number])
    _prove_outlines(groups, analysis, segments)
    referred = [reference for group in groups for reference in group.segments]
    require(len(referred) == len(segments), f"SR: {len(referred)} groups refer to {len(segments)} segments")


def _walk(ds: Dataset) -> Iterator[Dataset]:
    for item in ds.get("ContentSequence") or ():
        yield item
        yield from _walk(item)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def _read_group(item: Dataset) -> _Group:
    children = list(item.get("ContentSequence") or ())
    texts = {_name(child): str(child.get("TextValue")) for child in children if child.ValueType == "TEXT"}
    uids = {_name(child): str(child.UID) for child in children if child.ValueType == "UIDREF"}
    segments = []
    for child in children:
        if child.ValueType == "IMAGE" and "ReferencedSegmentNumber" in child.ReferencedSOPSequence[0]:
            reference = child.ReferencedSOPSequence[0]
            segments.append((str(reference.ReferencedSOPInstanceUID), int(reference.ReferencedSegmentNumber)))
    return _Group(
        tracking_uid=uids.get(TRACKING_UID, ""),
        tracking_id=texts.get(TRACKING_IDENTIFIER, ""),
        numbers={
            _name(child): float(child.MeasuredValueSequence[0].NumericValue)
            for child in children
            if child.ValueType == "NUM"
        },
        codes={
            _name(child): str(child.ConceptCodeSequence[0].CodeValue) for child in children if child.ValueType == "CODE"
        },
        segments=tuple(segments),
        outlines=tuple(child for child in children if child.ValueType == "SCOORD"),
    )


def _prove_evidence(sr: Dataset, inputs: Mapping[str, Sequence[Dataset]], segmentation: Dataset | None) -> None:
    listed = set()
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in sr.get(keyword) or ():
            for series in study.ReferencedSeriesSequence:
                for item in series.ReferencedSOPSequence:
                    listed.add(
                        (
                            str(study.StudyInstanceUID),
                            str(series.SeriesInstanceUID),
                            str(item.ReferencedSOPInstanceUID),
                        )
                    )
    expected = [ds for datasets in inputs.values() for ds in datasets]
    if segmentation is not None:
        expected.append(segmentation)
    needed = {(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)) for ds in expected}
    require(listed == needed, f"SR: the evidence lists {len(listed)} Instances, {len(needed)} were used")


def _prove_summary(sr: Dataset, analysis: Analysis) -> None:
    is_found = any(finding.presence is Presence.PRESENT for finding in analysis.findings)
    expected = WITH_FINDINGS if is_found else WITHOUT_FINDINGS
    said = [str(item.ConceptCodeSequence[0].CodeValue) for item in _walk(sr) if _name(item) == SUMMARY.value]
    require(said == [expected.value], f"SR: the summary says {said}, {expected.value} is true")


def _prove_labels(groups: Sequence[_Group], analysis: Analysis) -> None:
    for finding in analysis.findings:
        own = [group for group in groups if group.tracking_id == f"AI {finding.label}"]
        require(len(own) == 1, f"SR: {len(own)} groups for the label {finding.label}")
        expected = PRESENCE_VALUES[finding.presence].value
        require(own[0].codes.get(PRESENCE.value) == expected, f"SR: presence of {finding.label} is not {expected}")
        _prove_certainty(own[0], finding)


def _prove_segment_group(
    groups: Sequence[_Group], finding: Finding, segmentation_uid: str, segment: ProvenSegment
) -> None:
    number = number_segment(finding)
    own = [group for group in groups if (segmentation_uid, number) in group.segments]
    require(len(own) == 1, f"SR: {len(own)} groups refer to segment {number} of the SEG")
    group = own[0]
    require(group.tracking_uid == segment.tracking_uid, f"SR: segment {number} has another Tracking UID in the SEG")
    for name, (concept, _, _, _) in MEASUREMENTS.items():
        stated, measured = group.numbers.get(concept.value), finding.measurements.get(name)
        require((stated is None) == (measured is None), f"SR: {name} of segment {number} is stated or missing wrongly")
        if stated is not None and measured is not None:
            require(abs(stated - measured) <= ROUNDING[name], f"SR: {name} of segment {number} is not the finding's")
    volume = group.numbers.get(VOLUME.value)
    if volume is not None:
        require(
            abs(volume - segment.volume_mm3) <= VOLUME_TOLERANCE * segment.volume_mm3,
            f"SR: volume of segment {number} is {volume:.1f} mm3, its voxels hold {segment.volume_mm3:.1f} mm3",
        )
    _prove_certainty(group, finding)


def _prove_certainty(group: _Group, finding: Finding) -> None:
    stated = group.numbers.get(CERTAINTY.value)
    require((stated is None) == (finding.confidence is None), f"SR: certainty of {finding.label} is stated wrongly")
    if stated is not None and finding.confidence is not None:
        is_same = abs(stated - 100 * finding.confidence) <= CERTAINTY_TOLERANCE
        require(is_same, f"SR: certainty of {finding.label} is not the model's")


def _prove_outlines(groups: Sequence[_Group], analysis: Analysis, segments: Mapping[int, ProvenSegment]) -> None:
    """Prove that each outline encloses its own segment on its own slice."""
    numbers = {segment.tracking_uid: number for number, segment in segments.items()}
    volume, mask = require_mask(analysis)
    slices = {str(ds.SOPInstanceUID): n for n, ds in enumerate(volume.datasets)}
    for group in groups:
        require(group.tracking_uid in numbers, f"SR: {group.tracking_id} is tracked but is no segment of the SEG")
        for outline in group.outlines:
            image = str(outline.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            require(image in slices, f"SR: the outline of {group.tracking_id} lies on no slice of the reference volume")
            rows, columns = np.nonzero(mask[slices[image]] == numbers[group.tracking_uid])
            require(rows.size, f"SR: the outline of {group.tracking_id} lies on a slice without it")
            points = np.asarray(outline.GraphicData, float).reshape(-1, 2)
            low, high = points.min(axis=0), points.max(axis=0)
            is_inside = low[0] >= columns.min() and high[0] <= columns.max() + 1
            is_inside &= low[1] >= rows.min() and high[1] <= rows.max() + 1
            require(is_inside, f"SR: the outline of {group.tracking_id} leaves its segment")
