"""Findings against lesions: FROC with its mean (CPM), and mean precision and recall of boxes and masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# False findings a scan at which LUNA16 reads the curve; the mean of the seven sensitivities is CPM.
RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
# As MONAI and nnDetection measure nodules; COCO's 0.5 to 0.95 asks more of a box of a few voxels than readers agree on.
OVERLAPS = tuple(round(0.1 + 0.05 * n, 2) for n in range(9))
RECALLS = np.linspace(0, 1, 101)  # COCO's

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The findings of one scan as the curve needs them.

    Attributes
    ----------
    lesions
        How many there are.
    hits
        Certainty of the most certain finding on each lesion that was hit.
    alarms
        Certainty of each finding on no lesion.
    """

    lesions: int
    hits: Floats
    alarms: Floats


def froc_curve(scans: Sequence[Marks]) -> tuple[Floats, Floats]:
    """Return false findings a scan and sensitivity at each threshold, from none called to all; a lesion is there."""
    hits = np.concatenate([scan.hits for scan in scans])
    alarms = np.concatenate([scan.alarms for scan in scans])
    thresholds = np.unique(np.concatenate([hits, alarms]))[::-1]
    lesions = sum(scan.lesions for scan in scans)
    called = len(hits) - np.searchsorted(np.sort(hits), thresholds)
    false = len(alarms) - np.searchsorted(np.sort(alarms), thresholds)
    return np.append(0.0, false / len(scans)), np.append(0.0, called / lesions)


def sensitivity_at_rate(scans: Sequence[Marks], rate: float) -> float:
    """Return the best sensitivity with at most `rate` false findings a scan; NaN without a lesion.

    Where the model reports nothing below its threshold the curve ends, and its last point stands for all higher rates.
    """
    if not any(scan.lesions for scan in scans):
        return math.nan
    false, sensitivity = froc_curve(scans)
    return float(sensitivity[false <= rate + 1e-9].max())


def competition_performance(scans: Sequence[Marks]) -> float:
    """Return the mean sensitivity at the seven rates of LUNA16 (CPM); NaN without a lesion."""
    return float(np.mean([sensitivity_at_rate(scans, rate) for rate in RATES]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Findings of one scan, most certain first, paired with its lesions at each of `OVERLAPS`.

    Attributes
    ----------
    scores
        (findings,) certainty.
    is_hit
        (overlaps, findings): whether the finding has a lesion of its own at that overlap.
    lesions
        How many there are.
    """

    scores: Floats
    is_hit: NDArray[np.bool_]
    lesions: int


def pair_findings(scores: Sequence[float], overlap: Floats) -> Pairing:
    """Give each finding, most certain first, the lesion that it overlaps most of those that are free.

    Parameters
    ----------
    overlap
        (findings, lesions) intersection over union, 0..1.
    """
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    table = overlap[order] if len(order) else overlap
    is_hit = np.zeros((len(OVERLAPS), len(order)), bool)
    for level, least in enumerate(OVERLAPS):
        free = np.ones(overlap.shape[1], bool)
        for number, row in enumerate(table):
            open_to = np.where(free & (row >= least), row, -1.0)
            if open_to.size and open_to.max() >= least:
                free[int(open_to.argmax())] = False
                is_hit[level, number] = True
    return Pairing(scores=np.asarray(scores, float)[order], is_hit=is_hit, lesions=overlap.shape[1])


def average_precision(scans: Sequence[Pairing], *, level: int) -> float:
    """Return the area under precision over recall at one of `OVERLAPS`, as COCO reads it; NaN without a lesion."""
    lesions = sum(scan.lesions for scan in scans)
    if not lesions:
        return math.nan
    scores = np.concatenate([scan.scores for scan in scans])
    is_hit = np.concatenate([scan.is_hit[level] for scan in scans])
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(is_hit[order])
    recall = hits / lesions
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    place = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(precision, 0.0)[place].mean())


def mean_average_precision(scans: Sequence[Pairing]) -> float:
    """Return the mean of `average_precision` over `OVERLAPS` (mAP)."""
    return float(np.mean([average_precision(scans, level=level) for level in range(len(OVERLAPS))]))


def mean_average_recall(scans: Sequence[Pairing]) -> float:
    """Return the mean over `OVERLAPS` of the share of lesions that some finding has (mAR); NaN without a lesion."""
    lesions = sum(scan.lesions for scan in scans)
    return sum(int(scan.is_hit.sum()) for scan in scans) / (lesions * len(OVERLAPS)) if lesions else math.nan
