"""Elements as their bytes in Explicit VR Little Endian: thousands of like items cost too much as Datasets."""

import struct
from collections.abc import Iterable
from functools import cache

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag

from workers.encoding.character_sets import UTF_8

SHORT_ELEMENT = struct.Struct("<HH2sH")
LONG_ELEMENT = struct.Struct("<HH2sxxI")
ITEM = struct.Struct("<HHI")
ITEM_TAG = (0xFFFE, 0xE000)


def write_element(keyword: str, vr: str, value: bytes) -> bytes:
    """Return an element with a length field of 16 bits.

    Parameters
    ----------
    value
        Of even length, below 64 KiB.

    References
    ----------
    DICOM PS3.5 7.1.2, Table 7.1-2
    """
    return SHORT_ELEMENT.pack(*_split_tag(keyword), vr.encode(), len(value)) + value


def write_text(keyword: str, vr: str, text: str) -> bytes:
    """Return an element of characters, padded to even length: UI by a null, all others by a space (PS3.5 6.2)."""
    value = text.encode()
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return write_element(keyword, vr, value)


def write_long_text(keyword: str, vr: str, text: str) -> bytes:
    """Return an element of characters with a length field of 32 bits: UC or UT."""
    value = text.encode()
    value += b" " * (len(value) % 2)
    return LONG_ELEMENT.pack(*_split_tag(keyword), vr.encode(), len(value)) + value


def write_sequence(keyword: str, items: Iterable[bytes]) -> bytes:
    """Return a Sequence of Items, each given as the bytes of its elements; every length is explicit.

    References
    ----------
    DICOM PS3.5 7.5
    """
    value = write_items(items)
    return LONG_ELEMENT.pack(*_split_tag(keyword), b"SQ", len(value)) + value


def write_items(items: Iterable[bytes]) -> bytes:
    """Return the value of a Sequence."""
    return b"".join(part for item in items for part in (ITEM.pack(*ITEM_TAG, len(item)), item))


@cache
def _split_tag(keyword: str) -> tuple[int, int]:
    tag = Tag(keyword)
    return tag.group, tag.element


def write_elements(ds: Dataset, tags: Iterable[BaseTag]) -> bytes:
    """Return the bytes of some elements of `ds`, as pydicom writes them."""
    part = Dataset()
    for tag in tags:
        part.add(ds[tag])
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, part, convert_encodings(UTF_8))
    written: bytes = buffer.getvalue()
    return written


def put_items(ds: Dataset, keyword: str, items: Iterable[bytes]) -> None:
    """Set a Sequence of `ds` to Items that are written already; reading it gives Datasets as ever."""
    value = write_items(items)
    tag = Tag(keyword)
    ds[tag] = RawDataElement(tag, "SQ", len(value), value, 0, False, True)


def keep_raw(ds: Dataset) -> None:
    """Let pydicom write the raw elements of `ds` as they are; every VR of it must be beyond doubt.

    To be called once its Specific Character Set is UTF-8 and nothing of it is to change any more.
    """
    ds.set_original_encoding(
        is_implicit_vr=False, is_little_endian=True, character_encoding=convert_encodings(ds.SpecificCharacterSet)
    )
