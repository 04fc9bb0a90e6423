"""Letters of many scripts: which font has them, how Arabic letters join, and in which order a line is drawn.

Pillow can leave all this to HarfBuzz and FriBiDi, but takes FriBiDi from the system: where it is absent, names would be
drawn otherwise, under the same UID. So its basic layout is used everywhere, and what that lacks is here.
"""

import importlib.util
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from PIL import ImageFont

from node.errors import Misconfigured

PLAIN, BOLD = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"
# Asked in this order for what the first has not: Chinese, Japanese, Korean; Thai.
OTHERS = ("NotoSansCJK-Regular.ttc", "NotoSansThai[wdth,wght].ttf")
# Which package brings which font, and where in it.
FOLDERS = {
    PLAIN: ("matplotlib", "mpl-data/fonts/ttf"),
    BOLD: ("matplotlib", "mpl-data/fonts/ttf"),
    OTHERS[0]: ("noto_cjk_sans_otc", "."),
    OTHERS[1]: ("fontpkg_noto_sans_thai", "files"),
}
REPLACEMENT = "?"
# Drawn as a space: controls, and spaces of other widths.
BLANKS = ("Cc", "Zs", "Zl", "Zp")
# Without a shape that two people would agree on: unassigned, private, half of a pair; and what stands for lost bytes.
SHAPELESS = ("Cn", "Co", "Cs")
LOST = "\ufffd"
# No font has this noncharacter: what is drawn for it is drawn for every letter that a font lacks.
LACKED = "\uffff"
PROBE_SIZE = 24

ARABIC_FORMS = (0xFB50, 0xFEFC)
LAM = "\u0644"
MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")
UPPER_VOWELS = "\u0e31\u0e34\u0e35\u0e36\u0e37\u0e47\u0e4d"
TONES = "\u0e48\u0e49\u0e4a\u0e4b\u0e4c"
TONE_AND_AM = re.compile(f"([{TONES}])\u0e33")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Letters of one line that are drawn in one go.

    Attributes
    ----------
    font
        File name.
    letters
        From left to right.
    is_raised
        They stand on top of a vowel that itself stands above the line (Thai).
    """

    font: str
    letters: str
    is_raised: bool = False


@lru_cache(maxsize=64)
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Return one of our fonts; `size` in pixels.

    Raises
    ------
    Misconfigured
        If this installation lacks it.
    """
    return ImageFont.truetype(find_font_file(name), size, layout_engine=ImageFont.Layout.BASIC)


def find_font_file(name: str) -> Path:
    """Return where a font lies; its package is not imported.

    Raises
    ------
    Misconfigured
        If this installation lacks it.
    """
    package, folder = FOLDERS[name]
    spec = importlib.util.find_spec(package)
    path = Path(((spec.submodule_search_locations if spec else None) or [""])[0]) / folder / name
    if not path.is_file():
        raise Misconfigured(f"the font {name} of the package {package} is absent; install radnode[worker] again")
    return path


def is_drawable(text: str) -> bool:
    """Return whether every letter of `text` is in one of our fonts."""
    return all(_find_font(letter, bold=False) is not None for letter in _clean(text))


def spell(text: str) -> str:
    """Return `text` in letters that our fonts have; a letter without a likeness becomes a question mark."""
    letters = []
    for letter in _clean(text):
        likeness = letter if _is_known(letter) else unicodedata.normalize("NFKD", letter)
        letters.append(likeness if all(_is_known(one) for one in likeness) else REPLACEMENT)
    return "".join(letters)


@lru_cache(maxsize=1024)
def set_line(text: str, *, bold: bool = False) -> tuple[Piece, ...]:
    """Return the pieces of a line, from left to right, with Arabic letters joined."""
    raised = []
    letters = TONE_AND_AM.sub("\u0e4d\\1\u0e32", _order(_join(spell(text))))
    for place, letter in enumerate(letters):
        raised.append(letter in TONES and place > 0 and letters[place - 1] in UPPER_VOWELS)
    fonts = [_find_font(letter, bold=bold) or PLAIN for letter in letters]
    grouped = groupby(zip(letters, fonts, raised, strict=True), key=lambda entry: entry[1:])
    return tuple(
        Piece(font=font, letters="".join(letter for letter, _, _ in entries), is_raised=is_raised)
        for (font, is_raised), entries in grouped
    )


