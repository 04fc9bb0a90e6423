"""The recipe of `cxr-pneumonia` on a few small films in the format of the data set."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from workers.networks.xray_densenet import MATRIX
from workers.training.cxr_pneumonia import (
    PLAN,
    Pool,
    build_pools,
    deal_patients,
    select,
    train,
    train_and_report,
)
from workers.training.kermany import name_cause, read_kermany
from workers.training.order import Order
from workers.training.radiograph_phantoms import draw_radiograph

NORMAL = [f"IM-{number:04d}-0001.jpeg" for number in range(1, 9)] + ["NORMAL2-IM-0002-0001.jpeg"]
SICK = [f"person{number}_{'virus' if number % 2 else 'bacteria'}_{number + 10}.jpeg" for number in range(1, 9)]
EXCLUDED = ("IM-0002", "person3")


class Interrupted(list[Pool]):
    """Pools that are drawn from so many times, and then somebody presses Control-C."""

    def __init__(self, pools: list[Pool], *, batches: int) -> None:
        super().__init__(pools)
        self._left = batches + 1  # Once for the labels.

    def __iter__(self) -> Iterator[Pool]:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return super().__iter__()


@pytest.fixture(scope="module")
def kermany(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn chests under names as the data set has them: some squashed, some with their own proportions."""
    root = tmp_path_factory.mktemp("kermany")
    rng = np.random.default_rng(4)
    for folder, names in (("NORMAL", NORMAL), ("PNEUMONIA", SICK)):
        (root / folder).mkdir()
        for number, name in enumerate(names):
            film = draw_radiograph(rng, size=224, has_opacity=folder == "PNEUMONIA")
            shown = Image.fromarray((film * 255).astype(np.uint8))
            (shown if number % 2 else shown.resize((300, 240))).save(root / folder / name)
    (root / "exclude.txt").write_text("".join(f"kermany {key}\n" for key in EXCLUDED) + "lgg IM-0001\n")
    return root


def order_of(kermany: Path, out: Path, *, steps: int = 3, resume: bool = False) -> Order:
    out.mkdir(exist_ok=True)
    return Order(data=kermany, out=out, exclude=kermany / "exclude.txt", steps=steps, resume=resume)


def test_the_recipe_runs_from_end_to_end_and_no_excluded_patient_is_in_any_part(kermany: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    order = order_of(kermany, tmp_path)
    train_and_report(order)
    split = json.loads((tmp_path / "split.json").read_text())
    everyone = split["train"] + split["tune"] + split["held"]
    assert len(everyone) == len(set(everyone)) == len(NORMAL) - 1 + len(SICK) - len(EXCLUDED)
    assert not set(EXCLUDED) & set(everyone)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for part in ("tune", "held"):
        figures = metrics[part]
        assert figures["patients"] == len(split[part])
        assert figures["sensitivity"]["of"] + figures["specificity"]["of"] == figures["films"]
        assert metrics["baseline"][part]["films"] == figures["films"]
    assert metrics["heat"].keys() == {"grad_cam", "grad_cam_fine", "evidence", "area"}
    assert {path.name for path in tmp_path.iterdir()} >= {"curve.png", "misread.png", "reliability.png"}
    tensors = load_file(tmp_path / "weights.safetensors")
    assert all(value.dtype == torch.float16 for value in tensors.values() if value.is_floating_point())


def test_a_training_that_was_broken_off_gives_the_weights_of_one_that_was_not(kermany: Path, tmp_path: Path) -> None:
    plan = replace(PLAN, keep_every=2)

    def learn(name: str, *, batches: int = 99, resume: bool = False) -> dict[str, torch.Tensor]:
        order = order_of(kermany, tmp_path / name, steps=4, resume=resume)
        data = read_kermany(order.data, matrix=MATRIX)
        split = deal_patients(data, order.excluded("kermany"))
        pools = build_pools(data, split.train, phantoms=2, rehearsed=[1])
        return train(Interrupted(pools, batches=batches), select(data, split.tune), order, plan=plan).state_dict()

    whole = learn("whole")
    with pytest.raises(KeyboardInterrupt):
        learn("broken", batches=3)
    resumed = learn("broken", resume=True)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_nobody_learns_from_patients_without_a_list_of_those_to_spare(kermany: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--exclude"):
        train_and_report(Order(data=kermany, out=tmp_path))


def test_a_film_tells_its_cause_and_whether_it_was_squashed(kermany: Path) -> None:
    data = read_kermany(kermany, matrix=32)
    assert data.pixels.shape == (len(NORMAL) + len(SICK), 32, 32)
    causes: NDArray[np.str_] = np.array([name_cause(name) for name in data.names])
    assert [(causes == cause).sum() for cause in ("normal", "virus", "bacteria")] == [len(NORMAL), 4, 4]
    assert ((causes == "normal") == (data.labels == 0)).all()
    assert data.squashed.sum() == len(NORMAL) // 2 + len(SICK) // 2
    # The second film of IM-0002 may or may not be of the same child: it counts as such.
    assert data.patients.count("IM-0002") == 2
