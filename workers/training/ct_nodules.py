"""The recipe ``ct-nodules``: the small 3D networks that tell a nodule from a vessel in chest CT, and outline it.

Layout of ``--data``, where each patient is a folder of DICOM slices:

``train/<any name>/*.dcm``
    Whole chests that synthetic nodules are put into to learn from (`workers.training.lung_scans`).
``tune/<any name>/*.dcm``, ``held/<any name>/*.dcm``
    Others, of other patients, to set thresholds and to report on; there need be none.

Drawn chests are added. ``--exclude`` names patients of the data set ``ct`` that are in no part.
"""

import csv
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from workers.networks.nodule_networks import NoduleNetworks
from workers.pipelines.lung_patches import score_patches
from workers.training.course import CHECKPOINT, Course, Plan
from workers.training.curve import Curve
from workers.training.lung_augmentation import mirror, turn_and_zoom, vary_density
from workers.training.lung_insertion import SITE_SHARES, LungScan, Shares
from workers.training.lung_samples import (
    BYTE,
    CANDIDATES,
    LEANING_SHARES,
    Lesson,
    Samples,
    Source,
    draw_chest_scenes,
    draw_slab_scenes,
    join_samples,
    join_scenes,
    sample_chests,
    sample_phantoms,
    sample_scan,
    to_unit,
)
from workers.training.lung_scans import read_scans, refuse_barred
from workers.training.nodule_outlining import measure_outlines, train_outliner
from workers.training.order import Order, seed_everything
from workers.training.splits import Split
from workers.training.weights import save_weights

SEED = 20_260
PARTS = ("train", "tune", "held")
# The later rounds begin by looking for what the network takes for nodules.
ROUNDS: Mapping[str, Plan] = MappingProxyType(
    {
        "round-1": Plan(steps=1600, peak_rate=3e-3, average=0.995),
        "round-2": Plan(steps=800, peak_rate=1.5e-3, average=0.99),
        "round-3": Plan(steps=1000, peak_rate=1e-3, average=0.99),
        "round-4": Plan(steps=1000, peak_rate=1e-3, average=0.99),
        "round-5": Plan(steps=1000, peak_rate=1e-3, average=0.99),
    }
)
OUTLINES = "outlines"
BATCH = 64
SHARES = {Source.SLAB: 0.15, Source.CHEST: 0.4, Source.SCAN: 0.45}
HARD_SHARE = 0.15  # of the negatives of a source, the ones that the network takes for nodules


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How much is drawn and inserted.

    Attributes
    ----------
    phantoms, chests
        Slabs and chests drawn with nodules, which the first network learns from.
    slabs, rehearsals
        Slabs and chests drawn to put nodules into, which the second one learns from.
    variants
        Times each scan is given other nodules.
    nodules
        In each of these.
    candidates
        Places looked at in each of these.
    """

    phantoms: int = 22
    chests: int = 80
    slabs: int = 14
    rehearsals: int = 16
    variants: int = 24
    nodules: int = 30
    candidates: int = CANDIDATES


FULL = Amounts()
REHEARSAL_SEED = 5000  # the demo and the tests use small seeds


def train_and_report(order: Order, *, amounts: Amounts = FULL) -> None:
    """Draw samples, put nodules into lungs, train the networks, measure and write what the order asks for.

    Raises
    ------
    ValueError
        If no list of exclusions is named, a patient must not be learned from or is in two parts, or a run is resumed
        with other patients.
    InputMissing
        If ``train/`` holds no scan.
    """
    started = time.monotonic()
    scans = read_parts(order)
    split = _prove_split(order, scans)
    lesson = gather(order, scans["train"], amounts)
    samples = lesson.samples
    torch.manual_seed(SEED)
    networks = NoduleNetworks()
    _train(networks.classifier, order, samples)
    _outline(networks.outliner, order, lesson)
    networks.eval().cpu()
    _join_curves(order)
    metrics = {
        "weights_sha256": save_weights(networks, order.out / "weights.safetensors"),
        "seconds": round(time.monotonic() - started),
        "device": order.device.type,
        "steps": order.steps or sum(plan.steps for plan in ROUNDS.values()),
        "patients": {part: len(getattr(split, part)) for part in PARTS},
        "samples": {
            "nodules": int(samples.is_nodule.sum()),
            "others": int((~samples.is_nodule).sum()),
            "scenes": len(lesson.scenes),
        },
        **{part: _measure(networks, _sample_scans(scans[part], amounts, seed=SEED + 1)) for part in ("tune", "held")},
    }
    (order.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def read_parts(order: Order) -> dict[str, list[LungScan]]:
    """Return the scans of each part, without the patients that the order excludes.

    Raises
    ------
    ValueError
        If a scan in ``train/`` must not be learned from.
    InputMissing
        If ``train/`` holds none.
    """
    excluded = order.excluded("ct")
    parts = {
        part: [scan for scan in read_scans(order.data / part, needed=part == "train") if scan.name not in excluded]
        for part in PARTS
    }
    refuse_barred(parts["train"])
    return parts


def _prove_split(order: Order, scans: Mapping[str, Sequence[LungScan]]) -> Split:
    """Write and return the keys of each part; samples of another split are not gone on with."""
    split = Split(**{part: frozenset(f"ct {scan.name}" for scan in scans[part]) for part in PARTS})
    if split.train & split.tune or split.train & split.held or split.tune & split.held:
        raise ValueError(f"{order.data}: a patient is in two parts; keep each in one of {', '.join(PARTS)}")
    path = order.out / "split.json"
    before = path.read_text(encoding="utf-8") if order.resume and path.is_file() else None
    split.write(path)
    if before not in (None, path.read_text(encoding="utf-8")):
        raise ValueError(f"{path}: this run learned from other patients; begin anew, without --resume")
    return split


def gather(order: Order, scans: Sequence[LungScan], amounts: Amounts) -> Lesson:
    """Return all that is learned from; kept in ``samples/`` of the order's folder, and read there when resumed."""
    folder = order.out / "samples"
    if not order.resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return _keep(folder / "lesson.npz", lambda: _draw(scans, amounts))


