"""How well a model outlines: each case's mask against the drawn one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from workers.evaluation.canvas import Canvas
from workers.evaluation.measure import Better, Measure, Plot, Section, mean_of, proportion
from workers.evaluation.order import Order
from workers.evaluation.overlap import Overlap, measure_overlap
from workers.evaluation.pictures import draw_slice
from workers.evaluation.truth import Truth
from workers.pipelines.base import Analysis
from workers.volume import Volume

NAME = "segmentation"
ML = 1000.0
# Volumes of the truth that are told apart, ml.
SIZES = ((0.0, 5.0), (5.0, 20.0), (20.0, 60.0), (60.0, math.inf))

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlineRow:
    """One case's outline."""

    overlap: Overlap

    @property
    def is_healthy(self) -> bool:
        """Whether the truth is empty."""
        return not self.overlap.truth_mm3

    @property
    def cells(self) -> Mapping[str, float | str]:
        """Column of cases.csv to its value."""
        one = self.overlap
        return {
            "dice": one.dice,
            "jaccard": one.jaccard,
            "hd95_mm": one.hd95_mm,
            "surface_dice": one.surface_dice,
            "truth_ml": one.truth_mm3 / ML,
            "found_ml": one.found_mm3 / ML,
            "volume_error": one.volume_error,
        }

    @property
    def caption(self) -> str:
        """What stands below its picture."""
        one = self.overlap
        return f"Dice {one.dice:.2f}; {one.found_mm3 / ML:.1f} ml found, {one.truth_mm3 / ML:.1f} ml true"

    @property
    def badness(self) -> float:
        """How far the Dice is from 1."""
        return 1.0 - self.overlap.dice

    @property
    def columns(self) -> Mapping[str, str]:
        """Columns for subgroups that follow from the truth."""
        if self.is_healthy:
            return {"lesion-size": "none"}
        size = self.overlap.truth_mm3 / ML
        low, high = next((low, high) for low, high in SIZES if low <= size < high)
        return {"lesion-size": f"{low:g} ml and more" if math.isinf(high) else f"{low:g} to {high:g} ml"}


class Segmentation:
    """The task of outlining everything that is one label."""

    name = NAME

    def __init__(self, order: Order) -> None:
        self._order = order

    def judge(self, truth: Truth, analysis: Analysis) -> OutlineRow | None:
        """Return how well the outline fits; None where the truth marks nothing in voxels."""
        if truth.marks is None or analysis.reference is None:
            return None
        volume = analysis.reference
        return OutlineRow(
            overlap=measure_overlap(
                mark_found(analysis, volume, label=self._order.label),
                truth.marks(volume) > 0,
                spacing_mm=volume.spacing_mm,
                voxel_mm3=volume.voxel_mm3,
                tolerance_mm=self._order.tolerance_mm,
            )
        )

    def picture(self, truth: Truth, analysis: Analysis) -> bytes | None:
        """Return the slice on which the two masks differ most."""
        if truth.marks is None or analysis.reference is None:
            return None
        drawn = truth.marks(analysis.reference) > 0
        found = mark_found(analysis, analysis.reference, label=self._order.label)
        number = int(np.count_nonzero(drawn ^ found, axis=(1, 2)).argmax())
        return draw_slice(analysis.reference, number, truth=drawn[number], found=found[number])

    def tabulate(self, rows: Sequence[OutlineRow]) -> tuple[Section, ...]:
        """Return the figures of these rows."""
        table = _Table(rows)
        return (
            Section(
                title="Outlines",
                measures=table.measures(self._order.tolerance_mm),
                plots=(
                    Plot(name="dice", title="Dice of each case, from worst to best", draw=table.draw_dice),
                    Plot(name="volume", title="Volume found and true", draw=table.draw_volume),
                ),
            ),
        )


