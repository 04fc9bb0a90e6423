"""The right column of a findings page: measurements, certainties, and where in the scanned range."""

from collections.abc import Sequence

from workers.drawing.canvas import EDGE, INK_2, LINE, mark_of, shorten
from workers.drawing.lettering import measure_text
from workers.drawing.page_frame import BODY, SMALL, Column, Row, TableShape, draw_bar, draw_certainty, draw_table
from workers.drawing.page_shown import Shown
from workers.drawing.slice_panel import name_side
from workers.drawing.wording import name_row, say_certainty, say_measurements
from workers.pipelines.base import number_segment

COLUMN_LEFT, COLUMN_WIDTH = 920, 640
# Up to so many findings rows stand wide; up to so many there is a bar for each; the others are in the SR.
ROOMY_ROWS, BAR_ROWS, MAX_ROWS = 3, 5, 12
TABLE_BOTTOM = 620
# What stands in a column of the table: its title, the measurements in a cell, its width in pixels. Many Findings leave
# less room: both axes share a column.
WIDE_COLUMNS = (
    ("Long", ("long_axis_mm",), 108),
    ("Short", ("short_axis_mm",), 108),
    ("Volume", ("volume_mm3",), 126),
    ("Mean", ("mean_hu",), 112),
)
NARROW_COLUMNS = (
    ("Axes", ("long_axis_mm", "short_axis_mm"), 128),
    ("Volume", ("volume_mm3",), 104),
    ("Mean", ("mean_hu",), 94),
)
CERTAINTY_PX, NARROW_BAR_PX, NARROW_TYPE_PX = 138, 66, 18
DIRECTIONS = {"H": "head", "F": "feet", "L": "left", "R": "right", "A": "front", "P": "back"}


def draw_locator(shown: Shown) -> None:
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
    is_crowded = len(shown.findings) > BAR_ROWS
    for finding in sorted(shown.findings[:MAX_ROWS], key=shown.key):
        index, number = shown.key(finding), number_segment(finding)
        x = left + (right - left) * index / max(last, 1)
        mark = mark_of(number)
        canvas.line([(x, y - 15), (x, y + 15)], mark=mark, width=2.6)
        # From left to right each label takes the next free place; near the end it would leave the box.
        words = str(number) if is_crowded else f"{number}  {shown.image(index)}"
        start = min(max(x - 8, free), right + 20 - measure_text(words, SMALL, bold=True))
        if start >= free:
            free = start + 14 + canvas.text((start, y - 22), words, size=SMALL, color=mark.color, bold=True)


def draw_measurements(shown: Shown) -> None:
    """Draw how large each Finding is and how certain; where there are many, in one row each."""
    if len(shown.findings) > BAR_ROWS:
        _draw_many(shown)
        return
    columns, rows = _tabulate(shown, WIDE_COLUMNS, right=COLUMN_WIDTH, type_px=BODY)
    shape = TableShape(width=COLUMN_WIDTH, row_px=50 if len(rows) <= ROOMY_ROWS else 34)
    bottom = draw_table(shown.page.canvas, at=(COLUMN_LEFT, 258), columns=columns, rows=rows, shape=shape)
    _explain(shown, bottom)
    _draw_certainties(shown, bottom + 26 + (56 if len(rows) <= ROOMY_ROWS else 34))


def _draw_many(shown: Shown) -> None:
    """Draw one table of many Findings, each with its certainty in its row."""
    right = COLUMN_WIDTH - CERTAINTY_PX
    columns, rows = _tabulate(shown, NARROW_COLUMNS, right=right, type_px=NARROW_TYPE_PX)
    columns.append(Column(title="Certainty", offset=COLUMN_WIDTH))
    findings = shown.findings[: len(rows)]
    rows = [
        Row(cells=(*row.cells, say_certainty(finding) or "none"), mark=row.mark)
        for row, finding in zip(rows, findings, strict=True)
    ]
    top = 258 + 14
    shape = TableShape(width=COLUMN_WIDTH, row_px=(TABLE_BOTTOM - top) // len(rows), type_px=NARROW_TYPE_PX)
    bottom = draw_table(shown.page.canvas, at=(COLUMN_LEFT, 258), columns=columns, rows=rows, shape=shape)
    for row, finding in enumerate(findings):
        at = (COLUMN_LEFT + right + 14, top + row * shape.row_px + shape.row_px // 2 - 7)
        mark = mark_of(number_segment(finding))
        draw_bar(shown.page, finding, at=at, size=(NARROW_BAR_PX, 14), mark=mark)
    _explain(shown, bottom)


def _tabulate(
    shown: Shown, layout: Sequence[tuple[str, tuple[str, ...], int]], *, right: int, type_px: int
) -> tuple[list[Column], list[Row]]:
    """Return the columns of what was measured, the last of which ends at `right`, and a row for each Finding."""
    findings = shown.findings[:MAX_ROWS]
    full_px = sum(width for _, _, width in layout)
    layout = [entry for entry in layout if any(entry[1][0] in finding.measurements for finding in findings)]
    # Columns that nobody needs leave some of their room to the others, most of it to the names.
    spare_px = (full_px - sum(width for _, _, width in layout)) // (3 * len(layout)) if layout else 0
    name_px = end = right - sum(width + spare_px for _, _, width in layout)
    columns = [Column(title="Finding", offset=44, align="left")]
    for title, _, width in layout:
        end += width + spare_px
        columns.append(Column(title=title, offset=end))
    rows = []
    for finding in findings:
        number = number_segment(finding)
        name = shorten(f"{number}  {name_row(finding)}", size=type_px, width=name_px - 34)
        cells = [say_measurements(finding.measurements, names) or "none" for _, names, _ in layout]
        rows.append(Row(cells=(name, *cells), mark=mark_of(number)))
    return columns, rows


def _explain(shown: Shown, bottom: int) -> None:
    """Write below the table how was measured, and where the Findings are that found no row."""
    words = "Axes on one slice, volumes by voxels"
    if len(shown.findings) > MAX_ROWS:
        words = f"{len(shown.findings) - MAX_ROWS} more in the SR.   {words}"
    shown.page.canvas.text((COLUMN_LEFT + 44, bottom + 26), words, size=SMALL, color=INK_2)


def _draw_certainties(shown: Shown, y: int) -> None:
    shown.page.canvas.text((COLUMN_LEFT, y), "Certainty of finding, tick = threshold", size=SMALL, color=INK_2)
    row_px = 46 if len(shown.findings) <= ROOMY_ROWS else 29
    for row, finding in enumerate(shown.findings):
        number = number_segment(finding)
        at = (COLUMN_LEFT, y + 20 + row * row_px)
        name = f"{number}  AI {finding.label}"
        draw_certainty(shown.page, finding, at=at, name=name, mark=mark_of(number), name_px=262)
