"""The recipe of the nodule network runs from end to end on data in the real layout, and learns from nobody barred."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.phantoms import changed, small_chest_ct
from workers.networks.nodule_networks import NoduleNetworks
from workers.training.ct_nodules import Amounts, read_parts, train_and_report
from workers.training.order import Order
from workers.training.weights import load_trained

BARRED = "P-3"
LITTLE = Amounts(phantoms=0, chests=0, slabs=0, rehearsals=0, variants=1, nodules=2, candidates=12)
STEPS = 3


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Order]:
    """Return an order on small data, already carried out."""
    root = tmp_path_factory.mktemp("ct-nodules")
    for patient, part in (("P-1", "train"), ("P-2", "tune"), (BARRED, "train")):
        write_scan(root / "data" / part / patient, patient)
    exclude = root / "exclude.txt"
    exclude.write_text(f"ct {BARRED}\n", encoding="utf-8")
    done = Order(data=root / "data", out=root / "out", exclude=exclude, steps=STEPS)
    done.out.mkdir()
    train_and_report(done, amounts=LITTLE)
    yield done
    shutil.rmtree(root)


def write_scan(folder: Path, patient: str) -> None:
    """Write a drawn chest as the slices of one patient."""
    folder.mkdir(parents=True)
    for number, ds in enumerate(changed(small_chest_ct().datasets, PatientID=patient)):
        ds.save_as(folder / f"{number:03}.dcm")


def test_weights_figures_and_the_proof_of_the_split_are_written(order: Order) -> None:
    network = load_trained(NoduleNetworks(), order.out / "weights.safetensors")
    assert not network.training
    metrics = json.loads((order.out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["patients"] == {"train": 1, "tune": 1, "held": 0}
    assert metrics["tune"]["nodules"] > 0
    assert metrics["tune"]["outlines"]["scenes"] > 0
    assert (order.out / "curve.png").is_file()


def test_nobody_barred_is_learned_from_and_nobody_is_in_two_parts(order: Order) -> None:
    split = json.loads((order.out / "split.json").read_text(encoding="utf-8"))
    assert split == {"train": ["ct P-1"], "tune": ["ct P-2"], "held": []}


def test_a_training_that_was_broken_off_gives_the_same_weights_when_resumed(order: Order, tmp_path: Path) -> None:
    halved = tmp_path / "halved"
    shutil.copytree(order.out, halved)
    for name in ("round-3", "round-4", "outlines"):
        shutil.rmtree(halved / name)
    (halved / "weights.safetensors").unlink()
    train_and_report(replace(order, out=halved, resume=True), amounts=LITTLE)
    whole, resumed = ((folder / "weights.safetensors").read_bytes() for folder in (order.out, halved))
    assert resumed == whole


def test_a_run_is_not_gone_on_with_for_other_patients(order: Order, tmp_path: Path) -> None:
    exclude = tmp_path / "exclude.txt"
    exclude.write_text("ct P-1\n", encoding="utf-8")
    shutil.copytree(order.out, tmp_path / "out")
    with pytest.raises(ValueError, match="other patients"):
        train_and_report(replace(order, out=tmp_path / "out", exclude=exclude, resume=True), amounts=LITTLE)


def test_a_patient_in_two_parts_stops_the_recipe(order: Order, tmp_path: Path) -> None:
    for part in ("train", "held"):
        write_scan(tmp_path / "data" / part / "twin", "P-9")
    with pytest.raises(ValueError, match="two parts"):
        train_and_report(replace(order, data=tmp_path / "data", out=tmp_path), amounts=LITTLE)


def test_nothing_is_learned_without_a_list_of_whom_to_leave_out(order: Order, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--exclude"):
        train_and_report(replace(order, exclude=None, out=tmp_path), amounts=LITTLE)


def test_a_scan_that_must_not_be_learned_from_stops_the_recipe(order: Order, tmp_path: Path) -> None:
    write_scan(tmp_path / "train" / "barred", "LungFCP-01-0001")
    with pytest.raises(ValueError, match="never to be learned from"):
        read_parts(replace(order, data=tmp_path))


def test_weights_differ_from_those_that_nothing_was_learned_with(order: Order) -> None:
    torch.manual_seed(0)
    trained = load_trained(NoduleNetworks(), order.out / "weights.safetensors").state_dict()
    fresh = NoduleNetworks().state_dict()
    changed = {name for name, value in fresh.items() if not torch.allclose(trained[name].float(), value.float())}
    assert {name.split(".")[0] for name in changed} == {"classifier", "outliner"}
