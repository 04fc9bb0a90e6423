"""Independent programs read every kind of Result: dciodvfy finds no error, dsrdump reads each SR."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from node.domain.codes import BRAIN, EDEMA, ENHANCING_LESION, LEFT, LUNG, NODULE, PNEUMONIA, RIGHT, Code
from node.domain.finding import Finding, Presence
from node.domain.result import OptionalResult, ResultKind
from tests.analyses import (
    TILTED,
    Ball,
    Case,
    Inputs,
    ct_case,
    fill_ball,
    make_provenance,
    mr_case,
    read_results,
    xray_case,
)
from tests.phantoms import small_brain_mr, small_chest_ct, small_chest_xray
from workers.encoding.check import check_results
from workers.pipelines.base import Analysis
from workers.radiograph import read_radiograph
from workers.volume import Volume, read_volume

READ_LIMIT_S = 60.0


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
    "X-ray present": xray_case,
    "X-ray absent": lambda: xray_case(Presence.ABSENT),
    "X-ray undecided": lambda: xray_case(Presence.UNDETERMINED),
    "X-ray local code": lambda: xray_case(more=(Code("PT1", "99RADNODE", "Pleural thickening"),)),
    "X-ray without orientation": lambda: xray_case(PatientOrientation=None, ImagerPixelSpacing=None),
}


def list_errors(path: Path) -> list[str]:
    """Return what dciodvfy calls an error."""
    run = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True, timeout=READ_LIMIT_S, check=False
    )
    lines = (run.stdout + run.stderr).splitlines()
    assert lines, "dciodvfy said nothing at all"
    return [line for line in lines if line.startswith("Error")]


def dump_report(path: Path) -> str:
    """Return the text that dsrdump makes of an SR."""
    run = subprocess.run(
        ["dsrdump", "--print-all-codes", str(path)], capture_output=True, text=True, timeout=READ_LIMIT_S, check=False
    )
    errors = [line for line in run.stderr.splitlines() if line.startswith(("E:", "F:"))]
    assert (run.returncode, errors) == (0, [])
    return run.stdout


def validate(case: Case, folder: Path) -> dict[ResultKind, Path]:
    """Encode, prove and validate all Results of a Case; return their files."""
    results = case.encode(OptionalResult.PICTURE)
    check_results(results, case.analysis, case.inputs)
    files = {}
    for result in results:
        path = folder / f"{result.kind}.dcm"
        path.write_bytes(result.content)
        assert list_errors(path) == [], f"{result.kind}"
        files[result.kind] = path
    return files


@pytest.mark.needs("dciodvfy", "dsrdump")
@pytest.mark.parametrize("name", CASES)
def test_results_have_no_errors(name: str, tmp_path: Path) -> None:
    case = CASES[name]()
    files = validate(case, tmp_path)
    text = dump_report(files[ResultKind.SR])
    assert "Comprehensive 3D SR Document" in text
    for finding in case.analysis.findings:
        assert f"AI {finding.label}" in text


@pytest.mark.needs("dciodvfy")
def test_validator_sees_a_broken_result(tmp_path: Path) -> None:
    files = validate(ct_case(), tmp_path)
    seg = dcmread(files[ResultKind.SEG])
    del seg.SegmentSequence[0].SegmentAlgorithmType
    seg.save_as(tmp_path / "broken.dcm")
    assert list_errors(tmp_path / "broken.dcm")


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
    volume_mm3 = float(region.sum()) * float(np.prod(volume.spacing_mm))
    return replace(finding, measurements={"volume_mm3": volume_mm3, "mean_hu": float(volume.voxels[region].mean())})


NODULE_FINDING = Finding(label="Nodule 1", code=NODULE, confidence=0.9, site=LUNG, laterality=RIGHT, segment_number=1)
LESION_FINDINGS = (
    Finding(label="FLAIR abnormality", code=EDEMA, confidence=0.9, site=BRAIN, laterality=LEFT, segment_number=1),
    Finding(label="Enhancing part", code=ENHANCING_LESION, confidence=0.7, site=BRAIN, segment_number=2),
)


@pytest.mark.needs("dciodvfy", "dsrdump")
def test_results_on_phantoms_have_no_errors(tmp_path: Path) -> None:
    chest = small_chest_ct()
    nodule = chest.nodules[0]
    ball = Ball(center_mm=nodule.center_mm, radius_mm=nodule.diameter_mm / 2)
    case = balls_case({"ct": chest.datasets}, "ct", (ball,), (NODULE_FINDING,), "lung_nodules")
    dump_report(validate(case, tmp_path)[ResultKind.SR])
    head = small_brain_mr()
    inputs: Inputs = {"flair": head.flair, "t1": head.t1, "t1c": head.t1c}
    volume = read_volume(head.flair)
    center = volume.to_patient_mm([n / 2 for n in volume.voxels.shape])
    balls = (Ball(center_mm=center, radius_mm=20), Ball(center_mm=center, radius_mm=9))
    validate(balls_case(inputs, "flair", balls, LESION_FINDINGS, "brain_tumour"), tmp_path)
    film = small_chest_xray(with_opacity=False).dataset
    finding = Finding(label="Pneumonia", code=PNEUMONIA, presence=Presence.ABSENT, confidence=0.1, site=LUNG)
    inputs = {"image": [film]}
    case = Case(
        analysis=Analysis(findings=(finding,), radiograph=read_radiograph(film), threshold=0.5),
        inputs=inputs,
        provenance=make_provenance("chest_xray", inputs, series_offset=3),
    )
    validate(case, tmp_path)


FILMS = ("cxr-nema-rg1/RG1_J2KI", "cxr-siim-dicom/siim-mono1", "cxr-siim-dicom/siim-mono2", "cxr-nih-dicom/test1")


def read_folder(folder: Path) -> list[Dataset]:
    return [dcmread(path) for path in sorted(folder.glob("*.dcm"))]


@pytest.mark.needs("dciodvfy", "dsrdump")
def test_results_on_a_real_ct_have_no_errors(data_dir: Path, tmp_path: Path) -> None:
    inputs = {"ct": read_folder(data_dir / "ct-lungfcp-0001")}
    ball = Ball(center_mm=(-55.2, -147.2, 62.8), radius_mm=8.2)
    validate(balls_case(inputs, "ct", (ball,), (NODULE_FINDING,), "lung_nodules"), tmp_path)


@pytest.mark.needs("dciodvfy", "dsrdump")
def test_results_on_a_real_tilted_mr_have_no_errors(data_dir: Path, tmp_path: Path) -> None:
    study = data_dir / "mr-pgbm-003"
    inputs = {
        role: read_folder(next(study.glob(pattern)))
        for role, pattern in (("flair", "*FLAIR*"), ("t1", "*T1pre*"), ("t1c", "*T1post*"))
    }
    volume = read_volume(inputs["flair"])
    center = volume.to_patient_mm((11, 110, 120))
    balls = (Ball(center_mm=center, radius_mm=24), Ball(center_mm=center, radius_mm=12))
    validate(balls_case(inputs, "flair", balls, LESION_FINDINGS, "brain_tumour"), tmp_path)


@pytest.mark.needs("dciodvfy", "dsrdump")
@pytest.mark.parametrize("name", FILMS)
def test_results_on_real_radiographs_have_no_errors(data_dir: Path, tmp_path: Path, name: str) -> None:
    inputs = {"image": [dcmread(data_dir / f"{name}.dcm")]}
    film = inputs["image"][0]
    heat = np.zeros((film.Rows, film.Columns), np.float32)
    heat[film.Rows // 2 : film.Rows // 2 + 90, 200:300] = 1.0
    finding = Finding(label="Pneumonia", code=PNEUMONIA, confidence=0.8, site=LUNG)
    case = Case(
        analysis=Analysis(findings=(finding,), radiograph=read_radiograph(film), heat=heat, threshold=0.5),
        inputs=inputs,
        provenance=make_provenance("chest_xray", inputs, series_offset=3),
    )
    validate(case, tmp_path)