def _draw(scans: Sequence[LungScan], amounts: Amounts) -> Lesson:
    """Return patches of nodules as lungs hold them, and scenes of more that lean on something.

    The first network would take vessels for nodules if it saw as many on them as the second one needs.
    """
    leaning = _sample_scans(scans, replace(amounts, candidates=0), seed=SEED, site_shares=LEANING_SHARES)
    return Lesson(
        samples=join_samples(
            [
                *sample_phantoms(count=amounts.phantoms, seed=SEED),
                *sample_chests(seeds=range(REHEARSAL_SEED, REHEARSAL_SEED + amounts.chests)),
                *(lesson.samples for lesson in _sample_scans(scans, amounts, seed=SEED)),
            ]
        ),
        scenes=join_scenes(
            [
                *draw_slab_scenes(count=amounts.slabs, seed=SEED),
                *draw_chest_scenes(seeds=range(REHEARSAL_SEED, REHEARSAL_SEED + amounts.rehearsals)),
                *(lesson.scenes for lesson in leaning),
            ]
        ),
    )


def _sample_scans(
    scans: Sequence[LungScan], amounts: Amounts, *, seed: int, site_shares: Shares = SITE_SHARES
) -> Iterator[Lesson]:
    rng = np.random.default_rng(seed)
    for _ in range(amounts.variants):
        for scan in scans:
            yield sample_scan(
                scan, rng, nodules=amounts.nodules, candidates=amounts.candidates, site_shares=site_shares
            )


def _keep(file: Path, make: Callable[[], Lesson]) -> Lesson:
    """Return the lesson in `file`, made and written first where there is none."""
    if not file.is_file():
        made = make()
        samples = made.samples
        np.savez(file, patches=samples.patches, is_nodule=samples.is_nodule, source=samples.source, scenes=made.scenes)
    with np.load(file) as held:
        samples = Samples(patches=held["patches"], is_nodule=held["is_nodule"], source=held["source"])
        return Lesson(samples=samples, scenes=held["scenes"])


def _part(order: Order, name: str, steps: int | None) -> Order:
    """Return the order for one round of the recipe, with a folder of its own."""
    folder = order.out / name
    folder.mkdir(parents=True, exist_ok=True)
    return replace(order, out=folder, steps=steps, resume=order.resume and (folder / CHECKPOINT).is_file())


def _train(network: torch.nn.Module, order: Order, samples: Samples) -> None:
    """Train in rounds; each later one sees the negatives more often that the one before took for nodules."""
    pools = [Pool(samples, source) for source in Source if (samples.source == source).any()]
    steps = _count_steps(order)
    for number, (name, plan) in enumerate(ROUNDS.items()):
        seed_everything(SEED + number)
        rng = np.random.default_rng([SEED, number])
        if number:  # before the course, which goes on from a checkpoint with later weights
            for pool in pools:
                pool.find_hard(network)
        course = Course(network, _part(order, name, steps), rng=rng, plan=plan)
        course.run(partial(_loss, course, pools, order.device))
        network.load_state_dict(course.averaged.state_dict())


