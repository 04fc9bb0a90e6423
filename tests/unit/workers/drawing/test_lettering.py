"""Every letter on the page is one that a font has, joined and in the order in which people read it."""

import struct
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, features
from pydicom import dcmread
from pydicom.data import get_charset_files

from tests.analyses import ct_case
from tests.peers import absent
from workers.drawing.canvas import Canvas
from workers.drawing.lettering import (
    BOLD,
    OTHERS,
    PLAIN,
    find_font_file,
    is_drawable,
    load_font,
    measure_text,
    set_line,
    spell,
)
from workers.drawing.wording import NOT_DRAWN, say_name, say_patient
from workers.encoding.headers import copy_header

NAMES = {
    "Japanese": "山田 太郎 やまだ たろう ヤマダ ﾔﾏﾀﾞ",
    "Korean": "김희중 金喜中",
    "Chinese": "王小东 王小東 諸葛亮",
    "Arabic": "قباني لنزار محمد عبد الله",
    "Persian": "گلشیفته پژمان",
    "Hebrew": "שרון דבורה",
    "Greek": "Διονυσιος Παπαδόπουλος",
    "Cyrillic": "Иванов Пётр Ђорђевић Їжак",
    "Thai": "สมชาย ใจดี น้ำ กุ้ง",
    "Vietnamese": "Nguyễn Thị Đặng",
    "Latin": "Müller Žižek Łódź Søren Ægir Þór İnce",
}
DIGESTS = {
    PLAIN: "3fdf69cabf06049ea70a00b5919340e2ce1e6d02b0cc3c4b44fb6801bd1e0d22",
    BOLD: "b184b89e3c1075f22f6b71575b6fc20d4972b3cfd3b23322ca6fd596dcaef167",
    OTHERS[0]: "b76b0433203017ca80401b2ee0dd69350349871c4b19d504c34dbdd80541690a",
    OTHERS[1]: "5a1c559bb539583c8a1fd99d1c5b9491e5e14478c9cd2bd0970d5c3096cc9ef8",
}
WORDS = "mm³ \N{MINUS SIGN} \N{MULTIPLICATION SIGN} … · ° % 'quoted' \"quoted\" (1/2) [a_b]"


@cache
def read_cmap(name: str) -> dict[int, int]:
    """Return code point to glyph of a font file, read without Pillow (OpenType, cmap formats 4 and 12)."""
    data = find_font_file(name).read_bytes()
    # The first font of a collection; else the file is one font.
    base = struct.unpack_from(">I", data, 12)[0] if data.startswith(b"ttcf") else 0
    count = struct.unpack_from(">H", data, base + 4)[0]
    places = [base + 12 + 16 * n for n in range(count)]
    tables = {data[at : at + 4]: struct.unpack_from(">I", data, at + 8)[0] for at in places}
    start = tables[b"cmap"]
    glyphs: dict[int, int] = {}
    for number in range(struct.unpack_from(">H", data, start + 2)[0]):
        at = start + struct.unpack_from(">HHI", data, start + 4 + 8 * number)[2]
        form = struct.unpack_from(">H", data, at)[0]
        if form in READERS:
            glyphs |= READERS[form](data, at)
    return glyphs


def read_segments(data: bytes, at: int) -> dict[int, int]:
    count = struct.unpack_from(">H", data, at + 6)[0] // 2
    arrays = np.frombuffer(data, ">u2", 4 * count + 1, at + 14).astype(int)
    ends, starts, deltas, ranges = (arrays[k * count + (k > 0) :][:count] for k in range(4))
    glyphs: dict[int, int] = {}
    for n, (first, last, delta, offset) in enumerate(zip(starts, ends, deltas, ranges, strict=True)):
        for code in range(first, min(last, 0xFFFE) + 1):
            place = at + 16 + 6 * count + 2 * n + offset + 2 * (code - first)
            glyph = code if offset == 0 else struct.unpack_from(">H", data, place)[0]
            glyphs[code] = (glyph + delta) & 0xFFFF if glyph or offset == 0 else 0
    return glyphs


def read_groups(data: bytes, at: int) -> dict[int, int]:
    glyphs: dict[int, int] = {}
    for n in range(struct.unpack_from(">I", data, at + 12)[0]):
        first, last, glyph = struct.unpack_from(">III", data, at + 16 + 12 * n)
        glyphs |= {code: glyph + code - first for code in range(first, last + 1)}
    return glyphs


READERS = {4: read_segments, 12: read_groups}


def lacking(text: str, *, bold: bool = False) -> list[tuple[str, str]]:
    """Return font and letter of everything that would be drawn as a box."""
    return [
        (piece.font, letter)
        for piece in set_line(text, bold=bold)
        for letter in piece.letters
        if not read_cmap(piece.font).get(ord(letter))
    ]


