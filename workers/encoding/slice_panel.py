"""Panels of the summary page: one slice in a frame, contours, scale bar, sides and caption, true to the millimeter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes

from workers.encoding.canvas import INK, MINUS, Canvas, Mark, Point, mark_of, measure_text
from workers.encoding.outline import trace_outlines
from workers.volume import Volume

# The brightest gray of an image: nothing on the page glares.
BRIGHTEST = 236
SCALE_BARS_MM = (100, 50, 20, 10, 5, 2)
CAPTION_SIZE = 17
# An outline of so few unit edges would shrink visibly when smoothed.
FEW_POINTS = 8
# Axes of patient coordinates: the letters of their positive and negative ends (PS3.3 C.7.6.1.1.1).
SIDES = (("L", "R"), ("P", "A"), ("H", "F"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Gray window: center and width in the units of the Volume, and its words for the caption."""

    center: float
    width: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a panel shows.

    Attributes
    ----------
    index
        Slice of the Volume.
    center
        (row, column) in the middle of the panel, pixels of the slice.
    reach_mm
        From the middle of the panel to its edge.
    """

    index: int
    center: tuple[float, float]
    reach_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlined:
    """A region of the slice of a View, (rows, columns) bool, and how its outline is drawn."""

    region: NDArray[np.bool_]
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Where a slice is drawn.

    Attributes
    ----------
    at, size
        Upper left corner and side of the square on the page, pixels.
    shows_sides
        Also write the letters of the patient's sides.
    """

    at: tuple[int, int]
    size: int
    caption: str = ""
    shows_sides: bool = False


def outline_segments(plane: NDArray[np.uint8]) -> list[Outlined]:
    """Return the regions of all Segments on one slice of a mask.

    A Segment that encloses another is drawn around it, not also along their common edge.
    """
    outlined = []
    for number in np.unique(plane).tolist():
        if number:
            own = plane == number
            enclosed = binary_fill_holes(own) & (plane > 0)
            outlined.append(Outlined(region=own | enclosed, mark=mark_of(number)))
    return outlined


