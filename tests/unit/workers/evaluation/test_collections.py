"""Public data sets that are no DICOM, from file to figures: drawn heads as TIF, drawn films as JPEG."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from node.errors import TruthInvalid
from node.models import SHIPPED_MODELS
from tests.phantoms import small_brain_mr, small_chest_xray
from workers.evaluation.kermany_cases import list_kermany_cases
from workers.evaluation.lgg_cases import list_lgg_cases
from workers.evaluation.run import run_evaluation


def gray(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    scaled = pixels.astype(float) / float(pixels.max()) * 255
    return np.asarray(np.rint(scaled), np.uint8)


def write_head(folder: Path, *, key: str, is_flair_alone: bool) -> NDArray[np.bool_]:
    """Write a drawn head as kaggle_3m does, and return its lesion."""
    phantom = small_brain_mr()
    assert phantom.lesion is not None
    flair, t1, t1c = (
        gray(np.stack([ds.pixel_array for ds in series])) for series in (phantom.flair, phantom.t1, phantom.t1c)
    )
    lesion = np.asarray(phantom.lesion.mask > 0)
    home = folder / f"{key}_19960909"
    home.mkdir(parents=True)
    for number in range(len(flair)):
        planes = [flair[number]] * 3 if is_flair_alone else [t1[number], flair[number], t1c[number]]
        stem = f"{home.name}_{number + 1}"
        Image.fromarray(np.stack(planes, axis=-1)).save(home / f"{stem}.tif")
        Image.fromarray(gray_mask(lesion[number])).save(home / f"{stem}_mask.tif")
    return lesion


def gray_mask(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask, 255, 0).astype(np.uint8)


def order(folder: Path, **changes: Any) -> Path:
    told: dict[str, Any] = {
        "models": [],
        "out": str(folder / "out"),
        "studies": [],
        "truth": None,
        "unlisted_are_healthy": False,
        "task": "",
        "label": "",
        "truth_label": "",
        "roles": [],
        "thresholds": {},
        "patients": None,
        "subgroups": [],
        "specificity": 0.9,
        "tolerance_mm": 2.0,
        "pictures": 2,
    }
    path = folder / "order.json"
    path.write_text(json.dumps({**told, **changes}))
    return path


def test_a_head_keeps_its_slices_and_an_absent_sequence_is_left_out(tmp_path: Path) -> None:
    write_head(tmp_path, key="TCGA_DU_0001", is_flair_alone=False)
    write_head(tmp_path, key="TCGA_HT_0002", is_flair_alone=True)
    whole, alone = list(list_lgg_cases(tmp_path))
    inputs = whole.read()
    assert set(inputs) == {"t1", "flair", "t1c"}
    assert set(alone.read()) == {"flair"}
    assert (whole.patient, dict(whole.columns)) == ("TCGA_DU_0001", {"site": "DU"})
    heights = [float(ds.ImagePositionPatient[2]) for ds in inputs["flair"]]
    # Slice 10 follows slice 9, not slice 1.
    assert heights == [5.0 * number for number in range(18)]
    expected = gray(np.stack([ds.pixel_array for ds in small_brain_mr().flair]))
    assert np.array_equal(np.stack([ds.pixel_array for ds in inputs["flair"]]), expected)
    first = inputs["flair"][0]
    assert first.SeriesInstanceUID == whole.series_instance_uid
    assert not first.PatientSex
    assert "PatientAge" not in first


def test_folders_of_another_kind_are_told(tmp_path: Path) -> None:
    with pytest.raises(TruthInvalid, match="holds no folder TCGA"):
        list(list_lgg_cases(tmp_path))
    with pytest.raises(TruthInvalid, match="NORMAL does not exist"):
        list(list_kermany_cases(tmp_path))
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL" / "scan.jpeg").write_bytes(b"")
    with pytest.raises(TruthInvalid, match="expected IM-<n>"):
        list(list_kermany_cases(tmp_path))


def test_two_models_are_measured_on_heads(tmp_path: Path) -> None:
    data = tmp_path / "data"
    lesion = write_head(data, key="TCGA_DU_0001", is_flair_alone=False)
    write_head(data, key="TCGA_HT_0002", is_flair_alone=False)
    write_head(data, key="TCGA_HT_0003", is_flair_alone=False)
    folder = str(SHIPPED_MODELS / "mr-tumour")
    patients = ["TCGA_DU_0001", "TCGA_HT_0002"]
    run_evaluation(
        order(tmp_path, form="lgg", data=str(data), models=[folder, folder], patients=patients, subgroups=["site"])
    )
    out = tmp_path / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["data"]["cases"] == metrics["data"]["patients"] == 2
    assert 0.5 < metrics["figures"]["dice"]["value"] <= 1
    assert metrics["answered"]["interval_95"] == [0.3424, 1.0]
    assert set(metrics["subgroups"]["site"]) == {"DU", "HT"}
    assert {one["verdict"] for one in metrics["differences"].values()} == {"no difference shown"}
    rows = list(csv.DictReader((out / "cases.csv").read_text().splitlines()))
    voxel_ml = 5.0 * 0.9375**2 / 1000
    assert [float(row["truth_ml"]) for row in rows] == pytest.approx([lesion.sum() * voxel_ml] * 2, rel=1e-4)
    assert {row["source"] for row in rows} == {"TCGA_DU_0001_19960909", "TCGA_HT_0002_19960909"}
    assert sorted(path.name for path in (out / "plots").iterdir()) == [
        "dice-dark.png",
        "dice.png",
        "volume-dark.png",
        "volume.png",
    ]
    assert len(list((out / "pictures").iterdir())) == 2
    page = (out / "index.html").read_text()
    assert "Against mr-tumour" in page
    assert "http" not in page


def test_films_are_read_by_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, file, is_ill in (
        ("NORMAL", "IM-0001-0001.jpeg", False),
        ("NORMAL", "NORMAL2-IM-0001-0002.jpeg", False),
        ("PNEUMONIA", "person1_virus_6.jpeg", True),
        ("PNEUMONIA", "person2_bacteria_3.jpeg", True),
    ):
        (data / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(gray(small_chest_xray(with_opacity=is_ill).dataset.pixel_array)).save(data / name / file)
    model = [str(SHIPPED_MODELS / "cxr-pneumonia")]
    run_evaluation(order(tmp_path, form="kermany", data=str(data), models=model, pictures=0))
    out = tmp_path / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["data"]["cases"], metrics["data"]["patients"]) == (4, 3)
    assert metrics["figures"]["auc"]["count"] + sum(metrics["data"]["refused"].values()) == 4
    rows = {row["source"]: row for row in csv.DictReader((out / "cases.csv").read_text().splitlines())}
    assert {name: row["kind"] for name, row in rows.items()} == {
        "IM-0001-0001.jpeg": "normal",
        "NORMAL2-IM-0001-0002.jpeg": "normal",
        "person1_virus_6.jpeg": "virus",
        "person2_bacteria_3.jpeg": "bacteria",
    }
    assert not (out / "pictures").exists()


def test_a_truth_of_other_studies_is_told(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("study_instance_uid,label\n9.9,1\n")
    study: dict[str, Any] = {
        "study_instance_uid": "1.2",
        "series_instance_uid": "1.3",
        "patient": "p",
        "names": ["1.2", "1.3"],
        "inputs": {},
        "columns": {},
        "refusal": None,
    }
    path = order(
        tmp_path,
        form="dicom",
        data=str(tmp_path),
        models=[str(SHIPPED_MODELS / "cxr-pneumonia")],
        truth=str(tmp_path / "truth.csv"),
        studies=[study],
    )
    with pytest.raises(TruthInvalid, match="says nothing of any of 1 cases"):
        run_evaluation(path)
