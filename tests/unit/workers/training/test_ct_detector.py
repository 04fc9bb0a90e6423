"""The recipe `ct-detector` runs from LUNA16's files to a bundle, learns, and leaves out who must be left out."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from node.catalogue.bundle import Wishes, complete_bundle
from node.catalogue.shelf import Shelf
from node.domain.codes import NODULE as CODE_OF_NODULE
from tests.luna import Ball, Volume, write_luna
from tests.solids import Ellipsoid, Scan, acquire
from workers.evaluation.froc import Marks
from workers.networks.nodule_finder import CENTER, INSIDE, SIZE
from workers.pipelines.bundle import BundlePipeline
from workers.training.course import Plan
from workers.training.ct_detector import Scale, choose_threshold, mark_scan, train_with
from workers.training.detector_loss import as_target, detector_loss, draw_target, focal_center_loss
from workers.training.detector_samples import draw_batch, fill_shelf
from workers.training.luna import Block, LunaScan, MarkedNodule, read_luna
from workers.training.order import Order

ORIGIN = np.array([-21.0, -95.5, 130.25])
NODULE = Ellipsoid(center_mm=(20.0, -35.0, 110.0), semi_axes_mm=(5.0, 5.0, 5.0))
EXCLUDED = "1.2.3"
STEPS = 30


SCALE = Scale(width=4, patch=24, batch=2, plan=Plan(steps=STEPS, peak_rate=1e-2, validate_every=1000, keep_every=10))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    volumes = {}
    for number in range(6):
        x, y, z = (float(value) for value in ORIGIN + rng.uniform(12, 28, 3))
        volumes[f"1.2.{number}"] = Volume(balls=(Ball(center_mm=(x, y, z), diameter_mm=rng.uniform(7, 11)),))
    folder = write_luna(tmp_path_factory.mktemp("luna16"), volumes, others={"1.2.1": [(-10.0, -80.0, 140.0)]})
    (folder / "exclude.txt").write_text(f"luna {EXCLUDED}\nlgg TCGA_CS_5395\n")
    return folder


def train(data: Path, out: Path, *, resume: bool = False) -> Path:
    torch.set_num_threads(1)
    train_with(Order(data=data, out=out, exclude=data / "exclude.txt", resume=resume), SCALE)
    return out


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(data, tmp_path_factory.mktemp("trained"))


def test_the_loss_falls_and_the_balls_of_unseen_patients_are_found(trained: Path) -> None:
    rows = [line.split(",") for line in (trained / "curve.csv").read_text().splitlines()[1:]]
    losses = [float(value) for _, figure, value in rows if figure == "loss"]
    assert losses[-1] < losses[0] / 2
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["held"]["cpm"] == 1.0
    assert metrics["steps"] == STEPS
    assert metrics["patients"] == {"train": 3, "tune": 1, "held": 1}


def test_an_excluded_patient_is_in_no_part_and_the_parts_share_nobody(trained: Path) -> None:
    parts = json.loads((trained / "split.json").read_text())
    patients = [patient for part in parts.values() for patient in part]
    assert sorted(patients) == ["1.2.0", "1.2.1", "1.2.2", "1.2.4", "1.2.5"]
    assert not (trained / "blocks" / f"{EXCLUDED}.npy").exists()


def test_without_a_list_of_patients_to_leave_out_nobody_is_learned_from(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name it by --exclude"):
        train_with(Order(data=data, out=tmp_path), SCALE)


def test_a_run_that_was_broken_off_before_its_report_ends_with_the_same_weights(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(trained, broken, ignore=shutil.ignore_patterns("weights.safetensors", "metrics.json", "bundle"))
    train(data, broken, resume=True)
    for name in ("weights.safetensors", "bundle/models/model.safetensors"):
        assert (broken / name).read_bytes() == (trained / name).read_bytes()


def test_the_bundle_is_added_as_any_other_and_marks_a_ball_where_it_is(trained: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trained / "bundle", bundle)
    # So short a training is sure of little.
    toml = bundle / "model.toml"
    toml.write_text(re.sub(r"finding = [\d.]+", "finding = 0.1", toml.read_text()))
    complete = partial(complete_bundle, wishes=Wishes())
    card = Shelf(tmp_path / "models").add(bundle, complete=complete)
    assert card.weights_sha256 == json.loads((trained / "metrics.json").read_text())["sha256"]
    pipeline = BundlePipeline(card, torch.device("cpu"))
    analysis = pipeline.analyze(pipeline.read({"ct": acquire(NODULE, Scan(spacing_mm=(0.6, 0.8, 0.7)))}))
    finding = analysis.findings[0]
    assert finding.label == "Nodule 1"
    assert finding.code == CODE_OF_NODULE
    assert finding.center_mm == pytest.approx(NODULE.center_mm, abs=2.0)
    assert analysis.mask is not None


def test_a_target_has_its_middle_its_size_and_its_sphere_where_the_nodule_is() -> None:
    maps = draw_target((20, 24, 28), [(np.array([8.2, 11.9, 15.0]), 8.0)])
    assert maps[CENTER].max() == maps[CENTER][8, 12, 15] == 1.0
    assert (maps[CENTER] == 1).sum() == 1
    assert maps[SIZE][8, 12, 15] == 3.0
    assert maps[INSIDE].sum() == pytest.approx(268, rel=0.1)


def test_the_loss_is_least_for_the_true_maps() -> None:
    target = as_target(torch.from_numpy(draw_target((16, 16, 16), [(np.array([8.0, 8.0, 8.0]), 6.0)]))[None])
    centers = (target.centers == 1) * 20.0 - 10
    true = torch.cat([centers, target.log_sizes, target.inside * 20 - 10], dim=1)
    levels = [torch.nn.functional.max_pool3d(centers, factor) for factor in (4, 8)]
    least = float(detector_loss([true, *levels], target))
    for channel in range(3):
        worse = true.clone()
        worse[:, channel] += 9.0 * (-1 if channel == CENTER else 1)
        assert float(detector_loss([worse, *levels], target)) > least
    assert float(detector_loss([true, -levels[0], levels[1]], target)) > least


def test_the_focal_loss_minds_an_error_that_is_sure_and_hardly_one_beside_a_middle() -> None:
    centers = torch.tensor([1.0, 0.9, 0.0])
    right = float(focal_center_loss(torch.tensor([6.0, -6.0, -6.0]), centers))
    beside = float(focal_center_loss(torch.tensor([6.0, 3.0, -6.0]), centers))
    false = float(focal_center_loss(torch.tensor([6.0, -6.0, 3.0]), centers))
    missed = float(focal_center_loss(torch.tensor([-6.0, -6.0, -6.0]), centers))
    assert right < 0.01 < false < missed
    assert beside < 0.01


def test_a_patch_shows_the_nodule_where_its_target_says(data: Path, tmp_path: Path) -> None:
    shelf = fill_shelf(read_luna(data)[:3], tmp_path)
    images, target = draw_batch(shelf, np.random.default_rng(3), patch=32, batch=12)
    assert images.shape == target.centers.shape == (12, 1, 32, 32, 32)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    inside = target.inside > 0
    assert inside.any()
    assert float(images[inside].mean()) > 0.55 > 0.35 > float(images[~inside].mean())


def test_blocks_are_made_once(data: Path, tmp_path: Path) -> None:
    scans = read_luna(data)[:1]
    fill_shelf(scans, tmp_path)
    kept = tmp_path / "1.2.0.npy"
    before = kept.stat().st_mtime_ns
    shelf = fill_shelf(scans, tmp_path)
    assert kept.stat().st_mtime_ns == before
    assert not list(tmp_path.glob("*.aside"))
    assert shelf.blocks[0].origin_mm == tuple(ORIGIN)


def test_a_finding_within_the_radius_is_a_hit_and_its_twin_is_no_false_one() -> None:
    scan = LunaScan(
        series_instance_uid="1",
        path=Path("1.mhd"),
        nodules=(
            MarkedNodule(center_mm=(10.0, 20.0, 30.0), diameter_mm=8.0),
            MarkedNodule(center_mm=(90.0, 20.0, 30.0), diameter_mm=8.0),
        ),
        others=(),
    )
    block = Block(voxels=np.zeros((1, 1, 1), np.uint8), origin_mm=(-5.0, 0.0, 10.0))
    centers = torch.tensor([[15.0, 20.0, 20.0], [18.0, 20.0, 20.0], [60.0, 20.0, 20.0]])
    answer = {"box": torch.cat([centers - 3, centers + 3], dim=1), "label_scores": torch.tensor([0.9, 0.6, 0.5])}
    marks = mark_scan(answer, scan, block)
    assert marks.lesions == 2
    assert marks.hits == pytest.approx([0.9])
    assert marks.alarms == pytest.approx([0.5])


def test_the_threshold_allows_one_false_finding_a_scan() -> None:
    none = np.empty(0)
    alarms = [np.array([0.9, 0.4]), np.array([0.7, 0.6, 0.2])]
    marks = [Marks(lesions=0, hits=none, alarms=one) for one in alarms]
    threshold = choose_threshold(marks)
    assert threshold == pytest.approx(0.6)
    assert sum(int((one >= threshold).sum()) for one in alarms) == 2
    assert choose_threshold(marks[:1] * 3) == pytest.approx(0.4)
    assert choose_threshold([Marks(lesions=1, hits=none, alarms=none)]) == 0.3
