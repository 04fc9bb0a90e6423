"""Recipe of `cxr-pneumonia`: Kermany's radiographs and projected phantoms into a small DenseNet.

python -m workers.training.cxr_pneumonia --data DIR --exclude FILE --out DIR
"""

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import affine_grid, binary_cross_entropy_with_logits, grid_sample

from workers.networks.xray_densenet import XrayDensenet, pool_evidence
from workers.pipelines.chest_xray import MATRIX, standardize
from workers.training.kermany import LabeledRadiographs, patient_key, read_kermany
from workers.training.radiograph_phantoms import draw_radiograph, paste_opacity
from workers.training.recipe import (
    Split,
    bootstrap_interval,
    learning_rate,
    load_trained,
    read_exclusions,
    save_weights,
    seed_everything,
    set_learning_rate,
    split_patients,
)

logger = logging.getLogger(__name__)

SEED = 20
TUNE_PATIENTS, HELD_PATIENTS = 250, 400
PHANTOMS = 1500  # of each label
# In a batch: real normal, real pneumonia, real normal with a pasted opacity, phantom normal, phantom opacity.
PER_BATCH = (11, 8, 3, 5, 5)
PEAK_RATE, WEIGHT_DECAY = 2e-3, 1e-3
SMOOTHING = 0.02  # some of Kermany's labels are wrong
LOG_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Images of one label to draw batches from: (images, 1, rows, columns), 0..1."""

    images: torch.Tensor
    label: int
    per_batch: int


def main() -> None:
    """Train, report on held-back patients, and write weights and ``metrics.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with NORMAL and PNEUMONIA")
    parser.add_argument("--exclude", type=Path, required=True, help="patients never to train on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--weights", type=Path, help="measure these instead of training")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    rng = seed_everything(SEED)
    data = read_kermany(options.data)
    excluded = {patient_key(name) for name in read_exclusions(options.exclude, data_set="kermany")}
    split = split_patients(data.patients, excluded=excluded, tune=TUNE_PATIENTS, held=HELD_PATIENTS, seed=SEED)
    if options.weights is None:
        network = train(build_pools(data, split, rng), steps=options.steps, rng=rng)
    else:
        network = load_trained(XrayDensenet(), options.weights)
    metrics: dict[str, object] = {"sha256": save_weights(network, options.out / "weights.safetensors")}
    for name, patients in (("tune", split.tune), ("held", split.held)):
        images, labels = select(data, patients)
        metrics[name] = measure(ask(network, images), labels)
    metrics["phantoms"] = measure_phantoms(network, np.random.default_rng(SEED + 1))
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    logger.info("trained %s", json.dumps(metrics))


