"""The page of a Volume in which something was found."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.domain.finding import Finding
from workers.encoding.canvas import EDGE, INK_2, LINE, mark_of, measure_text, shorten
from workers.encoding.page_frame import (
    BODY,
    LEFT,
    SMALL,
    Column,
    PageContext,
    Row,
    draw_certainty,
    draw_frame,
    draw_table,
)
from workers.encoding.segmentation import find_key_slice, number_segment, require_mask
from workers.encoding.slice_panel import (
    Panel,
    View,
    Window,
    choose_window,
    draw_slice,
    name_side,
    outline_segments,
    to_page,
    view_whole,
)
from workers.encoding.wording import headline, name_row, say_measurement, say_uid
from workers.volume import Volume

PANELS_TOP = 242
MAIN_PX, CROP_PX, KEY_PX = 560, 274, 236
COLUMN_LEFT, COLUMN_WIDTH = 920, 640
MAX_ROWS = 5
ROOMY_ROWS = 2  # up to so many findings, rows stand wide
KEY_PANELS = 6
# A crop shows at least this far around the middle of a finding, and at least this many times its own reach.
CROP_REACH_MM, CROP_FACTOR = 22.0, 1.9
KEY_REACH_MM, KEY_FACTOR = 48.0, 2.2
# A finding that is larger than this on the page needs no circle around it.
POINTER_PX = 30.0
MEASUREMENT_TITLES = (
    ("long_axis_mm", "Long"),
    ("short_axis_mm", "Short"),
    ("volume_mm3", "Volume"),
    ("mean_hu", "Mean"),
)
CELL_PX = 112
DIRECTIONS = {"H": "head", "F": "feet", "L": "left", "R": "right", "A": "front", "P": "back"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What all panels of the page share."""

    page: PageContext
    volume: Volume
    mask: NDArray[np.uint8]
    window: Window
    findings: tuple[Finding, ...]

    def key(self, finding: Finding) -> int:
        """Return the index of the key slice of a Finding."""
        return find_key_slice(finding, self.mask)

    def image(self, index: int) -> str:
        """Return the words for a slice, as people find it in their viewer."""
        return name_image(self.volume, index)


def draw_findings(page: PageContext) -> None:
    """Draw the page of one or more segmented Findings."""
    volume, mask = require_mask(page.analysis)
    findings = page.analysis.findings
    shown = _Shown(page=page, volume=volume, mask=mask, window=choose_window(volume), findings=findings)
    draw_frame(
        page,
        headline=headline(shown.findings, page.provenance.pipeline),
        slices=say_slices(volume),
        details=page.analysis.notes,
        results=f"SEG {say_uid(page.provenance.uid('SEG'))}",
    )
    _draw_main(shown)
    _draw_crops(shown)
    bottom = _draw_measurements(shown)
    _draw_certainties(shown, bottom + (56 if len(findings) <= ROOMY_ROWS else 34))
    _draw_locator(shown)
    _draw_key_slices(shown)


def name_image(volume: Volume, index: int) -> str:
    """Return ``image 142`` by Instance Number, else ``slice 12`` by position."""
    number = volume.datasets[index].get("InstanceNumber")
    return f"image {number}" if number is not None else f"slice {index + 1}"


def caption_whole(volume: Volume, index: int, window: Window) -> str:
    """Return the caption of a panel that shows a whole slice."""
    place = f"{name_image(volume, index).capitalize()} (slice {index + 1} of {len(volume.datasets)})"
    return f"{place}   {window.words}".strip()


def say_slices(volume: Volume) -> str:
    """Return number and distance of the slices."""
    return f"{len(volume.datasets)} slices of {volume.spacing_mm[0]:.1f} mm"


def _view_finding(shown: _Shown, finding: Finding, index: int, *, reach_mm: float, factor: float) -> View:
    """Return a View of a slice around the middle that a Finding has on its key slice, large enough for it."""
    return view_region(shown.volume, shown.mask[shown.key(finding)] == finding.segment_number, index, reach_mm, factor)


def view_region(volume: Volume, region: NDArray[np.bool_], index: int, reach_mm: float, factor: float) -> View:
    """Return a View of slice `index` around a region, which reaches `factor` times as far, at least `reach_mm`."""
    rows, columns = np.nonzero(region)
    _, row_mm, column_mm = volume.spacing_mm
    own_mm = max(float(np.ptp(rows) + 1) * row_mm, float(np.ptp(columns) + 1) * column_mm) / 2
    center = (float(rows.min() + rows.max() + 1) / 2, float(columns.min() + columns.max() + 1) / 2)
    return View(index=index, center=center, reach_mm=max(reach_mm, factor * own_mm))


