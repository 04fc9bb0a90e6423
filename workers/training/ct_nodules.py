"""Train the CT lung nodule classifier: ``python -m workers.training.ct_nodules --data DIR --out DIR``."""

import argparse
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from workers.networks.nodule_classifier import NoduleClassifier
from workers.pipelines.lung_patches import score_patches
from workers.training.lung_samples import Samples, join_samples, sample_phantoms, sample_rehearsals
from workers.training.recipe import learning_rate, save_weights, set_learning_rate

LOGGER = logging.getLogger(__name__)
SEED = 20_260
TRAIN_PHANTOMS = 40
HELD_BACK_PHANTOMS = 12
# Chests of the rehearsal; the demo and the tests use small seeds.
TRAIN_REHEARSALS = range(5000, 5008)
HELD_BACK_REHEARSALS = range(6000, 6004)
PEAK_RATE = 3e-3
HARD_SHARE = 0.15  # of the negatives, the ones that the half-trained network takes for nodules


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What decides the weights.

    Attributes
    ----------
    steps
        Optimizer steps, > 0.
    batch
        Patches a step, half of them nodules, > 1.
    """

    steps: int = 1000
    batch: int = 64


def train(samples: Samples, recipe: Recipe) -> NoduleClassifier:
    """Return the trained network; the same samples and recipe give the same weights on one thread."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    network = NoduleClassifier()
    patches = torch.from_numpy(samples.patches)[:, None]
    labels = torch.from_numpy(samples.is_nodule)
    positive, negative = np.flatnonzero(samples.is_nodule), np.flatnonzero(~samples.is_nodule)
    hard = negative
    optimizer = torch.optim.AdamW(network.parameters(), PEAK_RATE, weight_decay=1e-2)
    quarter = recipe.batch // 4
    network.train()
    for step in range(recipe.steps):
        if step == recipe.steps // 2:
            hard = find_hard(network, samples, negative)
        set_learning_rate(optimizer, learning_rate(step, steps=recipe.steps, peak=PEAK_RATE))
        chosen = [rng.choice(positive, 2 * quarter), rng.choice(negative, quarter), rng.choice(hard, quarter)]
        drawn = np.concatenate(chosen)
        # Never quite 0 or 1: the certainty is shown to people.
        wanted = labels[drawn].float() * 0.96 + 0.02
        loss = functional.binary_cross_entropy_with_logits(network(augment(patches[drawn].float(), rng)), wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships no annotation for it
        optimizer.step()
        if step % 100 == 0:
            LOGGER.info("step trained", extra={"step": step, "loss": round(loss.item(), 4)})
    return network.eval()


def find_hard(network: NoduleClassifier, samples: Samples, negative: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the negatives that look most like nodules to the network, which stays in training mode."""
    network.eval()
    scores = []
    with torch.inference_mode():
        for part in np.array_split(negative, max(1, len(negative) // 64)):
            scores.append(network(torch.from_numpy(samples.patches[part]).float()[:, None]).numpy())
    network.train()
    count = max(1, int(HARD_SHARE * len(negative)))
    return negative[np.argsort(-np.concatenate(scores), kind="stable")[:count]]


def augment(batch: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return the batch mirrored, turned, shifted in density and with more noise; one draw a batch."""
    for axis in (2, 3, 4):
        if rng.random() < 0.5:
            batch = batch.flip(axis)
    batch = batch.permute(0, 1, *(2 + rng.permutation(3)).tolist())
    gain = 1 + 0.06 * torch.randn(len(batch), 1, 1, 1, 1)
    shift = 0.02 * torch.randn(len(batch), 1, 1, 1, 1)
    grain = 0.03 * torch.rand(len(batch), 1, 1, 1, 1)
    return (batch * gain + shift + grain * torch.randn_like(batch)).clamp(0, 1)


def measure(network: NoduleClassifier, samples: Samples) -> dict[str, float]:
    """Return sensitivity, specificity and the area under the curve on patches."""
    scores = score_patches(network, samples.patches.astype(np.float32))
    yes, no = scores[samples.is_nodule], scores[~samples.is_nodule]
    above = (yes[:, None] > no[None]).mean() if len(yes) and len(no) else float("nan")
    return {
        "nodules": len(yes),
        "others": len(no),
        "area_under_curve": float(above),
        **{f"sensitivity_{t}": float((yes >= t).mean()) for t in (0.5, 0.7, 0.9)},
        **{f"specificity_{t}": float((no < t).mean()) for t in (0.5, 0.7, 0.9)},
    }


def main() -> None:
    """Draw the samples, train, measure and write ``weights.safetensors`` and ``metrics.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="scratch folder; samples are kept here")
    parser.add_argument("--out", type=Path, required=True, help="weights.safetensors, metrics.json")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s %(levelname)s")
    torch.set_num_threads(options.threads)
    options.data.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    train_set = _drawn(options.data / "train.npz", TRAIN_PHANTOMS, SEED, TRAIN_REHEARSALS)
    held_back = _drawn(options.data / "held-back.npz", HELD_BACK_PHANTOMS, SEED + 1, HELD_BACK_REHEARSALS)
    network = train(train_set, Recipe())
    digest = save_weights(network, options.out / "weights.safetensors")
    metrics = {
        "weights_sha256": digest,
        "seconds": round(time.monotonic() - started),
        "held_back_phantoms": measure(network, held_back),
    }
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    LOGGER.info("weights written")


def _drawn(path: Path, phantoms: int, seed: int, rehearsals: range) -> Samples:
    """Return the samples in `path`, drawn first where there are none."""
    if not path.is_file():
        samples = join_samples([sample_phantoms(count=phantoms, seed=seed), sample_rehearsals(seeds=rehearsals)])
        np.savez(path, patches=samples.patches, is_nodule=samples.is_nodule)
        LOGGER.info("samples drawn")
    with np.load(path) as held:
        return Samples(patches=held["patches"], is_nodule=held["is_nodule"])


if __name__ == "__main__":
    main()
