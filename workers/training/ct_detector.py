"""Recipe of `ct-detector`: LUNA16-format CT into a 3D U-Net that finds, sizes and outlines nodules; made for a GPU.

``radnode-train ct-detector --data DIR --exclude FILE --out DIR``, with DIR as `workers.training.luna` describes it. The
list of patients never to learn from has lines ``luna <seriesuid>``. On a CPU a small network is trained for a few
steps, to see that it runs. ``--out`` then also holds ``bundle/``, for ``radnode models add``.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from workers.evaluation.froc import RATES, Marks, competition_performance, sensitivity_at_rate
from workers.networks.nodule_finder import NoduleFinder
from workers.pipelines.nodule_finder import Answer, FinderInferer
from workers.training.course import Course, Plan
from workers.training.detector_bundle import Outcome, write_bundle
from workers.training.detector_loss import Target, detector_loss
from workers.training.detector_samples import LEVELS, Shelf, draw_batch, fill_shelf
from workers.training.luna import Block, LunaScan, read_luna
from workers.training.order import Order, seed_everything
from workers.training.splits import split_patients
from workers.training.weights import save_weights

SEED = 16
TUNE_SHARE, HELD_SHARE = 0.1, 0.15
# A finding counts as many false ones a scan as this, on the patients who choose the threshold.
FALSE_A_SCAN = 1.0
DEFAULT_THRESHOLD = 0.3
MIN_PATIENTS = 3  # one a part


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large the network is, and how it learns.

    Attributes
    ----------
    width
        Of `NoduleFinder`.
    patch
        Edge, voxels of 1 mm; divisible by 8.
    batch
        Patches a step.
    """

    width: int
    patch: int
    batch: int
    plan: Plan


ON_CUDA = Scale(
    width=24, patch=96, batch=8, plan=Plan(steps=40_000, peak_rate=1e-3, validate_every=2_000, keep_every=500)
)
ON_CPU = Scale(width=8, patch=48, batch=2, plan=Plan(steps=200, peak_rate=2e-3, validate_every=100, keep_every=50))


def train_and_report(order: Order) -> None:
    """Train, report FROC on held-back patients, and write weights, bundle, split and ``metrics.json``.

    Raises
    ------
    ValueError
        If there is no list of patients never to learn from, the data are not as LUNA16 has them, or there are too few.
    """
    train_with(order, ON_CUDA if order.device.type == "cuda" else ON_CPU)


def train_with(order: Order, scale: Scale) -> None:
    """Do what `train_and_report` does at another scale.

    Raises
    ------
    ValueError
        As there.
    """
    started = time.monotonic()
    rng = seed_everything(SEED)
    train, tune, held = deal_scans(order)
    course = Course(NoduleFinder(scale.width), order, rng=rng, plan=scale.plan)
    course.run(
        lambda: draw_loss(course, train, scale, order.device),
        validate=lambda: {"cpm": competition_performance(mark_all(course.averaged, tune, scale))},
    )
    tuned = mark_all(course.averaged, tune, scale)
    threshold = choose_threshold(tuned)
    outcome = Outcome(network=course.averaged, width=scale.width, patch=scale.patch, threshold=threshold)
    write_bundle(outcome, order.out / "bundle")
    metrics = {
        "seconds": round(time.monotonic() - started),
        "device": str(order.device),
        "steps": order.steps or scale.plan.steps,
        "patients": {"train": len(train.scans), "tune": len(tune.scans), "held": len(held.scans)},
        "sha256": save_weights(course.averaged, order.out / "weights.safetensors"),
        "threshold": threshold,
        "tune": summarize(tuned),
        "held": summarize(mark_all(course.averaged, held, scale)),
    }
    (order.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def deal_scans(order: Order) -> tuple[Shelf, Shelf, Shelf]:
    """Return the scans to learn from, to choose the threshold with, and to report on; write who is where.

    Raises
    ------
    ValueError
        As `train_and_report`.
    """
    excluded = order.excluded("luna")
    scans = [scan for scan in read_luna(order.data) if scan.series_instance_uid not in excluded]
    if len(scans) < MIN_PATIENTS:
        msg = f"{len(scans)} patients are too few to learn from some, tune with others and hold others back"
        raise ValueError(msg)
    split = split_patients(
        (scan.series_instance_uid for scan in scans),
        excluded=excluded,
        tune=max(1, round(len(scans) * TUNE_SHARE)),
        held=max(1, round(len(scans) * HELD_SHARE)),
        seed=SEED,
    )
    split.write(order.out / "split.json")
    train, tune, held = (
        fill_shelf([scan for scan in scans if scan.series_instance_uid in keys], order.out / "blocks")
        for keys in (split.train, split.tune, split.held)
    )
    return train, tune, held


def draw_loss(course: Course, shelf: Shelf, scale: Scale, device: torch.device) -> torch.Tensor:
    """Draw a batch and return its loss; on CUDA in mixed precision."""
    images, target = draw_batch(shelf, course.rng, patch=scale.patch, batch=scale.batch)
    moved = Target(
        centers=target.centers.to(device), log_sizes=target.log_sizes.to(device), inside=target.inside.to(device)
    )
    # bfloat16 has the range of float32: gradients need no scaling.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        answers = course.network(images.to(device))
    return detector_loss(answers, moved)


def mark_all(network: torch.nn.Module, shelf: Shelf, scale: Scale) -> list[Marks]:
    """Return the findings of each scan, those on its nodules and the others."""
    device = next(network.parameters()).device
    inferer = FinderInferer([scale.patch] * 3)
    marks = []
    for scan, block in zip(shelf.scans, shelf.blocks, strict=True):
        image = torch.from_numpy(block.voxels.transpose(2, 1, 0).astype(np.float32) / LEVELS)
        (answer,) = inferer([image[None].to(device)], network)
        marks.append(mark_scan(answer, scan, block))
    return marks


def mark_scan(answer: Answer, scan: LunaScan, block: Block) -> Marks:
    """Return the findings of one scan by the rule of LUNA16: a hit is nearer to a nodule's middle than its radius.

    Of several findings on one nodule the most certain counts, and the others are no false ones.
    """
    boxes, scores = answer["box"].double().numpy(), answer["label_scores"].double().numpy()
    centers = (boxes[:, :3] + boxes[:, 3:]) / 2
    middles = np.array([block.to_index(nodule.center_mm)[::-1] for nodule in scan.nodules]).reshape(-1, 3)
    radii = np.array([nodule.diameter_mm / 2 for nodule in scan.nodules])
    is_on = np.linalg.norm(centers[:, None] - middles[None], axis=-1) <= radii
    return Marks(
        lesions=len(scan.nodules),
        hits=np.array([scores[on].max() for on in is_on.T if on.any()]),
        alarms=scores[~is_on.any(axis=1)],
    )


def summarize(marks: Sequence[Marks]) -> dict[str, float]:
    """Return the sensitivity at the rates of LUNA16, and their mean."""
    figures = {f"at_{rate:g}": sensitivity_at_rate(marks, rate) for rate in RATES}
    return {
        name: round(value, 4)
        for name, value in {"cpm": competition_performance(marks), **figures}.items()
        if np.isfinite(value)
    }


def choose_threshold(marks: Sequence[Marks]) -> float:
    """Return the least certainty with at most one false finding a scan; 0.3 where there are fewer at any."""
    alarms = np.sort(np.concatenate([scan.alarms for scan in marks]))[::-1]
    allowed = int(FALSE_A_SCAN * len(marks))
    return float(np.nextafter(alarms[allowed], 1.0)) if len(alarms) > allowed else DEFAULT_THRESHOLD
