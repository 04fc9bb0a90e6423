"""Text of source headers becomes Unicode, whatever its Specific Character Set (PS3.5 6.1, PS3.3 C.12.1.1.2).

What the source declares is obeyed, also with the usual slips: misspelled terms, missing or undeclared escape sequences.
Where the source is wrong, nobody sees a wrong name that looks right:

- Bytes that its character set does not have become U+FFFD, the replacement character.
- Bytes beyond ASCII without a declared character set are UTF-8 where they are well-formed UTF-8 (text of no other
  encoding is, but for chance), else Latin-1, as archives take them. What makes a control character then was no
  Latin-1, and becomes U+FFFD.
- A declared character set is obeyed also where the text looks like another one: the archive shows the same.

pydicom 3.0 decodes too, but leaves the escape sequences of ISO 2022 IR 58 in the text, does not know ISO_IR 203, and
takes whatever Python calls a codec for a term: ``zip`` ends in a LookupError.
"""

import re
from collections.abc import Sequence

UTF_8 = "ISO_IR 192"
REPLACEMENT = "\ufffd"
ESCAPE_BYTE = b"\x1b"
# Characters that end the reach of an escape sequence (PS3.5 6.1.2.5.3).
TEXT_DELIMITERS = re.compile(rb"[\\\r\n\f\t]")
NAME_DELIMITERS = re.compile(rb"[\\^=\r\n\f\t]")
# ISO_IR 100, ISO 2022 IR 100, and as they are misspelled: ISO-IR 100, ISO_IR_100, ISO 2022 IR100.
TERM = re.compile(r"ISO[ _-]?(?:2022[ _-]?)?IR[ _-]?(\d+)")
# Character sets without code extensions, by term or registration number.
STAND_ALONE = {"192": "utf_8", "GB18030": "gb18030", "GBK": "gbk"}
# By registration number: a codec whose lower half is ASCII and whose upper half is G1 of the character set. Shift JIS
# is a superset of ISO_IR 13, and what is sent under that name often is Shift JIS.
UPPER_HALVES = {
    "13": "shift_jis",
    "58": "gb2312",
    "100": "latin_1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "126": "iso8859_7",
    "127": "iso8859_6",
    "138": "iso8859_8",
    "144": "iso8859_5",
    "148": "iso8859_9",
    "149": "euc_kr",
    "166": "tis_620",
    "203": "iso8859_15",
}
# Escape sequences without ESC (PS3.3 Table C.12-3, C.12-4): those that change G1, and those that change G0, with what
# the Japanese codec needs before such bytes.
TO_UPPER = {
    b")I": "13",
    b"$)A": "58",
    b"-A": "100",
    b"-B": "101",
    b"-C": "109",
    b"-D": "110",
    b"-F": "126",
    b"-G": "127",
    b"-H": "138",
    b"-L": "144",
    b"-M": "148",
    b"$)C": "149",
    b"-T": "166",
    b"-b": "203",
}
TO_LOWER = {b"(B": b"", b"(J": b"", b"$B": b"\x1b$B", b"$@": b"\x1b$@", b"$(D": b"\x1b$(D"}
JAPANESE = "iso2022_jp_2"
ESCAPES = re.compile(ESCAPE_BYTE + b"(" + b"|".join(re.escape(end) for end in (*TO_UPPER, *TO_LOWER)) + b")")
HALVES = re.compile(rb"[\x00-\x7f]+|[\x80-\xff]+")
# Control characters but for those that some text may hold (PS3.5 6.1.3): tab, LF, FF, CR.
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
LINE_BREAKS = re.compile(r"[\n\f\r]+")


def decode_text(raw: bytes, terms: Sequence[str], *, is_name: bool = False) -> str:
    """Return the characters of a value, delimiters included.

    Parameters
    ----------
    terms
        Values of Specific Character Set (0008,0005); empty when it is absent.
    is_name
        True for PN, whose component and group delimiters end the reach of an escape sequence.

    References
    ----------
    DICOM PS3.5 6.1.2.5
    """
    if raw.isascii() and ESCAPE_BYTE not in raw:
        return raw.decode("ascii")
    names = [_name_term(term) for term in terms]
    stand_alone = next((STAND_ALONE[name] for name in names if name in STAND_ALONE), None)
    if stand_alone is not None:
        return raw.decode(stand_alone, "replace")
    # By rule the first term alone holds where there is no escape sequence. Where it has no upper half, the first of
    # the others that has one is what a sender that forgot the escape sequence means.
    upper = next((UPPER_HALVES[name] for name in names if name in UPPER_HALVES), None)
    if ESCAPE_BYTE not in raw:
        return _decode_upper(raw, upper)
    return _decode_extensions(raw, upper, NAME_DELIMITERS if is_name else TEXT_DELIMITERS)


def clean_text(text: str, *, is_one_line: bool) -> str:
    """Return `text` without characters that its Value Representation forbids.

    Parameters
    ----------
    is_one_line
        True for LO, PN, SH and UC, in which a line break becomes a space. A tab becomes one anywhere: older readers
        refuse it also where it is allowed.

    References
    ----------
    DICOM PS3.5 6.1.3, 6.2
    """
    cleaned = CONTROLS.sub(REPLACEMENT, text).replace("\t", " ")
    return LINE_BREAKS.sub(" ", cleaned) if is_one_line else cleaned


def _name_term(term: str) -> str:
    """Return the registration number of a term, else the term itself."""
    known = TERM.fullmatch(term.strip().upper())
    return known.group(1) if known else term.strip().upper()


def _decode_extensions(raw: bytes, first_upper: str | None, delimiters: re.Pattern[bytes]) -> str:
    first, *rest = ESCAPES.split(raw)
    decoded = [_decode_upper(first, first_upper)]
    upper = first_upper
    for escape, run in zip(rest[::2], rest[1::2], strict=True):
        # Writers that change G1 without taking G0 back to ASCII mean that it is.
        lower = TO_LOWER.get(escape, b"")
        upper = UPPER_HALVES[TO_UPPER[escape]] if escape in TO_UPPER else upper
        if lower:
            decoded += [_decode_half(half, lower, upper) for half in HALVES.findall(run)]
            continue
        end = delimiters.search(run)
        if end is None or upper == first_upper:
            decoded.append(_decode_upper(run, upper))
        else:
            decoded += [_decode_upper(run[: end.start()], upper), _decode_upper(run[end.start() :], first_upper)]
            upper = first_upper
    return "".join(decoded)


def _decode_half(half: bytes, lower: bytes, upper: str | None) -> str:
    """Return characters of either half while the lower one holds a Japanese character set."""
    return (lower + half).decode(JAPANESE, "replace") if half.isascii() else _decode_upper(half, upper)


def _decode_upper(run: bytes, upper: str | None) -> str:
    if upper is not None:
        return run.decode(upper, "replace")
    try:
        return run.decode("utf_8")
    except UnicodeDecodeError:
        return run.decode("latin_1")
