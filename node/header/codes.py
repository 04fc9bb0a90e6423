"""Codes out of Code Sequences, as rules ask for them: ``SCT:51185008``."""

from collections.abc import Mapping
from functools import cache

from pydicom.tag import Tag

from node.domain.study import CODED_KEYWORDS
from node.errors import NotDicom
from node.header.elements import Element, ElementReader

CODE_VALUE, CODING_SCHEME_DESIGNATOR, LONG_CODE_VALUE = 0x00080100, 0x00080102, 0x00080119
# A sequence of more is no code for one thing.
MAX_CODES = 16
MAX_CODE_CHARACTERS = 64


@cache
def coded_tags() -> Mapping[int, str]:
    """Return tag to keyword of every Code Sequence that is read."""
    return {int(Tag(keyword)): keyword for keyword in CODED_KEYWORDS}


def read_codes(reader: ElementReader, sequence: Element) -> tuple[str, ...]:
    """Return the codes of a Code Sequence, each behind its Coding Scheme Designator; none of one that is damaged.

    References
    ----------
    DICOM PS3.3 8.8
    """
    codes = []
    try:
        for item in reader.items(sequence):
            values = {
                element.tag: _text(item.value_of(element))
                for element in item.find({CODE_VALUE, CODING_SCHEME_DESIGNATOR, LONG_CODE_VALUE})
            }
            value = values.get(CODE_VALUE) or values.get(LONG_CODE_VALUE)
            if value:
                codes.append(f"{values.get(CODING_SCHEME_DESIGNATOR, '')}:{value}")
    except NotDicom:
        return ()
    return tuple(codes) if len(codes) <= MAX_CODES else ()


def _text(raw: bytes) -> str:
    text = raw[: MAX_CODE_CHARACTERS + 1].decode("ascii", "replace").replace("\0", " ").strip()
    return text if len(text) <= MAX_CODE_CHARACTERS else ""