def _draw_main(shown: _Shown) -> None:
    index = shown.key(shown.findings[0])
    panel = Panel(
        at=(LEFT, PANELS_TOP),
        size=MAIN_PX,
        caption=caption_whole(shown.volume, index, shown.window),
        shows_sides=True,
    )
    view = view_whole(shown.volume, index)
    outlined = outline_segments(shown.mask[index])
    draw_slice(shown.page.canvas, shown.volume, view, panel, window=shown.window, outlined=outlined)
    for number in np.unique(shown.mask[index]).tolist():
        if number:
            _draw_pointer(shown, number, view, panel)


def _draw_pointer(shown: _Shown, number: int, view: View, panel: Panel) -> None:
    """Circle a small Segment in the large panel and write its number beside it."""
    own = view_region(shown.volume, shown.mask[view.index] == number, view.index, 0.0, 1.0)
    x, y = to_page((own.center[1], own.center[0]), shown.volume, view, panel)
    radius = own.reach_mm * panel.size / (2 * view.reach_mm)
    canvas, mark = shown.page.canvas, mark_of(number)
    if radius < POINTER_PX:
        radius = max(1.6 * radius, 22.0)
        turns = np.linspace(0, 2 * np.pi, 73)
        circle = [(x + radius * float(np.cos(turn)), y + radius * float(np.sin(turn))) for turn in turns]
        clip = (*panel.at, panel.at[0] + panel.size, panel.at[1] + panel.size)
        canvas.line(circle, mark=mark, width=1.4, clip=clip)
    # Numbers of neighbors would lie on each other: they take turns around their circles.
    turn = -0.8 + (number - 1) * 0.9
    at = (x + (radius + 13) * float(np.cos(turn)), y + (radius + 13) * float(np.sin(turn)) + 7)
    canvas.shade((at[0] - 11, at[1] - 20), (22, 24))
    canvas.text(at, str(number), size=22, color=mark.color, align="center", bold=True)


def _draw_crops(shown: _Shown) -> None:
    """Draw the first two Findings enlarged; a single one also without its outline."""
    left, step = LEFT + MAIN_PX + 16, MAIN_PX - CROP_PX
    pairs: list[tuple[Finding, bool]] = [(finding, True) for finding in shown.findings[:2]]
    if len(pairs) == 1:
        pairs.append((shown.findings[0], False))
    for place, (finding, is_outlined) in enumerate(pairs):
        index = shown.key(finding)
        words = f"{number_segment(finding)}   {shown.image(index)}" if is_outlined else "the same, unmarked"
        draw_slice(
            shown.page.canvas,
            shown.volume,
            _view_finding(shown, finding, index, reach_mm=CROP_REACH_MM, factor=CROP_FACTOR),
            Panel(at=(left, PANELS_TOP + place * step), size=CROP_PX, caption=words),
            window=shown.window,
            outlined=outline_segments(shown.mask[index]) if is_outlined else (),
        )


def _draw_measurements(shown: _Shown) -> int:
    """Draw the table and return the base line of the words below it."""
    findings = shown.findings[:MAX_ROWS]
    titles = [entry for entry in MEASUREMENT_TITLES if any(entry[0] in finding.measurements for finding in findings)]
    name_px = COLUMN_WIDTH - CELL_PX * len(titles)
    columns = [Column(title="Finding", offset=44, align="left")]
    columns += [Column(title=title, offset=name_px + CELL_PX * place) for place, (_, title) in enumerate(titles, 1)]
    rows = []
    for finding in findings:
        number = number_segment(finding)
        name = f"{number}  {name_row(finding)}"
        values = [finding.measurements.get(name) for name, _ in titles]
        cells = [
            "none" if value is None else say_measurement(title, value)
            for value, (title, _) in zip(values, titles, strict=True)
        ]
        rows.append(Row(cells=(shorten(name, size=BODY, width=name_px - 34), *cells), mark=mark_of(number)))
    canvas = shown.page.canvas
    row_px = 50 if len(rows) <= ROOMY_ROWS else 34
    bottom = draw_table(canvas, at=(COLUMN_LEFT, 258), columns=columns, rows=rows, row_px=row_px, width=COLUMN_WIDTH)
    words = "Axes on one slice, volumes by voxels"
    if len(shown.findings) > MAX_ROWS:
        words = f"{len(shown.findings) - MAX_ROWS} more in the SR.   {words}"
    canvas.text((COLUMN_LEFT + 44, bottom + 26), words, size=SMALL, color=INK_2)
    return bottom + 26


