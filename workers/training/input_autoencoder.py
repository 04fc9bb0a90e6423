"""Recipe of ``fit.safetensors``: an autoencoder of what one Pipeline is shown.

radnode-train input-autoencoder --pipeline NAME --data DIR --exclude FILE --out DIR

``--data`` is laid out as that of the recipe beside it: for `chest_xray` a folder with NORMAL and PNEUMONIA, for
`brain_tumour` one with a folder TCGA_* a patient, for `lung_nodules` one with the DICOM slices of any number of Series,
at any depth. Patients are dealt as the recipe deals them, so that nobody is learned from who is reported on there.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import affine_grid, grid_sample

from workers.fitness.likeness import score_planes, share_missed
from workers.networks.input_autoencoder import InputAutoencoder
from workers.training.course import Course, Plan
from workers.training.input_planes import (
    Shown,
    draw_chests,
    draw_films,
    draw_heads,
    read_chests,
    read_films,
    read_heads,
)
from workers.training.kermany import patient_key
from workers.training.order import Order, seed_everything
from workers.training.splits import Split, split_patients
from workers.training.weights import save_weights

Planes = NDArray[np.float32]

PLAN = Plan(steps=2000, peak_rate=2e-3, weight_decay=1e-4, validate_every=500)
BATCH = 32
DRAWN_SHARE = 0.15  # of a batch: the patients of the rehearsal, who must be taken for patients
PERCENTILE = 99.5
NORMAL_995 = 2.58  # spreads above the mean that 99.5 % of a normal curve lie below


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is learned for one Pipeline.

    Attributes
    ----------
    data_set
        Its name in the list of those never to learn from.
    seed, tune, held
        How its recipe deals the patients.
    mirrors
        Whether the mirror image is as ordinary as the image; a heart lies on the left.
    key
        The patient whom a line of that list means.
    """

    data_set: str
    seed: int
    tune: int
    held: int
    read: Callable[[Path], Iterable[Shown]]
    draw: Callable[[], Iterable[Planes]]
    mirrors: bool
    key: Callable[[str], str] = str


SUBJECTS: Mapping[str, Subject] = MappingProxyType(
    {
        "chest_xray": Subject(
            data_set="kermany",
            seed=20,
            tune=250,
            held=400,
            read=read_films,
            draw=draw_films,
            mirrors=False,
            key=patient_key,
        ),
        "brain_tumour": Subject(
            data_set="lgg", seed=21, tune=8, held=22, read=read_heads, draw=draw_heads, mirrors=True
        ),
        # Two or three patients are all there are; what is drawn stands in for those who set the threshold.
        "lung_nodules": Subject(
            data_set="ct", seed=22, tune=0, held=0, read=read_chests, draw=draw_chests, mirrors=False
        ),
    }
)