def select(data: LabeledRadiographs, patients: frozenset[str]) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Return images (images, 1, rows, columns) and labels of some patients."""
    chosen = np.array([patient in patients for patient in data.patients])
    return torch.from_numpy(data.pixels[chosen])[:, None].float(), data.labels[chosen]


def build_pools(data: LabeledRadiographs, split: Split, rng: np.random.Generator) -> list[Pool]:
    """Return the sources of a batch: real films, real films with a pasted opacity, phantoms."""
    images, labels = select(data, split.train)
    normal, sick = images[labels == 0], images[labels == 1]
    pasted = np.stack([paste_opacity(image, rng) for image in normal[:, 0].numpy()])[:, None]
    drawn = [
        np.stack([draw_radiograph(rng, size=MATRIX, has_opacity=has_opacity) for _ in range(PHANTOMS)])[:, None]
        for has_opacity in (False, True)
    ]
    sources = (normal, sick, torch.from_numpy(pasted), torch.from_numpy(drawn[0]), torch.from_numpy(drawn[1]))
    logger.info("training images %s", [len(source) for source in sources])
    return [
        Pool(images=source, label=label, per_batch=count)
        for source, label, count in zip(sources, (0, 1, 1, 0, 1), PER_BATCH, strict=True)
    ]


def train(pools: list[Pool], *, steps: int, rng: np.random.Generator) -> torch.nn.Module:
    """Return the network after `steps` balanced batches, in evaluation mode."""
    network = XrayDensenet()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    target = torch.cat([torch.full((pool.per_batch,), float(pool.label)) for pool in pools])
    soft = target * (1 - 2 * SMOOTHING) + SMOOTHING
    for step in range(steps):
        set_learning_rate(optimizer, learning_rate(step, steps=steps, peak=PEAK_RATE))
        picked = [pool.images[rng.integers(len(pool.images), size=pool.per_batch)] for pool in pools]
        images = standardize(augment(torch.cat(picked), rng)).contiguous(memory_format=torch.channels_last)
        losses = binary_cross_entropy_with_logits(pool_evidence(network(images)), soft, reduction="none")
        optimizer.zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]  # torch's stub
        optimizer.step()
        if step % LOG_EVERY == 0:
            by_pool = [round(float(part.mean()), 3) for part in torch.split(losses.detach(), list(PER_BATCH))]
            logger.info("step %d of %d, loss by source %s", step, steps, by_pool)
    return network.eval()


def augment(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return images turned, moved, stretched, mirrored, re-exposed and made noisy at random."""
    count = len(images)
    angle = rng.uniform(-0.14, 0.14, count)
    zoom = rng.uniform(0.8, 1.12, (count, 1)) * rng.uniform(0.88, 1.14, (count, 2))
    theta = np.zeros((count, 2, 3))
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle), -np.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle), np.cos(angle)
    theta[:, :, :2] *= zoom[:, :, None]
    theta[:, 0] *= rng.choice((-1.0, 1.0), (count, 1))
    theta[:, :, 2] = rng.uniform(-0.1, 0.1, (count, 2))
    grid = affine_grid(torch.from_numpy(theta).float(), list(images.shape), align_corners=False)
    moved = grid_sample(images, grid, padding_mode="border", align_corners=False).clamp(0, 1)
    gamma = torch.from_numpy(rng.uniform(0.7, 1.4, (count, 1, 1, 1))).float()
    noise = torch.from_numpy(rng.uniform(0, 0.03, (count, 1, 1, 1))).float() * torch.randn_like(moved)
    return moved**gamma + noise


@torch.inference_mode()
def ask(network: torch.nn.Module, images: torch.Tensor) -> NDArray[np.float64]:
    """Return the probability of pneumonia of each image (images, 1, rows, columns)."""
    parts = [torch.sigmoid(pool_evidence(network(standardize(part)))) for part in torch.split(images, 64)]
    return torch.cat(parts).double().numpy()


def area_under_curve(rows: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve of (images, 2): score and label."""
    positive, negative = rows[rows[:, 1] == 1, 0], np.sort(rows[rows[:, 1] == 0, 0])
    below = np.searchsorted(negative, positive, side="left") + np.searchsorted(negative, positive, side="right")
    return float(below.mean()) / (2 * len(negative))


def measure(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, object]:
    """Return the area under the ROC curve with its interval, and sensitivity and specificity by threshold."""
    rows = np.stack([scores, labels.astype(float)], axis=1)
    positive, negative = scores[labels == 1], scores[labels == 0]
    return {
        "images": len(scores),
        "auc": round(area_under_curve(rows), 4),
        "auc_95": bootstrap_interval(rows.tolist(), area_under_curve),
        "by_threshold": {
            str(cut): {
                "sensitivity": round(float((positive >= cut).mean()), 4),
                "specificity": round(float((negative < cut).mean()), 4),
                "within_0.05": round(float((np.abs(scores - cut) < 0.05).mean()), 4),
            }
            for cut in (0.2, 0.3, 0.4, 0.5, 0.6)
        },
    }


def measure_phantoms(network: torch.nn.Module, rng: np.random.Generator) -> dict[str, object]:
    """Return the numbers on 100 + 100 phantoms that were never trained on."""
    labels = np.repeat(np.array([0, 1], np.int64), 100)
    drawn = [draw_radiograph(rng, size=MATRIX, has_opacity=bool(label)) for label in labels]
    return measure(ask(network, torch.from_numpy(np.stack(drawn))[:, None]), labels)


if __name__ == "__main__":
    main()
