"""What is reported of a classifier of films: figures with intervals, by subgroup, where its heat lies, and pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from workers.evaluation.intervals import bootstrap_interval, wilson_interval
from workers.evaluation.probabilities import bin_probabilities, brier_score, expected_calibration_error, roc_auc
from workers.inference.attention import attend
from workers.networks.xray_densenet import ATTENDED, STAGES, pool_evidence
from workers.pipelines.chest_xray import standardize
from workers.training.radiograph_phantoms import DrawnRadiograph

# What a threshold has to reach; it is put where both are exceeded alike.
SENSITIVITY, SPECIFICITY = 0.95, 0.90
OUTLINED = 0.5  # of the largest heat
SHOWN = 4  # films of each kind of error in the picture
DIGITS = 4

Floats = NDArray[np.float64]
Maps = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Films with what the model said of them.

    Attributes
    ----------
    films
        (films, 1, rows, columns) float16, 0..1.
    truth
        (films,) bool.
    patients
        (films,) keys.
    scores
        (films,) logits.
    subgroups
        Name to (films,) bool.
    """

    films: torch.Tensor
    truth: NDArray[np.bool_]
    patients: NDArray[np.str_]
    scores: Floats
    subgroups: Mapping[str, NDArray[np.bool_]]

    def probabilities(self, temperature: float) -> Floats:
        """Return the probability of each film under a temperature."""
        calibrated: Floats = 1 / (1 + np.exp(-self.scores / temperature))
        return calibrated


