"""`radnode process` on real images, as a physicist would try it before anything is connected."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fhir.resources.R4B.bundle import Bundle
from jsonschema import Draft202012Validator
from pydicom import dcmread

from node.rehearsal.chest_xray import wrap_film_file
from node.rehearsal.headers import write_datasets
from tests.node_process import run_radnode
from tests.phantoms import small_brain_mr

pytestmark = pytest.mark.needs("data")

DONE, REFUSED = 0, 3
REPORT_SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"


def process(out: Path, *paths: Path, code: int) -> dict[str, Any]:
    ended = run_radnode("process", *paths, "--out", out, limit_s=900.0)
    assert ended.returncode == code, ended.stdout + ended.stderr
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    Draft202012Validator(json.loads(REPORT_SCHEMA.read_text())).validate(report)
    for job in [job for study in report["studies"] for job in study["jobs"] if job["fhir"]]:
        Bundle.model_validate_json((out / job["fhir"]).read_text())
    return report


def only_job(report: dict[str, Any]) -> dict[str, Any]:
    (study,) = report["studies"]
    (job,) = study["jobs"]
    return dict(job)


def test_the_real_nodule_is_the_first_finding(data_dir: Path, tmp_path: Path) -> None:
    truth = json.loads((data_dir / "ct-lungfcp-0001" / "truth.json").read_text())
    job = only_job(process(tmp_path / "out", data_dir / "ct-lungfcp-0001", code=DONE))
    assert job["state"] == "COMPLETED"
    assert math.dist(job["findings"][0]["center_mm"], truth["whole"]["lps_mm"]) <= 5.0
    assert {result["kind"] for result in job["results"]} == {"SEG", "SR"}
    assert all((tmp_path / "out" / result["path"]).is_file() for result in job["results"])


def test_the_real_tumor_is_marked_in_its_hemisphere(data_dir: Path, tmp_path: Path) -> None:
    job = only_job(process(tmp_path / "out", data_dir / "mr-pgbm-003", code=DONE))
    assert set(job["inputs"]) == {"flair", "t1", "t1c"}
    kinds = {result["kind"]: tmp_path / "out" / result["path"] for result in job["results"]}
    assert set(kinds) == {"SEG", "SR"}
    # The resected temporal glioma lies in the patient's right hemisphere, at the image's left (LPS x < middle).
    seg = dcmread(kinds["SEG"])
    columns = np.nonzero(seg.pixel_array.reshape(-1, seg.Rows, seg.Columns))[2]
    assert float((columns < seg.Columns / 2).mean()) > 0.9


def test_films_of_children_get_the_right_label(data_dir: Path, tmp_path: Path) -> None:
    truth: dict[str, str] = {}
    datasets = []
    # Every other one: forty say as much as eighty.
    for path in sorted((data_dir / "cxr-kermany").rglob("*.jpeg"))[::2]:
        ds = wrap_film_file(path)
        truth[str(ds.StudyInstanceUID)] = {"NORMAL": "absent", "PNEUMONIA": "present"}[path.parent.name]
        datasets.append(ds)
    write_datasets(datasets, tmp_path / "in")
    report = process(tmp_path / "out", tmp_path / "in", code=DONE)
    found = {study["study_instance_uid"]: study["jobs"][0]["findings"][0]["presence"] for study in report["studies"]}
    assert set(found) == set(truth)
    right = sum(found[uid] == label for uid, label in truth.items())
    assert right / len(truth) >= 0.85


def test_undecodable_pixels_are_refused_with_a_reason(data_dir: Path, tmp_path: Path) -> None:
    report = process(tmp_path / "out", data_dir / "ct-broken-j2k", code=REFUSED)
    job = only_job(report)
    assert job["state"] == "CANCELED"
    assert job["results"] == []
    assert job["reason"]["code"] == "pixels-undecodable"


def test_a_secondary_capture_that_says_ct_does_not_reach_the_ct_pipeline(data_dir: Path, tmp_path: Path) -> None:
    report = process(tmp_path / "out", data_dir / "cxr-nih-dicom" / "test5.dcm", code=REFUSED)
    (study,) = report["studies"]
    assert study["jobs"] == []
    assert study["refusal"]["code"] == "no-rule-matched"
    ct = next(decision for decision in study["decisions"] if decision["rule"].startswith("CT"))
    assert ct["outcome"] == "no-match"


def test_flair_alone_is_read_and_the_report_says_so(tmp_path: Path) -> None:
    write_datasets(small_brain_mr().flair, tmp_path / "in")
    job = only_job(process(tmp_path / "out", tmp_path / "in", code=DONE))
    assert set(job["inputs"]) == {"flair"}
    kinds = {result["kind"]: tmp_path / "out" / result["path"] for result in job["results"]}
    assert "T1" in json.dumps(dcmread(kinds["SR"]).to_json_dict())


def test_a_missing_slice_is_refused_before_inference(data_dir: Path, tmp_path: Path) -> None:
    slices = sorted((data_dir / "ct-lungfcp-0001").glob("*.dcm"))
    job = only_job(process(tmp_path / "out", *slices[:15], *slices[16:], code=REFUSED))
    assert job["reason"]["code"] == "slice-missing"
    assert "resend" in job["reason"]["text"].lower()


def test_a_cut_file_and_a_text_file_are_named_with_their_reason(data_dir: Path, tmp_path: Path) -> None:
    whole = (data_dir / "ct-lungfcp-0001" / "1-064.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "note.txt").write_text("no image")
    report = process(tmp_path / "out", tmp_path / "cut.dcm", tmp_path / "note.txt", code=REFUSED)
    assert report["studies"] == []
    assert {Path(f["path"]).name: f["refusal"]["code"] for f in report["files"]} == {
        "cut.dcm": "not-dicom",
        "note.txt": "not-dicom",
    }


@pytest.mark.thorough
def test_a_second_run_gives_the_same_bytes(tmp_path: Path) -> None:
    write_datasets(small_brain_mr().flair, tmp_path / "in")
    contents = []
    for name in ("first", "second"):
        job = only_job(process(tmp_path / name, tmp_path / "in", code=DONE))
        written = {result["kind"]: result["path"] for result in job["results"]} | {"FHIR": job["fhir"]}
        contents.append({kind: (tmp_path / name / path).read_bytes() for kind, path in written.items()})
    assert contents[0] == contents[1]
    assert {"SEG", "SR"} <= contents[0].keys()


def test_a_folder_without_dicom_is_a_failure_and_a_bad_out_is_one_line(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note.txt").write_text("no image")
    ended = run_radnode("process", tmp_path / "in", "--out", tmp_path / "out")
    assert ended.returncode == 1
    assert "none of 1 files is DICOM" in ended.stderr
    ended = run_radnode("process", tmp_path / "in", "--out", tmp_path / "in" / "note.txt")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
