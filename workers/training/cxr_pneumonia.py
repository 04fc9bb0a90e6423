"""Recipe of `cxr-pneumonia`: Kermany's radiographs and projected phantoms into a small DenseNet.

``--data`` is a folder with NORMAL and PNEUMONIA, as Kermany's training split has them: JPEG files, named after the
patient. About a quarter of an hour on a free CPU core.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from node.rehearsal.chest_xray import chest_xray_pixels
from workers.evaluation.probabilities import roc_auc
from workers.inference.calibration import fit_temperature
from workers.networks.xray_densenet import MATRIX, XrayDensenet, merge_mirrored, mirror, pool_evidence
from workers.pipelines.chest_xray import shrink, standardize
from workers.training.course import Course, Plan
from workers.training.film_baseline import fit_regression, learn_features, read_features
from workers.training.film_changes import change_films
from workers.training.film_figures import (
    Judged,
    choose_threshold,
    describe,
    draw_misread,
    draw_reliability,
    locate_heat,
    map_evidence,
)
from workers.training.kermany import LabeledRadiographs, clip_film, name_cause, patient_key, read_kermany
from workers.training.order import Order, seed_everything
from workers.training.radiograph_phantoms import draw_radiograph, draw_with_truth, paste_opacity
from workers.training.splits import Split, split_patients
from workers.training.weights import save_weights

SEED = 20
TUNE_PATIENTS, HELD_PATIENTS = 250, 400
FEW = 4  # of a small collection, at most one patient in four is kept for either
PHANTOMS = 1500  # of each label
# Healthy films of the rehearsal, whose vessels look like clouds; other seeds than those of demo, rehearsal and tests.
REHEARSED = range(9400, 9440)
REHEARSED_MATRIX = 256
# In a batch: real normal, real pneumonia, real normal with a pasted opacity, phantoms without and with one, rehearsed.
PER_BATCH = (11, 8, 3, 4, 5, 1)
LABELS = (0, 1, 1, 0, 1, 0)
PHANTOM_NORMAL, PHANTOM_OPACITY = 3, 4
PLAN = Plan(steps=1500, peak_rate=2e-3, weight_decay=1e-3)
SMOOTHING = 0.02  # some of Kermany's labels are wrong
ASKED_AT_ONCE = 64
DRAWN = 100  # drawn chests, never learned from, on which heat is located


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Films of one label to draw batches from: (films, 1, rows, columns) float16, 0..1."""

    films: torch.Tensor
    label: int
    per_batch: int


