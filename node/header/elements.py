"""Data Elements of an encoded data set, found without decoding a value; a cut or endless one is refused (PS3.5 7)."""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple, Protocol

from node.errors import NotDicom

ZEROS = bytes(4)
PADDING_CHUNK_BYTES = 64 * 1024
UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_DELIMITER = 0xFFFEE00D
SEQUENCE_DELIMITER = 0xFFFEE0DD
DELIMITER_GROUP = 0xFFFE
PIXEL_DATA = 0x7FE00010
# Deeper than any IOD nests, and far from Python's own limit.
MAX_DEPTH = 32
# The Basic Offset Table and one fragment.
MIN_FRAGMENT_ITEMS = 2
HEADER_BYTES = 8
LONG_HEADER_BYTES = 12
# Value Representations whose Value Length has 16 bits; every other one has 32 (PS3.5 7.1.2).
SHORT_VRS = frozenset({
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
})  # fmt: skip


class Encoded(Protocol):
    """A data set in memory, or in a file that is looked at without being held: what can be cut like bytes."""

    def __len__(self) -> int:
        """Return how many bytes there are."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Return the bytes of `part`, which has no step."""


# A tuple: made for every element of every Instance, and a frozen dataclass takes four times as long.
class Element(NamedTuple):
    """Where one Data Element lies.

    Attributes
    ----------
    tag
        Group Number in the upper, Element Number in the lower 16 bits.
    vr
        Value Representation; empty in Implicit VR and for items.
    offset
        Byte at which the value begins.
    length
        Value Length, bytes, or `UNDEFINED_LENGTH`.
    """

    tag: int
    vr: bytes
    offset: int
    length: int


class ElementReader:
    """Walks over the elements of one encoded data set.

    Parameters
    ----------
    data
        The encoded data set, possibly behind other bytes.
    implicit
        True in Implicit VR.
    little_endian
        False in Explicit VR Big Endian.
    """

    def __init__(self, data: Encoded, *, implicit: bool, little_endian: bool) -> None:
        order = "<" if little_endian else ">"
        self._data = data
        self._implicit = implicit
        self._tag_and_length = Struct(order + "HHI")
        self._tag = Struct(order + "HH")
        self._short = Struct(order + "H")
        self._long = Struct(order + "I")

    def elements(self, start: int = 0) -> Iterator[Element]:
        """Yield every element of the data set itself, from byte `start` on; sequences are skipped as a whole.

        Raises
        ------
        NotDicom
            If an element is cut, holds no VR where one must be, or nests deeper than `MAX_DEPTH`.
        """
        at = start
        while at < len(self._data):
            head = self._data[at : at + LONG_HEADER_BYTES]
            if at > start and head[:4] == ZEROS and self._is_padding(at):
                return
            element = self._element(at, head, implicit=self._implicit)
            yield element
            if element.length == UNDEFINED_LENGTH:
                at = self.end_of(element)
            else:
                at = self._require(element.offset + element.length)

    def element_at(self, at: int, *, implicit: bool | None = None) -> Element:
        """Return the element whose tag is at byte `at`; its value may still be cut.

        Raises
        ------
        NotDicom
            If the element's header is cut, or holds no VR.
        """
        head = self._data[at : at + LONG_HEADER_BYTES]
        return self._element(at, head, implicit=self._implicit if implicit is None else implicit)

    def _element(self, at: int, head: bytes, *, implicit: bool) -> Element:
        if len(head) < HEADER_BYTES:
            self._require(at + HEADER_BYTES)
        group, number, length = self._tag_and_length.unpack_from(head)
        tag = group << 16 | number
        if implicit or group == DELIMITER_GROUP:
            return Element(tag, b"", at + HEADER_BYTES, length)
        vr = head[4:6]
        if vr in SHORT_VRS:
            (length,) = self._short.unpack_from(head, 6)
            return Element(tag, vr, at + HEADER_BYTES, length)
        if not (vr.isalpha() and vr.isupper()):
            raise NotDicom(f"no Value Representation at byte {at} of the data set; it is cut or no DICOM; resend it")
        if len(head) < LONG_HEADER_BYTES:
            self._require(at + LONG_HEADER_BYTES)
        (length,) = self._long.unpack_from(head, HEADER_BYTES)
        return Element(tag, vr, at + LONG_HEADER_BYTES, length)

    def end_of(self, element: Element) -> int:
        """Return the byte behind `element`.

        Raises
        ------
        NotDicom
            If the value is cut, or nests deeper than `MAX_DEPTH`.
        """
        return self._end(element, implicit=self._implicit, depth=0)

    def _end(self, element: Element, *, implicit: bool, depth: int) -> int:
        if element.length != UNDEFINED_LENGTH:
            return self._require(element.offset + element.length)
        if element.tag == PIXEL_DATA:
            return self._end_of_fragments(element.offset)
        # A sequence of unknown VR is in Implicit VR, whatever surrounds it (PS3.5 6.2.2 note 2).
        return self._end_of_sequence(element.offset, implicit=implicit or element.vr == b"UN", depth=depth + 1)

    def _end_of_sequence(self, at: int, *, implicit: bool, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise NotDicom(f"sequences nest deeper than {MAX_DEPTH} at byte {at} of the data set; correct the sender")
        while True:
            item = self._item_at(at)
            if item.tag == SEQUENCE_DELIMITER:
                return item.offset
            at = self._end_of_item(item, implicit=implicit, depth=depth)

    def _end_of_item(self, item: Element, *, implicit: bool, depth: int) -> int:
        if item.length != UNDEFINED_LENGTH:
            return self._require(item.offset + item.length)
        at = item.offset
        while True:
            element = self.element_at(at, implicit=implicit)
            if element.tag == ITEM_DELIMITER:
                return element.offset
            at = self._end(element, implicit=implicit, depth=depth)

    def _end_of_fragments(self, at: int) -> int:
        # PS3.5 A.4: the Basic Offset Table, one or more fragments, a Sequence Delimitation Item.
        items = 0
        while True:
            item = self._item_at(at)
            if item.tag == SEQUENCE_DELIMITER:
                break
            at = self._require(item.offset + item.length)
            items += 1
        if items < MIN_FRAGMENT_ITEMS:
            raise NotDicom("encapsulated Pixel Data (7FE0,0010) holds no fragment; resend the Instance")
        return item.offset

    def _item_at(self, at: int) -> Element:
        item = self.element_at(at)
        if item.tag not in (ITEM, SEQUENCE_DELIMITER):
            raise NotDicom(f"no item at byte {at} of the data set; it is cut or damaged; resend it")
        return item

    def _require(self, end: int) -> int:
        if end > len(self._data):
            raise NotDicom(
                f"data set is cut: an element goes on to byte {end}, {len(self._data)} bytes came; resend the Instance"
            )
        return end

    def _is_padding(self, at: int) -> bool:
        # Some senders fill up with zeros behind the last element.
        chunks = range(at, len(self._data), PADDING_CHUNK_BYTES)
        return not any(self._data[begin : begin + PADDING_CHUNK_BYTES].strip(b"\0") for begin in chunks)
