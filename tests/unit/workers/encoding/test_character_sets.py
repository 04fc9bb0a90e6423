"""Bytes of any Specific Character Set become the characters that their sender meant, or visibly damaged ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.charset import convert_encodings, encode_string
from pydicom.data import get_charset_files

from workers.encoding.character_sets import REPLACEMENT, clean_text, decode_text
from workers.encoding.source_elements import TEXT_VRS, read_element, read_terms

FILES = sorted(Path(str(path)) for path in get_charset_files("*.dcm"))


def list_texts(ds: Dataset, inherited: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield of each text element, nested ones too, what we read and then what pydicom reads."""
    terms = read_terms(ds, inherited)
    for tag in list(ds.keys()):
        found = ds.get_item(tag)
        if found.is_raw and found.VR in TEXT_VRS:
            ours = read_element(ds, tag, terms)
            assert ours is not None
            yield str(ours.value), str(ds[tag].value)
        elif ds[tag].VR == "SQ":
            for item in ds[tag].value:
                yield from list_texts(item, tuple(terms))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_text_of_pydicoms_files_is_read_as_pydicom_reads_it(path: Path) -> None:
    texts = list(list_texts(dcmread(path)))
    assert texts
    assert [ours for ours, _ in texts] == [theirs for _, theirs in texts]
    assert not any(REPLACEMENT in ours for ours, _ in texts)


