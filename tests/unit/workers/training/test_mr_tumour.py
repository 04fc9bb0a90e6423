"""The recipe of `mr-tumour` on a few small heads in the format of the data set."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from workers.networks.tumour_unet import MATRIX
from workers.training.course import Plan
from workers.training.head_augmentation import WINDOW, augment
from workers.training.head_phantoms import draw_head
from workers.training.head_slices import Batch, HeadSlices, draw_batch, gather_sources
from workers.training.lgg import MarkedHead, read_lgg
from workers.training.mr_tumour import Scope, mark_one, prepare, train_and_report, train_with
from workers.training.order import Order

PATIENTS = [f"TCGA_XX_{number:04d}" for number in range(6)]
EXCLUDED = PATIENTS[2]
SCOPE = Scope(tune=1, held=1, drawn=2, unseen=1, plan=Plan(steps=3, peak_rate=1e-3, keep_every=1))
SLICES = 4
SIZE = 96


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads as discs with a brighter spot, one folder a patient."""
    root = tmp_path_factory.mktemp("kaggle_3m")
    rng = np.random.default_rng(4)
    rows, columns = np.indices((SIZE, SIZE)) - SIZE / 2
    for patient in PATIENTS:
        folder = root / f"{patient}_19990101"
        folder.mkdir()
        for number in range(1, SLICES + 1):
            spot = np.hypot(rows + 8, columns - 10) < (9 if number in (2, 3) else 0)
            flair = 100.0 * (np.hypot(rows, columns) < 40) + 90.0 * spot + rng.uniform(0, 8, (SIZE, SIZE))
            # The first sequence is the FLAIR again, which is how the data set says that it is absent.
            pixels = np.stack([flair, flair, flair - 70 * spot], axis=-1).clip(0, 255).astype(np.uint8)
            name = f"{patient}_19990101_{number}"
            Image.fromarray(pixels).save(folder / f"{name}.tif")
            Image.fromarray((spot * 255).astype(np.uint8)).save(folder / f"{name}_mask.tif")
    (root / "exclude.txt").write_text(f"lgg {EXCLUDED}\nkermany {PATIENTS[0]}\n", encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def order_of(kaggle: Path, out: Path, *, resume: bool = False) -> Order:
    out.mkdir(exist_ok=True)
    return Order(data=kaggle, out=out, exclude=kaggle / "exclude.txt", resume=resume)


def test_the_recipe_runs_from_end_to_end_and_never_reads_an_excluded_patient(kaggle: Path, tmp_path: Path) -> None:
    order = order_of(kaggle, tmp_path / "run")
    train_with(order, SCOPE)
    split = json.loads((order.out / "split.json").read_text())
    assert sorted(split["train"] + split["tune"] + split["held"]) == sorted(set(PATIENTS) - {EXCLUDED})
    metrics = json.loads((order.out / "metrics.json").read_text())
    assert metrics["patients"] == {"train": 3, "tune": 1, "held": 1}
    for part in ("tune", "held"):
        for inputs in ("all", "flair"):
            figures = metrics[f"{part}, {inputs}"]
            assert [key for key, _, _ in figures["dice"]] == split[part]
            assert 0 <= figures["dice_mean"] <= 1
    assert all(value.dtype != torch.float32 for value in load_file(order.out / "weights.safetensors").values())


def test_a_training_that_is_gone_on_with_gives_the_same_weights(kaggle: Path, tmp_path: Path) -> None:
    whole = prepare(order_of(kaggle, tmp_path / "whole"), SCOPE)
    whole.course.run(whole.draw_loss)
    broken = prepare(order_of(kaggle, tmp_path / "parts"), SCOPE)
    losses = [broken.draw_loss] * 2

    def break_off() -> torch.Tensor:
        if not losses:
            raise KeyboardInterrupt
        return losses.pop()()

    with pytest.raises(KeyboardInterrupt):
        broken.course.run(break_off)
    resumed = prepare(order_of(kaggle, tmp_path / "parts", resume=True), SCOPE)
    resumed.course.run(resumed.draw_loss)
    for name, value in whole.course.averaged.state_dict().items():
        assert torch.equal(value, resumed.course.averaged.state_dict()[name]), name


def test_nobody_learns_from_patients_without_a_list_of_those_to_spare(kaggle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--exclude"):
        train_and_report(Order(data=kaggle, out=tmp_path))


def test_too_few_patients_are_refused(kaggle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="patients are too few"):
        train_with(order_of(kaggle, tmp_path / "few"), Scope(drawn=2))


def test_a_patient_is_read_on_the_grid_of_the_network(kaggle: Path) -> None:
    head = read_lgg(kaggle)[0]
    assert head.patient == PATIENTS[0]
    assert head.channels.shape == (SLICES, 3, MATRIX, MATRIX)
    assert head.slice_mm == 37.5
    assert not head.channels[:, 0].any()
    assert head.channels[:, 2].any()
    marked = (head.mask > 0.5).any(axis=(1, 2))
    assert list(np.flatnonzero(marked)) == [1, 2]
    spot = head.mask[1] > 0.5
    assert spot.sum() * 1.25**2 == pytest.approx(np.pi * 8.4**2, rel=0.35)
    assert head.channels[1, 1][spot].mean() > 1.2


def numbered_heads() -> list[MarkedHead]:
    """Two heads whose FLAIR says which slice it is."""
    heads = []
    for start, slice_mm in ((0, 5.0), (10, 2.5)):
        channels = np.zeros((5, 3, 32, 32), np.float16)
        channels[:, 1] = (start + np.arange(5) + 1)[:, None, None]
        mask = np.zeros((5, 32, 32), np.float16)
        mask[1:3, 10:20, 10:20] = 1
        heads.append(MarkedHead(patient=str(start), channels=channels, mask=mask, head=mask > 2, slice_mm=slice_mm))
    return heads


def test_neighbours_come_from_the_same_head_at_about_the_distance_that_is_asked() -> None:
    slices = HeadSlices.of(numbered_heads())
    numbers = np.tile(np.arange(10), 50)
    batch = slices.take(numbers, np.random.default_rng(0))
    middle, below, above = (batch.channels[:, channel, 0, 0].numpy() for channel in (1, 3, 4))
    assert ((middle > 10) == (below > 10)).all()
    assert ((middle > 10) == (above > 10)).all()
    assert set(middle[middle == 3] - below[middle == 3]) == {0, 1}
    assert set(above[middle == 13] - middle[middle == 13]) == {0, 1, 2}
    assert (below[middle == 1] == 1).all()
    assert (above[middle == 15] == 15).all()


def test_a_batch_holds_as_many_slices_of_each_kind_as_it_should() -> None:
    sources = gather_sources(numbered_heads(), marked=3, unmarked=2)
    batch = draw_batch(sources, np.random.default_rng(0))
    assert [bool(mask.any()) for mask in batch.masks] == [True] * 3 + [False] * 2
    with pytest.raises(ValueError, match="no slice"):
        gather_sources([draw_head(np.random.default_rng(0), has_lesion=False)], marked=1, unmarked=1)


def test_augmentation_moves_the_mask_with_the_head_and_never_hides_the_flair() -> None:
    channels = torch.ones(64, 5, MATRIX, MATRIX)
    masks = torch.zeros(64, 1, MATRIX, MATRIX)
    masks[:, :, 86:106, 60:90] = 1
    channels[:, :, 86:106, 60:90] = 2
    changed = augment(Batch(channels=channels, masks=masks), np.random.default_rng(0))
    assert changed.channels.shape == (64, 5, *WINDOW)
    assert (changed.channels[:, (1, 3, 4)].amax(dim=(2, 3)) > 0).all()
    hidden = [(changed.channels[:, number].amax(dim=(1, 2)) == 0).float().mean() for number in (0, 2)]
    assert all(0.3 < float(share) < 0.8 for share in hidden)
    inside, outside = changed.masks > 0, changed.masks == 0
    flair = changed.channels[:, 1:2]
    for number in range(64):
        assert flair[number][inside[number]].median() > 1.2 * flair[number][outside[number]].median()


def test_what_is_marked_in_a_drawn_head_is_bright_and_no_face_is_marked() -> None:
    for seed in range(3):
        head = draw_head(np.random.default_rng(seed), has_lesion=True)
        flair, marked = head.channels[:, 1].astype(float), head.mask > 0.5
        assert marked.any()
        assert np.median(flair[marked]) > 1.2 * np.median(flair[head.head & ~marked])


def test_scalp_and_specks_do_not_count() -> None:
    head = draw_head(np.random.default_rng(3), has_lesion=True)
    perfect = head.mask.astype(np.float32)
    plain = mark_one(head, perfect).dice[0.5]
    perfect[~head.head] = 1  # beyond the head
    perfect[0, 96, 96:98] = 1  # a speck
    assert plain > 0.99
    assert mark_one(head, perfect).dice[0.5] == pytest.approx(plain, abs=0.01)