def measure_text(text: str, size: int, *, bold: bool = False) -> float:
    """Return the width of one line, pixels."""
    return sum(load_font(piece.font, size).getlength(piece.letters) for piece in set_line(text, bold=bold))


def _clean(text: str) -> str:
    """Return `text` composed, without controls: a line must not be turned around by an unseen letter in a name."""
    kept = []
    is_leftward = False
    for letter in unicodedata.normalize("NFC", text):
        category, direction = unicodedata.category(letter), unicodedata.bidirectional(letter)
        if category in BLANKS:
            kept.append(" ")
        elif category != "Cf" and not (direction == "NSM" and is_leftward):
            # Vowel points of Hebrew and Arabic are left out: names are read without them.
            kept.append(letter)
            is_leftward = direction in ("R", "AL")
    return "".join(kept)


def _is_known(letter: str) -> bool:
    return _find_font(letter, bold=False) is not None


@lru_cache(maxsize=8192)
def _find_font(letter: str, *, bold: bool) -> str | None:
    """Return the first font that has a letter."""
    if letter == LOST or unicodedata.category(letter) in SHAPELESS:
        return None
    fonts = (BOLD, PLAIN, *OTHERS) if bold else (PLAIN, *OTHERS)
    return next((font for font in fonts if _draw(font, letter) != _draw(font, LACKED)), None)


def _draw(font: str, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = load_font(font, PROBE_SIZE).getmask(letter)
    return mask.size, bytes(mask)


@lru_cache(maxsize=1)
def _list_forms() -> dict[str, dict[str, str]]:
    """Return the forms of each Arabic letter, and of lam with alef, by their place in a word.

    Unicode itself says which code point is the ``initial``, ``medial``, ``final`` or ``isolated`` form of which letter.
    """
    forms: dict[str, dict[str, str]] = {}
    for code in range(ARABIC_FORMS[0], ARABIC_FORMS[1] + 1):
        kind, *bases = unicodedata.decomposition(chr(code)).split() or [""]
        letters = "".join(chr(int(base, 16)) for base in bases)
        is_pair = len(letters) == 2 and letters[0] == LAM and letters[1] in "\u0622\u0623\u0625\u0627"
        if kind in ("<isolated>", "<initial>", "<medial>", "<final>") and (len(letters) == 1 or is_pair):
            forms.setdefault(letters, {}).setdefault(kind[1:-1], chr(code))
    return forms


def _join(text: str) -> str:
    """Return `text` with each Arabic letter in the form that its neighbors ask for."""
    forms = _list_forms()
    joined, is_held, place = [], False, 0
    while place < len(text):
        unit = text[place : place + 2] if text[place : place + 2] in forms else text[place]
        place += len(unit)
        own, following = forms.get(unit, {}), forms.get(text[place : place + 1], {})
        holds = "initial" in own and "final" in following
        kind = ("medial" if holds else "final") if is_held else ("initial" if holds else "isolated")
        form = own.get(kind, unit)
        joined.append(form if all(_is_known(letter) for letter in form) else unit)
        is_held = holds
    return "".join(joined)


def _order(text: str) -> str:
    """Return the letters from left to right: Hebrew and Arabic run against the line, numbers in them with it."""
    classes = "".join(_classify(letter) for letter in text)
    shown, done = [], 0
    for span in re.finditer("R(?:[RN]*R)?", classes):
        backward = text[span.start() : span.end()][::-1].translate(MIRRORED)
        shown += [text[done : span.start()], re.sub(r"\d+", lambda number: number[0][::-1], backward)]
        done = span.end()
    return "".join([*shown, text[done:]])


def _classify(letter: str) -> str:
    """Return R for a letter of a script that runs to the left, L of one that runs to the right, N for all else."""
    direction = unicodedata.bidirectional(letter)
    return "R" if direction in ("R", "AL") else "L" if direction == "L" else "N"
