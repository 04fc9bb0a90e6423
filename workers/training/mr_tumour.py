"""Recipe of `mr-tumour`: TCGA-LGG slices and head phantoms into a 2D U-Net.

python -m workers.training.mr_tumour --data DIR --exclude FILE --out DIR
"""

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import affine_grid, binary_cross_entropy_with_logits, grid_sample, interpolate

from workers.networks.tumour_unet import build_tumour_unet
from workers.training.head_phantoms import draw_head
from workers.training.lgg import MarkedHead, read_lgg
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

SEED = 21
TUNE_PATIENTS, HELD_PATIENTS = 8, 22
PHANTOMS = 100  # with a lesion, and half as many without
PEAK_RATE, RESUME_RATE, WEIGHT_DECAY = 2e-3, 8e-4, 1e-4
# How often T1 before contrast, T1 after contrast, and both are hidden, so that FLAIR alone is learned too.
HIDE_PRE, HIDE_POST, HIDE_BOTH = 0.15, 0.15, 0.3
LOG_EVERY, SAVE_EVERY = 50, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """Slices of one kind to draw batches from.

    Attributes
    ----------
    channels
        (slices, 3, rows, columns) float16.
    masks
        (slices, 1, rows, columns) float16, 0..1.
    per_batch
        How many of a batch come from here.
    """

    channels: torch.Tensor
    masks: torch.Tensor
    per_batch: int


def main() -> None:
    """Train, report on held-back patients, and write weights and ``metrics.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder TCGA_* a patient")
    parser.add_argument("--exclude", type=Path, required=True, help="patients never to train on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--start", type=Path, help="weights to go on from, with a lower rate")
    parser.add_argument("--weights", type=Path, help="measure these instead of training")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    rng = seed_everything(SEED)
    heads = read_lgg(options.data)
    split = split_patients(
        (head.patient for head in heads),
        excluded=read_exclusions(options.exclude, data_set="lgg"),
        tune=TUNE_PATIENTS,
        held=HELD_PATIENTS,
        seed=SEED,
    )
    if options.weights is None:
        phantoms = [draw_head(rng, has_lesion=number % 3 != 0) for number in range(PHANTOMS * 3 // 2)]
        sources = gather([head for head in heads if head.patient in split.train], phantoms)
        network = build_tumour_unet() if options.start is None else load_trained(build_tumour_unet(), options.start)
        peak = PEAK_RATE if options.start is None else RESUME_RATE
        train(network, sources, steps=options.steps, peak=peak, rng=rng, out=options.out)
    else:
        network = load_trained(build_tumour_unet(), options.weights)
    report(network, heads, split, out=options.out)


def report(network: torch.nn.Module, heads: Sequence[MarkedHead], split: Split, *, out: Path) -> None:
    """Write weights and ``metrics.json``: tuning patients, held-back patients, unseen phantoms."""
    metrics: dict[str, object] = {"sha256": save_weights(network, out / "weights.safetensors")}
    for name, patients in (("tune", split.tune), ("held", split.held)):
        chosen = [head for head in heads if head.patient in patients]
        metrics[name] = {alone: measure(network, chosen, flair_alone=alone == "flair") for alone in ("all", "flair")}
    fresh = np.random.default_rng(SEED + 1)
    unseen = [draw_head(fresh, has_lesion=number < 20) for number in range(30)]
    metrics["phantoms"] = measure(network, unseen, flair_alone=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    logger.info("trained %s", json.dumps(metrics))


def gather(real: Sequence[MarkedHead], phantoms: Sequence[MarkedHead]) -> list[Slices]:
    """Return the sources of a batch: slices with and without abnormality, real and phantom."""
    sources = []
    for heads, with_mask, without_mask in ((real, 8, 3), (phantoms, 2, 3)):
        channels = np.concatenate([head.channels for head in heads])
        masks = np.concatenate([head.mask for head in heads])[:, None]
        marked = (masks > 0.5).any(axis=(1, 2, 3))
        empty = ~marked & (channels[:, 1] > 0.5).any(axis=(1, 2))
        for chosen, per_batch in ((marked, with_mask), (empty, without_mask)):
            sources.append(
                Slices(
                    channels=torch.from_numpy(channels[chosen]),
                    masks=torch.from_numpy(masks[chosen]),
                    per_batch=per_batch,
                )
            )
    logger.info("training slices %s", [len(source.masks) for source in sources])
    return sources


def train(
    network: torch.nn.Module,
    sources: list[Slices],
    *,
    steps: int,
    peak: float,
    rng: np.random.Generator,
    out: Path,
) -> None:
    """Take `steps` batches in place and leave evaluation mode on; a checkpoint is kept in `out`."""
    network.train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    for step in range(steps):
        set_learning_rate(optimizer, learning_rate(step, steps=steps, peak=peak))
        picked = [(source, rng.integers(len(source.masks), size=source.per_batch)) for source in sources]
        channels = torch.cat([source.channels[index] for source, index in picked]).float()
        masks = torch.cat([source.masks[index] for source, index in picked]).float()
        channels, masks = augment(channels, masks, rng)
        loss = overlap_loss(network(channels.contiguous(memory_format=torch.channels_last)), masks)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        if step % LOG_EVERY == 0:
            logger.info("step %d of %d, loss %.3f", step, steps, loss.item())
        if step % SAVE_EVERY == SAVE_EVERY - 1:
            save_weights(network, out / "checkpoint.safetensors")
    network.eval()


def overlap_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Return soft Dice of each slice plus cross-entropy."""
    chance = torch.sigmoid(logits)
    both = (chance * masks).sum(dim=(1, 2, 3))
    dice = 1 - (2 * both + 1) / (chance.sum(dim=(1, 2, 3)) + masks.sum(dim=(1, 2, 3)) + 1)
    return dice.mean() + binary_cross_entropy_with_logits(logits, masks)


