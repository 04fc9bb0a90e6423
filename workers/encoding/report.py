"""Findings become a Comprehensive 3D SR with the Measurement Report template (PS3.16 TID 1500)."""

from collections.abc import Mapping, Sequence

import highdicom as hd
import numpy as np
from pydicom import Dataset

from node.domain.finding import Presence
from node.domain.result import OWN_MANUFACTURER
from workers.encoding.concepts import (
    COMMENT,
    DEVICE,
    IMAGING_PROCEDURE,
    LOOKED_FOR,
    PRESENCE,
    PRESENCE_VALUES,
    PROCEDURES,
    QUALITATIVE_EVALUATIONS,
    SUMMARY,
    WITH_FINDINGS,
    WITHOUT_FINDINGS,
    to_concept,
)
from workers.encoding.groups import (
    MeasurementGroup,
    describe_label,
    describe_region,
    describe_segment,
    identify_algorithm,
)
from workers.encoding.headers import copy_header, copy_slices, refer_to
from workers.encoding.provenance import SR_SERIES_NUMBER, Provenance
from workers.encoding.segmentation import find_key_slice, require_mask
from workers.encoding.stamping import describe_request, name_coding_schemes, stamp_object
from workers.pipelines.base import Analysis

DISCLAIMER = "AI result, not verified by a physician. Not for diagnosis."
ENGLISH = hd.sr.CodedConcept("en-US", "RFC5646", "English (United States)")


def encode_report(
    analysis: Analysis,
    provenance: Provenance,
    inputs: Mapping[str, Sequence[Dataset]],
    *,
    source: Dataset,
    segmentation: Dataset | None,
) -> Dataset:
    """Return the SR of one Analysis; also where nothing was found.

    Parameters
    ----------
    inputs
        Role to source Instances; all of them become evidence.
    source
        The Instance from which patient and Study are taken: the first reference slice, or the radiograph.
    segmentation
        The SEG of the same Analysis; None when nothing was found or for a radiograph.

    References
    ----------
    DICOM PS3.3 A.35.13, PS3.16 TID 1500
    """
    header = copy_header(source)
    groups = _list_groups(analysis, provenance, header, segmentation)
    if segmentation is None:
        groups.insert(0, _summarize_in_group(analysis, provenance))
    sr = hd.sr.Comprehensive3DSR(
        evidence=_list_evidence(header, inputs, segmentation),
        content=hd.sr.MeasurementReport(
            observation_context=_observe(provenance),
            procedure_reported=_name_procedure(header),
            imaging_measurements=groups,
            referenced_images=_list_library(analysis, header),
            language_of_content_item_and_descendants=hd.sr.LanguageOfContentItemAndDescendants(ENGLISH),
        ),
        series_instance_uid=provenance.uid("SR", "series"),
        series_number=SR_SERIES_NUMBER + provenance.model.series_offset,
        sop_instance_uid=provenance.uid("SR"),
        instance_number=1,
        manufacturer=OWN_MANUFACTURER,
        manufacturer_model_name=provenance.pipeline,
        software_versions=provenance.software_version,
        device_serial_number=provenance.node_aet,
        is_complete=True,
        is_final=False,
        is_verified=False,
        requested_procedures=describe_request(header) or None,
        previous_versions=[provenance.predecessor] if provenance.predecessor is not None else None,
        record_evidence=True,
    )
    if segmentation is not None:
        sr.ContentSequence.append(_summarize_in_root(analysis, provenance))
    stamp_object(sr, header, provenance, kind="SR")
    name_coding_schemes(sr, {finding.code.scheme for finding in analysis.findings})
    return sr


def _list_groups(
    analysis: Analysis, provenance: Provenance, header: Dataset, segmentation: Dataset | None
) -> list[MeasurementGroup]:
    if segmentation is None:
        return [describe_label(finding, provenance, image=header) for finding in analysis.findings]
    volume, mask = require_mask(analysis)
    groups: list[MeasurementGroup] = []
    for finding in analysis.findings:
        key = find_key_slice(finding, mask)
        region = mask[key] == finding.segment_number
        groups.append(describe_segment(finding, provenance, segmentation=segmentation, volume=volume))
        groups.append(describe_region(finding, provenance, region=region, image=volume.datasets[key]))
    return groups