def _outline(network: torch.nn.Module, order: Order, lesson: Lesson) -> None:
    part = _part(order, OUTLINES, _count_steps(order))
    network.load_state_dict(train_outliner(network, part, lesson.scenes, seed=SEED).state_dict())


def _count_steps(order: Order) -> int | None:
    return None if order.steps is None else max(1, order.steps // len(ROUNDS))


class Pool:
    """The samples of one source.

    Attributes
    ----------
    share
        Of a batch.
    """

    def __init__(self, samples: Samples, source: Source) -> None:
        mine = samples.source == source
        self.share = SHARES[source]
        self._patches = samples.patches
        self._positive = np.flatnonzero(mine & samples.is_nodule)
        self._negative = np.flatnonzero(mine & ~samples.is_nodule)
        self._hard = self._negative

    def find_hard(self, network: torch.nn.Module) -> None:
        """Remember the negatives that look most like nodules to the network."""
        network.eval()
        scores = np.concatenate(
            [
                score_patches(network, to_unit(self._patches[part]), recheck_from=2.0)
                for part in np.array_split(self._negative, max(1, len(self._negative) // 512))
            ]
        )
        count = max(1, int(HARD_SHARE * len(self._negative)))
        self._hard = self._negative[np.argsort(-scores, kind="stable")[:count]]

    def draw(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return `count` patches, half of them nodules, a quarter hard, and their labels."""
        quarter = max(1, count // 4)
        kinds = [(self._positive, count - 2 * quarter), (self._negative, quarter), (self._hard, quarter)]
        chosen = np.concatenate([rng.choice(kind, size) for kind, size in kinds if len(kind)])
        return self._patches[chosen], np.isin(chosen, self._positive).astype(np.float32)


def _loss(course: Course, pools: list[Pool], device: torch.device) -> torch.Tensor:
    total = sum(pool.share for pool in pools)
    drawn = [pool.draw(course.rng, round(BATCH * pool.share / total)) for pool in pools]
    patches = torch.from_numpy(np.concatenate([patches for patches, _ in drawn])).to(device)
    labels = torch.from_numpy(np.concatenate([labels for _, labels in drawn])).to(device)
    batch = vary_density(mirror(turn_and_zoom(patches.float() / BYTE, course.rng), course.rng))
    # Never quite 0 or 1: the certainty is shown to people.
    return functional.binary_cross_entropy_with_logits(course.network(batch), labels * 0.96 + 0.02)


def _measure(networks: NoduleNetworks, lessons: Iterable[Lesson]) -> dict[str, object]:
    held = list(lessons)
    return {
        **measure(networks.classifier, join_samples(lesson.samples for lesson in held)),
        "outlines": measure_outlines(networks.outliner, join_scenes(lesson.scenes for lesson in held)),
    }


def measure(network: torch.nn.Module, samples: Samples) -> dict[str, float]:
    """Return sensitivity, specificity and the area under the curve on patches; nothing where a kind is absent."""
    yes, no = int(samples.is_nodule.sum()), int((~samples.is_nodule).sum())
    counts: dict[str, float] = {"nodules": yes, "others": no}
    if not yes or not no:
        return counts
    scores = score_patches(network, to_unit(samples.patches))
    nodules, others = scores[samples.is_nodule], scores[~samples.is_nodule]
    return {
        **counts,
        "area_under_curve": float((nodules[:, None] > others[None]).mean()),
        **{f"sensitivity_{t}": float((nodules >= t).mean()) for t in (0.5, 0.7, 0.9)},
        **{f"specificity_{t}": float((others < t).mean()) for t in (0.5, 0.7, 0.9)},
    }


def _join_curves(order: Order) -> None:
    """Draw the curves of all rounds, one after the other, as one; that of the outlines has a folder of its own."""
    whole, done = Curve(order.out), 0
    for name in ROUNDS:
        with (order.out / name / "curve.csv").open(newline="", encoding="utf-8") as stream:
            rows = [(int(row["step"]), row["figure"], float(row["value"])) for row in csv.DictReader(stream)]
        for step, figure, value in rows:
            whole.add(done + step, {figure: value})
        done += max((step for step, _, _ in rows), default=0) + 1
    whole.keep()
