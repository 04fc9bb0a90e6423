"""The gate bites: each damage a Result could have is seen and stops it."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite

from node.domain.finding import Presence
from node.domain.result import ResultKind
from node.domain.uids import derive_uid
from node.errors import ResultCheckFailed
from tests.analyses import known, make_slices, xray_case
from tests.analyses import put as put_elements
from workers.encoding.check import check_results
from workers.encoding.encoder import EncodedResult

SEG, SR, SC = ResultKind.SEG, ResultKind.SR, ResultKind.SC
Damage = Callable[[Dataset], None]


def rewrite(result: EncodedResult, damage: Damage) -> EncodedResult:
    """Return the Result with a damaged file; its record stays as it was."""
    ds = dcmread(BytesIO(result.content))
    damage(ds)
    buffer = BytesIO()
    dcmwrite(buffer, ds)
    return replace(result, content=buffer.getvalue())


def check_damaged(name: str, kind: ResultKind, damage: Damage) -> None:
    """Damage one Result of a known Case and send all of them through the gate."""
    case, results = known(name)
    damaged = [rewrite(result, damage) if result.kind is kind else result for result in results]
    check_results(damaged, case.analysis, case.inputs)


def walk(ds: Dataset) -> Iterator[Dataset]:
    """Yield every content item of an SR."""
    for item in ds.get("ContentSequence") or ():
        yield item
        yield from walk(item)


def first(ds: Dataset, code: str) -> Dataset:
    """Return the first content item with this concept name."""
    return next(item for item in walk(ds) if item.ConceptNameCodeSequence[0].CodeValue == code)


def put(keyword: str, value: Any) -> Damage:
    return lambda ds: put_elements(ds, {keyword: value})


def drop(keyword: str) -> Damage:
    return lambda ds: delattr(ds, keyword)


def say(code: str, value: str) -> Damage:
    """Change the number of the first measurement of that name."""

    def damage(ds: Dataset) -> None:
        measured = first(ds, code).MeasuredValueSequence[0]
        measured.NumericValue = value
        measured.FloatingPointValue = float(value)

    return damage


def state(code: str, answer: str) -> Damage:
    """Change the answer of the last coded content item of that name."""

    def damage(ds: Dataset) -> None:
        items = [item for item in walk(ds) if item.ConceptNameCodeSequence[0].CodeValue == code]
        items[-1].ConceptCodeSequence[0].CodeValue = answer

    return damage


def frame(ds: Dataset, number: int) -> Dataset:
    found: Dataset = ds.PerFrameFunctionalGroupsSequence[number]
    return found


def swap_positions(ds: Dataset) -> None:
    one, other = (frame(ds, n).PlanePositionSequence[0] for n in (0, 1))
    one.ImagePositionPatient, other.ImagePositionPatient = other.ImagePositionPatient, one.ImagePositionPatient


def swap_sources(ds: Dataset) -> None:
    one, other = (frame(ds, n).DerivationImageSequence[0].SourceImageSequence[0] for n in (0, 1))
    one.ReferencedSOPInstanceUID, other.ReferencedSOPInstanceUID = (
        other.ReferencedSOPInstanceUID,
        one.ReferencedSOPInstanceUID,
    )


def reverse_frames(ds: Dataset) -> None:
    """As highdicom writes them when the mask is handed over upside down."""
    size = ds.Rows * ds.Columns
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")[: ds.NumberOfFrames * size]
    ds.PixelData = np.packbits(bits.reshape(-1, size)[::-1].ravel(), bitorder="little").tobytes()


def flip_rows(ds: Dataset) -> None:
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    frames = bits[: ds.NumberOfFrames * ds.Rows * ds.Columns].reshape(-1, ds.Rows, ds.Columns)
    ds.PixelData = np.packbits(frames[:, ::-1].ravel(), bitorder="little").tobytes()


def empty_pixels(ds: Dataset) -> None:
    ds.PixelData = bytes(len(ds.PixelData))


def cut_pixels(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 4 * 2]


def drop_frame(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[-1]
    ds.NumberOfFrames = ds.NumberOfFrames - 1


def change_spacing(ds: Dataset) -> None:
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = ["0.7", "0.8"]


def change_orientation(ds: Dataset) -> None:
    plane = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    plane.ImageOrientationPatient = ["1", "0", "0", "0", "-1", "0"]


def other_segment(ds: Dataset) -> None:
    frame(ds, 0).SegmentIdentificationSequence[0].ReferencedSegmentNumber = 2


def undescribed_segment(ds: Dataset) -> None:
    del ds.SegmentSequence[1]


def list_part_of_series(ds: Dataset) -> None:
    del ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]


def track_otherwise(ds: Dataset) -> None:
    ds.SegmentSequence[0].TrackingUID = derive_uid("test", "another finding")


def lose_evidence(ds: Dataset) -> None:
    del ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]


def dangle(ds: Dataset) -> None:
    image = next(item for item in walk(ds) if item.ValueType == "IMAGE")
    image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = derive_uid("test", "nobody")


def refer_as_other_class(ds: Dataset) -> None:
    image = next(item for item in walk(ds) if item.ValueType == "IMAGE")
    image.ReferencedSOPSequence[0].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


def refer_to_other_segment(ds: Dataset) -> None:
    for item in walk(ds):
        if item.ValueType == "IMAGE" and "ReferencedSegmentNumber" in item.ReferencedSOPSequence[0]:
            item.ReferencedSOPSequence[0].ReferencedSegmentNumber = 2
            return


def move_outline(ds: Dataset) -> None:
    outline = next(item for item in walk(ds) if item.ValueType == "SCOORD")
    outline.GraphicData = [float(value) + 3.0 for value in outline.GraphicData]


def mirror_outline_slice(ds: Dataset) -> None:
    one, other = (item for item in walk(ds) if item.ValueType == "SCOORD")
    one.ContentSequence, other.ContentSequence = other.ContentSequence, one.ContentSequence


def forget_measurement(ds: Dataset) -> None:
    for item in walk(ds):
        children = item.get("ContentSequence") or []
        for place, child in enumerate(children):
            if child.ConceptNameCodeSequence[0].CodeValue == "118565006":
                del children[place]
                return


DAMAGES: tuple[tuple[str, ResultKind, str, Damage, str], ...] = (
    ("two frames swap their places", SEG, "ct", swap_positions, "does not lie where"),
    ("tilted frames swap their places", SEG, "tilted", swap_positions, "does not lie where"),
    ("two frames swap their sources", SEG, "ct", swap_sources, "does not"),
    ("frames upside down", SEG, "ct", reverse_frames, "does not show"),
    ("rows upside down", SEG, "tilted", flip_rows, "does not show"),
    ("empty frames", SEG, "ct", empty_pixels, "does not show"),
    ("cut pixels", SEG, "ct", cut_pixels, "shorter than"),
    ("a frame is lost", SEG, "ct", drop_frame, "lost voxels"),
    ("rows and columns spacing swapped", SEG, "ct", change_spacing, "Pixel Spacing"),
    ("mirrored orientation", SEG, "ct", change_orientation, "Image Orientation"),
    ("untilted orientation", SEG, "tilted", change_orientation, "Image Orientation"),
    ("a frame of another segment", SEG, "ct", other_segment, "does not show"),
    ("a segment is not described", SEG, "ct", undescribed_segment, "segments"),
    ("part of the source series", SEG, "ct", list_part_of_series, "not listed whole"),
    ("another frame of reference", SEG, "ct", put("FrameOfReferenceUID", "1.2.3"), "Frame of Reference"),
    ("another tracking uid", SEG, "ct", track_otherwise, "Tracking UID"),
    ("another patient id", SEG, "ct", put("PatientID", "T-2"), "PatientID"),
    ("another patient's name", SR, "ct", put("PatientName", "Other^Test"), "PatientName"),
    ("another issuer", SR, "ct", put("IssuerOfPatientID", "Elsewhere"), "IssuerOfPatientID"),
    ("another birth date", SR, "ct", put("PatientBirthDate", "19620330"), "PatientBirthDate"),
    ("a lost sex", SC, "ct", put("PatientSex", ""), "PatientSex"),
    ("another study", SR, "ct", put("StudyInstanceUID", "1.2.3"), "StudyInstanceUID"),
    ("another accession", SC, "xray", put("AccessionNumber", "A-2"), "AccessionNumber"),
    ("another study date", SEG, "ct", put("StudyDate", "20250115"), "StudyDate"),
    ("another manufacturer", SEG, "ct", put("Manufacturer", "Somebody"), "Manufacturer"),
    ("a verified description", SR, "ct", put("SeriesDescription", "AI Lung Nodules SR"), "unverified"),
    ("volume by slice thickness", SR, "ct", say("118565006", "500.0"), "volume"),
    ("another long axis", SR, "ct", say("103339001", "9.9"), "long_axis_mm"),
    ("another certainty", SR, "ct", say("111012", "55.0"), "certainty"),
    ("a certainty of another label", SR, "xray", say("111012", "12.0"), "certainty"),
    ("a volume is missing", SR, "ct", forget_measurement, "stated or missing"),
    ("says nothing was found", SR, "ct", state("111017", "111241"), "summary"),
    ("presence turned round", SR, "xray", state("121052", "121054"), "presence"),
    ("claims verification", SR, "ct", put("VerificationFlag", "VERIFIED"), "VerificationFlag"),
    ("claims to be final", SR, "xray", put("PreliminaryFlag", "FINAL"), "PreliminaryFlag"),
    ("evidence is incomplete", SR, "mr", lose_evidence, "evidence"),
    ("a reference to nobody", SR, "ct", dangle, "neither input nor Result"),
    ("a reference of another class", SR, "ct", refer_as_other_class, "another SOP Class"),
    ("both groups on one segment", SR, "ct", refer_to_other_segment, "groups refer to segment"),
    ("an outline beside its nodule", SR, "ct", move_outline, "leaves its segment"),
    ("outlines on each other's slice", SR, "ct", mirror_outline_slice, "slice without it"),
    ("a uid of 65 characters", SEG, "ct", put("SynchronizationFrameOfReferenceUID", "1." + "2" * 63), "UID"),
    ("another sop instance uid", SC, "ct", put("SOPInstanceUID", "1.2.3"), "SOPInstanceUID"),
    ("another series", SEG, "ct", put("SeriesInstanceUID", "1.2.3"), "SeriesInstanceUID"),
    ("a picture that hides its letters", SC, "ct", put("BurnedInAnnotation", "NO"), "Burned In Annotation"),
    ("a cut picture", SC, "ct", cut_pixels, "Pixel Data"),
    ("no geometry at all", SEG, "ct", drop("SharedFunctionalGroupsSequence"), "cannot be proven"),
    ("no evidence at all", SR, "ct", drop("CurrentRequestedProcedureEvidenceSequence"), "evidence"),
    ("no content at all", SR, "xray", drop("ContentSequence"), "summary"),
    ("a picture of nothing", SC, "xray", put("SourceImageSequence", []), "source image"),
)


@pytest.mark.parametrize("name", ["ct", "tilted", "mr", "xray"])
def test_true_results_pass(name: str) -> None:
    case, results = known(name)
    check_results(results, case.analysis, case.inputs)


@pytest.mark.parametrize(("kind", "name", "damage", "complaint"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_damage_is_seen(kind: ResultKind, name: str, damage: Damage, complaint: str) -> None:
    with pytest.raises(ResultCheckFailed, match=complaint):
        check_damaged(name, kind, damage)


def test_rewriting_alone_is_no_damage() -> None:
    for kind in (SEG, SR, SC):
        check_damaged("ct", kind, lambda ds: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A volume that the Pipeline reports, against what its voxels hold."""

    factor: float
    passes: bool


