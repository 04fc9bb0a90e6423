"""Recipe of `mr-tumour`: slices of real and drawn heads, each with its neighbours, into a U-Net.

``--data`` names the unpacked LGG-MRI-Segmentation ("kaggle_3m"): one folder ``TCGA_<site>_<patient>_<date>`` a patient.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.losses.dice import DiceFocalLoss
from numpy.typing import NDArray
from scipy import ndimage

from workers.evaluation.intervals import bootstrap_interval
from workers.networks.tumour_unet import PIXEL_MM, build_tumour_unet, count_away
from workers.pipelines.axial_stack import add_neighbours
from workers.pipelines.brain_tumour import SCALP_MM, drop_specks
from workers.training.course import Course, Plan
from workers.training.head_augmentation import augment
from workers.training.head_phantoms import draw_head
from workers.training.head_slices import Source, draw_batch, gather_sources
from workers.training.lgg import FLAIR, MarkedHead, read_lgg
from workers.training.order import Order, seed_everything
from workers.training.splits import Split, split_patients
from workers.training.weights import save_weights

SEED = 21
# Of a batch: slices with and without an abnormality, real and drawn.
REAL_MARKED, REAL_UNMARKED, DRAWN_MARKED, DRAWN_UNMARKED = 6, 3, 1, 2
# The second rise adds little to the Dice of the patients that thresholds are chosen on, and 0.02 with FLAIR alone.
PLAN = Plan(
    steps=6000,
    peak_rate=3e-3,
    more_steps=4000,
    more_peak_rate=1.5e-3,
    average=0.998,
    validate_every=1000,
    keep_every=500,
)
# Pixels that soft Dice forgives in each slice: 80 mm2 of false marks on a slice without an abnormality.
SMOOTH = 50.0
EXPECTED = 0.05  # probability of an abnormality before anything is learned
FOCAL_WEIGHT = 5.0  # focal loss is a mean over mostly easy pixels, and small beside Dice
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
THRESHOLD, MIN_VOLUME_MM3 = 0.5, 2000.0
ASKED_AT_ONCE = 16
LARGE_ML = (30.0, 80.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """How one patient was marked.

    Attributes
    ----------
    patient
        Patient key.
    truth_ml
        Volume of the drawn abnormality, by the assumed size of voxels.
    dice
        0..1, by threshold; without pieces below `MIN_VOLUME_MM3`.
    """

    patient: str
    truth_ml: float
    dice: Mapping[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """How many heads are used for what, and how long is learned.

    Attributes
    ----------
    tune, held
        Patients who choose thresholds, and patients who are only reported on; the others are learned from.
    drawn, unseen
        Drawn heads to learn from, and to report on; two of three have a lesion.
    plan
        Of the `Course`.
    """

    tune: int = 8
    held: int = 22
    drawn: int = 150
    unseen: int = 30
    plan: Plan = PLAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is learned from, and the network that learns.

    Attributes
    ----------
    course
        With the network.
    sources
        Of its batches.
    heads, split
        Every patient, and what each is used for.
    """

    course: Course
    sources: tuple[Source, ...]
    heads: Sequence[MarkedHead]
    split: Split

    def draw_loss(self) -> torch.Tensor:
        """Draw a batch and return its loss: Dice of each slice, and focal loss."""
        batch = augment(draw_batch(self.sources, self.course.rng), self.course.rng)
        device = next(self.course.network.parameters()).device
        channels = batch.channels.to(device).contiguous(memory_format=torch.channels_last)
        overlap = DiceFocalLoss(sigmoid=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH, lambda_focal=FOCAL_WEIGHT)
        loss: torch.Tensor = overlap(self.course.network(channels), batch.masks.to(device))
        return loss

    def validate(self) -> dict[str, float]:
        """Return mean Dice of the patients that thresholds are chosen on, with every sequence and with FLAIR alone."""
        tuning = choose(self.heads, self.split.tune)
        figures = {}
        for name, flair_alone in (("dice", False), ("dice, FLAIR alone", True)):
            marked = mark_heads(self.course.averaged, tuning, flair_alone=flair_alone)
            figures[name] = float(np.mean([one.dice[THRESHOLD] for one in marked]))
        return figures


def train_and_report(order: Order) -> None:
    """Train, report on held-back patients, and write weights, split and ``metrics.json``.

    Raises
    ------
    ValueError
        If there is no list of patients never to learn from, or there are too few others.
    """
    train_with(order, Scope())


