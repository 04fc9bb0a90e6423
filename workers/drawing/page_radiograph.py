"""The page of a radiograph: the image, where the classifier looked, and every label."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from node.domain.finding import Presence
from workers.drawing.canvas import INK_2, MARKS, Canvas, Mark, shorten, wrap
from workers.drawing.heat_levels import LEVELS, reduce_heat, trace_level
from workers.drawing.page_frame import (
    LEFT,
    PRESENCE_WORDS,
    SMALL,
    PageContext,
    draw_certainty,
    draw_frame,
    draw_list,
)
from workers.drawing.slice_panel import BRIGHTEST, draw_side
from workers.drawing.wording import NOT_ASKED, headline_labels, say_certainty, say_uid
from workers.radiograph import Radiograph

TITLES_TOP, PANELS_TOP = 232, 246
LETTERS_PX = 80  # a narrower image has no room for two letters
HEAT_COLOR = (255, 158, 56)
# Dash pattern and width of each level line, faintest first.
LEVEL_STYLES = (((2.0, 5.0), 1.8), ((9.0, 5.0), 1.8), ((), 2.4))
LEVEL_WORDS = (
    "Solid 70 %, dashed 50 %, dotted 30 % of the largest value.",
    "What moved the score; not an outline of disease.",
)
HEAT_FLOOR, HEAT_OPACITY = 0.25, 0.55
MAX_LABELS = 12
MAX_SENTENCES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where things stand: few labels leave the width to the images, many need a column of their own.

    Attributes
    ----------
    panel
        Width and height of an image, pixels.
    labels, meaning, limits
        Where the three lists begin; a height of 0 is below what stands above.
    widths
        Of the list of meanings and of limits.
    """

    panel: tuple[int, int]
    labels: tuple[int, int]
    meaning: tuple[int, int]
    limits: tuple[int, int]
    widths: tuple[int, int]


FEW_LABELS = 3
TWO_LARGE = _Layout(panel=(752, 590), labels=(40, 920), meaning=(610, 920), limits=(1130, 920), widths=(490, 430))
TWO_SMALL = _Layout(panel=(456, 560), labels=(1008, 232), meaning=(40, 0), limits=(1008, 0), widths=(900, 552))
ONE = _Layout(panel=(900, 830), labels=(1000, 232), meaning=(1000, 0), limits=(1000, 0), widths=(560, 560))


def draw_radiograph(page: PageContext, radiograph: Radiograph) -> None:
    """Draw the page of a classified radiograph.

    Parameters
    ----------
    radiograph
        The image that was read.
    """
    findings, heat = page.analysis.findings, page.analysis.heat
    rows, columns = radiograph.pixels.shape
    present = sum(finding.presence is Presence.PRESENT for finding in findings)
    labels = "label is" if len(findings) == 1 else "labels are"
    details = [f"{present} of {len(findings)} {labels} above the threshold."]
    draw_frame(
        page,
        headline=headline_labels(findings),
        slices=f"{rows} \N{MULTIPLICATION SIGN} {columns} pixels",
        details=details if present else [*details, "This does not exclude a finding."],
        results=f"SC {say_uid(page.provenance.uid('SC'))}",
    )
    layout = ONE
    if heat is not None:
        layout = TWO_LARGE if len(findings) <= FEW_LABELS else TWO_SMALL
    below_images = _draw_images(page, radiograph, layout)
    _draw_lists(page, layout, below_labels=_draw_labels(page, layout), below_images=below_images)


def _draw_images(page: PageContext, radiograph: Radiograph, layout: _Layout) -> int:
    """Draw the radiograph, and again with its heat map, and return where they end."""
    canvas, heat = page.canvas, page.analysis.heat
    picture, source = _fit(radiograph.pixels, layout.panel), radiograph.dataset
    at = (LEFT, PANELS_TOP)
    canvas.text((at[0], TITLES_TOP), "Source image", size=SMALL, color=INK_2)
    canvas.picture(picture, at)
    _draw_sides(canvas, source, picture, at)
    if heat is None:
        return at[1] + picture.height
    at = (at[0] + layout.panel[0] + 16, at[1])
    present = [finding.label for finding in page.analysis.findings if finding.presence is Presence.PRESENT]
    title = f"Evidence for {(present or ['the score'])[0].lower()}"
    canvas.text((at[0], TITLES_TOP), shorten(title, size=SMALL, width=layout.panel[0]), size=SMALL, color=INK_2)
    reduced = reduce_heat(heat)
    canvas.picture(_blend(picture, reduced), at)
    _draw_levels(canvas, reduced, picture, at)
    _draw_sides(canvas, source, picture, at)
    y = at[1] + picture.height
    for line in (line for words in LEVEL_WORDS for line in wrap([words], size=SMALL, width=layout.panel[0])):
        y += 24
        canvas.text((at[0], y), line, size=SMALL, color=INK_2)
    return y