@pytest.mark.parametrize(
    "reported",
    [
        Reported(factor=1.0, passes=True),
        Reported(factor=1.009, passes=True),
        Reported(factor=1.011, passes=False),
        Reported(factor=0.985, passes=False),
        Reported(factor=3.0 / 2.0, passes=False),
    ],
    ids=["true", "0.9 % off", "1.1 % off", "1.5 % less", "slice thickness for distance"],
)
def test_volume_is_held_against_the_voxels_within_one_percent(reported: Reported) -> None:
    case, _ = known("ct")
    first_one = case.analysis.findings[0]
    measured = {**first_one.measurements, "volume_mm3": first_one.measurements["volume_mm3"] * reported.factor}
    findings = (replace(first_one, measurements=measured), *case.analysis.findings[1:])
    changed = replace(case, analysis=replace(case.analysis, findings=findings))
    results = changed.encode()
    if reported.passes:
        check_results(results, changed.analysis, changed.inputs)
        return
    with pytest.raises(ResultCheckFailed, match="volume of segment 1"):
        check_results(results, changed.analysis, changed.inputs)


def test_inputs_of_two_patients_are_refused() -> None:
    case, results = known("mr")
    mixed = dict(case.inputs)
    mixed["t1"] = [copy.deepcopy(ds) for ds in mixed["t1"]]
    mixed["t1"][3].PatientID = "T-2"
    with pytest.raises(ResultCheckFailed, match="PatientID differs among the inputs"):
        check_results(results, case.analysis, mixed)


