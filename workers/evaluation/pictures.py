"""The worst cases as pictures: what the model marked and what is true, on the image that it read."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from workers.evaluation.canvas import save_figure
from workers.measurements import holds_hounsfield
from workers.radiograph import Radiograph
from workers.volume import Volume

# Marks of the console: the truth is blue, the model orange.
TRUTH_COLOR, FOUND_COLOR = "#7fd0e6", "#ffa54a"
SIDE_INCH, DPI = 2.8, 110
LUNG_WINDOW_HU = (-1150.0, 350.0)
PERCENTILES = (1.0, 99.5)
MARGIN_MM = 25.0
HEAT_SHADE = 0.35

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Circle = tuple[float, float, float]


def draw_slice(volume: Volume, number: int, *, truth: Mask, found: Mask) -> bytes:
    """Return a slice with the outlines of truth (blue) and model (orange) as PNG.

    Parameters
    ----------
    truth, found
        (rows, columns).
    """
    figure, axes = _open(volume.voxels[number], _window(volume), aspect=volume.spacing_mm[1] / volume.spacing_mm[2])
    for mask, color, style in ((truth, TRUTH_COLOR, "solid"), (found, FOUND_COLOR, "dashed")):
        if mask.any():
            axes.contour(mask, levels=[0.5], colors=[color], linewidths=1.2, linestyles=[style])
    return save_figure(figure)


def draw_place(volume: Volume, index: tuple[float, float, float], *, truth: list[Circle], found: list[Circle]) -> bytes:
    """Return the surroundings of a place with circles around truth (blue) and findings (orange) of its slice as PNG.

    Parameters
    ----------
    index
        Slice, row and column.
    truth, found
        Row, column and radius, in pixels.
    """
    _, row_mm, column_mm = volume.spacing_mm
    number = int(np.clip(round(index[0]), 0, len(volume.voxels) - 1))
    figure, axes = _open(volume.voxels[number], _window(volume), aspect=row_mm / column_mm)
    angles = np.linspace(0, 2 * np.pi, 60)
    for circles, color, style in ((truth, TRUTH_COLOR, "solid"), (found, FOUND_COLOR, "dashed")):
        for row, column, radius in circles:
            axes.plot(
                column + radius * np.cos(angles),
                row + radius * np.sin(angles),
                color=color,
                linestyle=style,
                linewidth=1.2,
            )
    rows, columns = MARGIN_MM / row_mm, MARGIN_MM / column_mm
    axes.set_xlim(index[2] - columns, index[2] + columns)
    axes.set_ylim(index[1] + rows, index[1] - rows)
    return save_figure(figure)


def draw_film(radiograph: Radiograph, heat: NDArray[np.float32] | None) -> bytes:
    """Return a radiograph as PNG, where the classifier looked shaded in orange."""
    figure, axes = _open(radiograph.pixels, (0.0, 1.0), aspect=1.0)
    if heat is not None and heat.any():
        shade = np.zeros((*heat.shape, 4), np.float32)
        shade[..., :3] = (1.0, 0.65, 0.29)
        shade[..., 3] = HEAT_SHADE * heat
        axes.imshow(shade)
    return save_figure(figure)


def _window(volume: Volume) -> tuple[float, float]:
    if holds_hounsfield(volume):
        return LUNG_WINDOW_HU
    low, high = np.percentile(volume.voxels, PERCENTILES)
    return float(low), float(max(high, low + 1))


def _open(plane: Plane, window: tuple[float, float], *, aspect: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIDE_INCH, SIDE_INCH), dpi=DPI, facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(plane, cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect, interpolation="bilinear")
    return figure, axes
