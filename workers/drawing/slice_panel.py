"""Panels of the summary page: one slice in a frame, contours, scale bar, sides and caption, true to the millimeter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes, find_objects

from workers.drawing.canvas import INK, MINUS, Box, Canvas, Mark, Point, mark_of, shorten
from workers.drawing.lettering import measure_text
from workers.outline import trace_outlines
from workers.volume import Volume

# Rows and columns of a box.
Extent = tuple[slice, slice]

# The brightest gray of an image: nothing on the page glares.
BRIGHTEST = 236
SCALE_BARS_MM = (100, 50, 20, 10, 5, 2, 1)
CAPTION_SIZE = 17
# Center and width, HU.
LUNG_WINDOW, BRAIN_WINDOW, SOFT_TISSUE_WINDOW = (-400.0, 1400.0), (40.0, 80.0), (40.0, 400.0)
CT_WINDOWS = dict.fromkeys(("BRAIN", "HEAD", "SKULL"), BRAIN_WINDOW) | dict.fromkeys(
    ("ABDOMEN", "PELVIS", "ABDOMENPELVIS", "LIVER", "KIDNEY", "SPLEEN", "PANCREAS", "NECK"), SOFT_TISSUE_WINDOW
)
# From so much of a Volume its gray values are known.
SAMPLED_SLICES, GRAY_PERCENTILES = 16, (1.0, 99.7)
COARSE_WIDTH = 20.0  # from this width on a window needs no decimals
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
    for number, box in find_segments(plane).items():
        own = plane[box] == number
        region = np.zeros(plane.shape, np.bool_)
        region[box] = own | (binary_fill_holes(own) & (plane[box] > 0))
        outlined.append(Outlined(region=region, mark=mark_of(number)))
    return outlined


def find_segments(plane: NDArray[np.uint8]) -> dict[int, Extent]:
    """Return the box around each Segment on one slice of a mask, by its number."""
    # None stands for a number that is not there; the stubs do not know.
    boxes: Sequence[tuple[slice, ...] | None] = find_objects(plane)
    return {number: (box[0], box[1]) for number, box in enumerate(boxes, start=1) if box is not None}


def is_part(number: int, segments: Mapping[int, Extent]) -> bool:
    """Return whether a Segment lies within the box of another one, as the parts of one tumor do.

    Parameters
    ----------
    segments
        From `find_segments`.
    """
    own = segments[number]
    return any(
        all(around.start <= inner.start and inner.stop <= around.stop for inner, around in zip(own, other, strict=True))
        for other_number, other in segments.items()
        if other_number != number
    )


def bounds_of(region: NDArray[np.bool_]) -> Extent:
    """Return the smallest upright box around a region that is not empty, as rows and columns."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def choose_window(volume: Volume) -> Window:
    """Return a window for CT by its body part, for others one that the gray values themselves suggest."""
    header = volume.datasets[0]
    if header.get("Modality") == "CT":
        return name_window(*CT_WINDOWS.get(str(header.get("BodyPartExamined") or "").upper(), LUNG_WINDOW))
    sample = volume.voxels[:: max(1, len(volume.voxels) // SAMPLED_SLICES), ::2, ::2]
    low, high = (float(value) for value in np.percentile(sample, GRAY_PERCENTILES))
    # Arbitrary units may all lie below 1; a window of no width would divide by zero.
    width = high - low if high > low else 1.0
    return name_window(low + width / 2, width)


def name_window(center: float, width: float) -> Window:
    """Return a Window with its words, such as ``L −400 W 1400``."""
    level, extent = (f"{value:.0f}" if width >= COARSE_WIDTH else f"{value:.3g}" for value in (center, width))
    return Window(center=center, width=width, words=f"L {level} W {extent}".replace("-", MINUS))


def view_whole(volume: Volume, index: int) -> View:
    """Return the View of a whole slice."""
    _, rows, columns = volume.voxels.shape
    _, row_mm, column_mm = volume.spacing_mm
    return View(index=index, center=(rows / 2, columns / 2), reach_mm=max(rows * row_mm, columns * column_mm) / 2)


def view_box(volume: Volume, box: Extent, index: int, *, reach_mm: float, factor: float) -> View:
    """Return a View of slice `index` around a box, which reaches `factor` times as far, at least `reach_mm`."""
    rows, columns = box
    _, row_mm, column_mm = volume.spacing_mm
    own_mm = max((rows.stop - rows.start) * row_mm, (columns.stop - columns.start) * column_mm) / 2
    center = ((rows.start + rows.stop) / 2, (columns.start + columns.stop) / 2)
    return View(index=index, center=center, reach_mm=max(reach_mm, factor * own_mm))


def draw_slice(
    canvas: Canvas, volume: Volume, view: View, panel: Panel, *, window: Window, outlined: Sequence[Outlined] = ()
) -> None:
    """Draw one slice in a square, with the outlines of what was found on it."""
    at, size = panel.at, panel.size
    canvas.picture(_cut(volume, view, size, window), at)
    for item in outlined:
        for outline in _trace(item.region):
            points = [to_page(point, volume, view, panel) for point in smooth(outline)]
            canvas.line(points, mark=item.mark, clip=(*at, at[0] + size, at[1] + size))
    draw_scale(canvas, at=at, width=size, height=size, mm_per_pixel=2 * view.reach_mm / size)
    if panel.caption:
        # The scale bar stands at the right.
        draw_caption(canvas, shorten(panel.caption, size=CAPTION_SIZE, width=0.75 * size - 36), at=at, height=size)
    if panel.shows_sides:
        draw_sides(canvas, volume, panel)


def draw_caption(canvas: Canvas, caption: str, *, at: tuple[int, int], height: int) -> None:
    """Write the caption of a panel at its lower left."""
    width = measure_text(caption, CAPTION_SIZE)
    canvas.shade((at[0] + 5, at[1] + height - 30), (width + 12, 25))
    canvas.text((at[0] + 11, at[1] + height - 12), caption, size=CAPTION_SIZE)


def draw_scale(canvas: Canvas, *, at: tuple[int, int], width: int, height: int, mm_per_pixel: float) -> None:
    """Draw a bar of known length at the lower right of a panel; none where even the shortest is too long."""
    length_mm = next((mm for mm in SCALE_BARS_MM if mm / mm_per_pixel <= width / 4), None)
    if length_mm is None:
        return
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
    for direction, at in zip((-column, column, -row), place_sides(panel), strict=True):
        draw_side(canvas, name_side(direction), at)


def place_sides(panel: Panel) -> tuple[Point, Point, Point]:
    """Return where the letters of the left, right and upper edge stand, the middle of their base lines."""
    (left, top), size = panel.at, panel.size
    middle = top + size / 2 + 6
    return (left + 17, middle), (left + size - 17, middle), (left + size / 2, top + 24)


def draw_side(canvas: Canvas, letter: str, at: Point) -> None:
    """Write one letter of a side on a darkened ground; `at` is the middle of its base line."""
    box = enclose_side(at)
    canvas.shade(box[:2], (box[2] - box[0], box[3] - box[1]))
    canvas.text(at, letter, size=20, align="center", bold=True)


def enclose_side(at: Point) -> Box:
    """Return the ground of a letter of a side."""
    return int(at[0] - 13), int(at[1] - 21), int(at[0] + 13), int(at[1] + 7)


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


def _trace(region: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the outlines of a region; only the box around it is looked at."""
    rows, columns = bounds_of(region)
    corner = np.array([columns.start, rows.start])
    return [outline + corner for outline in trace_outlines(region[rows, columns])]


def _cut(volume: Volume, view: View, size: int, window: Window) -> Image.Image:
    """Return the part of a slice that a View shows, as gray picture."""
    _, row_mm, column_mm = volume.spacing_mm
    x_step, y_step = (2 * view.reach_mm / size / mm for mm in (column_mm, row_mm))
    left, top = view.center[1] - size / 2 * x_step, view.center[0] - size / 2 * y_step
    # Two pixels more than are shown: the bicubic filter looks so far.
    rows = _within(top - 2, top + size * y_step + 2, volume.voxels.shape[1])
    columns = _within(left - 2, left + size * x_step + 2, volume.voxels.shape[2])
    part = volume.voxels[view.index, rows[0] : rows[1], columns[0] : columns[1]]
    scaled = (part - window.center) / window.width + 0.5
    gray = Image.fromarray((np.clip(scaled, 0, 1) * BRIGHTEST).astype(np.uint8))
    steps = (x_step, 0.0, left - columns[0], 0.0, y_step, top - rows[0])
    return gray.transform((size, size), Image.Transform.AFFINE, steps, Image.Resampling.BICUBIC)


def _within(first: float, last: float, count: int) -> tuple[int, int]:
    """Return the pixels between two edges, at least one."""
    start = min(max(0, math.floor(first)), count - 1)
    return start, max(start + 1, min(count, math.ceil(last)))