def _summarize(analysis: Analysis) -> list[hd.sr.ContentItem]:
    """Return the coded answer: was anything found, is it there."""
    found = {finding.presence for finding in analysis.findings}
    presence = next((p for p in (Presence.PRESENT, Presence.UNDETERMINED) if p in found), Presence.ABSENT)
    summary = WITH_FINDINGS if presence is Presence.PRESENT else WITHOUT_FINDINGS
    return [
        hd.sr.CodeContentItem(name=name, value=value, relationship_type="CONTAINS")
        for name, value in ((SUMMARY, summary), (PRESENCE, PRESENCE_VALUES[presence]))
    ]


def _comment(analysis: Analysis, provenance: Provenance) -> list[hd.sr.ContentItem]:
    model = provenance.model
    sentences = [
        DISCLAIMER,
        model.notice,
        f"Model {model.name} {model.version}, weights sha256 {model.weights_sha256}.",
    ]
    if analysis.threshold is not None:
        sentences.append(f"A finding counts as present from a certainty of {100 * analysis.threshold:.0f} %.")
    return [
        hd.sr.TextContentItem(name=COMMENT, value=sentence, relationship_type="CONTAINS")
        for sentence in (*sentences, *analysis.notes)
        if sentence
    ]


def _summarize_in_group(analysis: Analysis, provenance: Provenance) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """Return a TID 1501 group with the answer; for a report without volumetric groups."""
    asked = LOOKED_FOR.get(provenance.pipeline)
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=provenance.uid("track", "summary"), identifier="AI summary"),
        finding_type=to_concept(asked) if asked else None,
        algorithm_id=identify_algorithm(provenance),
    )
    group[0].ContentSequence.extend([*_summarize(analysis), *_comment(analysis, provenance)])
    return group


def _summarize_in_root(analysis: Analysis, provenance: Provenance) -> hd.sr.ContainerContentItem:
    """Return the root container with the answer; a TID 1501 group beside volumetric ones does not validate."""
    container = hd.sr.ContainerContentItem(
        name=QUALITATIVE_EVALUATIONS, is_content_continuous=False, relationship_type="CONTAINS"
    )
    container.ContentSequence = hd.sr.ContentSequence([*_summarize(analysis), *_comment(analysis, provenance)])
    return container


def _observe(provenance: Provenance) -> hd.sr.ObservationContext:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=provenance.device_uid(),
        name=provenance.node_aet,
        manufacturer_name=OWN_MANUFACTURER,
        model_name=provenance.pipeline,
        serial_number=provenance.node_aet,
    )
    observer = hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept.from_code(DEVICE), observer_identifying_attributes=device
    )
    return hd.sr.ObservationContext(observer_device_context=observer)


def _name_procedure(header: Dataset) -> hd.sr.CodedConcept:
    """Return the code of the procedure that the source names, else one for its Modality."""
    for item in header.get("ProcedureCodeSequence") or ():
        value, scheme, meaning = (
            str(item.get(k) or "") for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        )
        if value and scheme and meaning:
            return hd.sr.CodedConcept(value, scheme, meaning, item.get("CodingSchemeVersion") or None)
    return hd.sr.CodedConcept.from_code(PROCEDURES.get(str(header.get("Modality")), IMAGING_PROCEDURE))


def _list_evidence(
    header: Dataset, inputs: Mapping[str, Sequence[Dataset]], segmentation: Dataset | None
) -> list[Dataset]:
    """Return all that the answer rests on, each Instance once; the complete header comes first."""
    evidence = {str(header.SOPInstanceUID): header}
    for role in sorted(inputs):
        for ds in sorted(inputs[role], key=lambda ds: str(ds.SOPInstanceUID)):
            evidence.setdefault(str(ds.SOPInstanceUID), refer_to(ds))
    if segmentation is not None:
        evidence[str(segmentation.SOPInstanceUID)] = segmentation
    return list(evidence.values())


def _list_library(analysis: Analysis, header: Dataset) -> list[Dataset] | None:
    """Return the images that the report describes: only those that carry a Finding (4 KB each)."""
    if analysis.reference is None:
        # TID 1603 wants orientation and spacing; where the source has none, nothing is invented.
        is_described = all(header.get(keyword) for keyword in ("PatientOrientation", "ImagerPixelSpacing"))
        return [header] if is_described else None
    if analysis.mask is None:
        return None
    touched = np.flatnonzero(analysis.mask.any(axis=(1, 2))).tolist()
    return copy_slices(analysis.reference, touched)
