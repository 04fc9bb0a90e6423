"""Small data sets of messages: written, and read without trust in whoever sent them."""

from collections.abc import Iterator, Mapping
from io import BytesIO

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from node.errors import NotDicom
from node.header.elements import ITEM, ITEM_DELIMITER, SEQUENCE_DELIMITER, UNDEFINED_LENGTH, Element, ElementReader

# No message has so many elements; a report on 10,000 objects has 40,000.
MAX_ELEMENTS = 200_000


class MessageReader:
    """Reads a data set in Little Endian.

    pydicom gives back what it could read of a data set that is cut or damaged, and says so in a warning only: half of a
    list would be taken for all of it.
    """

    def __init__(self, encoded: bytes, *, is_implicit: bool = True) -> None:
        self._reader = ElementReader(encoded, implicit=is_implicit, little_endian=True, max_elements=MAX_ELEMENTS)

    def elements(self, *tags: int) -> Mapping[int, Element]:
        """Return those of the elements that are there, after all of the data set was walked over.

        Raises
        ------
        NotDicom
            If it is cut or damaged.
        """
        return {element.tag: element for element in self._reader.find(frozenset(tags))}

    def text(self, element: Element | None) -> str:
        """Return the value of an element as text, without padding; empty where it is absent."""
        return "" if element is None else as_text(self._reader.value_of(element))

    def items(self, sequence: Element | None) -> Iterator[Mapping[int, bytes]]:
        """Yield the values in each item of a sequence, as encoded, by tag; nothing where it is absent.

        Raises
        ------
        NotDicom
            If it is damaged.
        """
        if sequence is None:
            return
        at, end = sequence.offset, self._reader.end_of(sequence)
        while at < end:
            item = self._reader.element_at(at)
            if item.tag == SEQUENCE_DELIMITER:
                return
            if item.tag != ITEM:
                raise NotDicom(f"no item at byte {at} of a sequence")
            values: dict[int, bytes] = {}
            at = self._read_item(item, values)
            yield values

    def _read_item(self, item: Element, values: dict[int, bytes]) -> int:
        """Put the values of an item into `values`; return the byte behind it."""
        at = item.offset
        end = None if item.length == UNDEFINED_LENGTH else at + item.length
        while end is None or at < end:
            element = self._reader.element_at(at)
            if element.tag == ITEM_DELIMITER:
                return element.offset
            at = self._reader.end_of(element)
            if element.length != UNDEFINED_LENGTH:
                values[element.tag] = self._reader.value_of(element)
        if at != end:
            raise NotDicom(f"an item ends inside an element at byte {at} of a data set")
        return at


def as_text(value: bytes) -> str:
    """Return a value of ASCII without its padding."""
    return value.decode("ascii", "replace").strip("\0 ")


def encode_data_set(ds: Dataset) -> bytes:
    """Return a data set in Implicit VR Little Endian."""
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = True, True
    write_dataset(stream, ds)
    return stream.getvalue()


def decode_data_set(encoded: bytes) -> Dataset:
    """Return a data set in Implicit VR Little Endian, its texts decoded by its Specific Character Set (0008,0005).

    Raises
    ------
    NotDicom
        If it is cut, damaged, or cannot be decoded.
    """
    # Reads all of it, and refuses what is cut.
    MessageReader(encoded).elements()
    try:
        ds: Dataset = read_dataset(BytesIO(encoded), is_implicit_VR=True, is_little_endian=True)
        ds.decode()
    except (ValueError, LookupError, AttributeError, NotImplementedError) as exc:
        raise NotDicom("a data set cannot be decoded") from exc
    return ds