# Text, its terms, its bytes. The first five are examples of PS3.5 Annexes H, I and K.
EXAMPLES = [
    (
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    (
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
    ),
    (
        "Hong^Gildong=洪^吉洞=홍^길동",
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    (
        "Zhang^XiaoDong=张^小东",
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
    ),
    ("Wang^XiaoDong=王^小东", "GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
    ("丂^山", "\\ISO 2022 IR 87\\ISO 2022 IR 159", b"\x1b$(D0!\x1b(B^\x1b$B;3\x1b(B"),
    ("قباني^لنزار", "ISO_IR 127", "قباني^لنزار".encode("iso8859_6")),
    ("שרון^דבורה", "ISO_IR 138", "שרון^דבורה".encode("iso8859_8")),
    ("Διονύσιος", "ISO_IR 126", "Διονύσιος".encode("iso8859_7")),
    ("Люксембург", "ISO_IR 144", "Люксембург".encode("iso8859_5")),
    ("นามสกุล^ชื่อ", "ISO_IR 166", "นามสกุล^ชื่อ".encode("tis_620")),
    ("Çavuş^İnan", "ISO_IR 148", "Çavuş^İnan".encode("iso8859_9")),
    ("Wałęsa^Żaneta", "ISO_IR 101", "Wałęsa^Żaneta".encode("iso8859_2")),
    ("Œuvre^Élodie", "ISO_IR 203", "Œuvre^Élodie".encode("iso8859_15")),
    ("だｳ^A", "ISO 2022 IR 13\\ISO 2022 IR 87", b"\x1b$B$@\x1b)I\xb3^A"),
    ("だｳだ", "ISO 2022 IR 13\\ISO 2022 IR 87", b"\x1b$B$@\xb3$@\x1b(J"),
    ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ".encode("shift_jis")),
    ("Müller^Κάτια", "ISO 2022 IR 100\\ISO 2022 IR 126", b"M\xfcller^\x1b-F\xca\xdc\xf4\xe9\xe1"),
    ("Δ^é", "ISO 2022 IR 100\\ISO 2022 IR 126", b"\x1b-F\xc4^\xe9"),
]


@pytest.mark.parametrize(("text", "terms", "raw"), EXAMPLES)
def test_examples_are_read_as_they_are_meant(text: str, terms: str, raw: bytes) -> None:
    assert decode_text(raw, terms.split("\\"), is_name=True) == text


@pytest.mark.parametrize(
    ("text", "terms", "raw"),
    [
        ("砿移", "\\ISO 2022 IR 87", b"\x1b$B9\\0\\\x1b(B"),
        ("表", "ISO_IR 13", b"\x95\\"),
        ("乗怽", "GBK", b"\x81\\\x90\\"),
        ("乗怽", "GB18030", b"\x81\\\x90\\"),
    ],
)
def test_backslash_as_second_byte_splits_nothing(text: str, terms: str, raw: bytes) -> None:
    assert decode_text(raw, terms.split("\\")) == text


SETS = {
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "tis_620",
    "ISO_IR 203": "iso8859_15",
    "ISO_IR 192": "utf_8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}


@given(st.data(), st.sampled_from(sorted(SETS)))
def test_whatever_a_single_character_set_can_say_comes_back(data: st.DataObject, term: str) -> None:
    letters = bytes(range(0xA0, 0x100)).decode(SETS[term], "ignore") or "王小东乗怽é한"
    text = data.draw(st.text(f"AZaz ^={letters}", max_size=20))
    assert decode_text(text.encode(SETS[term]), [term]) == text


EXTENDED = {
    "\\ISO 2022 IR 87": "AZaz 山田太郎やまだたろう表移砿",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "AZaz ﾔﾏﾀﾛｳ山田太郎やまだ",
    "\\ISO 2022 IR 149": "AZaz 洪吉洞홍길동김희중",
    "ISO 2022 IR 100\\ISO 2022 IR 126\\ISO 2022 IR 144": "AZaz éüñ ΑΒΓαβγ ЖДИжди",
}


@given(st.data(), st.sampled_from(sorted(EXTENDED)))
def test_names_that_pydicom_writes_with_code_extensions_come_back(data: st.DataObject, terms: str) -> None:
    part = st.text(EXTENDED[terms], min_size=1, max_size=6)
    parts = data.draw(st.lists(part, min_size=1, max_size=5))
    encodings = convert_encodings(terms.split("\\"))
    raw = b"^".join(encode_string(one, encodings) for one in parts)
    assert decode_text(raw, terms.split("\\"), is_name=True) == "^".join(parts)


@pytest.mark.parametrize(
    ("terms", "raw", "text"),
    [
        ("ISO_IR 192", b"M\xfcller", "M\ufffdller"),
        ("ISO_IR 127", b"\xe2\xff", "ق\ufffd"),
        ("GB18030", b"\xcd\xf5\xff", "王\ufffd"),
        ("\\ISO 2022 IR 87", b"\x1b$B;3E", "山\ufffd"),
        ("\\ISO 2022 IR 149", b"\x1b$)C\xfb\xf3\xff", "洪\ufffd"),
    ],
)
def test_bytes_that_a_character_set_lacks_are_seen_to_be_lost(terms: str, raw: bytes, text: str) -> None:
    assert decode_text(raw, terms.split("\\")) == text


@pytest.mark.parametrize("term", ["", "ISO_IR 6", "ISO_IR 999", "unicode", "zip", "rot13", "utf_16", "idna", "UTF-8"])
def test_undeclared_bytes_are_utf_8_where_they_are_well_formed_else_latin_1(term: str) -> None:
    assert decode_text("Müller=山田".encode(), [term]) == "Müller=山田"
    assert decode_text("Müller".encode("latin_1"), [term]) == "Müller"
    assert decode_text(b"Muller", [term]) == "Muller"
    assert decode_text("Müller".encode("latin_1"), []) == "Müller"


def test_undeclared_bytes_of_another_encoding_do_not_look_like_a_name() -> None:
    damaged = clean_text(decode_text("山田^太郎".encode("shift_jis"), []), is_one_line=True)
    assert damaged.count(REPLACEMENT) >= 3
    assert "^" in damaged


@pytest.mark.parametrize(
    "term", ["ISO-IR 144", "ISO_IR_144", "ISO IR 144", "iso_ir 144 ", "ISO 2022 IR144", "ISO_IR144"]
)
def test_misspelled_terms_are_understood(term: str) -> None:
    assert decode_text("Илья".encode("iso8859_5"), [term]) == "Илья"


def test_missing_or_undeclared_escape_sequences_are_understood() -> None:
    assert decode_text("홍길동".encode("euc_kr"), ["", "ISO 2022 IR 149"]) == "홍길동"
    assert decode_text("홍길동".encode("euc_kr"), ["ISO 2022 IR 149"]) == "홍길동"
    assert decode_text(b"\x1b$B;3ED\x1b(B", ["ISO_IR 100"]) == "山田"
    assert decode_text(b"\x1b$B;3ED\x1b(B", []) == "山田"


def test_control_characters_do_not_pass() -> None:
    assert clean_text("a\x00b\x1bc\x7fd\x85e", is_one_line=True) == "a\ufffdb\ufffdc\ufffdd\ufffde"
    assert clean_text("a\r\nb\tc\fd", is_one_line=True) == "a b c d"
    assert clean_text("a\r\nb\tc\fd", is_one_line=False) == "a\r\nb c\fd"
    assert clean_text("Müller^山田", is_one_line=True) == "Müller^山田"