def train_and_report(order: Order, *, subjects: Mapping[str, Subject] = SUBJECTS) -> None:
    """Train the autoencoder of ``order.pipeline``; write weights, split and figures.

    Parameters
    ----------
    subjects
        Name of each Pipeline to what is learned for it.

    Raises
    ------
    ValueError
        If no known Pipeline is named, or no list of patients never to learn from.
    """
    if order.pipeline is None or order.pipeline not in subjects:
        msg = f"input-autoencoder needs --pipeline, one of {', '.join(subjects)}"
        raise ValueError(msg)
    subject, start = subjects[order.pipeline], time.monotonic()
    rng = seed_everything(subject.seed)
    excluded = {subject.key(name) for name in order.excluded(subject.data_set)}
    shown = tuple(subject.read(order.data))
    split = split_patients(
        (one.patient for one in shown), excluded=excluded, tune=subject.tune, held=subject.held, seed=subject.seed
    )
    drawn = tuple(subject.draw())
    network = train(_of(shown, split.train), drawn, subject, order, rng=rng)
    split.write(order.out / "split.json")
    figures = {
        "pipeline": order.pipeline,
        "seconds": round(time.monotonic() - start),
        "device": str(order.device),
        "steps": order.steps or PLAN.steps,
        "sha256": save_weights(network, order.out / "fit.safetensors"),
        **_measure(network, shown, split),
        "drawn": _spread([score_planes(network, planes) for planes in drawn]),
    }
    (order.out / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def train(
    real: Sequence[Planes], drawn: Sequence[Planes], subject: Subject, order: Order, *, rng: np.random.Generator
) -> torch.nn.Module:
    """Return the averaged network, on the CPU."""
    course = Course(InputAutoencoder(), order, rng=rng, plan=PLAN)
    pools = [torch.from_numpy(np.concatenate(planes))[:, None] for planes in (real, drawn) if len(planes)]
    counts = [BATCH] if len(pools) == 1 else [round(BATCH * (1 - DRAWN_SHARE)), round(BATCH * DRAWN_SHARE)]

    def loss() -> torch.Tensor:
        picked = [pool[course.rng.integers(len(pool), size=n)] for pool, n in zip(pools, counts, strict=True)]
        planes = change_planes(torch.cat(picked), course.rng, mirrors=subject.mirrors).to(order.device)
        return share_missed(planes, course.network(planes)).mean()

    course.run(loss)
    return course.averaged.cpu()


def change_planes(planes: torch.Tensor, rng: np.random.Generator, *, mirrors: bool) -> torch.Tensor:
    """Return planes (planes, 1, rows, columns) turned, moved, stretched, re-exposed and noisy, as patients differ."""
    count = len(planes)
    angle = rng.uniform(-0.12, 0.12, count)
    theta = np.zeros((count, 2, 3))
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle), -np.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle), np.cos(angle)
    theta[:, :, :2] *= rng.uniform(0.88, 1.14, (count, 2))[:, :, None]
    if mirrors:
        theta[:, 0] *= rng.choice((-1.0, 1.0), (count, 1))
    theta[:, :, 2] = rng.uniform(-0.08, 0.08, (count, 2))
    grid = affine_grid(torch.from_numpy(theta).float(), list(planes.shape), align_corners=False)
    moved = grid_sample(planes, grid, padding_mode="border", align_corners=False)

    def draw(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, 1, 1, 1))).float()

    # A soft bend of the gray scale, whose ends stay; noise as at this coarse size.
    bent = moved + draw(-0.12, 0.12) * torch.sin(moved)
    return bent + draw(0, 0.04) * torch.randn_like(bent)


def choose_threshold(scores: Sequence[float]) -> float:
    """Return the score up to which an input is ordinary: the larger of two 99.5th percentiles.

    One is counted, the other that of a log-normal curve: with few patients, the first is the largest of them.
    """
    logs = np.log(np.maximum(scores, 1e-6))
    return float(max(np.percentile(scores, PERCENTILE), np.exp(logs.mean() + NORMAL_995 * logs.std())))


def _measure(network: torch.nn.Module, shown: Sequence[Shown], split: Split) -> dict[str, object]:
    parts = {"train": split.train, "tune": split.tune, "held": split.held}
    scores = {name: [score_planes(network, planes) for planes in _of(shown, keys)] for name, keys in parts.items()}
    threshold = choose_threshold(scores["tune"] or scores["train"])
    held = scores["held"]
    return {
        "threshold": threshold,
        "held_above_threshold": float(np.mean(np.array(held) > threshold)) if held else None,
        **{name: _spread(values) for name, values in scores.items()},
    }


def _of(shown: Sequence[Shown], patients: frozenset[str]) -> list[Planes]:
    return [one.planes for one in shown if one.patient in patients]


def _spread(scores: Sequence[float]) -> dict[str, float]:
    if not scores:
        return {"inputs": 0}
    low, middle, high = np.percentile(scores, (0.5, 50, PERCENTILE))
    return {"inputs": len(scores), "low": float(low), "median": float(middle), "high": float(high), "most": max(scores)}
