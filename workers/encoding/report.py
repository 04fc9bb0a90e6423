"""Findings become a Comprehensive 3D SR with the Measurement Report template (PS3.16 TID 1500)."""

from collections.abc import Mapping, Sequence, Set

import highdicom as hd
import numpy as np
from pydicom import Dataset

from node.domain import codes
from node.domain.codes import Code
from node.domain.finding import Presence
from node.domain.percent import percent
from node.domain.result import OWN_MANUFACTURER
from node.errors import ResultCheckFailed
from workers.encoding.concepts import to_concept
from workers.encoding.content import (
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    MAX_LO,
    is_writable,
    write_code,
    write_container,
    write_statement,
    write_uid,
)
from workers.encoding.evidence import list_evidence
from workers.encoding.groups import PRESENCE_CODES, describe_answer, describe_label, describe_region, describe_segment
from workers.encoding.headers import copy_header
from workers.encoding.image_library import describe_radiograph, describe_slices
from workers.encoding.raw_elements import keep_raw, put_items
from workers.encoding.stamping import describe_request, identify_object, name_coding_schemes, stamp_object
from workers.pipelines.base import Analysis, find_key_slice, require_mask
from workers.provenance import SR_SERIES_NUMBER, Provenance

# Procedure reported where the source names none, by Modality (PS3.16 CID 100).
PROCEDURES = {"CT": codes.CT_PROCEDURE, "MR": codes.MR_PROCEDURE}
DISCLAIMER = "AI result, not verified by a physician. Not for diagnosis."


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

    Raises
    ------
    ResultCheckFailed
        If the Analysis holds what no report can state, or Findings and mask disagree.

    References
    ----------
    DICOM PS3.3 A.35.13, PS3.16 TID 1500
    """
    header = copy_header(source)
    sr = _open_document(provenance, header)
    put_items(sr, "ContentSequence", _write_content(analysis, provenance, header, segmentation))
    evidence = list_evidence(inputs, segmentation, study_instance_uid=str(header.StudyInstanceUID))
    put_items(sr, "CurrentRequestedProcedureEvidenceSequence", evidence.current)
    if evidence.other:
        put_items(sr, "PertinentOtherEvidenceSequence", evidence.other)
    stamp_object(sr, header, provenance, kind="SR")
    name_coding_schemes(sr, _list_schemes(analysis, provenance))
    keep_raw(sr)
    return sr


def _open_document(provenance: Provenance, header: Dataset) -> Dataset:
    """Return the SR with everything but its content; highdicom would copy that three times to check what it made."""
    root = hd.sr.ContainerContentItem(name=to_concept(codes.IMAGING_MEASUREMENT_REPORT), template_id="1500")
    root.ContentSequence = hd.sr.ContentSequence()
    return hd.sr.Comprehensive3DSR(
        evidence=[header],
        content=root,
        **identify_object(provenance, "SR", series_number=SR_SERIES_NUMBER),
        is_complete=True,
        is_final=False,
        is_verified=False,
        requested_procedures=describe_request(header) or None,
        previous_versions=[provenance.predecessor] if provenance.predecessor is not None else None,
    )


def _write_content(
    analysis: Analysis, provenance: Provenance, header: Dataset, segmentation: Dataset | None
) -> list[bytes]:
    """Return what stands below the root, in the order of TID 1500."""
    answer = [*_summarize(analysis), *_comment(analysis, provenance)]
    if segmentation is None:
        groups = _list_answers(analysis, provenance, header, answer)
    else:
        groups = _list_groups(analysis, provenance, segmentation)
    content = [
        write_code(codes.LANGUAGE, codes.ENGLISH, relationship=HAS_CONCEPT_MOD),
        *_observe(provenance),
        *_name_procedures(header),
        _write_library(analysis, header),
        write_container(codes.IMAGING_MEASUREMENTS, groups),
        # A TID 1501 group beside volumetric ones does not validate.
        write_container(codes.QUALITATIVE_EVALUATIONS, answer, is_continuous=False)
        if segmentation is not None
        else b"",
    ]
    return [one for one in content if one]


def _list_groups(analysis: Analysis, provenance: Provenance, segmentation: Dataset) -> list[bytes]:
    volume, mask = require_mask(analysis)
    groups = []
    for finding in analysis.findings:
        key = find_key_slice(finding, mask)
        region = mask[key] == finding.segment_number
        groups.append(describe_segment(finding, provenance, segmentation=segmentation, volume=volume))
        groups.append(describe_region(finding, provenance, region=region, image=volume.datasets[key]))
    return groups


def _list_answers(analysis: Analysis, provenance: Provenance, header: Dataset, answer: Sequence[bytes]) -> list[bytes]:
    """Return a group with the answer, one for each label of a classifier, and for what was looked for in vain."""
    unfound = () if analysis.findings else provenance.model.looked_for
    about = unfound[0] if len(unfound) == 1 else None
    groups = [describe_answer("summary", about, provenance, answer)]
    groups += [describe_label(finding, provenance, image=header) for finding in analysis.findings]
    if about is None:
        absent = write_code(codes.PRESENCE, codes.ABSENT)
        groups += [describe_answer(code.meaning, code, provenance, [absent]) for code in unfound]
    return groups


def _summarize(analysis: Analysis) -> list[bytes]:
    """Return the coded answer: was anything found, is it there."""
    found = {finding.presence for finding in analysis.findings}
    presence = next((p for p in (Presence.PRESENT, Presence.UNDETERMINED) if p in found), Presence.ABSENT)
    return [write_code(codes.SUMMARY, _tell_success(found)), write_code(codes.PRESENCE, PRESENCE_CODES[presence])]


def _tell_success(found: Set[Presence]) -> Code:
    """Return whether something was found, and whether all was answered: what stays undetermined is no answer.

    The code tells why findings are absent (PS3.16 TID 4001 row 1); of an undetermined label it must claim neither.
    """
    is_open = Presence.UNDETERMINED in found
    if Presence.PRESENT in found:
        return codes.PARTLY_WITH_FINDINGS if is_open else codes.WITH_FINDINGS
    if not is_open:
        return codes.WITHOUT_FINDINGS
    return codes.PARTLY_WITHOUT_FINDINGS if Presence.ABSENT in found else codes.NO_ANSWER


def _comment(analysis: Analysis, provenance: Provenance) -> list[bytes]:
    model = provenance.model
    sentences = [
        DISCLAIMER,
        model.notice,
        f"Model {model.name} {model.version}, weights sha256 {model.weights_sha256}.",
    ]
    if analysis.threshold is not None:
        if not 0.0 <= analysis.threshold <= 1.0:
            raise ResultCheckFailed(f"the threshold is {analysis.threshold}, not 0 to 1; the Pipeline is at fault")
        sentences.append(f"A finding counts as present from a certainty of {percent(analysis.threshold)}.")
    told = (*sentences, *provenance.amendments, *analysis.notes)
    return [write_statement(codes.COMMENT, sentence) for sentence in told if sentence]


def _observe(provenance: Provenance) -> list[bytes]:
    """Return who observed: the node (PS3.16 TID 1002, TID 1004)."""
    statements = (
        (codes.DEVICE_NAME, provenance.node_aet),
        (codes.DEVICE_MANUFACTURER, OWN_MANUFACTURER),
        (codes.DEVICE_MODEL_NAME, provenance.pipeline),
        (codes.DEVICE_SERIAL_NUMBER, provenance.node_aet),
    )
    return [
        write_code(codes.OBSERVER_TYPE, codes.DEVICE, relationship=HAS_OBS_CONTEXT),
        write_uid(codes.DEVICE_UID, provenance.device_uid(), relationship=HAS_OBS_CONTEXT),
        *(write_statement(name, text, relationship=HAS_OBS_CONTEXT) for name, text in statements),
    ]


def _name_procedures(header: Dataset) -> list[bytes]:
    """Return the procedures that the source names, else one for its Modality."""
    named = [one for item in header.get("ProcedureCodeSequence") or () for one in _copy_procedure(item)]
    return named or [_write_procedure(PROCEDURES.get(str(header.get("Modality")), codes.IMAGING_PROCEDURE))]


def _copy_procedure(item: Dataset) -> list[bytes]:
    """Return a procedure of the source; nothing where its code is none that an SR can hold."""
    value = item.get("CodeValue") or item.get("LongCodeValue") or ""
    code = Code(str(value), str(item.get("CodingSchemeDesignator") or ""), str(item.get("CodeMeaning") or "")[:MAX_LO])
    return [_write_procedure(code, version=str(item.get("CodingSchemeVersion") or ""))] if is_writable(code) else []


def _write_procedure(code: Code, *, version: str = "") -> bytes:
    return write_code(codes.PROCEDURE_REPORTED, code, version=version, relationship=HAS_CONCEPT_MOD)


def _write_library(analysis: Analysis, header: Dataset) -> bytes:
    """Return what is known of the images that the report describes: only those that carry a Finding."""
    if analysis.reference is None:
        return describe_radiograph(header)
    if analysis.mask is None:
        return b""
    return describe_slices(analysis.reference, np.flatnonzero(analysis.mask.any(axis=(1, 2))).tolist())


def _list_schemes(analysis: Analysis, provenance: Provenance) -> set[str]:
    used = [*provenance.model.looked_for]
    for finding in analysis.findings:
        used += [code for code in (finding.code, finding.category, finding.site, finding.laterality) if code]
    return {code.scheme for code in used}
