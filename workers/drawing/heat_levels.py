"""Level lines of a heat map, the same on the page and in the presentation state."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.drawing.slice_panel import smooth
from workers.outline import trace_outlines

# Parts of the largest value, faintest first.
LEVELS = (0.3, 0.5, 0.7)
# A heat map is interpolated from a few dozen cells; on a finer grid than this its lines only have more points.
GRID_PX = 256
SMOOTHING = 6


def reduce_heat(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a heat map on a grid of at most 256 × 256, its largest value 1."""
    rows, columns = heat.shape
    scale = min(1.0, GRID_PX / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    # What is no number cannot be drawn; the gate refuses it (`workers.encoding.heat_map.require_heat`).
    whole = Image.fromarray(np.nan_to_num(heat, posinf=0.0, neginf=0.0))
    reduced = np.asarray(whole.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
    return reduced / np.float32(max(float(reduced.max()), 1e-6))


def trace_level(reduced: NDArray[np.float32], level: float, *, shape: tuple[int, int]) -> list[NDArray[np.float64]]:
    """Return the closed lines around all that reaches a level.

    Parameters
    ----------
    reduced
        From `reduce_heat`.
    level
        Part of the largest value, 0..1.
    shape
        Rows and columns of the image that the lines are drawn on.

    Returns
    -------
    list
        (points, 2) float64 of (column, row) on that image; the corner of the first pixel is (0, 0).
    """
    scale = np.array([shape[1] / reduced.shape[1], shape[0] / reduced.shape[0]])
    limit = np.array([shape[1], shape[0]], dtype=np.float64)
    outlines = trace_outlines(reduced >= level)
    return [np.clip(smooth(outline, passes=SMOOTHING) * scale, 0.0, limit) for outline in outlines]
