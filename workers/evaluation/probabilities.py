"""What a classifier's probabilities are worth: ROC, sensitivity at a specificity, and calibration."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

BINS = 10

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def roc_auc(truth: Flags, probability: Floats) -> float:
    """Return the area under the ROC curve: a positive above a negative, ties half (Mann-Whitney); NaN without both."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return math.nan
    ranks = rankdata(probability)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def roc_curve(truth: Flags, probability: Floats) -> tuple[Floats, Floats]:
    """Return false positive rate and sensitivity at each threshold, from none called to all; both classes present."""
    order = np.argsort(-probability, kind="stable")
    called, is_positive = probability[order], truth[order]
    # Films of one probability are called together.
    last = np.append(np.flatnonzero(np.diff(called)), len(called) - 1)
    hits, alarms = np.cumsum(is_positive)[last], np.cumsum(~is_positive)[last]
    return np.append(0.0, alarms / alarms[-1]), np.append(0.0, hits / hits[-1])


def sensitivity_at(truth: Flags, probability: Floats, *, specificity: float) -> float:
    """Return the best sensitivity of all thresholds with at least this specificity; NaN without both classes."""
    if truth.all() or not truth.any():
        return math.nan
    false_rate, sensitivity = roc_curve(truth, probability)
    # 1 - 0.9 is a little less than 0.1 to a computer.
    return float(sensitivity[false_rate <= 1 - specificity + 1e-9].max())


def expected_calibration_error(truth: Flags, probability: Floats) -> float:
    """Return the mean gap between probability and frequency over ten bins of equal width, weighted by their films."""
    if not len(truth):
        return math.nan
    bins = bin_probabilities(probability)
    gaps = [abs(float(probability[bins == n].sum() - truth[bins == n].sum())) for n in range(BINS) if (bins == n).any()]
    return sum(gaps) / len(truth)


def bin_probabilities(probability: Floats) -> NDArray[np.intp]:
    """Return the bin, 0 to 9, of each probability; 1.0 belongs to the last."""
    return np.minimum((probability * BINS).astype(np.intp), BINS - 1)


def brier_score(truth: Flags, probability: Floats) -> float:
    """Return the mean squared gap between probability and truth; NaN without films."""
    return float(np.mean((probability - truth) ** 2)) if len(truth) else math.nan
