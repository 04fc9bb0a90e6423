"""Values of a few attributes as plain JSON; what cannot be understood is left out, never guessed."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from struct import Struct

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.tag import Tag

from node.domain.study import KEPT_KEYWORDS

Scalar = str | int | float
Value = Scalar | list[Scalar]

# Read for the check of Pixel Data only, not kept.
CHECKED_KEYWORDS = ("SamplesPerPixel",)
# Read of functional groups only, for `CONTRAST_GIVEN` and Echo Time (0018,0081).
GROUP_KEYWORDS = ("ContrastBolusAgentAdministered", "EffectiveEchoTime")
# A kept attribute that is longer is no attribute that a rule reads.
MAX_VALUE_BYTES = 16384
# A longer value is decoded each time it comes, not remembered.
MAX_REPEATED_BYTES = 64
CHARSET_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
TEXT_DELIMITERS = frozenset(b"\r\n\t\f")
PERSON_NAME_DELIMITERS = TEXT_DELIMITERS | frozenset(b"^=")
BINARY_FORMATS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}


@cache
def kept_tags() -> Mapping[int, str]:
    """Return tag to keyword of every attribute that is read of a data set itself."""
    return {int(Tag(keyword)): keyword for keyword in (*KEPT_KEYWORDS, *CHECKED_KEYWORDS)}


@cache
def decoded_tags() -> Mapping[int, str]:
    """Return tag to keyword of every attribute that is read, be it of functional groups."""
    return {**kept_tags(), **{int(Tag(keyword)): keyword for keyword in GROUP_KEYWORDS}}


@cache
def _representation(keyword: str) -> tuple[str, str]:
    return dictionary_VR(keyword), dictionary_VM(keyword)


@lru_cache(maxsize=64)
def character_encodings(specific_character_set: bytes) -> tuple[str, ...]:
    """Return Python's names for Specific Character Set (0008,0005); an unknown term counts as the default.

    References
    ----------
    DICOM PS3.3 C.12.1.1.2
    """
    terms = [term.strip() for term in specific_character_set.decode("ascii", "replace").strip("\0 ").split("\\")]
    known = [term if term in python_encoding else "" for term in terms]
    return tuple(convert_encodings(known))


def decode_value(
    keyword: str, vr: bytes, raw: bytes, encodings: tuple[str, ...], *, little_endian: bool
) -> Value | None:
    """Return the value of one attribute, or None when it is empty, too long, or not what its VR and VM allow.

    Parameters
    ----------
    vr
        Value Representation in the data set; empty in Implicit VR.
    encodings
        From `character_encodings`.

    Returns
    -------
    value
        A list exactly when the dictionary allows more than one value.
    """
    if not raw or len(raw) > MAX_VALUE_BYTES:
        return None
    decode = _decode_again if len(raw) <= MAX_REPEATED_BYTES else _decode
    return decode(keyword, vr, raw, encodings, little_endian)


def _decode(keyword: str, vr: bytes, raw: bytes, encodings: tuple[str, ...], little_endian: bool) -> Value | None:
    dictionary_vr, multiplicity = _representation(keyword)
    # A UID is one whatever its sender calls it.
    used_vr = dictionary_vr if vr in (b"", b"UN") or dictionary_vr == "UI" else vr.decode("ascii")
    if used_vr in BINARY_FORMATS:
        values: list[Scalar] | None = _numbers(raw, BINARY_FORMATS[used_vr], little_endian=little_endian)
    else:
        values = _strings(used_vr, _text(used_vr, raw, encodings), is_single=multiplicity == "1")
    if values is None or not _fits(len(values), multiplicity):
        return None
    return values[0] if multiplicity == "1" else values


# The Instances of a Series have most values in common.
_decode_again = lru_cache(maxsize=4096)(_decode)


def _numbers(raw: bytes, code: str, *, little_endian: bool) -> list[Scalar] | None:
    form = Struct(("<" if little_endian else ">") + code)
    if len(raw) % form.size:
        return None
    values = [value for (value,) in form.iter_unpack(raw)]
    return values if all(map(math.isfinite, values)) else None


def _text(vr: str, raw: bytes, encodings: Sequence[str]) -> str:
    if vr not in CHARSET_VRS:
        text = raw.decode("latin-1")
    elif len(encodings) == 1:
        text = raw.decode(encodings[0], "replace")
    else:
        delimiters = PERSON_NAME_DELIMITERS if vr == "PN" else TEXT_DELIMITERS
        text = decode_bytes(raw, encodings, set(delimiters))
    # PostgreSQL takes no NUL in a text, and no attribute has a use for one.
    text = text.replace("\0", " ")
    # What stands before a UID is no padding (PS3.5 9.1): every reader would take it for a part of it.
    text = text.rstrip() if vr == "UI" else text.strip()
    # Component groups that are empty need not be written (PS3.5 6.2.1).
    return text.rstrip("=") if vr == "PN" else text


def _strings(vr: str, text: str, *, is_single: bool) -> list[Scalar] | None:
    # A single value is not split: 5CH may be the second half of a character.
    parts = [text] if is_single else [part.strip() for part in text.split("\\")]
    if not any(parts):
        return None
    convert: Callable[[str], Scalar] | None = {"DS": _decimal, "IS": _integer}.get(vr)
    if convert is None:
        return list(parts)
    try:
        return [convert(part) for part in parts]
    except ValueError:
        return None


def _decimal(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _integer(text: str) -> int:
    value = _decimal(text)
    if not value.is_integer():
        raise ValueError(text)
    return int(value)


def _fits(count: int, multiplicity: str) -> bool:
    # A position of two coordinates would be worse than none.
    return count == int(multiplicity) if multiplicity.isdigit() else True