def test_cmap_reader_tells_what_a_font_lacks() -> None:
    assert read_cmap(PLAIN)[ord("A")]
    assert not read_cmap(PLAIN).get(ord("山"))
    assert read_cmap(OTHERS[0])[ord("山")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bold", [False, True])
def test_names_are_drawn_without_a_box(name: str, bold: bool) -> None:
    assert is_drawable(NAMES[name])
    assert lacking(NAMES[name], bold=bold) == []
    assert "?" not in "".join(piece.letters for piece in set_line(NAMES[name], bold=bold))


@pytest.mark.parametrize("bold", [False, True])
def test_words_of_the_page_are_drawn_without_a_box(bold: bool) -> None:
    assert lacking(WORDS, bold=bold) == []
    assert spell(WORDS) == WORDS


@given(text=st.text(max_size=40))
def test_whatever_a_header_holds_is_drawn_without_a_box(text: str) -> None:
    assert lacking(text) == []
    assert measure_text(text, 20) >= 0


def test_letters_without_a_font_have_a_likeness_or_a_question_mark() -> None:
    assert spell("नमस्ते") == "??????"
    assert spell("\N{MATHEMATICAL BOLD CAPITAL A}") in ("A", "\N{MATHEMATICAL BOLD CAPITAL A}")
    assert spell("a\tb\u3000c") == "a b c"
    assert not is_drawable("नमस्ते")
    assert not is_drawable("Mu\N{REPLACEMENT CHARACTER}ller")


def test_unseen_letters_cannot_turn_a_name_around() -> None:
    assert spell("A\u202eB\u2066C\u200bD") == "ABCD"


def test_arabic_letters_are_joined_and_run_to_the_left() -> None:
    (piece,) = set_line("محمد")
    assert piece.letters == "\ufeaa\ufee4\ufea4\ufee3"
    # Lam and alef share one letter; alef holds nothing after it.
    assert "".join(piece.letters for piece in set_line("لا")) == "\ufefb"
    assert "".join(piece.letters for piece in set_line("اب")) == "\ufe8f\ufe8d"


def test_numbers_and_latin_letters_keep_their_order_beside_hebrew() -> None:
    assert "".join(piece.letters for piece in set_line("ID 12   שרון 34 דב   F")) == "ID 12   בד 34 ןורש   F"
    assert "".join(piece.letters for piece in set_line("(שרון)")) == "(ןורש)"


@pytest.mark.parametrize("name", ["Arabic", "Hebrew", "Persian"])
def test_right_to_left_is_drawn_as_harfbuzz_draws_it(name: str) -> None:
    if not features.check("raqm"):
        absent("FriBiDi is not installed; there is nothing to compare with")
    font = ImageFont.truetype(find_font_file(PLAIN), 24, layout_engine=ImageFont.Layout.RAQM)
    for word in NAMES[name].split():
        canvas = Canvas(400, 60)
        canvas.text((20, 40), word, size=24, color=(255, 255, 255))
        ours = canvas.finish().pixels[..., 0]
        theirs = Image.new("L", (400, 60))
        ImageDraw.Draw(theirs).text((20, 40), word, fill=255, font=font, anchor="ls")
        # Kerning may move a letter by a pixel: what is compared is the profile along the line.
        profiles = [np.asarray(image, float).sum(axis=0) for image in (ours, theirs)]
        smooth = [np.convolve(profile, np.ones(5) / 5, "same") for profile in profiles]
        assert np.corrcoef(smooth)[0, 1] > 0.9, word


def test_thai_tone_stands_above_its_vowel() -> None:
    raised = [piece.letters for piece in set_line("ที่น้ำ") if piece.is_raised]
    assert raised == ["\u0e48", "\u0e49"]
    assert [piece for piece in set_line("กุ้ง") if piece.is_raised] == []


@pytest.mark.parametrize("name", [PLAIN, BOLD, *OTHERS])
def test_the_versions_in_constraints_bring_these_very_fonts(name: str) -> None:
    """Another font draws another page under the same UID."""
    assert sha256(find_font_file(name).read_bytes()).hexdigest() == DIGESTS[name]


def test_layout_does_not_depend_on_libraries_of_the_host() -> None:
    for name in (PLAIN, BOLD, *OTHERS):
        assert load_font(name, 20).layout_engine == ImageFont.Layout.BASIC


def test_name_is_said_in_both_scripts_where_both_can_be_drawn() -> None:
    assert say_name("Yamada^Tarou=山田^太郎=やまだ^たろう") == "Yamada, Tarou (山田 太郎)"
    assert say_name("=山田^太郎") == "山田, 太郎"
    assert say_name("==やまだ^たろう") == "やまだ, たろう"
    assert say_name("शर्मा^रवि=山田^太郎") == "山田, 太郎"
    assert say_name("Case^Test^Middle^Dr.^Jr.") == "Case, Test Middle"
    assert say_name("^^") == say_name("==") == say_name("") == "No name"


def test_name_that_cannot_be_drawn_is_said_so_and_the_id_comes_first() -> None:
    assert say_name("शर्मा^रवि") == NOT_DRAWN
    header = copy_header(ct_case(PatientName="शर्मा^रवि").inputs["ct"][0])
    assert say_patient(header) == f"ID T-1   {NOT_DRAWN}   F   born 1962-03-31"


@pytest.mark.parametrize("path", get_charset_files("*.dcm"), ids=lambda path: Path(path).name)
def test_names_in_every_character_set_are_drawn(path: str) -> None:
    header = copy_header(dcmread(BytesIO(Path(path).read_bytes())))
    said = say_patient(header)
    assert NOT_DRAWN not in said
    assert lacking(said) == []
