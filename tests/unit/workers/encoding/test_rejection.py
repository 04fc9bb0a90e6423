"""A rejection note names what is taken back; a corrected answer is proven like the first."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from node.domain.finding import Finding
from node.domain.job import Job, JobID, JobOrder, JobState, Priority
from node.domain.result import OptionalResult, ResultKind, ResultWishes, SegmentationForm
from node.domain.retraction import RejectionReason, Retraction, RetractionOrder
from node.domain.uids import SeriesUID, StudyUID
from node.errors import InputMissing, ResultCheckFailed
from tests.analyses import ACCEPTED, Case, ct_case, known, read_results
from tests.enhanced import enhance_case, mix_case
from workers.encoding.encoder import encode
from workers.encoding.recall import recall_analysis, strike_entries, strike_findings
from workers.encoding.rejection import encode_rejection
from workers.frames import name_slice
from workers.pipelines.base import require_mask
from workers.proving.check import check_results
from workers.proving.rejection import check_rejection

SEG, SR, SC = ResultKind.SEG, ResultKind.SR, ResultKind.SC


def job_of(case: Case) -> Job:
    source = next(iter(case.inputs.values()))[0]
    order = JobOrder(
        study_instance_uid=StudyUID(source.StudyInstanceUID),
        pipeline=case.provenance.pipeline,
        model=case.provenance.model.name,
        model_version=case.provenance.model.version,
        rule="a rule",
        priority=Priority.ROUTINE,
        inputs={role: SeriesUID(found[0].SeriesInstanceUID) for role, found in case.inputs.items()},
        content=case.provenance.content,
        deliver_to=(),
    )
    return Job(
        job_id=JobID("job"),
        order=order,
        state=JobState.COMPLETED,
        accepted_at=ACCEPTED,
        attempts=1,
        fence=1,
        lease_owner=None,
        lease_expires_at=None,
        not_before=ACCEPTED,
        reason_code=None,
        reason_text=None,
        findings=tuple(finding.as_json() for finding in case.analysis.findings),
        notes=case.analysis.notes,
        threshold=case.analysis.threshold,
        seconds={},
        stages={},
        model_sha256=case.provenance.model.weights_sha256,
        supersedes=None,
        finished_at=ACCEPTED,
    )


def retraction(reason: RejectionReason = RejectionReason.QUALITY, comment: str = "A rib end.") -> Retraction:
    order = RetractionOrder(reason=reason, comment=comment, struck=(), ordered_by="reader")
    return Retraction(retraction_id="r", job_id=JobID("job"), order=order, ordered_at=ACCEPTED)


def recalled(name: str) -> tuple[Case, dict[ResultKind, Dataset]]:
    case, results = known(name)
    objects = read_results(results)
    analysis = recall_analysis(job_of(case), case.inputs, report=objects[SR], segmentation=objects.get(SEG))
    return replace(case, analysis=analysis), objects


@pytest.mark.parametrize("form", SegmentationForm)
@pytest.mark.parametrize("make", [enhance_case, partial(mix_case, frames=range(5, 12))], ids=["frames", "and slices"])
def test_a_mask_comes_back_from_the_frames_that_its_seg_names(
    make: Callable[[Case], Case], form: SegmentationForm
) -> None:
    case = make(ct_case())
    objects = read_results(case.encode(segmentation=form))
    again = recall_analysis(job_of(case), case.inputs, report=objects[SR], segmentation=objects[SEG])
    (volume, mask), (recalled_volume, recalled_mask) = require_mask(case.analysis), require_mask(again)
    assert np.array_equal(recalled_mask, mask)
    assert [name_slice(ds) for ds in recalled_volume.datasets] == [name_slice(ds) for ds in volume.datasets]


@pytest.mark.parametrize("name", ["ct", "mr", "xray"])
def test_a_rejection_note_names_each_object_and_nothing_else(name: str) -> None:
    case, results = known(name)
    objects = read_results(results)
    encoded = encode_rejection(list(objects.values()), retraction(), case.provenance)
    note = dcmread(BytesIO(encoded.content))
    (evidence,) = note.CurrentRequestedProcedureEvidenceSequence
    named = {
        item.ReferencedSOPInstanceUID
        for series in evidence.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert named == {ds.SOPInstanceUID for ds in objects.values()}
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert (note.PatientID, note.StudyInstanceUID) == (objects[SR].PatientID, objects[SR].StudyInstanceUID)
    assert note.Modality == "KO"
    assert "AI" in note.SeriesDescription
    assert encoded.kind is ResultKind.REJECTION_NOTE
    check_rejection(encoded, list(objects.values()))
    assert encode_rejection(list(objects.values()), retraction(), case.provenance).content == encoded.content


def test_objects_of_two_patients_are_not_rejected_by_one_note() -> None:
    case, results = known("ct")
    objects = list(read_results(results).values())
    objects[1].PatientID = "another"
    with pytest.raises(ResultCheckFailed, match="PatientID"):
        encode_rejection(objects, retraction(), case.provenance)


@pytest.mark.parametrize("name", ["ct", "tilted", "mr", "xray"])
def test_an_analysis_is_read_back_from_what_was_written_of_it(name: str) -> None:
    case, _ = known(name)
    again, _ = recalled(name)
    assert [f.label for f in again.analysis.findings] == [f.label for f in case.analysis.findings]
    if case.analysis.mask is not None:
        assert again.analysis.mask is not None
        np.testing.assert_array_equal(again.analysis.mask, case.analysis.mask)
    results = again.encode()
    check_results(results, again.analysis, again.inputs)


@pytest.mark.parametrize("name", ["ct", "mr", "xray"])
def test_what_is_left_after_a_strike_is_a_true_report_with_new_uids(name: str) -> None:
    case, objects = recalled(name)
    label = case.analysis.findings[0].label
    noted = replace(case.analysis, notes=(f"{label} reaches the edge of the images.", "FLAIR alone was read."))
    left = strike_findings(noted, {label})
    assert left.notes == ("FLAIR alone was read.",)
    assert label not in [finding.label for finding in left.findings]
    provenance = replace(case.provenance, correction=(label,), predecessor=objects[SR])
    corrected = encode(left, provenance, case.inputs, ResultWishes())
    check_results(corrected, left, case.inputs)
    sr = read_results(corrected)[SR]
    assert sr.SOPInstanceUID != objects[SR].SOPInstanceUID
    (predecessor,) = sr.PredecessorDocumentsSequence
    (series,) = predecessor.ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == objects[SR].SOPInstanceUID


def test_nothing_is_segmented_when_every_finding_is_struck() -> None:
    case, objects = recalled("ct")
    labels = {finding.label for finding in case.analysis.findings}
    left = strike_findings(case.analysis, labels)
    provenance = replace(case.provenance, correction=tuple(sorted(labels)), predecessor=objects[SR])
    corrected = encode(left, provenance, case.inputs, ResultWishes())
    check_results(corrected, left, case.inputs)
    assert {result.kind for result in corrected} == {SR, SC}


def test_the_heat_map_of_a_radiograph_is_not_taken_for_its_segments() -> None:
    case, _ = known("xray")
    wishes = ResultWishes(optional=frozenset({OptionalResult.HEAT_MAP}))
    objects = read_results(encode(case.analysis, case.provenance, case.inputs, wishes))
    again = recall_analysis(job_of(case), case.inputs, report=objects[SR], segmentation=objects[SEG])
    assert again.radiograph is not None
    assert again.findings == tuple(Finding.from_json(finding.as_json()) for finding in case.analysis.findings)


def test_an_instance_that_is_gone_is_named() -> None:
    case, results = known("ct")
    objects = read_results(results)
    inputs = {role: found[1:] for role, found in case.inputs.items()}
    with pytest.raises(InputMissing, match="is gone from the store"):
        recall_analysis(job_of(case), inputs, report=objects[SR], segmentation=objects[SEG])


def test_a_note_about_other_objects_does_not_pass() -> None:
    case, results = known("ct")
    objects = list(read_results(results).values())
    encoded = encode_rejection(objects, retraction(), case.provenance)
    with pytest.raises(ResultCheckFailed, match="does not name exactly"):
        check_rejection(encode_rejection(objects[1:], retraction(), case.provenance), objects)
    with pytest.raises(ResultCheckFailed, match="rejection note"):
        check_rejection(encoded, objects[1:])


def test_a_corrected_report_can_be_corrected_again() -> None:
    case, objects = recalled("ct")
    first, second = (finding.label for finding in case.analysis.findings[:2])
    left = strike_findings(case.analysis, {first})
    provenance = replace(case.provenance, correction=(first,), predecessor=objects[SR])
    corrected = read_results(encode(left, provenance, case.inputs, ResultWishes()))
    job = strike_entries(job_of(case), {first})
    again = recall_analysis(job, case.inputs, report=corrected[SR], segmentation=corrected[SEG])
    assert left.mask is not None
    assert again.mask is not None
    np.testing.assert_array_equal(again.mask, left.mask)
    rest = strike_findings(again, {second})
    results = encode(rest, replace(provenance, correction=(first, second)), case.inputs, ResultWishes())
    check_results(results, rest, case.inputs)
    assert {first, second}.isdisjoint(finding.label for finding in rest.findings)