def choose_window(volume: Volume) -> Window:
    """Return a lung window for CT, else one that the gray values themselves suggest."""
    if volume.datasets[0].get("Modality") == "CT":
        return Window(center=-400, width=1400, words=f"L {MINUS}400 W 1400")
    low, high = (float(v) for v in np.percentile(volume.voxels[:: max(1, len(volume.voxels) // 16)], (1.0, 99.7)))
    width = max(high - low, 1.0)
    return Window(center=low + width / 2, width=width, words="")


def view_whole(volume: Volume, index: int) -> View:
    """Return the View of a whole slice."""
    _, rows, columns = volume.voxels.shape
    _, row_mm, column_mm = volume.spacing_mm
    return View(index=index, center=(rows / 2, columns / 2), reach_mm=max(rows * row_mm, columns * column_mm) / 2)


def draw_slice(
    canvas: Canvas, volume: Volume, view: View, panel: Panel, *, window: Window, outlined: Sequence[Outlined] = ()
) -> None:
    """Draw one slice in a square, with the outlines of what was found on it."""
    at, size = panel.at, panel.size
    canvas.picture(_cut(volume, view, size, window), at)
    for item in outlined:
        for outline in trace_outlines(item.region):
            points = [to_page(point, volume, view, panel) for point in smooth(outline)]
            canvas.line(points, mark=item.mark, clip=(*at, at[0] + size, at[1] + size))
    draw_scale(canvas, at=at, width=size, height=size, mm_per_pixel=2 * view.reach_mm / size)
    if panel.caption:
        draw_caption(canvas, panel.caption, at=at, height=size)
    if panel.shows_sides:
        draw_sides(canvas, volume, panel)


def draw_caption(canvas: Canvas, caption: str, *, at: tuple[int, int], height: int) -> None:
    """Write the caption of a panel at its lower left."""
    width = measure_text(caption, CAPTION_SIZE)
    canvas.shade((at[0] + 5, at[1] + height - 30), (width + 12, 25))
    canvas.text((at[0] + 11, at[1] + height - 12), caption, size=CAPTION_SIZE)


def draw_scale(canvas: Canvas, *, at: tuple[int, int], width: int, height: int, mm_per_pixel: float) -> None:
    """Draw a bar of known length at the lower right of a panel."""
    length_mm = next((mm for mm in SCALE_BARS_MM if mm / mm_per_pixel <= width / 4), SCALE_BARS_MM[-1])
    length = length_mm / mm_per_pixel
    words = f"{length_mm} mm"
    right, bottom = at[0] + width - 12, at[1] + height - 10
    left = right - max(length, measure_text(words, CAPTION_SIZE))
    canvas.shade((left - 6, bottom - 26), (right - left + 12, 32))
    canvas.rule((right - length, bottom), (right, bottom), color=INK, width=2)
    canvas.text(((right + left) / 2, bottom - 7), words, size=CAPTION_SIZE, align="center")


def draw_sides(canvas: Canvas, volume: Volume, panel: Panel) -> None:
    """Write which side of the patient each edge of a slice shows."""
    row, column = volume.affine[:3, 1], volume.affine[:3, 2]
    (left, top), size = panel.at, panel.size
    middle = top + size / 2 + 6
    draw_side(canvas, name_side(-column), (left + 17, middle))
    draw_side(canvas, name_side(column), (left + size - 17, middle))
    draw_side(canvas, name_side(-row), (left + size / 2, top + 24))


def draw_side(canvas: Canvas, letter: str, at: tuple[float, float]) -> None:
    """Write one letter of a side on a darkened ground; `at` is the middle of its base line."""
    canvas.shade((at[0] - 13, at[1] - 21), (26, 28))
    canvas.text(at, letter, size=20, align="center", bold=True)


def name_side(direction: NDArray[np.float64]) -> str:
    """Return the letter of the patient's side toward which `direction` (LPS) mostly points."""
    axis = int(np.abs(direction).argmax())
    positive, negative = SIDES[axis]
    return positive if direction[axis] > 0 else negative


def smooth(outline: NDArray[np.float64], *, passes: int = 1) -> NDArray[np.float64]:
    """Return an outline without the steps of its pixels: the middles of its unit edges, each with its neighbors.

    Parameters
    ----------
    outline
        (points, 2) closed, upright edges.
    passes
        How often each point moves toward its neighbors; an outline of few pixels is left as it is.
    """
    middles: list[NDArray[np.float64]] = []
    for corner, step in zip(outline[:-1], np.diff(outline, axis=0), strict=True):
        length = round(float(np.abs(step).max()))
        middles += [corner + step * (k + 0.5) / length for k in range(length)]
    points = np.asarray(middles)
    if len(points) > FEW_POINTS:
        for _ in range(passes):
            points = (np.roll(points, 1, axis=0) + 2 * points + np.roll(points, -1, axis=0)) / 4
    return np.vstack([points, points[:1]])


def to_page(point: Sequence[float] | NDArray[np.float64], volume: Volume, view: View, panel: Panel) -> Point:
    """Return where (column, row) of a slice lies on the page; corner of the first pixel = (0, 0) in both."""
    _, row_mm, column_mm = volume.spacing_mm
    scale = panel.size / (2 * view.reach_mm)
    row, column = view.center
    return (
        panel.at[0] + panel.size / 2 + (float(point[0]) - column) * column_mm * scale,
        panel.at[1] + panel.size / 2 + (float(point[1]) - row) * row_mm * scale,
    )


def _cut(volume: Volume, view: View, size: int, window: Window) -> Image.Image:
    """Return the part of a slice that a View shows, as gray picture."""
    scaled = (volume.voxels[view.index] - window.center) / window.width + 0.5
    gray = Image.fromarray((np.clip(scaled, 0, 1) * BRIGHTEST).astype(np.uint8))
    _, row_mm, column_mm = volume.spacing_mm
    x_step, y_step = (2 * view.reach_mm / size / mm for mm in (column_mm, row_mm))
    row, column = view.center
    steps = (x_step, 0.0, column - size / 2 * x_step, 0.0, y_step, row - size / 2 * y_step)
    return gray.transform((size, size), Image.Transform.AFFINE, steps, Image.Resampling.BICUBIC)
