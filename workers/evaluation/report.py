"""What a measurement came to: figures with intervals, by subgroup, and against another model."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workers.evaluation.asking import AskedCase, Harvest
from workers.evaluation.intervals import Estimate, Index
from workers.evaluation.measure import Difference, Measure, Plot, Row, compare, estimate, proportion
from workers.evaluation.order import Order
from workers.evaluation.task import Task

# How many figures of the first section stand in the table of subgroups, and on top of the page.
HEADLINES = 4
# Where nobody asks for subgroups, a column of more values than these is no subgroup, but a name.
MAX_VALUES = 8
UNKNOWN = "not told"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure and what it is."""

    measure: Measure
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Those cases whose `column` has one value."""

    column: str
    value: str
    cases: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """The figures and plots of one kind."""

    title: str
    figures: tuple[Figure, ...]
    plots: tuple[Plot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole.

    Attributes
    ----------
    answered
        Share of the cases that the model did not refuse.
    refusals
        Code to how often.
    differences
        Against the other model, on cases that both answered; empty without one.
    shared
        How many cases both answered.
    """

    chapters: tuple[Chapter, ...]
    groups: tuple[Group, ...]
    answered: Figure
    refusals: Mapping[str, int]
    patients: int
    seconds: float
    differences: tuple[Difference, ...]
    shared: int


def make_report(harvest: Harvest, task: Task, order: Order) -> Report:
    """Return what the answers of the first model came to, and how they differ from those of the second."""
    asked = harvest.asked
    given = [(one, row) for one in asked if (row := one.outcomes[0].row) is not None]
    rows, patients = [row for _, row in given], [one.case.patient for one, _ in given]
    sections = task.tabulate(rows) if rows else ()
    everything = np.arange(len(rows))
    chapters = tuple(
        Chapter(
            title=section.title,
            figures=tuple(
                Figure(measure=measure, estimate=estimate(measure, patients, everything))
                for measure in section.measures
                if measure.count(everything)
            ),
            plots=section.plots,
        )
        for section in sections
    )
    headlines = tuple(figure.measure for figure in chapters[0].figures[:HEADLINES]) if chapters else ()
    seconds = [one.outcomes[0].seconds for one, _ in given]
    return Report(
        chapters=chapters,
        groups=tuple(_split(given, patients, headlines, order.subgroups)),
        answered=_count_answered(asked),
        refusals=Counter(one.outcomes[0].refusal.code for one in asked if one.outcomes[0].refusal is not None),
        patients=len({one.case.patient for one in asked}),
        seconds=float(np.median(seconds)) if seconds else math.nan,
        differences=_compare(asked, task) if len(order.models) > 1 else (),
        shared=len(_list_shared(asked)) if len(order.models) > 1 else 0,
    )


def _count_answered(asked: Sequence[AskedCase]) -> Figure:
    measure = proportion(
        ("answered", "Answered", "Cases that the model did not refuse."),
        hits=[float(one.outcomes[0].row is not None) for one in asked],
        totals=[1.0] * len(asked),
    )
    patients = [one.case.patient for one in asked]
    return Figure(measure=measure, estimate=estimate(measure, patients, np.arange(len(asked))))


def tell_columns(one: AskedCase, row: Row | None) -> Mapping[str, str]:
    """Return all that subgroups may ask of a case."""
    return {**one.case.columns, **({} if row is None else row.columns)}


def _split(
    given: Sequence[tuple[AskedCase, Row]], patients: Sequence[str], measures: Sequence[Measure], wanted: Sequence[str]
) -> list[Group]:
    told = [tell_columns(one, row) for one, row in given]
    groups = []
    for column in wanted or sorted({name for columns in told for name in columns}):
        values = [columns.get(column) or UNKNOWN for columns in told]
        distinct = sorted(set(values), key=_rank)
        if not wanted and not 1 < len(distinct) <= MAX_VALUES:
            continue
        for value in distinct:
            index: Index = np.flatnonzero(np.array([one == value for one in values]))
            figures = tuple(
                Figure(measure=measure, estimate=estimate(measure, patients, index)) for measure in measures
            )
            groups.append(Group(column=column, value=value, cases=len(index), figures=figures))
    return groups


def _rank(value: str) -> tuple[float, str]:
    """Return the place of a value among others: by the number with which it begins, others behind."""
    first = value.removeprefix("to ").split(" ")[0]
    return (float(first) if first.replace(".", "", 1).isdigit() else math.inf, value)


def _list_shared(asked: Sequence[AskedCase]) -> list[AskedCase]:
    return [one for one in asked if all(outcome.row is not None for outcome in one.outcomes)]


def _compare(asked: Sequence[AskedCase], task: Task) -> tuple[Difference, ...]:
    shared = _list_shared(asked)
    if not shared:
        return ()
    patients = [one.case.patient for one in shared]
    both = [task.tabulate([one.outcomes[number].row for one in shared]) for number in (0, 1)]
    first, second = ([measure for section in sections for measure in section.measures] for sections in both)
    others = {measure.key: measure for measure in second}
    everything = np.arange(len(shared))
    return tuple(
        compare(measure, others[measure.key], patients)
        for measure in first
        if measure.key in others and measure.count(everything)
    )