def choose_threshold(probability: Floats, truth: NDArray[np.bool_]) -> float:
    """Return the probability at which sensitivity and specificity exceed their targets most evenly, two decimals."""
    cuts = np.arange(1, 100) / 100
    margins = [
        min((probability[truth] >= cut).mean() - SENSITIVITY, (probability[~truth] < cut).mean() - SPECIFICITY)
        for cut in cuts
    ]
    # Of equally good ones the middle: it has most room on either side.
    best = cuts[np.isclose(margins, max(margins))]
    return float(best[len(best) // 2])


def describe(judged: Judged, *, temperature: float, threshold: float) -> dict[str, object]:
    """Return area under the ROC curve, sensitivity, specificity and calibration, with intervals, and by subgroup."""
    probability, truth = judged.probabilities(temperature), judged.truth
    raw = judged.probabilities(1.0)
    rows = np.stack([judged.scores, truth.astype(float)], axis=1)
    return {
        "patients": len(set(judged.patients.tolist())),
        "films": len(truth),
        "auc": round(roc_auc(truth, judged.scores), DIGITS),
        "auc_95": bootstrap_interval(rows.tolist(), lambda drawn: roc_auc(drawn[:, 1] == 1, drawn[:, 0])),
        "sensitivity": _count(probability[truth] >= threshold),
        "specificity": _count(probability[~truth] < threshold),
        "calibration_error": round(expected_calibration_error(truth, probability), DIGITS),
        "calibration_error_uncalibrated": round(expected_calibration_error(truth, raw), DIGITS),
        "brier": round(brier_score(truth, probability), DIGITS),
        "within_0.05_of_threshold": round(float((np.abs(probability - threshold) < 0.05).mean()), DIGITS),
        "called_right": {
            name: _count((probability >= threshold)[chosen] == truth[chosen])
            for name, chosen in judged.subgroups.items()
            if chosen.any()
        },
    }


def _count(right: NDArray[np.bool_]) -> dict[str, object]:
    if not len(right):
        return {"of": 0}
    hits = int(right.sum())
    return {
        "share": round(hits / len(right), DIGITS),
        "interval_95": wilson_interval(hits, len(right)),
        "of": len(right),
    }


def locate_heat(network: torch.nn.Module, drawn: Sequence[DrawnRadiograph]) -> dict[str, dict[str, float]]:
    """Return how much of each kind of heat map lies in the lungs and on the opacity of drawn chests that have one.

    ``grad_cam_fine`` is that of the stage before the last, with places of 8 pixels; ``area`` is what a map without any
    idea would have; ``peak_on_opacity`` is the share of chests with the hottest place on the opacity.
    """
    shares: dict[str, list[tuple[float, float, bool]]] = {}
    for one in drawn:
        for name, heat in _map_heat(network, one).items():
            total = float(heat.sum()) or 1.0
            on_it = bool(one.opacity.ravel()[int(heat.argmax())])
            shares.setdefault(name, []).append(
                (float(heat[one.lungs].sum()) / total, float(heat[one.opacity].sum()) / total, on_it)
            )
    columns = ("in_lungs", "on_opacity", "peak_on_opacity")
    means = {name: np.mean(np.asarray(rows, np.float64), axis=0) for name, rows in shares.items()}
    return {
        name: {column: round(float(value), 3) for column, value in zip(columns, row, strict=True)}
        for name, row in means.items()
    }


def map_evidence(network: torch.nn.Module, film: torch.Tensor) -> NDArray[np.float32]:
    """Return the Grad-CAM of one film (1, rows, columns) on its own matrix, 0..1 of its largest value."""
    batch = standardize(film[None])
    maps = attend(network, network.get_submodule(ATTENDED), batch, score_of=pool_evidence).maps
    large = interpolate(maps[:, None], size=film.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    heat: NDArray[np.float32] = (large / large.amax().clamp_min(1e-6)).numpy()
    return heat


def _map_heat(network: torch.nn.Module, drawn: DrawnRadiograph) -> Maps:
    film = standardize(torch.from_numpy(drawn.film)[None, None])
    by_layer = {
        name: attend(network, network.get_submodule(stage), film, score_of=pool_evidence)
        for name, stage in zip(("grad_cam_fine", "grad_cam"), STAGES, strict=True)
    }
    maps = {name: attended.maps for name, attended in by_layer.items()}
    maps["evidence"] = torch.sigmoid(by_layer["grad_cam"].answer)
    size = drawn.film.shape
    large = {
        name: interpolate(one[:, None], size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
        for name, one in maps.items()
    }
    return {**large, "area": np.ones(size, np.float32)}


def draw_reliability(judged: Judged, *, temperature: float, path: Path) -> None:
    """Draw how often films of a probability do have the finding, before and after calibration."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot((0, 1), (0, 1), color="gray", linewidth=1, linestyle=":", label="what it says is what is")
    for name, used, style in (
        ("as the network feels", 1.0, "--"),
        (f"temperature {temperature:.2f}", temperature, "-"),
    ):
        probability = judged.probabilities(used)
        bins = bin_probabilities(probability)
        filled = [n for n in range(int(bins.max()) + 1) if (bins == n).any()]
        said, found = ([float(values[bins == n].mean()) for n in filled] for values in (probability, judged.truth))
        axis.plot(said, found, marker="o", linestyle=style, label=name)
    axis.set_xlabel("probability that the model states")
    axis.set_ylabel("share of these films with pneumonia")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=90)


def draw_misread(
    judged: Judged,
    *,
    temperature: float,
    threshold: float,
    map_film: Callable[[torch.Tensor], NDArray[np.float32]],
    path: Path,
) -> None:
    """Draw the films that were misread worst: above those called sick that are normal, below those that were missed.

    Parameters
    ----------
    map_film
        From one film (1, rows, columns) to its heat (rows, columns), 0..1.
    """
    probability = judged.probabilities(temperature)
    wrong = ((probability >= threshold) != judged.truth).nonzero()[0]
    worst = wrong[np.argsort(-np.abs(probability[wrong] - threshold))]
    rows = [[index for index in worst if judged.truth[index] == missed][:SHOWN] for missed in (False, True)]
    figure = Figure(figsize=(2.6 * SHOWN, 6), layout="constrained")
    FigureCanvasAgg(figure)
    for line, (row, meaning) in enumerate(zip(rows, ("normal", "pneumonia"), strict=True)):
        for place in range(SHOWN):
            axis = figure.add_subplot(2, SHOWN, line * SHOWN + place + 1)
            axis.set_axis_off()
            if place < len(row):
                film = judged.films[row[place]].float()
                axis.imshow(film[0].numpy(), cmap="gray", vmin=0, vmax=1)
                _outline(axis, map_film(film))
                axis.set_title(f"labeled {meaning}, said {probability[row[place]]:.2f}", fontsize=9)
    figure.savefig(path, dpi=70)


def _outline(axis: Axes, heat: NDArray[np.float32]) -> None:
    if float(heat.max()) > OUTLINED > float(heat.min()):
        axis.contour(heat, levels=(OUTLINED,), colors="orange", linewidths=1)
