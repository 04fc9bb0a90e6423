"""What stands on every summary page: patient, notice above and below, the answer, the model; and tables and bars."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from node.domain.finding import Finding, Presence
from node.domain.percent import percent
from workers.drawing.canvas import EDGE, INK, INK_2, WARN, Canvas, Mark, fit, shorten, wrap
from workers.drawing.lettering import measure_text
from workers.drawing.wording import say_certainty, say_digest, say_moment, say_patient, say_study, say_uid
from workers.pipelines.base import Analysis
from workers.provenance import Provenance

WIDTH, HEIGHT = 1600, 1200
LEFT, RIGHT = 40, 1560
NOTICE = "AI result - unverified - not for diagnosis"
SMALL, BODY = 17, 20
# A long line is set smaller before it is cut; nothing is smaller than SMALL.
PATIENT_SIZES, STUDY_SIZES, HEADLINE_SIZES, FOOT_SIZES = (24, 22, 20, 18), (20, 19, 18, 17), (38, 34, 31, 28), (18, 17)
BAR_PX = 210
LIST_STEP, LIST_BOTTOM = 28, 1094
NAME_LETTERS = (64, 40, 24, 12)
DETAIL_LINES = 2
DETAIL_TOP, DETAIL_STEP = 194, 26
PRESENCE_WORDS = {
    Presence.PRESENT: "present",
    Presence.ABSENT: "absent",
    Presence.UNDETERMINED: "undecided",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """The page and what it is about."""

    canvas: Canvas
    analysis: Analysis
    provenance: Provenance
    header: Dataset

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person changed, what limits one finding, what limits all; there may be no room for the last."""
        labels = [finding.label for finding in self.analysis.findings]
        notes = sorted(self.analysis.notes, key=lambda note: not any(label in note for label in labels))
        return (*self.provenance.amendments, *notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table; `offset` is its left edge, or its right edge when aligned right, pixels."""

    title: str
    offset: int
    align: str = "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableShape:
    """How large a table is drawn: its width, the height of a row, the size of its type; pixels."""

    width: int
    row_px: int
    type_px: int = BODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a table, with the Mark of its Finding."""

    cells: tuple[str, ...]
    mark: Mark | None = None


def draw_frame(page: PageContext, *, headline: str, slices: str, details: Sequence[str], results: str) -> None:
    """Write head and foot of a page.

    Parameters
    ----------
    headline
        The answer in words.
    slices
        How much of the Series was read, such as ``312 slices of 1.0 mm``.
    details
        Sentences below the headline, most important first; what finds no room stays in the SR.
    results
        Which other Results were written.
    """
    canvas = page.canvas
    notice_left = draw_notice(canvas, y=52, size=24)
    patient, size = _fit_patient(page.header, width=notice_left - LEFT - 30)
    canvas.text((LEFT, 52), patient, size=size)
    words = "Not a substitute for the source images"
    canvas.text((RIGHT, 84), words, size=18, color=INK_2, align="right")
    room = RIGHT - LEFT - measure_text(words, 18) - 30
    study, size = fit(say_study(page.header, slices=slices), sizes=STUDY_SIZES, width=room)
    canvas.text((LEFT, 84), study, size=size, color=INK_2)
    canvas.rule((LEFT, 106), (RIGHT, 106))
    answer, size = fit(headline, sizes=HEADLINE_SIZES, width=RIGHT - LEFT, bold=True)
    canvas.text((LEFT, 158), answer, size=size, bold=True)
    lines = wrap([*details, "No earlier study was compared."], size=19, width=RIGHT - LEFT)
    if len(lines) > DETAIL_LINES:
        rest = " ".join(lines[DETAIL_LINES - 1 :])
        lines = [*lines[: DETAIL_LINES - 1], shorten(rest, size=19, width=RIGHT - LEFT)]
    for number, line in enumerate(lines):
        canvas.text((LEFT, DETAIL_TOP + number * DETAIL_STEP), line, size=19, color=INK_2)
    _draw_foot(page, results)


def _fit_patient(header: Dataset, *, width: float) -> tuple[str, int]:
    """Return who the patient is and its type size; a name without end is cut before the ID."""
    tried = [fit(say_patient(header, letters=letters), sizes=PATIENT_SIZES, width=width) for letters in NAME_LETTERS]
    return next((one for one in tried if not one[0].endswith("…")), tried[-1])


def draw_notice(canvas: Canvas, *, y: float, size: int) -> float:
    """Write the notice at the right edge and return where it begins."""
    left = RIGHT - canvas.text((RIGHT, y), NOTICE, size=size, color=WARN, align="right", bold=True) - 1.3 * size
    canvas.triangle((left, y), size * 0.85, WARN)
    return left


def draw_table(
    canvas: Canvas, *, at: tuple[int, int], columns: Sequence[Column], rows: Sequence[Row], shape: TableShape
) -> int:
    """Draw a plain table and return where it ends.

    Parameters
    ----------
    at
        Left end of the titles' base line.
    """
    x, y = at
    for column in columns:
        canvas.text((x + column.offset, y), column.title, size=SMALL, color=INK_2, align=column.align)
    for number, row in enumerate(rows):
        top = y + 14 + number * shape.row_px
        canvas.rule((x, top), (x + shape.width, top))
        if row.mark is not None:
            middle = top + shape.row_px / 2
            canvas.line([(x, middle), (x + 30, middle)], mark=row.mark, width=2.8)
        for cell, column in zip(row.cells, columns, strict=True):
            base = top + shape.row_px / 2 + 7
            canvas.text((x + column.offset, base), cell, size=shape.type_px, align=column.align)
    bottom = y + 14 + len(rows) * shape.row_px
    canvas.rule((x, bottom), (x + shape.width, bottom))
    return bottom


def draw_certainty(
    page: PageContext, finding: Finding, *, at: tuple[int, int], name: str, mark: Mark, name_px: int = 178
) -> None:
    """Draw name, bar with the tick of the threshold, number and word; filled is present, outlined is absent.

    Parameters
    ----------
    at
        Upper left corner.
    name_px
        Room for the name.
    """
    canvas, (x, y), width = page.canvas, at, BAR_PX
    is_present = finding.presence is Presence.PRESENT
    color = INK if is_present else INK_2
    canvas.text((x, y + 17), shorten(name, size=19, width=name_px - 12), size=19, color=color)
    left = x + name_px
    if finding.confidence is None:
        words = f"{PRESENCE_WORDS[finding.presence]}, no certainty given"
        canvas.text((left, y + 17), words, size=SMALL, color=color)
        return
    draw_bar(page, finding, at=(left, y + 2), size=(width, 16), mark=mark)
    canvas.text((left + width + 68, y + 17), say_certainty(finding), size=19, color=color, align="right")
    canvas.text((left + width + 76, y + 17), PRESENCE_WORDS[finding.presence], size=SMALL, color=color)


def draw_bar(page: PageContext, finding: Finding, *, at: tuple[int, int], size: tuple[int, int], mark: Mark) -> None:
    """Draw a certainty as a bar with the tick of the threshold; filled is present, outlined is absent.

    Parameters
    ----------
    at, size
        Upper left corner, width and height of the whole bar, pixels.
    """
    canvas, (x, y), (width, height) = page.canvas, at, size
    is_present = finding.presence is Presence.PRESENT
    canvas.box(at, size, edge=EDGE)
    part = round(width * min(max(finding.confidence or 0.0, 0.0), 1.0))
    canvas.box(at, (part, height), edge=mark.color if is_present else INK, face=mark.color if is_present else None)
    if page.analysis.threshold is not None:
        tick = x + round(width * page.analysis.threshold)
        canvas.rule((tick, y - 5), (tick, y + height + 5), color=INK, width=2)


def draw_list(canvas: Canvas, *, at: tuple[int, int], title: str, sentences: Sequence[str], width: int) -> int:
    """Write a titled list with wrapped lines and return the base line after it; it ends above the foot."""
    x, y = at
    canvas.text((x, y), title, size=SMALL, color=INK_2)
    y += 36
    for sentence in sentences:
        lines = wrap([sentence], size=BODY, width=width - 20)
        room = max(0, (LIST_BOTTOM - y) // LIST_STEP + 1)
        if len(lines) > room > 0:
            lines = [*lines[: room - 1], shorten(" ".join(lines[room - 1 :]), size=BODY, width=width - 20)]
        for number, line in enumerate(lines[:room]):
            if number == 0:
                canvas.text((x, y), "-", size=BODY)
            canvas.text((x + 20, y), line, size=BODY)
            y += LIST_STEP
        y += 6
    return y


def _draw_foot(page: PageContext, results: str) -> None:
    canvas, model = page.canvas, page.provenance.model
    canvas.rule((LEFT, 1108), (RIGHT, 1108))
    facts = [f"{model.name} {model.version}", f"weights sha256 {say_digest(model.weights_sha256)}"]
    if page.analysis.threshold is not None:
        facts.append(f"threshold {percent(page.analysis.threshold)}")
    facts.append(model.notice)
    words, size = fit("   ".join(facts), sizes=FOOT_SIZES, width=RIGHT - LEFT)
    canvas.text((LEFT, 1137), words, size=size, color=INK_2)
    made = (
        f"{page.provenance.node_aet} (radnode {page.provenance.software_version}), dated "
        f"{say_moment(page.provenance.accepted_at)}   SR {say_uid(page.provenance.uid('SR'))}   {results}"
    )
    notice_left = draw_notice(canvas, y=1167, size=BODY)
    words, size = fit(made, sizes=FOOT_SIZES, width=notice_left - LEFT - 16)
    canvas.text((LEFT, 1167), words, size=size, color=INK_2)
