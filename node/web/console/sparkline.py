"""A line of numbers as SVG: its path, in the square of a view box."""

from collections.abc import Sequence

WIDTH, HEIGHT, MARGIN = 100.0, 28.0, 2.0


def draw_line(values: Sequence[float]) -> str:
    """Return the ``d`` of a path through `values`, zero at the bottom; empty where there are fewer than two."""
    if len(values) < 2:
        return ""
    top = max(*values, 1.0)
    step, room = WIDTH / (len(values) - 1), HEIGHT - 2 * MARGIN
    points = (f"{number * step:.1f} {HEIGHT - MARGIN - room * value / top:.1f}" for number, value in enumerate(values))
    return f"M{' L'.join(points)}"
