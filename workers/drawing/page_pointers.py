"""Numbers, and circles where an outline is small, at the Segments of a large panel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.drawing.canvas import Box, Canvas, mark_of
from workers.drawing.lettering import measure_text
from workers.drawing.slice_panel import (
    Extent,
    Panel,
    View,
    enclose_side,
    find_segments,
    is_part,
    place_sides,
    to_page,
    view_box,
)
from workers.volume import Volume

# A finding that is larger than this on the page needs no circle around it.
POINTER_PX = 30.0
NUMBER_PX = 24
# Where the number of a Finding may stand around its outline, in turns of the clock's hand, best first.
NUMBER_TURNS = (-0.8, -2.3, 0.8, 2.3, 0.0, 3.1, -1.6, 1.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ring:
    """The circle around a Segment in the large panel, pixels; not drawn where the outline is large enough."""

    center: tuple[float, float]
    radius: float
    is_drawn: bool


def draw_pointers(canvas: Canvas, volume: Volume, plane: NDArray[np.uint8], view: View, panel: Panel) -> None:
    """Point at each Segment of a slice; numbers lie neither on each other nor on the circle of a neighbor.

    Parameters
    ----------
    plane
        The slice of the mask that the panel shows.
    """
    segments = find_segments(plane)
    rings = {number: _measure_ring(volume, number, segments, view, panel) for number in segments}
    taken: list[Box] = [enclose_side(at) for at in place_sides(panel)]
    for number in segments:
        others = [_enclose(ring) for other, ring in rings.items() if other != number]
        taken.append(_draw_pointer(canvas, number, rings[number], panel, [*taken, *others]))


def _measure_ring(volume: Volume, number: int, segments: Mapping[int, Extent], view: View, panel: Panel) -> _Ring:
    """Return the circle around a Segment on the page."""
    own = view_box(volume, segments[number], view.index, reach_mm=0.0, factor=1.0)
    x, y = to_page((own.center[1], own.center[0]), volume, view, panel)
    radius = own.reach_mm * panel.size / (2 * view.reach_mm)
    is_drawn = radius < POINTER_PX and not is_part(number, segments)
    return _Ring(center=(x, y), radius=max(1.6 * radius, 22.0) if is_drawn else radius, is_drawn=is_drawn)


def _draw_pointer(canvas: Canvas, number: int, ring: _Ring, panel: Panel, taken: Sequence[Box]) -> Box:
    """Circle a small Segment in the large panel, write its number beside it, and return where that stands."""
    mark, (x, y) = mark_of(number), ring.center
    if ring.is_drawn:
        turns = np.linspace(0, 2 * np.pi, 73)
        circle = [(x + ring.radius * float(np.cos(turn)), y + ring.radius * float(np.sin(turn))) for turn in turns]
        clip = (*panel.at, panel.at[0] + panel.size, panel.at[1] + panel.size)
        canvas.line(circle, mark=mark, width=1.4, clip=clip)
    width = round(measure_text(str(number), 22, bold=True)) + 8
    away = ring.radius + 14
    places = [
        _place_number(x + away * float(np.cos(turn)), y + away * float(np.sin(turn)), width, panel)
        for turn in NUMBER_TURNS
    ]
    box = next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])
    canvas.shade(box[:2], (width, NUMBER_PX))
    middle = ((box[0] + box[2]) / 2, box[1] + 20)
    canvas.text(middle, str(number), size=22, color=mark.color, align="center", bold=True)
    return box


def _enclose(ring: _Ring) -> Box:
    (x, y), reach = ring.center, ring.radius
    return round(x - reach), round(y - reach), round(x + reach), round(y + reach)


def _place_number(x: float, y: float, width: int, panel: Panel) -> Box:
    """Return the box of a number around a point, moved into the panel."""
    left = min(max(round(x - width / 2), panel.at[0]), panel.at[0] + panel.size - width)
    top = min(max(round(y - NUMBER_PX / 2), panel.at[1]), panel.at[1] + panel.size - NUMBER_PX)
    return left, top, left + width, top + NUMBER_PX


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
