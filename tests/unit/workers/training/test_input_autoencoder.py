"""The recipe of the input autoencoders, from files in the real format to weights."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from node.models import digest_file
from workers.networks.input_autoencoder import MATRIX, InputAutoencoder
from workers.training.course import CHECKPOINT
from workers.training.cxr_pneumonia import HELD_PATIENTS as HELD_CHILDREN
from workers.training.cxr_pneumonia import SEED as FILM_SEED
from workers.training.cxr_pneumonia import TUNE_PATIENTS as TUNE_CHILDREN
from workers.training.input_autoencoder import SUBJECTS, choose_threshold, train_and_report
from workers.training.mr_tumour import SEED, Scope
from workers.training.order import Order
from workers.training.weights import load_trained

PATIENTS = ("TCGA_CS_0001", "TCGA_CS_0002", "TCGA_DU_0003", "TCGA_DU_0004", "TCGA_HT_0005")
EXCLUDED = PATIENTS[1]


def write_heads(folder: Path) -> Path:
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[-1:1:256j, -1:1:256j]
    for patient in PATIENTS:
        (folder / f"{patient}_20000101").mkdir(parents=True)
        for number in range(1, 4):
            head = (rows**2 / 0.6 + columns**2 / 0.4 < 1) * rng.uniform(90, 110, (256, 256))
            pixels = np.repeat(head[..., None], 3, axis=2).astype(np.uint8)
            name = folder / f"{patient}_20000101" / f"{patient}_20000101_{number}"
            Image.fromarray(pixels).save(f"{name}.tif")
            Image.fromarray(np.zeros((256, 256), np.uint8)).save(f"{name}_mask.tif")
    (folder / "exclude.txt").write_text(f"# kept\nlgg {EXCLUDED}\n")
    return folder


def draw() -> Iterator[NDArray[np.float32]]:
    yield np.random.default_rng(7).random((2, MATRIX, MATRIX), np.float32)


SMALL = {"brain_tumour": replace(SUBJECTS["brain_tumour"], tune=1, held=1, draw=draw)}


def run(data: Path, out: Path, *, resume: bool = False) -> str:
    out.mkdir(exist_ok=True)
    order = Order(data=data, out=out, exclude=data / "exclude.txt", pipeline="brain_tumour", steps=3, resume=resume)
    train_and_report(order, subjects=SMALL)
    return digest_file(out / "fit.safetensors")


def test_the_recipe_runs_from_files_to_weights_and_never_reads_who_is_excluded(tmp_path: Path) -> None:
    data = write_heads(tmp_path / "data")
    digest = run(data, tmp_path / "out")
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    dealt = [patient for part in split.values() for patient in part]
    assert sorted(dealt) == sorted(set(PATIENTS) - {EXCLUDED})
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert figures["sha256"] == digest
    assert figures["threshold"] > 0
    assert [figures[part]["inputs"] for part in ("train", "tune", "held", "drawn")] == [2, 1, 1, 1]
    load_trained(InputAutoencoder(), tmp_path / "out" / "fit.safetensors")


def test_a_run_that_goes_on_from_its_checkpoint_gives_the_same_weights(tmp_path: Path) -> None:
    data = write_heads(tmp_path / "data")
    digest = run(data, tmp_path / "out")
    assert run(data, tmp_path / "again") == digest
    assert (tmp_path / "out" / CHECKPOINT).is_file()
    assert run(data, tmp_path / "out", resume=True) == digest


def test_without_a_list_of_the_excluded_or_a_pipeline_nothing_is_learned(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--exclude"):
        train_and_report(Order(data=tmp_path, out=tmp_path, pipeline="brain_tumour"))
    with pytest.raises(ValueError, match="--pipeline"):
        train_and_report(Order(data=tmp_path, out=tmp_path, pipeline="bundle"))


def test_patients_are_dealt_as_the_recipe_beside_it_deals_them() -> None:
    head, film = SUBJECTS["brain_tumour"], SUBJECTS["chest_xray"]
    assert (head.seed, head.tune, head.held) == (SEED, Scope().tune, Scope().held)
    assert (film.seed, film.tune, film.held) == (FILM_SEED, TUNE_CHILDREN, HELD_CHILDREN)


def test_the_threshold_leaves_room_where_few_patients_set_it() -> None:
    few = [0.10, 0.12, 0.11, 0.13, 0.12, 0.10, 0.12, 0.14]
    assert choose_threshold(few) > max(few)
    many = np.random.default_rng(2).lognormal(-2, 0.2, 20_000).tolist()
    assert choose_threshold(many) == pytest.approx(np.percentile(many, 99.5), rel=0.05)
