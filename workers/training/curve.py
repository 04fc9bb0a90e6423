"""How a training went: loss and validation figures by step, as CSV and as a picture."""

import csv
from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

LOSS = "loss"


class Curve:
    """Figures by step, kept in ``curve.csv`` and drawn to ``curve.png``.

    Parameters
    ----------
    folder
        Where both files go.
    until
        Figures of this step and later ones that the file holds are dropped: they were not reached, by the checkpoint.
    """

    def __init__(self, folder: Path, *, until: int = 0) -> None:
        self._folder = folder
        self._rows: list[tuple[int, str, float]] = []
        path = folder / "curve.csv"
        if until and path.is_file():
            with path.open(newline="", encoding="utf-8") as stream:
                rows = [(int(row["step"]), row["figure"], float(row["value"])) for row in csv.DictReader(stream)]
            self._rows = [row for row in rows if row[0] < until]

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of one step."""
        self._rows += [(step, name, float(value)) for name, value in figures.items()]

    def keep(self) -> None:
        """Write both files."""
        with (self._folder / "curve.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(("step", "figure", "value"))
            writer.writerows((step, name, f"{value:.6g}") for step, name, value in self._rows)
        self._draw()

    def _draw(self) -> None:
        names = list(dict.fromkeys(name for _, name, _ in self._rows))
        figure = Figure(figsize=(8, 3 * max(1, len(names))), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(max(1, len(names)), 1, squeeze=False)[:, 0]
        for name, axis in zip(names, axes, strict=False):
            steps, values = zip(*((step, value) for step, of, value in self._rows if of == name), strict=True)
            axis.plot(steps, values, marker="" if name == LOSS else "o", linewidth=1)
            axis.set_xlabel("step")
            axis.set_ylabel(name)
            axis.grid(alpha=0.3)
        figure.savefig(self._folder / "curve.png", dpi=80)
