"""A figure of a table: what it is called, what it means, how it follows from the cases, and how sure it is."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.evaluation.canvas import Canvas
from workers.evaluation.intervals import ROUNDS, Estimate, Index, spread, wilson_interval


class Better(StrEnum):
    """Which way a figure is better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure.

    Attributes
    ----------
    key
        Name in metrics.json.
    unit
        ``%`` of a share that is shown times 100, ``mm``, ``ml``; empty of a bare number.
    meaning
        One sentence for whoever reads the page.
    value
        From the index of rows, which may repeat, to the number; NaN where they do not define it.
    count
        How many things these rows give it.
    counts
        Hits and total of a proportion, from the index of rows; None for other figures.
    """

    key: str
    title: str
    meaning: str
    value: Callable[[Index], float]
    count: Callable[[Index], int]
    unit: str = ""
    better: Better = Better.HIGHER
    counts: Callable[[Index], tuple[int, int]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture of many cases.

    Attributes
    ----------
    name
        Of its file, without suffix.
    draw
        Draws on the axes of matplotlib that it is given, in the color of text and the colors of marks.
    """

    name: str
    title: str
    draw: Callable[[Canvas], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Figures and plots of one kind, such as those of one label."""

    title: str
    measures: tuple[Measure, ...]
    plots: tuple[Plot, ...] = ()


class Row(Protocol):
    """What one case came to."""

    @property
    def cells(self) -> Mapping[str, float | str]:
        """Column of cases.csv to its value."""
        ...

    @property
    def columns(self) -> Mapping[str, str]:
        """Columns for subgroups that follow from the truth."""
        ...

    @property
    def caption(self) -> str:
        """What stands below its picture."""
        ...

    @property
    def badness(self) -> float:
        """How far the answer is off; the largest are shown as pictures."""
        ...


def proportion(
    name: tuple[str, str, str],
    *,
    hits: Sequence[float],
    totals: Sequence[float],
    better: Better = Better.HIGHER,
) -> Measure:
    """Return the share of `hits` in `totals`, both one number a row.

    Parameters
    ----------
    name
        Key, title and meaning.
    """
    key, title, meaning = name
    hit, total = np.asarray(hits, float), np.asarray(totals, float)

    def counts(index: Index) -> tuple[int, int]:
        return int(hit[index].sum()), int(total[index].sum())

    def value(index: Index) -> float:
        found, asked = counts(index)
        return found / asked if asked else math.nan

    return Measure(
        key=key,
        title=title,
        meaning=meaning,
        unit="%",
        better=better,
        value=value,
        counts=counts,
        count=lambda index: counts(index)[1],
    )


def mean_of(
    name: tuple[str, str, str],
    values: Sequence[float],
    *,
    unit: str = "",
    better: Better = Better.HIGHER,
    take: Callable[[NDArray[np.float64]], float] = lambda values: float(values.mean()),
) -> Measure:
    """Return the mean, or what `take` takes, of one number a row; NaN ones are left out.

    Parameters
    ----------
    name
        Key, title and meaning.
    """
    key, title, meaning = name
    numbers = np.asarray(values, float)

    def value(index: Index) -> float:
        given = numbers[index]
        given = given[np.isfinite(given)]
        return take(given) if len(given) else math.nan

    return Measure(
        key=key,
        title=title,
        meaning=meaning,
        unit=unit,
        better=better,
        value=value,
        count=lambda index: int(np.isfinite(numbers[index]).sum()),
    )


def estimate(measure: Measure, patients: Sequence[str], index: Index, *, rounds: int = ROUNDS) -> Estimate:
    """Return a figure of some rows with its 95 % interval.

    A proportion to which each patient gives at most one thing, or of which all or none are hits, has Wilson's
    interval, in the latter case of as many things as there are patients; every other figure that of patients drawn
    again.

    Parameters
    ----------
    patients
        The patient of each row of the table.
    index
        Which rows count.
    """
    value, count = measure.value(index), measure.count(index)
    if not math.isfinite(value):
        return Estimate(value=math.nan, low=math.nan, high=math.nan, count=count)
    chosen = [patients[n] for n in index]
    if measure.counts is not None:
        hits, total = measure.counts(index)
        people = len({patients[n] for n in index if measure.counts(np.array([n]))[1]})
        if people == total or hits in {0, total}:
            low, high = wilson_interval(people if hits == total else hits, people)
            return Estimate(value=value, low=low, high=high, count=count)
    low, high = spread(chosen, lambda drawn: measure.value(index[drawn]), rounds=rounds)
    return Estimate(value=value, low=low, high=high, count=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One model's figure minus the other's, on the same cases.

    Attributes
    ----------
    low, high
        95 % interval of the difference, both models on the same patients in each draw.
    verdict
        ``better``, ``worse``, ``no difference shown``, or ``different`` where neither way is better.
    """

    key: str
    title: str
    unit: str
    value: float
    against: float
    low: float
    high: float
    verdict: str


def compare(one: Measure, other: Measure, patients: Sequence[str], *, rounds: int = ROUNDS) -> Difference:
    """Return how two models differ in a figure on rows that both have, in the same order."""
    index = np.arange(len(patients))
    low, high = spread(patients, lambda drawn: one.value(drawn) - other.value(drawn), rounds=rounds)
    is_shown = math.isfinite(low) and (low > 0 or high < 0)
    rises = low > 0
    verdict = "no difference shown"
    if is_shown and one.better is not Better.NEITHER:
        verdict = "better" if rises == (one.better is Better.HIGHER) else "worse"
    elif is_shown:
        verdict = "different"
    return Difference(
        key=one.key,
        title=one.title,
        unit=one.unit,
        value=one.value(index),
        against=other.value(index),
        low=low,
        high=high,
        verdict=verdict,
    )
