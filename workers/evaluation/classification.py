"""How well a model classifies: its probability of each label against what the film shows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from node.domain.finding import Finding, Presence
from workers.evaluation.canvas import Canvas
from workers.evaluation.intervals import Index
from workers.evaluation.measure import Better, Measure, Plot, Section, proportion
from workers.evaluation.order import Order
from workers.evaluation.pictures import draw_film
from workers.evaluation.probabilities import (
    BINS,
    bin_probabilities,
    brier_score,
    expected_calibration_error,
    roc_auc,
    roc_curve,
    sensitivity_at,
)
from workers.evaluation.truth import Truth
from workers.pipelines.base import Analysis

NAME = "classification"
DEFAULT_THRESHOLD = 0.5

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model says of one label, and what is true.

    Attributes
    ----------
    is_called
        Whether the probability is at or above the model's threshold.
    is_open
        Whether the model says "undetermined".
    """

    label: str
    probability: float
    truth: bool
    is_called: bool
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmRow:
    """One film's answers, by label."""

    answers: Mapping[str, Answer]

    @property
    def cells(self) -> Mapping[str, float | str]:
        """Column of cases.csv to its value."""
        cells: dict[str, float | str] = {}
        for label, answer in self.answers.items():
            name = label.lower().replace(" ", "_")
            cells[f"{name}_probability"] = answer.probability
            cells[f"{name}_truth"] = int(answer.truth)
            cells[f"{name}_said"] = _say(answer)
        return cells

    @property
    def caption(self) -> str:
        """What stands below its picture."""
        told = (
            f"{one.label} {one.probability:.0%}, truly {'present' if one.truth else 'absent'}"
            for one in self.answers.values()
        )
        return "; ".join(told)

    @property
    def badness(self) -> float:
        """The largest gap between probability and truth."""
        return max((abs(one.probability - one.truth) for one in self.answers.values()), default=0.0)

    @property
    def columns(self) -> Mapping[str, str]:
        """Columns for subgroups that follow from the truth."""
        return {}


def _say(answer: Answer) -> str:
    return "undetermined" if answer.is_open else "present" if answer.is_called else "absent"


class Classification:
    """The task of telling what a film shows."""

    name = NAME

    def __init__(self, order: Order) -> None:
        self._order = order

    def judge(self, truth: Truth, analysis: Analysis) -> FilmRow | None:
        """Return the answers; None where the truth knows none of the model's labels."""
        threshold = DEFAULT_THRESHOLD if analysis.threshold is None else analysis.threshold
        answers = {}
        for finding in analysis.findings:
            shown = truth.find_label(finding.label)
            if shown is not None and self._order.label in {"", finding.label}:
                answers[finding.label] = _answer(finding, shown, threshold)
        return FilmRow(answers=answers) if answers else None

    def picture(self, truth: Truth, analysis: Analysis) -> bytes | None:  # noqa: ARG002 as the other tasks
        """Return the film, and where the model looked."""
        return None if analysis.radiograph is None else draw_film(analysis.radiograph, analysis.heat)

    def tabulate(self, rows: Sequence[FilmRow]) -> tuple[Section, ...]:
        """Return the figures of these rows, a section a label."""
        labels = dict.fromkeys(label for row in rows for label in row.answers)
        return tuple(
            _tabulate_label(label, rows, self._order.specificity, is_only=len(labels) == 1) for label in labels
        )


def _answer(finding: Finding, shown: bool, threshold: float) -> Answer:
    # A classifier that gives no probability is as sure as can be.
    sure = 1.0 if finding.presence is Presence.PRESENT else 0.0
    probability = sure if finding.confidence is None else finding.confidence
    return Answer(
        label=finding.label,
        probability=probability,
        truth=shown,
        is_called=probability >= threshold,
        is_open=finding.presence is Presence.UNDETERMINED,
    )


def _tabulate_label(label: str, rows: Sequence[FilmRow], specificity: float, *, is_only: bool) -> Section:
    prefix = "" if is_only else f"{label.lower().replace(' ', '_')}/"
    table = _Table([row.answers.get(label) for row in rows], prefix)
    plots = []
    if table.has_both:
        plots.append(Plot(name=f"{prefix}roc".replace("/", "-"), title="ROC", draw=table.draw_roc))
    plots.append(Plot(name=f"{prefix}reliability".replace("/", "-"), title="Reliability", draw=table.draw_reliability))
    return Section(title=label, measures=table.measures(specificity), plots=tuple(plots))