def augment(channels: torch.Tensor, masks: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slices turned, stretched, mirrored, re-exposed and shaded at random, some without T1."""
    count = len(channels)
    grid = draw_grid(channels.shape, rng)
    moved = grid_sample(torch.cat([channels, masks], dim=1), grid, align_corners=False)
    channels, masks = moved[:, :3], (moved[:, 3:] > 0.5).float()
    gain, gamma = (
        torch.from_numpy(rng.uniform(a, b, (count, 3, 1, 1))).float() for a, b in ((0.85, 1.15), (0.75, 1.3))
    )
    knots = torch.from_numpy(rng.uniform(-0.15, 0.15, (count, 1, 4, 4))).float()
    shade = 1 + interpolate(knots, size=channels.shape[2:], mode="bilinear", align_corners=True)
    noise = torch.from_numpy(rng.uniform(0, 0.08, (count, 1, 1, 1))).float() * torch.randn_like(channels)
    channels = (channels.clamp(min=0) ** gamma * gain * shade + noise).clamp(0, 3)
    return channels * draw_presence(moved[:, :3], rng), masks


def draw_grid(shape: torch.Size, rng: np.random.Generator) -> torch.Tensor:
    """Return where each pixel is sampled from: turned, zoomed, stretched, moved and mirrored heads."""
    count = shape[0]
    angle = rng.uniform(-0.26, 0.26, count)
    zoom = rng.uniform(0.82, 1.2, (count, 1)) * rng.uniform(0.94, 1.06, (count, 2))
    theta = np.zeros((count, 2, 3))
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle), -np.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle), np.cos(angle)
    theta[:, :, :2] *= zoom[:, :, None]
    theta[:, 0] *= rng.choice((-1.0, 1.0), (count, 1))
    theta[:, :, 2] = rng.uniform(-0.08, 0.08, (count, 2))
    return affine_grid(torch.from_numpy(theta).float(), list(shape), align_corners=False)


def draw_presence(channels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return (slices, 3, 1, 1): 0 where a channel is absent or hidden, else 1; FLAIR is never hidden."""
    present = (channels.amax(dim=(2, 3)) > 0).float()
    kind = rng.random(len(channels))
    pre = (kind < HIDE_PRE) | (kind > 1 - HIDE_BOTH)
    post = ((kind >= HIDE_PRE) & (kind < HIDE_PRE + HIDE_POST)) | (kind > 1 - HIDE_BOTH)
    present[:, 0] *= torch.from_numpy(~pre).float()
    present[:, 2] *= torch.from_numpy(~post).float()
    return present[:, :, None, None]


@torch.inference_mode()
def ask(network: torch.nn.Module, channels: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return the probability of the abnormality, (slices, rows, columns); the mirrored slice has a say."""
    parts = []
    for part in torch.split(torch.from_numpy(channels).float(), 16):
        mirrored = torch.sigmoid(network(part.flip(3))).flip(3)
        parts.append(((torch.sigmoid(network(part)) + mirrored) / 2)[:, 0])
    chance: NDArray[np.float32] = torch.cat(parts).numpy()
    return chance


def measure(network: torch.nn.Module, heads: Sequence[MarkedHead], *, flair_alone: bool) -> dict[str, object]:
    """Return Dice by patient (volume, probability > 0.5), and by threshold its mean."""
    cuts = (0.3, 0.4, 0.5, 0.6, 0.7)
    dice: dict[float, list[float]] = {cut: [] for cut in cuts}
    for head in heads:
        channels = head.channels.copy()
        if flair_alone:
            channels[:, (0, 2)] = 0
        chance, truth = ask(network, channels), head.mask > 0.5
        for cut in cuts:
            seen = chance > cut
            dice[cut].append(float((2 * (seen & truth).sum() + 1) / (seen.sum() + truth.sum() + 1)))
    return {
        "patients": len(heads),
        "dice_mean": round(float(np.mean(dice[0.5])), 4),
        "dice_mean_95": bootstrap_interval([[value] for value in dice[0.5]], lambda rows: float(rows.mean())),
        "dice_median": round(float(np.median(dice[0.5])), 4),
        "dice_by_threshold": {str(cut): round(float(np.mean(values)), 4) for cut, values in dice.items()},
        "dice": {head.patient + str(n): round(d, 3) for n, (head, d) in enumerate(zip(heads, dice[0.5], strict=True))},
    }


if __name__ == "__main__":
    main()
