"""How well a model finds: its findings against the lesions of each scan."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from workers.evaluation.canvas import Canvas
from workers.evaluation.froc import (
    OVERLAPS,
    RATES,
    Marks,
    Pairing,
    average_precision,
    competition_performance,
    froc_curve,
    mean_average_precision,
    mean_average_recall,
    pair_findings,
    sensitivity_at_rate,
)
from workers.evaluation.intervals import Index
from workers.evaluation.lesions import Spot, hits, list_findings, list_lesions, overlap_boxes, overlap_masks
from workers.evaluation.measure import Better, Measure, Plot, Section, mean_of, proportion
from workers.evaluation.order import Order
from workers.evaluation.pictures import Circle, draw_place
from workers.evaluation.truth import Truth
from workers.pipelines.base import Analysis
from workers.volume import Volume

NAME = "detection"
SAME_SIZE = 0.15  # of the true diameter: so far off one still counts as measured right
# Diameters of lesions that are told apart, mm.
SIZES = ((0.0, 6.0), (6.0, 8.0), (8.0, 15.0), (15.0, math.inf))
RATE_NAMES = ("1/8", "1/4", "1/2", "1", "2", "4", "8")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLesion:
    """A lesion, and the most certain finding on it; NaN where there is none."""

    diameter_mm: float
    score: float
    found_mm: float
    distance_mm: float

    @property
    def is_found(self) -> bool:
        """Whether a finding is on it."""
        return not math.isnan(self.score)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRow:
    """One scan's findings.

    Attributes
    ----------
    alarms
        Certainty of each finding on no lesion.
    boxes, masks
        Findings paired by overlap; no masks where the truth has none.
    """

    lesions: tuple[FoundLesion, ...]
    alarms: tuple[float, ...]
    boxes: Pairing
    masks: Pairing | None

    @property
    def marks(self) -> Marks:
        """What the FROC needs."""
        scores = np.array([one.score for one in self.lesions if one.is_found], float)
        return Marks(lesions=len(self.lesions), hits=scores, alarms=np.array(self.alarms, float))

    @property
    def cells(self) -> Mapping[str, float | str]:
        """Column of cases.csv to its value."""
        return {
            "lesions": len(self.lesions),
            "lesions_found": sum(one.is_found for one in self.lesions),
            "false_findings": len(self.alarms),
            "lesion_diameters_mm": _list(one.diameter_mm for one in self.lesions),
            "found_diameters_mm": _list(one.found_mm for one in self.lesions),
        }

    @property
    def caption(self) -> str:
        """What stands below its picture."""
        found, lesions, false = sum(one.is_found for one in self.lesions), len(self.lesions), len(self.alarms)
        return f"{found} of {lesions} lesions found, {false} false finding{'' if false == 1 else 's'}"

    @property
    def badness(self) -> float:
        """Lesions that were missed, then false findings."""
        return sum(not one.is_found for one in self.lesions) + len(self.alarms) / 100

    @property
    def columns(self) -> Mapping[str, str]:
        """Columns for subgroups that follow from the truth."""
        return {}


def _list(values: Iterable[float]) -> str:
    return " ".join("-" if math.isnan(value) else f"{value:.1f}" for value in values)


class Detection:
    """The task of finding each lesion."""

    name = NAME

    def __init__(self, order: Order) -> None:
        self._order = order

    def judge(self, truth: Truth, analysis: Analysis) -> ScanRow | None:
        """Return what was found; None where the truth knows of no places."""
        volume = analysis.reference
        lesions = None if volume is None else list_lesions(truth, volume)
        if volume is None or lesions is None:
            return None
        findings = list_findings(analysis, volume, label=self._order.label)
        owners = _find_owners(findings, lesions, volume)
        has_masks = all(lesion.mask is not None for lesion in lesions)
        scores = [one.score for one in findings]
        return ScanRow(
            lesions=tuple(_describe(lesion, [findings[n] for n in owners[m]]) for m, lesion in enumerate(lesions)),
            alarms=tuple(one.score for n, one in enumerate(findings) if not any(n in taken for taken in owners)),
            boxes=pair_findings(scores, overlap_boxes(findings, lesions)),
            masks=pair_findings(scores, overlap_masks(findings, lesions)) if has_masks else None,
        )

    def picture(self, truth: Truth, analysis: Analysis) -> bytes | None:
        """Return the largest lesion that was missed, else the most certain false finding."""
        volume = analysis.reference
        lesions = None if volume is None else list_lesions(truth, volume)
        if volume is None or lesions is None:
            return None
        findings = list_findings(analysis, volume, label=self._order.label)
        owners = _find_owners(findings, lesions, volume)
        missed = [lesion for m, lesion in enumerate(lesions) if not owners[m]]
        false = [one for n, one in enumerate(findings) if not any(n in taken for taken in owners)]
        if not missed and not false:
            return None
        place = max(missed, key=lambda one: one.diameter_mm) if missed else max(false, key=lambda one: one.score)
        index = volume.to_index(place.center_mm)
        return draw_place(volume, index, truth=_circle(lesions, index, volume), found=_circle(findings, index, volume))

    def tabulate(self, rows: Sequence[ScanRow]) -> tuple[Section, ...]:
        """Return the figures of these rows."""
        table = _Table(rows)
        plots = [Plot(name="diameters", title="Diameter found and true", draw=table.draw_diameters)]
        if any(row.lesions for row in rows):
            plots.insert(0, Plot(name="froc", title="FROC", draw=table.draw_froc))
        found = Section(title="Findings", measures=table.measures(), plots=tuple(plots))
        return (found, Section(title="Sensitivity by size of the lesion", measures=table.measures_by_size()))


def _find_owners(findings: Sequence[Spot], lesions: Sequence[Spot], volume: Volume) -> list[list[int]]:
    """Return the findings on each lesion; one that is on several belongs to the nearest."""
    owners: list[list[int]] = [[] for _ in lesions]
    for number, finding in enumerate(findings):
        touched = [m for m, lesion in enumerate(lesions) if hits(finding, lesion, volume)]
        if touched:
            owners[min(touched, key=lambda m: math.dist(finding.center_mm, lesions[m].center_mm))].append(number)
    return owners


def _describe(lesion: Spot, findings: Sequence[Spot]) -> FoundLesion:
    if not findings:
        return FoundLesion(diameter_mm=lesion.diameter_mm, score=math.nan, found_mm=math.nan, distance_mm=math.nan)
    best = max(findings, key=lambda one: one.score)
    return FoundLesion(
        diameter_mm=lesion.diameter_mm,
        score=best.score,
        found_mm=best.diameter_mm,
        distance_mm=math.dist(best.center_mm, lesion.center_mm),
    )


def _circle(spots: Sequence[Spot], index: tuple[float, float, float], volume: Volume) -> list[Circle]:
    """Return those of a slice: row, column, and radius in pixels."""
    circles = []
    for spot in spots:
        place = volume.to_index(spot.center_mm)
        radius_mm = (0.0 if math.isnan(spot.diameter_mm) else spot.diameter_mm) / 2
        if abs(place[0] - index[0]) * volume.spacing_mm[0] <= max(radius_mm, volume.spacing_mm[0]):
            circles.append((place[1], place[2], max(radius_mm / volume.spacing_mm[2], 2.0)))
    return circles


class _Table:
    """Rows as the figures need them."""

    def __init__(self, rows: Sequence[ScanRow]) -> None:
        self._rows = rows
        self._marks = [row.marks for row in rows]

    @cached_property
    def _lesions(self) -> list[FoundLesion]:
        return [one for row in self._rows for one in row.lesions]

    def measures(self) -> tuple[Measure, ...]:
        """Return the figures of all lesions."""
        return (
            self._share(
                "sensitivity", "Sensitivity", "Lesions with a finding, as the model reports them.", (0, math.inf)
            ),
            mean_of(
                ("false_findings", "False findings a scan", "Findings on no lesion, as the model reports them."),
                [float(len(row.alarms)) for row in self._rows],
                better=Better.LOWER,
            ),
            self._of_marks("cpm", "CPM", "Mean of the sensitivities at 1/8 to 8 false findings a scan (LUNA16).", None),
            *(
                self._of_marks(
                    f"sensitivity_at_{rate:g}",
                    f"Sensitivity at {name} false findings a scan",
                    "The best that a threshold gives; where the model reports too few, its last.",
                    rate,
                )
                for rate, name in zip(RATES, RATE_NAMES, strict=True)
            ),
            *self._overlap_measures("box"),
            *(self._overlap_measures("mask") if all(row.masks is not None for row in self._rows) else ()),
            self._of_lesions(
                (
                    "diameter_error",
                    "Diameter error, mean size",
                    "Long axis found minus true diameter over true diameter, without its sign; of lesions found.",
                ),
                lambda one: abs(one.found_mm - one.diameter_mm) / one.diameter_mm,
                "%",
            ),
            self._of_lesions(
                ("diameters_within_15_percent", "Diameters within 15 %", "Share of the lesions found."),
                lambda one: float(abs(one.found_mm - one.diameter_mm) <= SAME_SIZE * one.diameter_mm),
                "%",
                Better.HIGHER,
            ),
            self._of_lesions(
                ("diameter_bias_mm", "Diameter error, mean", "Long axis found minus true diameter."),
                lambda one: one.found_mm - one.diameter_mm,
                "mm",
                Better.NEITHER,
            ),
            self._of_lesions(
                ("distance_mm", "Distance of the centers, mean", "Of lesions that were found."),
                lambda one: one.distance_mm,
                "mm",
            ),
        )

    def measures_by_size(self) -> tuple[Measure, ...]:
        """Return the sensitivity by size of the lesion."""
        return tuple(
            self._share(
                f"sensitivity_from_{low:g}_mm",
                f"{low:g} mm and more" if math.isinf(high) else f"{low:g} to {high:g} mm",
                "Lesions of this diameter with a finding.",
                (low, high),
            )
            for low, high in SIZES
        )

    def draw_froc(self, canvas: Canvas) -> None:
        """Draw sensitivity over false findings a scan."""
        false, sensitivity = froc_curve(self._marks)
        axes = canvas.axes
        axes.step(np.append(false, max(8.0, false[-1])), np.append(sensitivity, sensitivity[-1]), where="post",
                  color=canvas.theme.line, linewidth=1.5)  # fmt: skip
        axes.step(false, sensitivity, where="post", color=canvas.theme.first, linewidth=1.8)
        axes.set_xscale("symlog", base=2, linthresh=1 / 8)
        axes.set_xticks([0, *RATES], ["0", *RATE_NAMES])
        axes.set(xlabel="false findings a scan", ylabel="sensitivity", ylim=(0, 1.02), xlim=(0, 8))

    def draw_diameters(self, canvas: Canvas) -> None:
        """Draw found against true diameter."""
        pairs = np.array([(one.diameter_mm, one.found_mm) for one in self._lesions if one.is_found], float).reshape(
            -1, 2
        )
        end = float(np.nanmax(pairs, initial=10.0) * 1.05)
        canvas.axes.plot([0, end], [0, end], color=canvas.theme.ink, linewidth=0.8, linestyle="--")
        canvas.axes.scatter(pairs[:, 0], pairs[:, 1], s=16, color=canvas.theme.first, alpha=0.8)
        canvas.axes.set(xlabel="true diameter, mm", ylabel="long axis found, mm", xlim=(0, end), ylim=(0, end))

    def _share(self, key: str, title: str, meaning: str, size: tuple[float, float]) -> Measure:
        chosen = [[one for one in row.lesions if size[0] <= one.diameter_mm < size[1]] for row in self._rows]
        return proportion(
            (key, title, meaning),
            hits=[float(sum(one.is_found for one in lesions)) for lesions in chosen],
            totals=[float(len(lesions)) for lesions in chosen],
        )

    def _count(self, index: Index) -> int:
        return sum(len(self._rows[n].lesions) for n in index)

    def _of_marks(self, key: str, title: str, meaning: str, rate: float | None) -> Measure:
        def value(index: Index) -> float:
            chosen = [self._marks[n] for n in index]
            return competition_performance(chosen) if rate is None else sensitivity_at_rate(chosen, rate)

        def counts(index: Index) -> tuple[int, int]:
            lesions, share = self._count(index), value(index)
            return round(share * lesions) if lesions else 0, lesions

        return Measure(
            key=key,
            title=title,
            meaning=meaning,
            value=value,
            count=self._count,
            unit="" if rate is None else "%",
            counts=None if rate is None else counts,
        )

    def _overlap_measures(self, kind: str) -> tuple[Measure, ...]:
        pairs = [row.boxes if kind == "box" else row.masks for row in self._rows]
        scans = [pair for pair in pairs if pair is not None]
        span = f"{OVERLAPS[0]:g} to {OVERLAPS[-1]:g}"

        def measure(key: str, title: str, take: Callable[[Sequence[Pairing]], float]) -> Measure:
            return Measure(
                key=f"{key}_{kind}",
                title=f"{title} of {kind}es" if kind == "box" else f"{title} of {kind}s",
                meaning=f"Overlap (intersection over union) of {span}, precision read as COCO does.",
                value=lambda index: take([scans[n] for n in index]),
                count=self._count,
            )

        return (
            measure("map", "mAP", mean_average_precision),
            measure("ap_at_0.1", "AP at overlap 0.1", lambda chosen: average_precision(chosen, level=0)),
            measure("mar", "mAR", mean_average_recall),
        )

    def _of_lesions(
        self, name: tuple[str, str, str], take: Callable[[FoundLesion], float], unit: str, better: Better = Better.LOWER
    ) -> Measure:
        """Return the mean of something of each lesion that was found, over all of them and not by scan."""
        key, title, meaning = name
        values = [np.array([take(one) for one in row.lesions if one.is_found], float) for row in self._rows]
        given = [one[np.isfinite(one)] for one in values]

        def value(index: Index) -> float:
            chosen = np.concatenate([given[n] for n in index]) if len(index) else np.empty(0)
            return float(chosen.mean()) if len(chosen) else math.nan

        return Measure(
            key=key,
            title=title,
            meaning=meaning,
            unit=unit,
            better=better,
            value=value,
            count=lambda index: sum(len(given[n]) for n in index),
        )
