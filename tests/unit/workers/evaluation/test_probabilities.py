"""Figures of a classifier, against counts by hand."""

import math

import numpy as np
import pytest

from workers.evaluation.probabilities import (
    brier_score,
    expected_calibration_error,
    roc_auc,
    roc_curve,
    sensitivity_at,
)

TRUTH = np.array([1, 1, 1, 0, 0, 0, 0], bool)
SCORES = np.array([0.9, 0.6, 0.4, 0.6, 0.3, 0.2, 0.1])


def test_auc_counts_pairs_and_halves_ties() -> None:
    # Of 12 pairs: 0.9 wins 4, 0.6 wins 3 and ties 1, 0.4 wins 3.
    assert roc_auc(TRUTH, SCORES) == pytest.approx(10.5 / 12)
    pairs = [(p > n) + (p == n) / 2 for p in SCORES[TRUTH] for n in SCORES[~TRUTH]]
    assert roc_auc(TRUTH, SCORES) == pytest.approx(np.mean(pairs))
    assert roc_auc(TRUTH, np.full(7, 0.5)) == 0.5
    assert roc_auc(TRUTH, -SCORES) == pytest.approx(1 - 10.5 / 12)


def test_auc_is_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random(300) < 0.4
    scores = np.round(rng.random(300) * 0.6 + np.where(truth, 0.3, 0.0), 2)
    false, sensitivity = roc_curve(truth, scores)
    assert np.trapezoid(sensitivity, false) == pytest.approx(roc_auc(truth, scores))


def test_auc_needs_both_classes() -> None:
    assert math.isnan(roc_auc(np.ones(3, bool), np.array([0.1, 0.2, 0.3])))
    assert math.isnan(sensitivity_at(np.zeros(3, bool), np.array([0.1, 0.2, 0.3]), specificity=0.9))


def test_sensitivity_at_a_specificity_takes_the_best_threshold_that_keeps_it() -> None:
    assert sensitivity_at(TRUTH, SCORES, specificity=1.0) == pytest.approx(1 / 3)
    assert sensitivity_at(TRUTH, SCORES, specificity=0.75) == pytest.approx(1.0)
    assert sensitivity_at(TRUTH, SCORES, specificity=0.76) == pytest.approx(1 / 3)


def test_films_of_one_probability_are_called_together() -> None:
    false, sensitivity = roc_curve(np.array([1, 0], bool), np.array([0.5, 0.5]))
    assert false.tolist() == [0, 1]
    assert sensitivity.tolist() == [0, 1]


def test_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    truth = np.array([1, 1, 0, 0, 1], bool)
    probability = np.array([0.95, 0.85, 0.25, 0.25, 1.0])
    # Bins: 0.9-1 holds 0.95 and 1.0 (gap 0.05 in sum), 0.8-0.9 holds 0.85 (0.15), 0.2-0.3 holds both 0.25 (0.5).
    assert expected_calibration_error(truth, probability) == pytest.approx((0.05 + 0.15 + 0.5) / 5)
    assert brier_score(truth, probability) == pytest.approx((0.05**2 + 0.15**2 + 2 * 0.25**2) / 5)