def _draw_certainties(shown: _Shown, y: int) -> None:
    shown.page.canvas.text((COLUMN_LEFT, y), "Certainty of finding, tick = threshold", size=SMALL, color=INK_2)
    row_px = 46 if len(shown.findings) <= ROOMY_ROWS else 29
    for row, finding in enumerate(shown.findings[:MAX_ROWS]):
        number = number_segment(finding)
        at = (COLUMN_LEFT, y + 20 + row * row_px)
        name = f"{number}  AI {finding.label}"
        draw_certainty(shown.page, finding, at=at, name=name, mark=mark_of(number), name_px=230)


def _draw_locator(shown: _Shown) -> None:
    """Draw where in the scanned range the Findings lie: a line of slices, not another picture."""
    canvas, top, height = shown.page.canvas, 672, 130
    canvas.box((COLUMN_LEFT, top), (COLUMN_WIDTH, height), edge=LINE)
    canvas.text((COLUMN_LEFT + 30, top + 28), "Position in the scanned range", size=SMALL, color=INK_2)
    left, right, y = COLUMN_LEFT + 30, COLUMN_LEFT + COLUMN_WIDTH - 30, top + 82
    canvas.box((left, y - 5), (right - left, 10), face=EDGE)
    last = len(shown.volume.datasets) - 1
    upward = shown.volume.affine[:3, 0]
    for index, at, align in ((0, left, "left"), (last, right, "right")):
        side = DIRECTIONS[name_side(-upward if index == 0 else upward)]
        canvas.text((at, y + 34), f"{shown.image(index)}, {side}", size=SMALL, color=INK_2, align=align)
    free = left - 10.0
    for finding in sorted(shown.findings[:MAX_ROWS], key=shown.key):
        index, number = shown.key(finding), number_segment(finding)
        x = left + (right - left) * index / max(last, 1)
        mark = mark_of(number)
        canvas.line([(x, y - 15), (x, y + 15)], mark=mark, width=2.6)
        # From left to right each label takes the next free place; near the end it would leave the box.
        words = f"{number}  {shown.image(index)}"
        start = min(max(x - 8, free), right + 20 - measure_text(words, SMALL))
        if start >= free:
            free = start + 16 + canvas.text((start, y - 22), words, size=SMALL, color=mark.color, bold=True)


def _draw_key_slices(shown: _Shown) -> None:
    canvas = shown.page.canvas
    canvas.text((LEFT, 836), "Key slices", size=SMALL, color=INK_2)
    step = (COLUMN_LEFT + COLUMN_WIDTH - LEFT - KEY_PX) / (KEY_PANELS - 1)
    for place, (finding, index) in enumerate(_choose_key_slices(shown)):
        draw_slice(
            canvas,
            shown.volume,
            _view_finding(shown, finding, index, reach_mm=KEY_REACH_MM, factor=KEY_FACTOR),
            Panel(at=(round(LEFT + place * step), 850), size=KEY_PX, caption=shown.image(index)),
            window=shown.window,
            outlined=outline_segments(shown.mask[index]),
        )


def _choose_key_slices(shown: _Shown) -> list[tuple[Finding, int]]:
    """Return six slices: around the key slices of up to three Findings, or through the first one alone."""
    pairs = _spread_over(shown, shown.findings[:3])
    if len({index for _, index in pairs}) < len(pairs):
        # The Findings share slices, as the parts of one tumor do: each slice is shown once.
        pairs = _spread_over(shown, shown.findings[:1])
    return pairs


def _spread_over(shown: _Shown, findings: tuple[Finding, ...]) -> list[tuple[Finding, int]]:
    pairs: list[tuple[Finding, int]] = []
    for finding in findings:
        touched = np.flatnonzero((shown.mask == finding.segment_number).any(axis=(1, 2)))
        extent = (int(touched[0]), int(touched[-1]))
        each = KEY_PANELS // len(findings)
        pairs += [(finding, index) for index in spread(extent, shown.key(finding), each, len(shown.mask))]
    return pairs


def spread(extent: tuple[int, int], key: int, count: int, total: int) -> list[int]:
    """Return slices over the extent of a Finding in order, evenly spaced, the key slice among them.

    Parameters
    ----------
    extent
        First and last slice of the Finding; where it has fewer than `count`, its neighbors join.
    count, total
        How many slices to return, and how many there are.
    """
    first, last = extent
    step = max(1, min(-(-(last - first + 1) // count), (total - 1) // max(1, count - 1)))
    grid = list(range(key % step, total, step))
    while len(grid) < count and step > 1:
        step -= 1
        grid = list(range(key % step, total, step))
    place = key // step
    start = round(((first + last) / 2 - key % step) / step - (count - 1) / 2)
    start = min(max(start, place - count + 1, 0), place, max(len(grid) - count, 0))
    return grid[start : start + count]
