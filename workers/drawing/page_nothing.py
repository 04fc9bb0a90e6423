"""The page of a Volume in which nothing was found; it must not look like no result."""

import numpy as np

from node.domain.percent import percent
from workers.drawing.canvas import shorten
from workers.drawing.page_findings import PANELS_TOP
from workers.drawing.page_frame import (
    BODY,
    LEFT,
    Column,
    PageContext,
    Row,
    TableShape,
    draw_frame,
    draw_list,
    draw_table,
)
from workers.drawing.page_shown import caption_whole, say_slices
from workers.drawing.slice_panel import Panel, choose_window, draw_slice, view_whole
from workers.drawing.wording import NOT_ASKED, headline_nothing, say_asked
from workers.volume import Volume

PANEL_PX, PANEL_STEP = 496, 512
ASKED_PX = 460
# Where along the stack the three shown slices lie.
SHOWN_AT = (0.3, 0.5, 0.7)
WHY = (
    "The model ran to its end. If it could not, there would be no result at all: "
    "the Study would stand in the worklist as Canceled, with the reason.",
)


def draw_nothing(page: PageContext, volume: Volume) -> None:
    """Draw the page of an Analysis without Findings.

    Parameters
    ----------
    volume
        The Volume that was read.
    """
    draw_frame(
        page,
        headline=headline_nothing(page.provenance.pipeline, page.provenance.model.looked_for),
        slices=say_slices(volume),
        details=("This does not exclude a finding.", *page.notes),
        results="No SEG was written",
    )
    window = choose_window(volume)
    total = len(volume.datasets)
    for place, part in enumerate(SHOWN_AT):
        index = min(total - 1, int(total * part))
        at = (LEFT + place * PANEL_STEP, PANELS_TOP)
        panel = Panel(at=at, size=PANEL_PX, caption=caption_whole(volume, index, window), shows_sides=True)
        draw_slice(page.canvas, volume, view_whole(volume, index), panel, window=window)
    _draw_answers(page, volume)


def _draw_answers(page: PageContext, volume: Volume) -> None:
    canvas, pipeline = page.canvas, page.provenance.pipeline
    asked = say_asked(pipeline, page.provenance.model.looked_for)
    total, threshold = len(volume.datasets), page.analysis.threshold
    answer = "none" if threshold is None else f"none from {percent(threshold)}"
    distance = f"{volume.spacing_mm[0]:.1f} mm, no gap"
    rows = [
        Row(cells=(shorten(asked, size=BODY, width=ASKED_PX), answer)),
        Row(cells=("Slices read", f"{total} of {total}")),
        Row(cells=("Slice distance", distance)),
        Row(cells=("Range read", f"{_range_mm(volume):.0f} mm")),
    ]
    columns = (Column(title="What was asked", offset=0, align="left"), Column(title="Answer", offset=640))
    draw_table(canvas, at=(LEFT, 790), columns=columns, rows=rows, shape=TableShape(width=640, row_px=46))
    width, y = 800, 790
    if pipeline in NOT_ASKED:
        title = "What this model does not look for"
        y = draw_list(canvas, at=(760, y), title=title, sentences=NOT_ASKED[pipeline], width=width) + 18
    draw_list(canvas, at=(760, y), title="Why this page exists", sentences=WHY, width=width)


def _range_mm(volume: Volume) -> float:
    return float(np.linalg.norm(volume.affine[:3, 0])) * len(volume.datasets)
