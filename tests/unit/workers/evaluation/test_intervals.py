"""Intervals: the formula of Wilson, patients drawn again, and the same draw each time."""

import math

import numpy as np
import pytest

from workers.evaluation.intervals import bootstrap_interval, draw_patients, spread, wilson_interval


def test_wilson_interval_has_the_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(29, 29) == pytest.approx((0.8830, 1.0), abs=1e-4)


def test_bootstrap_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(3).normal(10.0, 2.0, 400)
    low, high = bootstrap_interval([[value] for value in values], lambda table: float(table[:, 0].mean()))
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_a_patient_brings_all_cases_in_every_draw() -> None:
    for index in draw_patients(["a", "b", "b", "c", "b"], rounds=50):
        count = np.bincount(index, minlength=5)
        assert count[1] == count[2] == count[4]
        assert count[0] + count[1] + count[3] == 3


def test_cases_of_few_patients_are_less_certain_than_as_many_patients() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=10), 20)
    people = [str(n) for n in np.repeat(np.arange(10), 20)]

    def mean(index: np.ndarray[tuple[int], np.dtype[np.intp]]) -> float:
        return float(values[index].mean())

    narrow = spread([str(n) for n in range(200)], mean, rounds=300)
    wide = spread(people, mean, rounds=300)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_one_patient_and_an_undefined_figure_have_no_interval() -> None:
    assert all(math.isnan(end) for end in spread(["a", "a"], lambda index: 1.0))
    assert all(math.isnan(end) for end in spread(["a", "b"], lambda index: math.nan, rounds=20))
