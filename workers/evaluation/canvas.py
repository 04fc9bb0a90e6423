"""What plots and pictures are drawn on: matplotlib without a window, on paper that is light or dark."""

import io
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SIZE_INCH = (4.6, 3.6)
DPI = 144


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colors of a plot: text and axes, the model, and the one beside it."""

    suffix: str
    ink: str
    line: str
    first: str
    second: str


# Those of the console.
LIGHT = Theme(suffix="", ink="#4a545d", line="#d7dbdf", first="#0a5a86", second="#b0241c")
DARK = Theme(suffix="-dark", ink="#98a1a9", line="#262b30", first="#74a9c9", second="#e0877c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """Axes to draw on, and the colors to draw with."""

    axes: Axes
    theme: Theme


def draw_plot(draw: Callable[[Canvas], None], theme: Theme) -> bytes:
    """Return a plot as PNG on no ground of its own."""
    figure = Figure(figsize=SIZE_INCH, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    draw(Canvas(axes=axes, theme=theme))
    axes.grid(color=theme.line, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=theme.ink, labelsize=8, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.ink)
        label.set_fontsize(9)
    legend = axes.get_legend()
    if legend is not None:
        legend.set_frame_on(False)
        for text in legend.get_texts():
            text.set_color(theme.ink)
            text.set_fontsize(8)
    return save_figure(figure)


def save_figure(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    written = io.BytesIO()
    # No name and date of the program: the same figures give the same file.
    figure.savefig(written, format="png", transparent=True, metadata={"Software": None})
    return written.getvalue()
