"""Independent programs read every kind of Result, from hand-made Analyses and on real headers: none finds an error."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import chain
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, FileDataset, dcmread

from node.domain.codes import BRAIN, EDEMA, ENHANCING_LESION, LEFT, LUNG, NODULE, PNEUMONIA, RIGHT, Code
from node.domain.finding import Finding, Presence
from node.domain.result import OptionalResult, ResultKind, SegmentationForm
from node.domain.retraction import RejectionReason
from node.rehearsal.headers import write_datasets
from tests.analyses import (
    TILTED,
    Ball,
    Case,
    Inputs,
    ct_case,
    fill_ball,
    make_provenance,
    mr_case,
    organ_case,
    read_results,
    rejection_note,
    xray_case,
)
from tests.edge_cases import bare_case, corrected_case, crowded_case, long_uids_case, one_voxel_case
from tests.enhanced import enhance_case
from tests.phantoms import small_brain_mr, small_chest_ct, small_chest_xray
from tests.validators import (
    dump_report,
    list_complaints,
    list_contradictions,
    read_measurements,
    read_regions,
    speaks_of_labelmap,
    volumes_mm3,
)
from workers.encoding.encoder import EncodedResult
from workers.pipelines.base import Analysis
from workers.proving.check import check_results
from workers.radiograph import read_radiograph
from workers.volume import Volume, read_volume

PROGRAMS = (
    *("dciodvfy", "dcentvfy"),
    *("dsrdump", "dsr2html", "dcmpschk", "dcm2pdf"),
    *("segimage2itkimage", "tid1500reader"),
)
FILMS = ("cxr-nema-rg1/RG1_J2KI", "cxr-siim-dicom/siim-mono1", "cxr-siim-dicom/siim-mono2", "cxr-nih-dicom/test1")


def with_request() -> Case:
    """Return a CT with a request, a procedure, an issuer and a time zone, and an earlier SR."""
    procedure, request = Dataset(), Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator, procedure.CodeMeaning = "CTTH", "L", "CT Thorax"
    request.RequestedProcedureID, request.ScheduledProcedureStepID = "RP7", "SPS7"
    case = ct_case(
        ProcedureCodeSequence=[procedure],
        RequestAttributesSequence=[request],
        IssuerOfPatientID="Haus",
        TimezoneOffsetFromUTC="+0100",
        PatientName="Müller^Käthe",
    )
    earlier = read_results(case.encode())[ResultKind.SR]
    return replace(case, provenance=replace(case.provenance, predecessor=earlier, content="later"))


def without_type_2() -> Case:
    case = ct_case()
    missing = ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyTime", "SliceThickness")
    for ds in case.inputs["ct"]:
        for keyword in missing:
            delattr(ds, keyword)
    return case


CASES: dict[str, Callable[[], Case]] = {
    "CT": ct_case,
    "CT tilted": lambda: ct_case(orientation=TILTED),
    "CT nothing found": lambda: ct_case(with_nodules=False),
    "CT with request and predecessor": with_request,
    "CT without type 2 elements": without_type_2,
    "MR": mr_case,
    "CT of Frames": lambda: enhance_case(ct_case()),
    "X-ray present": xray_case,
    "X-ray absent": lambda: xray_case(Presence.ABSENT),
    "X-ray undecided": lambda: xray_case(Presence.UNDETERMINED),
    "X-ray local code": lambda: xray_case(more=(Code("PT1", "99RADNODE", "Pleural thickening"),)),
    "organ of a foreign Pipeline": organ_case,
    "no organ of a foreign Pipeline": lambda: organ_case(is_found=False),
    "a nodule of one voxel": one_voxel_case,
    "thirty nodules": lambda: crowded_case(30),
    "UIDs of 64 characters": long_uids_case,
    "bare findings and a long local code": bare_case,
    "a corrected report": corrected_case,
    "X-ray without orientation": lambda: xray_case(PatientOrientation=None, ImagerPixelSpacing=None),
}


SEGMENTED = ("CT", "CT tilted", "MR")
ALWAYS = (
    (OptionalResult.PICTURE, ResultKind.SC),
    (OptionalResult.KEY_OBJECTS, ResultKind.KO),
    (OptionalResult.PRESENTATION_STATE, ResultKind.PR),
    (OptionalResult.PDF, ResultKind.DOC),
)
WRITTEN = [
    *((name, optional, kind) for name in ("CT", "MR", "X-ray present") for optional, kind in ALWAYS),
    ("X-ray present", OptionalResult.HEAT_MAP, ResultKind.SEG),
]


def _drop_algorithm(ds: Dataset) -> None:
    del ds.SegmentSequence[0].SegmentAlgorithmType


def _drop_title(ds: Dataset) -> None:
    del ds.ConceptNameCodeSequence


def _drop_references(ds: Dataset) -> None:
    del ds.ReferencedSeriesSequence


def _drop_document(ds: Dataset) -> None:
    del ds.EncapsulatedDocument


def _drop_rows(ds: Dataset) -> None:
    del ds.Rows


DAMAGES: dict[ResultKind, Callable[[Dataset], None]] = {
    ResultKind.SEG: _drop_algorithm,
    ResultKind.SC: _drop_rows,
    ResultKind.KO: _drop_title,
    ResultKind.PR: _drop_references,
    ResultKind.DOC: _drop_document,
}


def validate(results: Sequence[EncodedResult], inputs: Inputs, folder: Path) -> list[Path]:
    """Write Results, let every program judge each and all together, and return the files."""
    files = write_results(results, folder)
    for path in files:
        assert list_complaints(path, folder) == [], path.name
        assert_highdicom_reads(path)
    sources = write_datasets(
        [FileDataset(folder, ds, file_meta=ds.file_meta) for ds in chain(*inputs.values())], folder
    )
    assert list_contradictions([*sources, *files], folder) == []
    return files


def write_results(results: Sequence[EncodedResult], folder: Path) -> list[Path]:
    files = []
    for number, result in enumerate(results):
        files.append(folder / f"{number}-{result.kind}.dcm")
        files[-1].write_bytes(result.content)
    return files


def assert_highdicom_reads(path: Path) -> None:
    ds = dcmread(path)
    if ds.Modality == "SEG":
        assert hd.seg.Segmentation.from_dataset(ds).segment_numbers
    elif ds.Modality == "SR":
        assert hd.sr.Comprehensive3DSR.from_dataset(ds).content
    elif ds.Modality == "KO":
        assert hd.ko.KeyObjectSelectionDocument.from_dataset(ds).content.get_references()


def encode_proven(case: Case, form: SegmentationForm) -> tuple[EncodedResult, ...]:
    """Return every kind of Result there is for a Case, as it passed the gate."""
    results = case.encode(*OptionalResult, segmentation=form)
    check_results(results, case.analysis, case.inputs)
    return results


@pytest.mark.needs(*PROGRAMS)
@pytest.mark.parametrize("form", SegmentationForm)
@pytest.mark.parametrize("name", CASES)
def test_results_have_no_errors(name: str, form: SegmentationForm, tmp_path: Path) -> None:
    case = CASES[name]()
    results = encode_proven(case, form)
    files = validate(results, case.inputs, tmp_path)
    (report,) = (path for path in files if path.name.endswith("-SR.dcm"))
    if not speaks_of_labelmap(dcmread(report)):
        text = dump_report(report)
        assert "Comprehensive 3D SR Document" in text
        assert all(f"AI {finding.label}" in text for finding in case.analysis.findings)


@pytest.mark.needs(*PROGRAMS)
@pytest.mark.parametrize("reason", RejectionReason)
@pytest.mark.parametrize("name", ["CT", "X-ray present"])
def test_rejection_notes_have_no_errors(name: str, reason: RejectionReason, tmp_path: Path) -> None:
    case = CASES[name]()
    validate([*case.encode(), rejection_note(case, reason)], case.inputs, tmp_path)


@pytest.mark.parametrize(("name", "optional", "kind"), WRITTEN)
def test_each_optional_result_is_among_the_validated(name: str, optional: OptionalResult, kind: ResultKind) -> None:
    case = CASES[name]()
    with_it = Counter(result.kind for result in case.encode(optional) if not result.is_substitute)
    without = Counter(result.kind for result in case.encode() if not result.is_substitute)
    assert with_it - without == {kind: 1}


@pytest.mark.needs("segimage2itkimage", "tid1500reader")
@pytest.mark.parametrize("form", SegmentationForm)
@pytest.mark.parametrize("name", SEGMENTED)
def test_dcmqi_finds_each_segment_where_the_mask_is_and_as_large_as_the_sr_says(
    name: str, form: SegmentationForm, tmp_path: Path
) -> None:
    case = CASES[name]()
    volume, mask = case.analysis.reference, case.analysis.mask
    assert volume is not None
    assert mask is not None
    results = {result.kind: path for result, path in zip_files(encode_proven(case, form), tmp_path)}
    regions = read_regions(results[ResultKind.SEG], tmp_path)
    said_mm3 = volumes_mm3(read_measurements(results[ResultKind.SR], tmp_path))
    assert set(regions) == set(said_mm3) == set(np.unique(mask[mask > 0]).tolist())
    for number, region in regions.items():
        assert (region.mark_in(volume) == (mask == number)).all()
        assert len(region.centers_mm) * region.voxel_mm3 == pytest.approx(said_mm3[number], rel=0.01)


def zip_files(results: Sequence[EncodedResult], folder: Path) -> Iterator[tuple[EncodedResult, Path]]:
    return zip(results, write_results(results, folder), strict=True)


@pytest.mark.needs(*PROGRAMS)
@pytest.mark.parametrize("kind", DAMAGES)
def test_validators_see_a_broken_result(kind: ResultKind, tmp_path: Path) -> None:
    whole = next(r for r in encode_proven(ct_case(), SegmentationForm.BINARY) if r.kind is kind)
    ds = dcmread(BytesIO(whole.content))
    DAMAGES[kind](ds)
    ds.save_as(tmp_path / "broken.dcm")
    assert list_complaints(tmp_path / "broken.dcm", tmp_path)


@pytest.mark.needs("dcentvfy")
def test_dcentvfy_sees_a_result_of_another_patient(tmp_path: Path) -> None:
    case = ct_case()
    files = write_results(case.encode(), tmp_path)
    ds = dcmread(files[0])
    ds.PatientBirthDate = "19010101"
    ds.save_as(files[0])
    assert list_contradictions(files, tmp_path)


@pytest.mark.needs("segimage2itkimage")
def test_dcmqi_sees_a_shifted_frame(tmp_path: Path) -> None:
    case = ct_case()
    (path,) = (path for result, path in zip_files(case.encode(), tmp_path) if result.kind is ResultKind.SEG)
    ds = dcmread(path)
    place = ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    place.ImagePositionPatient = [value + 7.0 for value in place.ImagePositionPatient]
    ds.save_as(path)
    volume, mask = case.analysis.reference, case.analysis.mask
    assert volume is not None
    with pytest.raises(AssertionError):
        assert (read_regions(path, tmp_path)[1].mark_in(volume) == (mask == 1)).all()


def balls_case(inputs: Inputs, role: str, balls: tuple[Ball, ...], findings: tuple[Finding, ...], name: str) -> Case:
    """Return a Case of invented regions on real or phantom slices."""
    volume = read_volume(inputs[role])
    mask = np.zeros(volume.voxels.shape, np.uint8)
    for number, ball in enumerate(balls, start=1):
        mask[fill_ball(volume, ball)] = number
    measured = tuple(_measure(volume, mask == number, finding) for number, finding in enumerate(findings, start=1))
    return Case(
        analysis=Analysis(findings=measured, reference=volume, mask=mask, threshold=0.5),
        inputs=inputs,
        provenance=make_provenance(name, inputs, series_offset=1),
        balls=balls,
    )


def _measure(volume: Volume, region: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], finding: Finding) -> Finding:
    measured = {"volume_mm3": float(region.sum()) * float(np.prod(volume.spacing_mm))}
    if volume.datasets[0].Modality == "CT":
        measured["mean_hu"] = float(volume.voxels[region].mean())
    return replace(finding, measurements=measured)


NODULE_FINDING = Finding(label="Nodule 1", code=NODULE, confidence=0.9, site=LUNG, laterality=RIGHT, segment_number=1)
LESION_FINDINGS = (
    Finding(label="FLAIR abnormality", code=EDEMA, confidence=0.9, site=BRAIN, laterality=LEFT, segment_number=1),
    Finding(label="Enhancing part", code=ENHANCING_LESION, confidence=0.7, site=BRAIN, segment_number=2),
)


@pytest.mark.needs(*PROGRAMS)
def test_results_on_phantoms_have_no_errors(tmp_path: Path) -> None:
    chest, head = small_chest_ct(), small_brain_mr()
    nodule = chest.nodules[0]
    ball = Ball(center_mm=nodule.center_mm, radius_mm=nodule.diameter_mm / 2)
    validate_case(balls_case({"ct": chest.datasets}, "ct", (ball,), (NODULE_FINDING,), "lung_nodules"), tmp_path / "ct")
    inputs: Inputs = {"flair": head.flair, "t1": head.t1, "t1c": head.t1c}
    volume = read_volume(head.flair)
    center = volume.to_patient_mm([n / 2 for n in volume.voxels.shape])
    balls = (Ball(center_mm=center, radius_mm=20), Ball(center_mm=center, radius_mm=9))
    validate_case(balls_case(inputs, "flair", balls, LESION_FINDINGS, "brain_tumour"), tmp_path / "mr")
    validate_case(film_case(small_chest_xray(with_opacity=True).dataset), tmp_path / "film")


def validate_case(case: Case, folder: Path) -> None:
    folder.mkdir()
    validate(encode_proven(case, SegmentationForm.BINARY), case.inputs, folder)


def film_case(film: Dataset) -> Case:
    """Return a Case of an invented opacity on a film."""
    inputs: Inputs = {"image": [film]}
    heat = np.zeros((film.Rows, film.Columns), np.float32)
    heat[film.Rows // 2 : film.Rows // 2 + 90, 200:300] = 1.0
    finding = Finding(label="Pneumonia", code=PNEUMONIA, confidence=0.8, site=LUNG)
    return Case(
        analysis=Analysis(findings=(finding,), radiograph=read_radiograph(film), heat=heat, threshold=0.5),
        inputs=inputs,
        provenance=make_provenance("chest_xray", inputs, series_offset=3),
    )


@pytest.mark.needs(*PROGRAMS)
@pytest.mark.parametrize("name", FILMS)
def test_results_on_real_radiographs_have_no_errors(data_dir: Path, tmp_path: Path, name: str) -> None:
    """Also of films that the rules refuse for what they are; their headers are as odd as headers come."""
    validate_case(film_case(dcmread(data_dir / f"{name}.dcm")), tmp_path / "film")