class _Table:
    """The answers to one label as columns; a film without one is left out."""

    def __init__(self, answers: Sequence[Answer | None], prefix: str) -> None:
        self._prefix = prefix
        self._given = np.array([one is not None for one in answers], bool)
        self._truth = np.array([one is not None and one.truth for one in answers], bool)
        self._called = np.array([one is not None and one.is_called for one in answers], bool)
        self._open = np.array([one is not None and one.is_open for one in answers], bool)
        self._probability = np.array([math.nan if one is None else one.probability for one in answers], float)

    @property
    def has_both(self) -> bool:
        """Whether there are positives and negatives."""
        return bool(self._truth.any() and (self._given & ~self._truth).any())

    def measures(self, specificity: float) -> tuple[Measure, ...]:
        """Return the figures."""
        truth, called, given = self._truth, self._called, self._given
        return (
            self._of_scores(
                ("auc", "ROC AUC", "Chance that a positive has a higher probability than a negative."), take=roc_auc
            ),
            self._share(
                ("sensitivity", "Sensitivity (recall)", "Positives at or above the model's threshold."), called, truth
            ),
            self._share(("specificity", "Specificity", "Negatives below the threshold."), ~called, given & ~truth),
            self._share(("precision", "Precision", "True ones among those at or above it."), truth, called),
            self._share(("accuracy", "Accuracy", "Right ones among all."), called == truth, given),
            self._f1(),
            self._of_scores(
                (
                    f"sensitivity_at_{specificity:g}",
                    f"Sensitivity at specificity {specificity:g}",
                    "The best of all thresholds that keep this specificity on these very films.",
                ),
                take=partial(sensitivity_at, specificity=specificity),
                unit="%",
            ),
            self._share(
                ("undetermined", "Undetermined", "Films on which the model does not decide."),
                self._open,
                given,
                better=Better.LOWER,
            ),
            self._of_scores(
                ("ece", "Calibration error (ECE)", "Mean gap of probability and frequency in ten bins."),
                take=expected_calibration_error,
                better=Better.LOWER,
            ),
            self._of_scores(
                ("brier", "Brier score", "Mean squared gap of probability and truth."),
                take=brier_score,
                better=Better.LOWER,
            ),
        )

    def draw_roc(self, canvas: Canvas) -> None:
        """Draw sensitivity over false positive rate, and where the model's threshold is."""
        truth, probability, called = (one[self._given] for one in (self._truth, self._probability, self._called))
        false, sensitivity = roc_curve(truth, probability)
        axes = canvas.axes
        axes.plot([0, 1], [0, 1], color=canvas.theme.ink, linewidth=0.8, linestyle="--")
        axes.plot(false, sensitivity, color=canvas.theme.first, linewidth=1.8, label="model")
        place = called[~truth].mean(), called[truth].mean()
        axes.scatter(*place, color=canvas.theme.second, s=30, zorder=3, label="its threshold")
        axes.legend(loc="lower right")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1), ylim=(0, 1.02))

    def draw_reliability(self, canvas: Canvas) -> None:
        """Draw the frequency over the probability of each bin, larger points for more films."""
        truth, probability = self._truth[self._given], self._probability[self._given]
        bins = bin_probabilities(probability)
        filled = [n for n in range(BINS) if (bins == n).any()]
        said = [float(probability[bins == n].mean()) for n in filled]
        seen = [float(truth[bins == n].mean()) for n in filled]
        sizes = [20 + 200 * float((bins == n).mean()) for n in filled]
        canvas.axes.plot([0, 1], [0, 1], color=canvas.theme.ink, linewidth=0.8, linestyle="--")
        canvas.axes.plot(said, seen, color=canvas.theme.first, linewidth=1.2)
        canvas.axes.scatter(said, seen, s=sizes, color=canvas.theme.first, alpha=0.8)
        canvas.axes.set(xlabel="probability", ylabel="share of positives", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))

    def _share(
        self, name: tuple[str, str, str], hits: Flags, totals: Flags, *, better: Better = Better.HIGHER
    ) -> Measure:
        return proportion(
            (self._prefix + name[0], *name[1:]),
            hits=(hits & totals).astype(float).tolist(),
            totals=totals.astype(float).tolist(),
            better=better,
        )

    def _count(self, index: Index) -> int:
        return int(self._given[index].sum())

    def _f1(self) -> Measure:
        def value(index: Index) -> float:
            both = int((self._truth & self._called)[index].sum())
            either = int(self._truth[index].sum()) + int(self._called[index].sum())
            return 2 * both / either if either else math.nan

        meaning = "Harmonic mean of precision and sensitivity."
        return Measure(key=f"{self._prefix}f1", title="F1", meaning=meaning, value=value, count=self._count)

    def _of_scores(
        self,
        name: tuple[str, str, str],
        *,
        take: Callable[[Flags, Floats], float],
        better: Better = Better.HIGHER,
        unit: str = "",
    ) -> Measure:
        def value(index: Index) -> float:
            chosen = index[self._given[index]]
            return take(self._truth[chosen], self._probability[chosen])

        return Measure(
            key=self._prefix + name[0],
            title=name[1],
            meaning=name[2],
            value=value,
            count=self._count,
            better=better,
            unit=unit,
        )