def test_reference_that_was_no_input_is_refused() -> None:
    case, results = known("ct")
    with pytest.raises(ResultCheckFailed):
        check_results(results, case.analysis, {"ct": make_slices(series="another")})


def only(results: Sequence[EncodedResult], *kinds: ResultKind) -> list[EncodedResult]:
    return [result for result in results if result.kind in kinds]


def test_missing_or_doubled_results_are_refused() -> None:
    case, results = known("ct")
    doubled = [*results, *only(results, SR)]
    for some in (only(results, SEG), only(results, SR), only(results, SC), [], doubled):
        with pytest.raises(ResultCheckFailed):
            check_results(some, case.analysis, case.inputs)


def test_seg_beside_nothing_found_is_refused() -> None:
    case, results = known("ct")
    nothing = replace(case.analysis, findings=(), mask=None)
    with pytest.raises(ResultCheckFailed, match="1 SEG, 0 expected"):
        check_results(results, nothing, case.inputs)


def test_cut_and_foreign_bytes_are_refused() -> None:
    case, results = known("ct")
    for content in (b"", b"no DICOM at all" * 20, results[0].content[:1000]):
        broken = [replace(results[0], content=content), *results[1:]]
        with pytest.raises(ResultCheckFailed):
            check_results(broken, case.analysis, case.inputs)


def test_label_that_the_analysis_does_not_have_is_refused() -> None:
    case = xray_case(Presence.ABSENT)
    results = case.encode()
    renamed = replace(case.analysis.findings[0], label="Effusion")
    with pytest.raises(ResultCheckFailed, match="Effusion"):
        check_results(results, replace(case.analysis, findings=(renamed,)), case.inputs)


def test_complaints_name_no_patient_value() -> None:
    case, results = known("ct")
    damaged = [rewrite(result, put("PatientName", "Canary^Bird")) for result in results]
    with pytest.raises(ResultCheckFailed) as caught:
        check_results(damaged, case.analysis, case.inputs)
    assert "Canary" not in str(caught.value)
    assert str(case.inputs["ct"][0].PatientName) not in str(caught.value)
