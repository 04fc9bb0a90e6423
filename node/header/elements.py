"""Data Elements of an encoded data set, found without decoding a value; a cut or endless one is refused (PS3.5 7)."""

from collections.abc import Callable, Collection, Container, Iterator, Mapping
from struct import Struct
from typing import NamedTuple, Protocol

from node.errors import NotDicom, TooComplex

ZEROS = bytes(4)
PADDING_CHUNK_BYTES = 64 * 1024
UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_DELIMITER = 0xFFFEE00D
SEQUENCE_DELIMITER = 0xFFFEE0DD
DELIMITER_GROUP = 0xFFFE
PIXEL_DATA = 0x7FE00010
# Groups of Command Sets and of File Meta Information; none stands in a data set.
LAST_META_GROUP = 0x0003
# Deeper than any IOD nests, and far from Python's own limit.
MAX_DEPTH = 32
# A level of nesting takes at least the headers of a sequence and of an item, so a short value need not be looked into.
BYTES_PER_LEVEL = 16
DEEPEST_BYTES = BYTES_PER_LEVEL * MAX_DEPTH
# Items count too. A sparse multi-frame object of 100,000 Frames has about as many; to walk over them takes 2 s.
MAX_ELEMENTS = 2_000_000
HEADER_BYTES = 8
LONG_HEADER_BYTES = 12
# Value Representations whose Value Length has 16 bits (PS3.5 7.1.2).
SHORT_VRS = frozenset({
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
})  # fmt: skip
# The others. A VR that a later edition may add is not guessed at: readers that do not know it lose their way.
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
# What may hold a sequence; none is told in Implicit VR.
SEQUENCE_VRS = frozenset({b"SQ", b"UN", b""})


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
    max_elements
        How many elements are walked over, and how many elements and items in sequences.
    """

    def __init__(self, data: Encoded, *, implicit: bool, little_endian: bool, max_elements: int = MAX_ELEMENTS) -> None:
        order = "<" if little_endian else ">"
        self._data = data
        self._implicit = implicit
        self._is_little_endian = little_endian
        # Elements and items inside sequences, so far.
        self._inner = 0
        # Where the sequence begins that `look_into` walked over last, and the byte behind it.
        self._walked = (-1, -1)
        self._max_elements = max_elements
        self._tag_and_length = Struct(order + "HHI")
        self._short_header = Struct(order + "HH2sH")
        self._short = Struct(order + "H")
        self._long = Struct(order + "I")

    def find(self, wanted: Container[int], start: int = 0) -> Iterator[Element]:
        """Yield those elements of the data set itself whose tag is `wanted`, from byte `start` on; all are walked over.

        Raises
        ------
        NotDicom
            If an element is cut, holds no VR where one must be, or is none of a data set.
        TooComplex
            If sequences nest deeper than `MAX_DEPTH`, or there are more than `max_elements`.
        """
        data, size, at, count = self._data, len(self._data), start, 0
        while at < size:
            head = data[at : at + LONG_HEADER_BYTES]
            if head[:4] == ZEROS and self._is_padding(at):
                return
            if len(head) < HEADER_BYTES:
                self._require(at + HEADER_BYTES)
            group, number, vr, length = self._short_header.unpack_from(head)
            if group <= LAST_META_GROUP:
                raise NotDicom(f"no data set: it holds ({group:04X},{number:04X}); resend it")
            tag, offset = group << 16 | number, at + HEADER_BYTES
            if self._implicit or vr not in SHORT_VRS:
                if group == DELIMITER_GROUP:
                    # Many readers take it for the end of the data set.
                    raise NotDicom(f"an item outside of a sequence at byte {at} of the data set; resend it")
                _, vr, offset, length = self._element(at, head, implicit=self._implicit)
            if tag in wanted:
                yield Element(tag, vr, offset, length)
            at = offset + length if length <= DEEPEST_BYTES else self.end_of(Element(tag, vr, offset, length))
            count += 1
            if count > self._max_elements:
                raise self._too_many()
        self._require(at)

    def element_at(self, at: int, *, implicit: bool | None = None) -> Element:
        """Return the element whose tag is at byte `at`; its value may still be cut.

        Raises
        ------
        NotDicom
            If the element's header is cut, or holds no VR.
        """
        head = self._data[at : at + LONG_HEADER_BYTES]
        return self._element(at, head, implicit=self._implicit if implicit is None else implicit)

    def value_of(self, element: Element) -> bytes:
        """Return the value of an element of defined length, as encoded; what is cut is missing."""
        return self._data[element.offset : element.offset + element.length]

    def holds_items(self, element: Element) -> bool:
        """Return whether the value begins as that of a sequence which is not empty; Raises NotDicom if it is cut."""
        return element.length >= HEADER_BYTES and self.element_at(element.offset, implicit=True).tag == ITEM

    def look_into(
        self, sequence: Element, wanted: Collection[int], *, most: int
    ) -> Iterator[Mapping[int, Element | None]]:
        """Yield, of each item of a sequence of the data set itself, its elements of `wanted` tags.

        Whoever takes all of them walks for `find`, too: nothing is walked over, or counted, twice.

        Parameters
        ----------
        most
            Of so many items elements are found; others are walked over, and yielded empty.

        Returns
        -------
        found
            Tag to element, None where there is none; no length is undefined, the delimiter counts as value.

        Raises
        ------
        NotDicom
            If it is cut or damaged.
        TooComplex
            As `end_of`.
        """
        before = self._inner
        try:
            yield from self._look(sequence, wanted, most)
        finally:
            if sequence.length <= DEEPEST_BYTES or self._walked[0] != sequence.offset:
                # `find` passes over it, or walks over it again.
                self._inner = before

    def value_in(self, sequence: Element, tag: int, *, max_bytes: int) -> bytes:
        """Return a value out of the first item of a short sequence; empty where it is absent, longer, or behind others.

        Only elements of defined length, in the order of their tags, are passed over on the way to it.

        Parameters
        ----------
        sequence
            As `look_into` yields it.

        Raises
        ------
        NotDicom
            If an element is damaged.
        """
        if not self.holds_items(sequence):
            return b""
        at, end, implicit = sequence.offset + HEADER_BYTES, sequence.offset + sequence.length, _is_implicit(sequence)
        while at < end:
            element = self.element_at(at, implicit=implicit)
            at = element.offset + element.length
            if element.tag >= tag or at > end:
                is_it = element.tag == tag and element.length <= max_bytes and at <= end
                return self.value_of(element) if is_it else b""
        return b""

    def within(self, sequence: Element, *, max_elements: int) -> "ElementReader":
        """Return a reader of the value of a sequence alone, as `look_into` yields it; it holds a copy."""
        return ElementReader(
            self.value_of(sequence),
            implicit=_is_implicit(sequence),
            little_endian=self._is_little_endian,
            max_elements=max_elements,
        )

    def items(self, sequence: Element) -> Iterator["ElementReader"]:
        """Yield a reader of each item of a sequence.

        Raises
        ------
        NotDicom
            If it is cut or damaged.
        TooComplex
            As `end_of`.
        """
        at, end, implicit = sequence.offset, self.end_of(sequence), self._implicit or sequence.vr == b"UN"
        while at < end:
            item = self._item_at(at)
            if item.tag == SEQUENCE_DELIMITER:
                return
            at = self._end_of_item(item, implicit=implicit, depth=1)
            close = at if item.length != UNDEFINED_LENGTH else at - HEADER_BYTES
            yield ElementReader(
                self._data[item.offset : close], implicit=implicit, little_endian=self._is_little_endian
            )

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
        if vr not in LONG_VRS:
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
            If the value is cut.
        TooComplex
            If sequences nest deeper than `MAX_DEPTH`, or there are more than `max_elements`.
        """
        if element.offset == self._walked[0]:
            return self._walked[1]
        return self._end(element, implicit=self._implicit, depth=0)

    def _look(self, sequence: Element, wanted: Collection[int], most: int) -> Iterator[Mapping[int, Element | None]]:
        if sequence.vr not in SEQUENCE_VRS:
            return
        at, end, implicit = sequence.offset, None, self._implicit or sequence.vr == b"UN"
        if sequence.length != UNDEFINED_LENGTH:
            end = self._require(at + sequence.length)
        try:
            while end is None or at < end:
                item = self._item_at(at)
                if end is None and item.tag == SEQUENCE_DELIMITER:
                    at = item.offset
                    break
                found: dict[int, Element | None] | None = dict.fromkeys(wanted) if most > 0 else None
                at = self._end_of_item(item, implicit=implicit, depth=1, found=found)
                most -= 1
                yield found or {}
        except TooComplex:
            raise
        except NotDicom:
            if end is not None:
                # As in `_walk`: it hides nothing that follows.
                self._walked = (sequence.offset, end)
            raise
        self._walked = (sequence.offset, at if end is None else end)

    def _end(self, element: Element, *, implicit: bool, depth: int) -> int:
        # A sequence of unknown VR is in Implicit VR, whatever surrounds it (PS3.5 6.2.2 note 2).
        implicit, inner = implicit or element.vr == b"UN", depth + 1
        if element.length != UNDEFINED_LENGTH:
            end = self._require(element.offset + element.length)
            if element.length > _harmless_bytes(depth) and self._begins_with_item(element):
                _check_level(element.offset, inner)
                _walk(
                    element.offset, end, lambda at: self._end_of_item(self._item_at(at), implicit=implicit, depth=inner)
                )
            return end
        if element.tag == PIXEL_DATA:
            return self._end_of_fragments(element.offset)
        return self._end_of_sequence(element.offset, implicit=implicit, depth=inner)

    def _begins_with_item(self, element: Element) -> bool:
        if element.vr not in SEQUENCE_VRS or element.tag == PIXEL_DATA or element.length < HEADER_BYTES:
            return False
        group, number, _ = self._tag_and_length.unpack(self._data[element.offset : element.offset + HEADER_BYTES])
        return bool(group << 16 | number == ITEM)

    def _end_of_sequence(self, at: int, *, implicit: bool, depth: int) -> int:
        _check_level(at, depth)
        while True:
            item = self._item_at(at)
            if item.tag == SEQUENCE_DELIMITER:
                return item.offset
            at = self._end_of_item(item, implicit=implicit, depth=depth)

    def _end_of_item(
        self, item: Element, *, implicit: bool, depth: int, found: dict[int, Element | None] | None = None
    ) -> int:
        end = None if item.length == UNDEFINED_LENGTH else self._require(item.offset + item.length)
        at = item.offset
        while at != end:
            element = self._inner_at(at, implicit=implicit)
            if element.tag == ITEM_DELIMITER and end in (None, element.offset):
                return element.offset
            at = self._end(element, implicit=implicit, depth=depth)
            if found is not None and element.tag in found:
                found[element.tag] = Element(element.tag, element.vr, element.offset, at - element.offset)
            # Readers differ in where they go on then, and all of them are lost.
            if end is not None and (at > end or element.tag == ITEM_DELIMITER):
                raise NotDicom(f"an item ends inside an element at byte {element.offset} of the data set; resend it")
        return at

    def _end_of_fragments(self, at: int) -> int:
        # PS3.5 A.4: the Basic Offset Table, one or more fragments, a Sequence Delimitation Item.
        items = fragment_bytes = 0
        while True:
            item = self._item_at(at)
            if item.tag == SEQUENCE_DELIMITER:
                break
            at = self._require(item.offset + item.length)
            fragment_bytes += item.length if items else 0
            items += 1
        if not fragment_bytes:
            raise NotDicom(
                "encapsulated Pixel Data (7FE0,0010) holds no fragment, or empty ones only; resend the Instance"
            )
        return item.offset

    def _inner_at(self, at: int, *, implicit: bool) -> Element:
        self._inner += 1
        if self._inner > self._max_elements:
            raise self._too_many()
        return self.element_at(at, implicit=implicit)

    def _too_many(self) -> TooComplex:
        return TooComplex(f"the data set has more than {self._max_elements} elements or items; correct the sender")

    def _item_at(self, at: int) -> Element:
        item = self._inner_at(at, implicit=self._implicit)
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


def _is_implicit(sequence: Element) -> bool:
    """Return whether the items of a sequence are in Implicit VR, as whatever is in one of unknown VR."""
    return sequence.vr in (b"", b"UN")


def _harmless_bytes(depth: int) -> int:
    """Return the length up to which a value cannot nest too deep, `depth` levels being around it."""
    return BYTES_PER_LEVEL * (MAX_DEPTH - depth)


def _walk(at: int, end: int, step: Callable[[int], int]) -> None:
    """Go from `at` to `end` to see how deep it is there; other damage hides nothing that follows it, and is kept."""
    try:
        while at < end:
            at = step(at)
    except TooComplex:
        raise
    except NotDicom:
        return


def _check_level(at: int, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TooComplex(f"sequences nest deeper than {MAX_DEPTH} at byte {at} of the data set; correct the sender")
