"""A black page and what is drawn on it: text, rules, boxes, dashed lines, pictures. Pillow only, no font file."""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[int, int, int, int]

# Reading-room palette: the page is shown beside images, so it is black and its text is not white.
PAPER: Color = (0, 0, 0)
INK: Color = (205, 210, 214)
INK_2: Color = (152, 161, 169)
LINE: Color = (42, 48, 54)
EDGE: Color = (89, 98, 107)
WARN: Color = (227, 181, 101)

# Lines are drawn this much larger and reduced: Pillow draws no smooth lines by itself.
SUPERSAMPLING = 3
# The built-in font has ASCII and little more; these become what it has.
FOLDED = {"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "AE", "đ": "d", "Đ": "D"}
FOLDED |= {"\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{MULTIPLICATION SIGN}": "x"}
FOLDED |= {"\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'"}
FOLDED |= {"\N{LEFT DOUBLE QUOTATION MARK}": '"', "\N{RIGHT DOUBLE QUOTATION MARK}": '"'}
MINUS = "\N{MINUS SIGN}"
SUPERSCRIPTS = {"²": "2", "³": "3"}
KEPT = (MINUS, *SUPERSCRIPTS)
HAD = "…·°"
SUPERSCRIPT_SCALE = 0.62
MINUS_EM = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How one Finding is drawn: color and dash pattern change together, so that a gray monitor shows the same.

    Attributes
    ----------
    dashes
        Lengths of line and gap in turn, pixels; empty for a solid line.
    """

    color: Color
    dashes: tuple[float, ...]


MARKS = (
    Mark(color=(255, 165, 74), dashes=()),
    Mark(color=(127, 208, 230), dashes=(11.0, 5.5)),
    Mark(color=(214, 165, 240), dashes=(3.5, 4.0)),
    Mark(color=(168, 214, 140), dashes=(14.0, 4.0, 3.5, 4.0)),
)


def mark_of(number: int) -> Mark:
    """Return the Mark of the Finding with that number, from 1."""
    return MARKS[(number - 1) % len(MARKS)]


@lru_cache(maxsize=32)
def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in font."""
    return ImageFont.load_default(size)


def fold(text: str) -> str:
    """Return `text` in letters that the built-in font has; a letter without a likeness becomes a question mark."""
    letters = []
    for letter in text:
        plain = FOLDED.get(letter, letter)
        if (plain.isascii() and plain.isprintable()) or plain in KEPT or plain in HAD:
            letters.append(plain)
        else:
            base = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
            letters.append(base or "?")
    return "".join(letters)


class Canvas:
    """A page of RGB pixels.

    Parameters
    ----------
    width, height
        Pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the page, (rows, columns, 3) uint8."""
        return np.array(self._image)

    def text(
        self,
        at: Point,
        text: str,
        *,
        size: int = 20,
        color: Color = INK,
        align: str = "left",
        bold: bool = False,
    ) -> float:
        """Write one line and return its width.

        Parameters
        ----------
        at
            Left (or right, or middle) end of the base line, pixels.
        align
            ``left``, ``right`` or ``center``.
        """
        width = measure_text(text, size)
        x = at[0] - {"left": 0.0, "right": width, "center": width / 2}[align]
        for kind, run in _split_runs(fold(text)):
            # The built-in font has no bold cut: what is drawn twice looks like one.
            for shift in (0, 1) if bold else (0,):
                self._draw_run((x + shift, at[1]), kind, run, size=size, color=color)
            x += _measure_run(kind, run, size)
        return width

    def rule(self, start: Point, end: Point, *, color: Color = LINE, width: int = 1) -> None:
        """Draw a straight line."""
        self._draw.line([start, end], fill=color, width=width)

    def box(self, at: Point, size: Point, *, edge: Color | None = None, face: Color | None = None) -> None:
        """Draw an upright rectangle."""
        self._draw.rectangle((at, (at[0] + size[0], at[1] + size[1])), outline=edge, fill=face)

    def triangle(self, at: Point, size: float, color: Color) -> None:
        """Draw the outlined triangle of a warning; `at` is its lower left corner."""
        x, y = at
        corners = [(x, y), (x + size / 2, y - size * 0.87), (x + size, y), (x, y)]
        self.line(corners, mark=Mark(color=color, dashes=()), width=2.0)

    def line(self, points: Sequence[Point], *, mark: Mark, width: float = 2.2, clip: Box | None = None) -> None:
        """Draw a smooth line, dashed as its Mark says; nothing of it outside of `clip`."""
        place = np.asarray(points)
        margin = math.ceil(width) + 1
        left, top = (math.floor(v) - margin for v in place.min(axis=0))
        right, bottom = (math.ceil(v) + margin for v in place.max(axis=0))
        large = Image.new("L", ((right - left) * SUPERSAMPLING, (bottom - top) * SUPERSAMPLING))
        pen = ImageDraw.Draw(large)
        for part in split_dashes(points, mark.dashes):
            scaled = [((x - left) * SUPERSAMPLING, (y - top) * SUPERSAMPLING) for x, y in part]
            pen.line(scaled, fill=255, width=round(width * SUPERSAMPLING), joint="curve")
        mask = large.resize((right - left, bottom - top), Image.Resampling.BOX)
        shown = (left, top, right, bottom)
        if clip is not None:
            shown = (max(left, clip[0]), max(top, clip[1]), min(right, clip[2]), min(bottom, clip[3]))
        if shown[0] < shown[2] and shown[1] < shown[3]:
            part_of_mask = mask.crop((shown[0] - left, shown[1] - top, shown[2] - left, shown[3] - top))
            self._image.paste(mark.color, shown, part_of_mask)

    def picture(self, image: Image.Image, at: tuple[int, int], *, frame: bool = True) -> None:
        """Paste a picture with a hairline around it."""
        self._image.paste(image.convert("RGB"), at)
        if frame:
            self.box((at[0] - 1, at[1] - 1), (image.width + 1, image.height + 1), edge=LINE)

    def shade(self, at: Point, size: Point) -> None:
        """Darken a rectangle so that words on it stay readable."""
        corner = (max(0, int(at[0])), max(0, int(at[1])))
        area = (*corner, int(at[0] + size[0]), int(at[1] + size[1]))
        self._image.paste(self._image.crop(area).point(lambda value: value * 0.42), corner)

    def _draw_run(self, at: Point, kind: str, run: str, *, size: int, color: Color) -> None:
        x, y = at
        if kind == "minus":
            y -= size * 0.28
            self._draw.line([(x + 1, y), (x + size * MINUS_EM - 2, y)], fill=color, width=max(1, round(size / 14)))
        elif kind == "super":
            font = load_font(_superscript(size))
            self._draw.text((x, y - size * 0.33), run, fill=color, font=font, anchor="ls")
        else:
            self._draw.text((x, y), run, fill=color, font=load_font(size), anchor="ls")


def _superscript(size: int) -> int:
    return round(size * SUPERSCRIPT_SCALE)


def measure_text(text: str, size: int) -> float:
    """Return the width of one line, pixels."""
    return sum(_measure_run(kind, run, size) for kind, run in _split_runs(fold(text)))


def shorten(text: str, *, size: int, width: float) -> str:
    """Return `text`, cut with an ellipsis where it is wider than `width` pixels."""
    if measure_text(text, size) <= width:
        return text
    while text and measure_text(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(sentences: Iterable[str], *, size: int, width: float) -> list[str]:
    """Return lines of at most `width` pixels, broken between words."""
    lines = [""]
    for word in " ".join(sentences).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and measure_text(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [line for line in lines if line]


def split_dashes(points: Sequence[Point], dashes: tuple[float, ...]) -> Iterator[list[Point]]:
    """Yield the visible parts of a line.

    Parameters
    ----------
    dashes
        Lengths of line and gap in turn, pixels; empty for a solid line.
    """
    if not dashes:
        yield list(points)
        return
    part = [points[0]]
    turn, left = 0, dashes[0]
    for (x0, y0), (x1, y1) in pairwise(points):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while length - done > left:
            done += left
            corner = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if turn % 2 == 0:
                yield [*part, corner]
            part, turn = [corner], turn + 1
            left = dashes[turn % len(dashes)]
        left -= length - done
        part.append((x1, y1))
    if turn % 2 == 0 and len(part) > 1:
        yield part


def _split_runs(text: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, letters): what the font has, superscripts, and the minus it lacks."""
    run = ""
    for letter in text:
        if letter not in KEPT:
            run += letter
            continue
        if run:
            yield "plain", run
        run = ""
        yield ("minus", "") if letter == MINUS else ("super", SUPERSCRIPTS[letter])
    if run:
        yield "plain", run


def _measure_run(kind: str, run: str, size: int) -> float:
    if kind == "minus":
        return size * MINUS_EM
    return load_font(_superscript(size) if kind == "super" else size).getlength(run)