def train_and_report(order: Order) -> None:
    """Train, and write weights, figures of tuning and held-back patients, the split, and pictures.

    Raises
    ------
    ValueError
        If the order names no list of patients that must never be learned from, or a file that follows no known pattern.
    """
    begun = time.monotonic()
    excluded = order.excluded("kermany")
    data = read_kermany(order.data, matrix=MATRIX)
    split = deal_patients(data, excluded)
    split.write(order.out / "split.json")
    steps = order.steps or PLAN.steps
    drawn_count = min(PHANTOMS, PER_BATCH[PHANTOM_OPACITY] * steps)
    pools = build_pools(data, split.train, phantoms=drawn_count, rehearsed=REHEARSED[: 1 + steps // 10])
    network = train(pools, select(data, split.tune), order)
    metrics: dict[str, object] = {
        "sha256": save_weights(network, order.out / "weights.safetensors"),
        "device": order.device.type,
        "steps": steps,
        "seconds": round(time.monotonic() - begun),
        **report(network.cpu(), data, split, order),
        "baseline": compare_with_classic(pools, data, split, order),
    }
    rng = np.random.default_rng(SEED + 1)
    drawn = [draw_with_truth(rng, size=MATRIX, has_opacity=True) for _ in range(min(DRAWN, drawn_count))]
    metrics["heat"] = locate_heat(network, drawn)
    (order.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def train(
    pools: Sequence[Pool], tune: tuple[torch.Tensor, NDArray[np.int64]], order: Order, *, plan: Plan = PLAN
) -> torch.nn.Module:
    """Return the network after the order's steps, in evaluation mode; its curve follows the films for tuning."""
    seed_everything(SEED)
    network = XrayDensenet()
    course = Course(network, order, rng=np.random.default_rng(SEED), plan=plan)
    target = torch.cat([torch.full((pool.per_batch,), float(pool.label)) for pool in pools])
    soft = (target * (1 - 2 * SMOOTHING) + SMOOTHING).to(order.device)
    films, labels = tune

    def loss_of() -> torch.Tensor:
        picked = [pool.films[course.rng.integers(len(pool.films), size=pool.per_batch)] for pool in pools]
        batch = standardize(change_films(torch.cat(picked).float(), course.rng)).to(order.device)
        logits = pool_evidence(network(batch.contiguous(memory_format=torch.channels_last)))
        return binary_cross_entropy_with_logits(logits, soft)

    def validate() -> Mapping[str, float]:
        return {"AUC": roc_auc(labels == 1, ask(course.averaged, films))}

    course.run(loss_of, validate=validate)
    return course.averaged


def report(network: torch.nn.Module, data: LabeledRadiographs, split: Split, order: Order) -> dict[str, object]:
    """Return temperature, threshold and figures; the pictures go to the order's folder."""
    tune, held = (judge(network, data, patients) for patients in (split.tune, split.held))
    temperature = fit_temperature(tune.scores, tune.truth.astype(np.int64))
    threshold = choose_threshold(tune.probabilities(temperature), tune.truth)
    draw_reliability(held, temperature=temperature, path=order.out / "reliability.png")
    draw_misread(
        held,
        temperature=temperature,
        threshold=threshold,
        map_film=lambda film: map_evidence(network, film),
        path=order.out / "misread.png",
    )
    return {
        "temperature": round(temperature, 3),
        "threshold": threshold,
        "tune": describe(tune, temperature=temperature, threshold=threshold),
        "held": describe(held, temperature=temperature, threshold=threshold),
    }


def judge(network: torch.nn.Module, data: LabeledRadiographs, patients: frozenset[str]) -> Judged:
    """Return the films of some patients with what the network says of them."""
    films, labels = select(data, patients)
    chosen = np.array([patient in patients for patient in data.patients])
    causes = np.array([name_cause(name) for name in data.names])[chosen]
    squashed, truth = data.squashed[chosen], labels == 1
    return Judged(
        films=films,
        truth=truth,
        patients=np.array(data.patients)[chosen],
        scores=ask(network, films),
        subgroups={
            **{cause: causes == cause for cause in ("normal", "bacteria", "virus")},
            "normal, own proportions": ~truth & ~squashed,
            "normal, squashed": ~truth & squashed,
            "pneumonia, own proportions": truth & ~squashed,
            "pneumonia, squashed": truth & squashed,
        },
    )


def compare_with_classic(
    pools: Sequence[Pool], data: LabeledRadiographs, split: Split, order: Order
) -> dict[str, object]:
    """Return the figures of logistic regression on frozen features, on the same patients."""
    frozen = learn_features((pools[PHANTOM_NORMAL].films, pools[PHANTOM_OPACITY].films), order, seed=SEED).cpu()
    films, labels = select(data, split.train)
    regression = fit_regression(read_features(frozen, films), labels)
    figures: dict[str, object] = {}
    threshold = temperature = 0.0
    for name, patients in (("tune", split.tune), ("held", split.held)):
        judged = judge(frozen, data, patients)
        judged = replace(judged, scores=regression.score(read_features(frozen, judged.films)))
        if name == "tune":
            temperature = fit_temperature(judged.scores, judged.truth.astype(np.int64))
            threshold = choose_threshold(judged.probabilities(temperature), judged.truth)
        figures[name] = describe(judged, temperature=temperature, threshold=threshold)
    return figures


def deal_patients(data: LabeledRadiographs, excluded: frozenset[str]) -> Split:
    """Return the patients by use; those that are excluded, under whichever of their names, are in none."""
    keys = {patient_key(name) for name in excluded}
    few = len(set(data.patients) - keys) // FEW
    return split_patients(
        data.patients, excluded=keys, tune=min(TUNE_PATIENTS, few), held=min(HELD_PATIENTS, few), seed=SEED
    )


def select(data: LabeledRadiographs, patients: frozenset[str]) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Return films (films, 1, rows, columns) float16 and labels of some patients."""
    chosen = np.array([patient in patients for patient in data.patients])
    return torch.from_numpy(data.pixels[chosen])[:, None], data.labels[chosen]


def build_pools(
    data: LabeledRadiographs, patients: frozenset[str], *, phantoms: int, rehearsed: Sequence[int]
) -> list[Pool]:
    """Return the sources of a batch, in the order of `PER_BATCH`.

    Parameters
    ----------
    phantoms
        Simple bodies of each label, > 0.
    rehearsed
        Seeds of the rehearsal's films.
    """
    rng = np.random.default_rng(SEED)
    films, labels = select(data, patients)
    normal, sick = films[labels == 0], films[labels == 1]
    pasted = [paste_opacity(film.astype(np.float32), rng) for film in normal[:, 0].numpy()]
    drawn = [
        [draw_radiograph(rng, size=MATRIX, has_opacity=has_opacity) for _ in range(phantoms)]
        for has_opacity in (False, True)
    ]
    groups = (pasted, *drawn, [draw_rehearsed(seed) for seed in rehearsed])
    made = [torch.from_numpy(np.stack(group).astype(np.float16))[:, None] for group in groups]
    return [
        Pool(films=group, label=label, per_batch=count)
        for group, label, count in zip((normal, sick, *made), LABELS, PER_BATCH, strict=True)
    ]


def draw_rehearsed(seed: int) -> NDArray[np.float32]:
    """Return a healthy film of the rehearsal as the Pipeline sees it: (rows, columns), 0..1."""
    film, _ = chest_xray_pixels(seed=seed, with_opacity=False, matrix=REHEARSED_MATRIX)
    return shrink(clip_film(np.asarray(film, np.float32)))


@torch.inference_mode()
def ask(network: torch.nn.Module, films: torch.Tensor) -> NDArray[np.float64]:
    """Return the score (a logit) of each film (films, 1, rows, columns): the mean of it and of its mirror image."""
    device = next(network.parameters()).device
    parts = []
    for part in torch.split(films, ASKED_AT_ONCE):
        batch = mirror(standardize(part.float()).to(device))
        parts.append(merge_mirrored(pool_evidence(network(batch))).cpu())
    return torch.cat(parts).double().numpy()
