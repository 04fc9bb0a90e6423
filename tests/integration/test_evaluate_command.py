"""`radnode evaluate` as a person types it: DICOM in, a page out, refusals counted, nobody's name in it."""

import csv
import json
from copy import deepcopy
from pathlib import Path

import pytest
from pydicom import FileDataset

from node.rehearsal.headers import write_datasets
from tests.node_process import run_radnode
from tests.phantoms import small_chest_xray

DONE, FAILED, USAGE, REFUSED = 0, 1, 2, 3
CANARY = "Zwyxthorpe"


def film(number: int, *, is_ill: bool, view: str = "PA") -> FileDataset:
    ds = deepcopy(small_chest_xray(with_opacity=is_ill).dataset)
    ds.PatientName, ds.PatientID, ds.AccessionNumber = f"{CANARY}^{number}", f"{CANARY}-{number}", f"{CANARY}{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = (f"2.25.{number}{part}" for part in (1, 2, 3))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.ViewPosition, ds.PatientSex = view, "MF"[number % 2]
    return ds


@pytest.mark.thorough
def test_films_are_measured_and_a_refused_one_counts(tmp_path: Path) -> None:
    films = [film(number, is_ill=bool(number % 2)) for number in range(1, 7)]
    lateral, unknown = film(8, is_ill=True, view="LL"), film(9, is_ill=True)
    write_datasets([*films, lateral, unknown], tmp_path / "data")
    lines = [f"{ds.StudyInstanceUID},{number % 2}" for number, ds in enumerate(films, start=1)]
    lines.append(f"{lateral.StudyInstanceUID},1")
    (tmp_path / "truth.csv").write_text("study_instance_uid,pneumonia\n" + "\n".join(lines) + "\n")
    out = tmp_path / "out"
    ended = run_radnode(
        "evaluate", "--model", "cxr-pneumonia", "--data", tmp_path / "data", "--truth", tmp_path / "truth.csv",
        "--out", out, "--subgroup", "sex",
    )  # fmt: skip
    assert ended.returncode == REFUSED, ended.stdout + ended.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["data"] == {
        "format": "dicom",
        "cases": 7,
        "patients": 7,
        "without_truth": 1,
        "refused": {"wrong-view": 1},
    }
    assert metrics["answered"]["value"] == round(6 / 7, 6)
    assert metrics["figures"]["auc"]["count"] == 6
    assert set(metrics["subgroups"]["sex"]) == {"F", "M"}
    rows = {row["study_instance_uid"]: row for row in csv.DictReader((out / "cases.csv").read_text().splitlines())}
    assert (rows[lateral.StudyInstanceUID]["state"], rows[lateral.StudyInstanceUID]["code"]) == (
        "refused",
        "wrong-view",
    )
    assert rows[unknown.StudyInstanceUID]["state"] == "no truth"
    assert rows[films[0].StudyInstanceUID]["pneumonia_truth"] == "1"
    page = (out / "index.html").read_text()
    assert "wrong-view" in page
    assert "data:image/png" in page
    written = [path.read_text() for path in out.rglob("*") if path.suffix in {".html", ".json", ".csv"}]
    assert all(CANARY.lower() not in text.lower() for text in [*written, ended.stdout, ended.stderr])


def test_phantoms_are_drawn_with_their_truth_and_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    ended = run_radnode("phantoms", "xray", "--count", "2", "--out", drawn)
    assert ended.returncode == DONE, ended.stderr
    rows = list(csv.DictReader((drawn / "truth" / "truth.csv").read_text().splitlines()))
    assert sorted(row["pneumonia"] for row in rows) == ["0", "1"]
    assert len(list((drawn / "studies").rglob("*.dcm"))) == 2
    told = run_radnode(
        "evaluate", "--model", "cxr-pneumonia", "--data", drawn / "studies", "--truth", drawn / "absent.csv",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert told.returncode == USAGE
    assert "absent.csv does not exist" in told.stderr
    wrong = run_radnode("evaluate", "--model", "nobody", "--data", drawn, "--out", tmp_path / "out")
    assert wrong.returncode == USAGE
    assert "nobody" in wrong.stderr