def _fit(pixels: NDArray[np.float32], panel: tuple[int, int]) -> Image.Image:
    """Return the radiograph, as large as its panel allows."""
    rows, columns = pixels.shape
    scale = min(panel[0] / columns, panel[1] / rows)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    return Image.fromarray((pixels * BRIGHTEST).astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)


def _blend(picture: Image.Image, reduced: NDArray[np.float32]) -> Image.Image:
    opacity = np.clip(reduced - HEAT_FLOOR, 0, 1) * HEAT_OPACITY
    mask = Image.fromarray((opacity * 255).astype(np.uint8)).resize(picture.size, Image.Resampling.BILINEAR)
    blended = picture.convert("RGB")
    blended.paste(HEAT_COLOR, (0, 0, *picture.size), mask)
    return blended


def _draw_levels(canvas: Canvas, reduced: NDArray[np.float32], picture: Image.Image, at: tuple[int, int]) -> None:
    clip = (at[0], at[1], at[0] + picture.width, at[1] + picture.height)
    for level, (dashes, width) in zip(LEVELS, LEVEL_STYLES, strict=True):
        for outline in trace_level(reduced, level, shape=(picture.height, picture.width)):
            points = [(float(x) + at[0], float(y) + at[1]) for x, y in outline]
            canvas.line(points, mark=Mark(color=MARKS[0].color, dashes=dashes), width=width, clip=clip)


def _draw_sides(canvas: Canvas, source: Dataset, picture: Image.Image, at: tuple[int, int]) -> None:
    """Write the patient's sides as Patient Orientation (0020,0020) says; nothing where it is absent."""
    toward = [str(value)[:1] for value in source.get("PatientOrientation") or []]
    if not toward or toward[0] not in ("L", "R") or picture.width < LETTERS_PX:
        return
    y = at[1] + picture.height / 2
    draw_side(canvas, "L" if toward[0] == "R" else "R", (at[0] + 17, y))
    draw_side(canvas, toward[0], (at[0] + picture.width - 17, y))


def _draw_labels(page: PageContext, layout: _Layout) -> int:
    """Draw the bar of every label and return where they end."""
    x, y = layout.labels
    page.canvas.text((x, y), "Certainty by label, tick = threshold", size=SMALL, color=INK_2)
    findings = page.analysis.findings[:MAX_LABELS]
    row_px = min(68, 600 // max(1, len(findings)))
    for row, finding in enumerate(findings):
        at = (x, y + 26 + row * row_px)
        draw_certainty(page, finding, at=at, name=finding.label, mark=MARKS[0], name_px=170)
    below = y + 26 + len(findings) * row_px
    if len(page.analysis.findings) > MAX_LABELS:
        words = f"{len(page.analysis.findings) - MAX_LABELS} more labels in the SR"
        page.canvas.text((x, below + 4), words, size=SMALL, color=INK_2)
        below += 24
    return below


def _draw_lists(page: PageContext, layout: _Layout, *, below_labels: int, below_images: int) -> None:
    sentences = []
    for finding in page.analysis.findings[:2]:
        certainty = "" if finding.confidence is None else f" at {say_certainty(finding)}"
        sentences.append(f"{finding.label} is {PRESENCE_WORDS[finding.presence]}{certainty}.")
    sentences = [*sentences, *page.notes][:MAX_SENTENCES]
    is_aside = layout.meaning[0] == layout.labels[0]
    at = (layout.meaning[0], layout.meaning[1] or (below_labels if is_aside else below_images) + 56)
    below = draw_list(page.canvas, at=at, title="What this means", sentences=sentences, width=layout.widths[0])
    limits = NOT_ASKED.get(page.provenance.pipeline)
    if limits:
        title = "What this model does not look for"
        at = (layout.limits[0], layout.limits[1] or (below if is_aside else below_labels) + 40)
        draw_list(page.canvas, at=at, title=title, sentences=limits, width=layout.widths[1])
