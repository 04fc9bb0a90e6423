"""A black page and what is drawn on it: text, rules, boxes, dashed lines, pictures."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from workers.drawing.lettering import load_font, measure_text, set_line

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
MINUS = "\N{MINUS SIGN}"
RAISED_EM = 0.2  # how far a tone moves up that stands on a vowel (Thai)


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
    Mark(color=(240, 222, 120), dashes=(18.0, 5.0)),
    Mark(color=(244, 150, 160), dashes=(9.0, 3.0, 2.5, 3.0, 2.5, 3.0)),
)


def mark_of(number: int) -> Mark:
    """Return the Mark of the Finding with that number, from 1."""
    return MARKS[(number - 1) % len(MARKS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One line of text as it stands on the page; `at` is the left end of its base line, pixels."""

    text: str
    at: Point
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A finished page.

    Attributes
    ----------
    pixels
        (rows, columns, 3) uint8 RGB.
    words
        What was written, in the order of writing.
    """

    pixels: NDArray[np.uint8]
    words: tuple[Written, ...]


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
        self._words: list[Written] = []

    def finish(self) -> Drawing:
        """Return what was drawn so far."""
        return Drawing(pixels=np.array(self._image), words=tuple(self._words))

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
        width = measure_text(text, size, bold=bold)
        x = at[0] - {"left": 0.0, "right": width, "center": width / 2}[align]
        self._words.append(Written(text=text, at=(x, at[1]), size=size))
        for piece in set_line(text, bold=bold):
            font = load_font(piece.font, size)
            y = at[1] - RAISED_EM * size * piece.is_raised
            self._draw.text((x, y), piece.letters, fill=color, font=font, anchor="ls")
            x += font.getlength(piece.letters)
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
        (left, top), (right, bottom) = np.floor(place.min(axis=0)) - margin, np.ceil(place.max(axis=0)) + margin
        bounds = clip or (0, 0, *self._image.size)
        # Only the part that shows: an outline may be many times as large as its panel.
        left, top = max(int(left), bounds[0]), max(int(top), bounds[1])
        right, bottom = min(int(right), bounds[2]), min(int(bottom), bounds[3])
        if left >= right or top >= bottom:
            return
        large = Image.new("L", ((right - left) * SUPERSAMPLING, (bottom - top) * SUPERSAMPLING))
        pen = ImageDraw.Draw(large)
        for part in split_dashes(points, mark.dashes):
            scaled = [((x - left) * SUPERSAMPLING, (y - top) * SUPERSAMPLING) for x, y in part]
            pen.line(scaled, fill=255, width=round(width * SUPERSAMPLING), joint="curve")
        mask = large.resize((right - left, bottom - top), Image.Resampling.BOX)
        self._image.paste(mark.color, (left, top, right, bottom), mask)

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


def shorten(text: str, *, size: int, width: float, bold: bool = False) -> str:
    """Return `text`, cut with an ellipsis where it is wider than `width` pixels."""
    if measure_text(text, size, bold=bold) <= width:
        return text
    # Halving: a header may hold thousands of letters.
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if measure_text(text[:middle].rstrip() + "…", size, bold=bold) <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + "…"


def fit(text: str, *, sizes: Sequence[int], width: float, bold: bool = False) -> tuple[str, int]:
    """Return `text` and the first of some type sizes in which it has room; shortened in the last one."""
    for size in sizes:
        if measure_text(text, size, bold=bold) <= width:
            return text, size
    return shorten(text, size=sizes[-1], width=width, bold=bold), sizes[-1]


def wrap(sentences: Iterable[str], *, size: int, width: float) -> list[str]:
    """Return lines of at most `width` pixels, broken between words."""
    lines = [""]
    for word in " ".join(sentences).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and measure_text(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [shorten(line, size=size, width=width) for line in lines if line]


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