def train_with(order: Order, scope: Scope) -> None:
    """Do what `train_and_report` does with other numbers.

    Raises
    ------
    ValueError
        As there.
    """
    started = time.monotonic()
    lesson = prepare(order, scope)
    lesson.course.run(lesson.draw_loss, validate=lesson.validate)
    split, network = lesson.split, lesson.course.averaged
    unseen = draw_heads(scope.unseen, np.random.default_rng(SEED + 1))
    metrics: dict[str, object] = {
        "seconds": round(time.monotonic() - started),
        "device": str(order.device),
        "steps": order.steps or scope.plan.steps + scope.plan.more_steps,
        "patients": {"train": len(split.train), "tune": len(split.tune), "held": len(split.held)},
        "sha256": save_weights(network, order.out / "weights.safetensors"),
        **report(network, lesson.heads, split),
        "drawn": summarize(mark_heads(network, unseen, flair_alone=True)),
    }
    (order.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def prepare(order: Order, scope: Scope) -> Lesson:
    """Read and draw heads, write which patient is used for what, and build the network or take up its checkpoint.

    Raises
    ------
    ValueError
        If there is no list of patients never to learn from, or there are too few others.
    """
    rng = seed_everything(SEED)
    excluded = order.excluded("lgg")
    heads = read_lgg(order.data)
    split = split_patients(
        (head.patient for head in heads), excluded=excluded, tune=scope.tune, held=scope.held, seed=SEED
    )
    split.write(order.out / "split.json")
    network = build_tumour_unet(has_neighbours=True)
    _expect_little(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    drawn = draw_heads(scope.drawn, rng)
    return Lesson(
        course=Course(network, order, rng=rng, plan=scope.plan),
        sources=(
            *gather_sources(choose(heads, split.train), marked=REAL_MARKED, unmarked=REAL_UNMARKED),
            *gather_sources(drawn, marked=DRAWN_MARKED, unmarked=DRAWN_UNMARKED),
        ),
        heads=heads,
        split=split,
    )


def _expect_little(network: torch.nn.Module) -> None:
    """Let a network say `EXPECTED` of everything: one that begins at a half needs hundreds of steps to get there."""
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    if last.bias is not None:
        torch.nn.init.constant_(last.bias, math.log(EXPECTED / (1 - EXPECTED)))


def choose(heads: Sequence[MarkedHead], patients: frozenset[str]) -> list[MarkedHead]:
    """Return the heads of some patients.

    Raises
    ------
    ValueError
        If there are none.
    """
    chosen = [head for head in heads if head.patient in patients]
    if not chosen:
        msg = f"{len(heads)} patients are too few to learn from some, tune with others and hold others back"
        raise ValueError(msg)
    return chosen


def report(network: torch.nn.Module, heads: Sequence[MarkedHead], split: Split) -> dict[str, object]:
    """Return the figures of tuning patients and of held-back patients."""
    figures: dict[str, object] = {}
    for name, patients in (("tune", split.tune), ("held", split.held)):
        for inputs, flair_alone in (("all", False), ("flair", True)):
            figures[f"{name}, {inputs}"] = summarize(
                mark_heads(network, choose(heads, patients), flair_alone=flair_alone)
            )
    return figures


def draw_heads(count: int, rng: np.random.Generator) -> list[MarkedHead]:
    """Return drawn heads, two of three with a lesion."""
    return [draw_head(rng, has_lesion=number % 3 != 0) for number in range(count)]


def summarize(marked: Sequence[Marked]) -> dict[str, object]:
    """Return mean with its 95 % interval, median, subgroups and each patient's Dice."""
    dice = [one.dice[THRESHOLD] for one in marked]
    groups: dict[str, list[float]] = {}
    for one, value in zip(marked, dice, strict=True):
        groups.setdefault(one.patient[:7], []).append(value)
        size = sum(one.truth_ml >= limit for limit in LARGE_ML)
        groups.setdefault(("small", "middle", "large")[size], []).append(value)
    return {
        "patients": len(marked),
        "dice_mean": round(float(np.mean(dice)), 4),
        "dice_mean_95": bootstrap_interval([[value] for value in dice], lambda rows: float(rows.mean())),
        "dice_median": round(float(np.median(dice)), 4),
        "dice_by_threshold": {str(t): round(float(np.mean([one.dice[t] for one in marked])), 4) for t in THRESHOLDS},
        "dice_by_group": {name: [len(values), round(float(np.mean(values)), 4)] for name, values in groups.items()},
        "dice": [[one.patient, round(one.truth_ml, 1), round(one.dice[THRESHOLD], 4)] for one in marked],
    }


def mark_heads(network: torch.nn.Module, heads: Sequence[MarkedHead], *, flair_alone: bool) -> list[Marked]:
    """Mark heads as the Pipeline would, on the network's grid, and compare."""
    return [mark_one(head, ask(network, head, flair_alone=flair_alone)) for head in heads]


def mark_one(head: MarkedHead, chance: NDArray[np.float32]) -> Marked:
    """Compare one head's probabilities (slices, rows, columns) with what was drawn."""
    spacing_mm = head.slice_mm, PIXEL_MM, PIXEL_MM
    voxel_mm3 = float(np.prod(spacing_mm))
    chance = np.where(ndimage.distance_transform_edt(head.head, sampling=spacing_mm) < SCALP_MM, 0, chance)
    truth = head.mask > 0.5
    dice = {}
    for threshold in THRESHOLDS:
        seen = drop_specks(chance >= threshold, min_voxels=MIN_VOLUME_MM3 / voxel_mm3)
        dice[threshold] = float((2 * (seen & truth).sum() + 1) / (seen.sum() + truth.sum() + 1))
    return Marked(patient=head.patient, truth_ml=float(truth.sum()) * voxel_mm3 / 1000, dice=dice)


@torch.inference_mode()
def ask(network: torch.nn.Module, head: MarkedHead, *, flair_alone: bool) -> NDArray[np.float32]:
    """Return the probability of the abnormality, (slices, rows, columns); the mirrored slice has a say."""
    channels = head.channels.astype(np.float32)
    if flair_alone:
        channels[:, (0, 2)] = 0
    device = next(network.parameters()).device
    parts = []
    for part in torch.split(
        torch.from_numpy(add_neighbours(channels, FLAIR, away=count_away(head.slice_mm))), ASKED_AT_ONCE
    ):
        slices = part.to(device)
        mirrored = torch.sigmoid(network(slices.flip(3))).flip(3)
        parts.append(((torch.sigmoid(network(slices)) + mirrored) / 2)[:, 0].cpu())
    chance: NDArray[np.float32] = torch.cat(parts).numpy()
    return chance
