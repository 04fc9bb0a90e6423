"""How sure a number is: 95 % intervals by drawing the patients again, and for a proportion by Wilson's formula."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 2000
SEED = 0
PERCENTILES = (2.5, 97.5)
Z = 1.959963984540054  # of 95 %, both sides
# A figure that fewer rounds could give than this share (an AUC needs both classes) has no interval.
MIN_GIVEN = 0.5

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes
    ----------
    value, low, high
        NaN where it is not defined for what there is.
    count
        How many cases, lesions or films it is about.
    """

    value: float
    low: float
    high: float
    count: int


def bootstrap_interval(
    items: Sequence[Sequence[float]], value: Callable[[NDArray[np.float64]], float], *, rounds: int = ROUNDS
) -> tuple[float, float]:
    """Return the 95 % interval of a number when the patients are drawn again with replacement.

    Parameters
    ----------
    items
        One row a patient or image.
    value
        From (items, columns) to the number.
    """
    rng = np.random.default_rng(SEED)
    table = np.asarray(items, np.float64)
    drawn = [value(table[rng.integers(len(table), size=len(table))]) for _ in range(rounds)]
    low, high = np.percentile(drawn, PERCENTILES)
    return round(float(low), 4), round(float(high), 4)


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of the proportion ``hits / total``, total > 0 (Wilson's score interval)."""
    share = hits / total
    middle = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half = Z / (1 + Z**2 / total) * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def draw_patients(patients: Sequence[str], *, rounds: int = ROUNDS) -> Iterator[Index]:
    """Yield, for each round, the cases of as many patients as there are, drawn with replacement.

    A patient brings all of his cases: they are more alike than those of others. The same patients give the same draws,
    so that two models can be compared draw by draw.

    Parameters
    ----------
    patients
        The patient of each case.
    """
    names, number = np.unique(np.asarray(patients), return_inverse=True)
    cases = [np.flatnonzero(number == n) for n in range(len(names))]
    rng = np.random.default_rng(SEED)
    for _ in range(rounds):
        yield np.concatenate([cases[n] for n in rng.integers(len(cases), size=len(cases))])


def spread(patients: Sequence[str], value: Callable[[Index], float], *, rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the 95 % interval of a number over patients drawn again; NaN where too few draws give one.

    Parameters
    ----------
    value
        From the index of cases, which may repeat, to the number; NaN where these cases do not define it.
    """
    if len(set(patients)) < 2:
        return math.nan, math.nan
    drawn = np.array([value(index) for index in draw_patients(patients, rounds=rounds)])
    given = drawn[np.isfinite(drawn)]
    if len(given) < MIN_GIVEN * rounds:
        return math.nan, math.nan
    low, high = np.percentile(given, PERCENTILES)
    return float(low), float(high)