def mark_found(analysis: Analysis, volume: Volume, *, label: str) -> Mask:
    """Return what a model marked, all of it or only what it calls `label`."""
    if analysis.mask is None:
        return np.zeros(volume.voxels.shape, bool)
    if not label:
        return np.asarray(analysis.mask > 0)
    numbers = [one.segment_number for one in analysis.findings if one.label == label]
    return np.isin(analysis.mask, [number for number in numbers if number is not None])


class _Table:
    """Rows as columns."""

    def __init__(self, rows: Sequence[OutlineRow]) -> None:
        self._rows = rows

    @cached_property
    def _ill(self) -> NDArray[np.bool_]:
        return np.array([not row.is_healthy for row in self._rows], bool)

    def _column(self, name: str) -> list[float]:
        """Return a column of the cases in which there is something; NaN in the others."""
        return [math.nan if row.is_healthy else float(row.cells[name]) for row in self._rows]

    def measures(self, tolerance_mm: float) -> tuple[Measure, ...]:
        """Return the figures."""
        dice, errors = self._column("dice"), self._column("volume_error")
        healthy = ~self._ill
        clean = healthy & np.array([not row.overlap.found_mm3 for row in self._rows], bool)
        touched = self._ill & np.array([row.overlap.dice > 0 for row in self._rows], bool)
        return (
            mean_of(("dice", "Dice, mean", "Overlap of found and true: 1 is the same, 0 is apart."), dice),
            mean_of(
                ("dice_median", "Dice, median", "Half of the cases are above."),
                dice,
                take=lambda values: float(np.median(values)),
            ),
            mean_of(("jaccard", "Jaccard, mean", "Intersection over union."), self._column("jaccard")),
            mean_of(
                ("surface_dice", f"Surface Dice at {tolerance_mm:g} mm", "Share of both surfaces that agree so far."),
                self._column("surface_dice"),
            ),
            mean_of(
                (
                    "hd95_mm",
                    "HD95, mean",
                    "95th percentile of the distances of the surfaces; cases that mark nothing "
                    "have none and are left out.",
                ),
                self._column("hd95_mm"),
                unit="mm",
                better=Better.LOWER,
            ),
            mean_of(
                ("volume_bias", "Volume error, mean", "Found minus true volume over true volume."),
                errors,
                unit="%",
                better=Better.NEITHER,
            ),
            mean_of(
                ("volume_error", "Volume error, mean size", "The same without its sign."),
                [abs(error) for error in errors],
                unit="%",
                better=Better.LOWER,
            ),
            proportion(
                ("touched", "Lesions marked at all", "Cases with a lesion in which the mask touches it."),
                hits=touched.astype(float).tolist(),
                totals=self._ill.astype(float).tolist(),
            ),
            proportion(
                ("healthy_clean", "Healthy cases left clean", "Cases without a lesion in which nothing is marked."),
                hits=clean.astype(float).tolist(),
                totals=healthy.astype(float).tolist(),
            ),
        )

    def draw_dice(self, canvas: Canvas) -> None:
        """Draw each case's Dice in order."""
        values = np.sort(np.array(self._column("dice"))[self._ill])
        canvas.axes.bar(np.arange(1, len(values) + 1), values, color=canvas.theme.first, width=0.8)
        canvas.axes.set(xlabel="case", ylabel="Dice", ylim=(0, 1))

    def draw_volume(self, canvas: Canvas) -> None:
        """Draw found against true volume."""
        true = np.array([row.overlap.truth_mm3 / ML for row in self._rows])
        found = np.array([row.overlap.found_mm3 / ML for row in self._rows])
        end = float(max(true.max(initial=1.0), found.max(initial=1.0)) * 1.05)
        canvas.axes.plot([0, end], [0, end], color=canvas.theme.ink, linewidth=0.8, linestyle="--")
        canvas.axes.scatter(true, found, s=16, color=canvas.theme.first, alpha=0.8)
        canvas.axes.set(xlabel="true volume, ml", ylabel="found volume, ml", xlim=(0, end), ylim=(0, end))
