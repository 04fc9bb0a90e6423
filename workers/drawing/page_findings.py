"""The page of a Volume in which something was found."""

from itertools import islice

from node.domain.finding import Finding
from workers.drawing.canvas import INK_2
from workers.drawing.page_frame import LEFT, RIGHT, SMALL, PageContext, draw_frame
from workers.drawing.page_measurements import draw_locator, draw_measurements
from workers.drawing.page_pointers import draw_pointers
from workers.drawing.page_shown import Shown, caption_whole, say_slices
from workers.drawing.slice_panel import (
    Panel,
    View,
    bounds_of,
    choose_window,
    draw_slice,
    find_segments,
    is_part,
    outline_segments,
    view_box,
    view_whole,
)
from workers.drawing.wording import headline, say_uid
from workers.pipelines.base import number_segment, require_mask

PANELS_TOP = 242
MAIN_PX, CROP_PX, KEY_PX = 560, 274, 236
KEY_PANELS = 6
# A crop shows at least this far around the middle of a finding, and at least this many times its own reach.
CROP_REACH_MM, CROP_FACTOR = 22.0, 1.9
KEY_REACH_MM, KEY_FACTOR = 48.0, 2.2


def draw_findings(page: PageContext) -> None:
    """Draw the page of one or more segmented Findings."""
    volume, mask = require_mask(page.analysis)
    findings = page.analysis.findings
    shown = Shown(page=page, volume=volume, mask=mask, window=choose_window(volume), findings=findings)
    draw_frame(
        page,
        headline=headline(shown.findings, page.provenance.pipeline),
        slices=say_slices(volume),
        details=page.notes,
        results=f"SEG {say_uid(page.provenance.uid('SEG'))}",
    )
    _draw_main(shown)
    _draw_crops(shown)
    draw_measurements(shown)
    draw_locator(shown)
    _draw_key_slices(shown)


def _draw_main(shown: Shown) -> None:
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
    draw_pointers(shown.page.canvas, shown.volume, shown.mask[index], view, panel)


def _draw_crops(shown: Shown) -> None:
    """Draw the first two Findings enlarged; a single one also without its outline."""
    left, step = LEFT + MAIN_PX + 16, MAIN_PX - CROP_PX
    pairs: list[tuple[Finding, bool]] = [(finding, True) for finding in shown.findings[:2]]
    if len(pairs) == 1:
        pairs.append((shown.findings[0], False))
    for place, (finding, is_outlined) in enumerate(pairs):
        index = shown.key(finding)
        words = f"{number_segment(finding)}   {shown.image(index)}" if is_outlined else "same, unmarked"
        draw_slice(
            shown.page.canvas,
            shown.volume,
            _view_finding(shown, finding, index, reach_mm=CROP_REACH_MM, factor=CROP_FACTOR),
            Panel(at=(left, PANELS_TOP + place * step), size=CROP_PX, caption=words),
            window=shown.window,
            outlined=outline_segments(shown.mask[index]) if is_outlined else (),
        )


def _view_finding(shown: Shown, finding: Finding, index: int, *, reach_mm: float, factor: float) -> View:
    """Return a View of a slice around the middle that a Finding has on its key slice, large enough for it."""
    box = bounds_of(shown.mask[shown.key(finding)] == finding.segment_number)
    return view_box(shown.volume, box, index, reach_mm=reach_mm, factor=factor)


def _draw_key_slices(shown: Shown) -> None:
    canvas = shown.page.canvas
    canvas.text((LEFT, 836), "Key slices", size=SMALL, color=INK_2)
    step = (RIGHT - LEFT - KEY_PX) / (KEY_PANELS - 1)
    chosen = _choose_key_slices(shown)
    is_mixed = len({number_segment(finding) for finding, _ in chosen}) > 1
    for place, (finding, index) in enumerate(chosen):
        number = f"{number_segment(finding)}   " if is_mixed else ""
        draw_slice(
            canvas,
            shown.volume,
            _view_finding(shown, finding, index, reach_mm=KEY_REACH_MM, factor=KEY_FACTOR),
            Panel(at=(round(LEFT + place * step), 850), size=KEY_PX, caption=f"{number}{shown.image(index)}"),
            window=shown.window,
            outlined=outline_segments(shown.mask[index]),
        )


def _choose_key_slices(shown: Shown) -> list[tuple[Finding, int]]:
    """Return the slices of six panels: each Finding gets as many, the first ones get the rest.

    A Finding that is part of another one is seen on the slices of that.
    """
    candidates = (
        finding
        for finding in shown.findings
        if not is_part(number_segment(finding), find_segments(shown.mask[shown.key(finding)]))
    )
    # Two Segments with the same box are each part of the other.
    findings = list(islice(candidates, KEY_PANELS)) or list(shown.findings[:1])
    each, rest = divmod(KEY_PANELS, len(findings))
    pairs: list[tuple[Finding, int]] = []
    for place, finding in enumerate(findings):
        count = each + (place < rest)
        extent = _measure_extent(shown, finding)
        pairs += [(finding, index) for index in spread(extent, shown.key(finding), count, len(shown.mask))]
    return pairs


def _measure_extent(shown: Shown, finding: Finding) -> tuple[int, int]:
    """Return first and last slice of the run around the key slice that a Finding touches."""
    first = last = shown.key(finding)
    while first > 0 and (shown.mask[first - 1] == finding.segment_number).any():
        first -= 1
    while last + 1 < len(shown.mask) and (shown.mask[last + 1] == finding.segment_number).any():
        last += 1
    return first, last


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
    count = min(count, total)
    missing = count - (last - first + 1)
    if missing > 0:
        first = min(max(0, first - (missing + 1) // 2), total - count)
        last = first + count - 1
    if count == 1:
        return [key]
    chosen = [round(first + place * (last - first) / (count - 1)) for place in range(count)]
    chosen[min(range(count), key=lambda place: abs(chosen[place] - key))] = key
    return chosen
