"""The Attribute List of a normalized service: read as far as it is asked, and without trust in whoever sent it."""

from collections.abc import Mapping, Sequence

from node.domain.uids import check_uid
from node.errors import AttributeEmpty, AttributeInvalid, AttributeMissing, BadIdentifier
from node.header.elements import Element, ElementReader

# No service that is offered has so many; a Procedure Step on 10,000 Instances has 30,000.
MAX_ELEMENTS = 200_000
PADDING = "\0 "


class _Every:
    """Holds every tag."""

    def __contains__(self, tag: object) -> bool:
        return True


class AttributeList:
    """A data set, or an item of a sequence in one.

    Parameters
    ----------
    encoded
        In Little Endian.

    Raises
    ------
    NotDicom
        If it is cut or damaged.
    TooComplex
        If it nests too deep, or has too many elements.

    Attributes
    ----------
    encoded
        As it came; of an item, empty.
    """

    def __init__(self, encoded: bytes, *, is_implicit: bool) -> None:
        self.encoded = encoded
        reader = ElementReader(encoded, implicit=is_implicit, little_endian=True, max_elements=MAX_ELEMENTS)
        self._reader = reader
        self._elements: Mapping[int, Element] = {element.tag: element for element in reader.find(_Every())}

    @classmethod
    def of_item(cls, reader: ElementReader) -> "AttributeList":
        """Return an item of a sequence."""
        item = cls.__new__(cls)
        item.encoded = b""
        item._reader = reader
        item._elements = {element.tag: element for element in reader.find(_Every())}
        return item

    def __contains__(self, tag: int) -> bool:
        """Return whether an Attribute is there, with a value or without."""
        return tag in self._elements

    def text(self, tag: int) -> str:
        """Return a value of ASCII, without its padding; empty where there is none."""
        element = self._elements.get(tag)
        return "" if element is None else self._reader.value_of(element).decode("ascii", "replace").strip(PADDING)

    def items(self, tag: int) -> Sequence["AttributeList"]:
        """Return the items of a sequence; none where it is absent or empty.

        Raises
        ------
        NotDicom, TooComplex
            As the list itself.
        """
        element = self._elements.get(tag)
        return () if element is None else [AttributeList.of_item(item) for item in self._reader.items(element)]

    def required_text(self, tag: int) -> str:
        """Return a value of Type 1.

        Raises
        ------
        AttributeMissing, AttributeEmpty
            If it is not there.
        """
        value = self.text(tag)
        if not value:
            self._lack(tag)
        return value

    def required_uid(self, tag: int) -> str:
        """Return a UID of Type 1.

        Raises
        ------
        AttributeMissing, AttributeEmpty
            If it is not there.
        AttributeInvalid
            If it is none.
        """
        try:
            return check_uid(self.required_text(tag), keyword=show(tag))
        except BadIdentifier as exc:
            raise AttributeInvalid(str(exc), tag) from exc

    def required_items(self, tag: int) -> Sequence["AttributeList"]:
        """Return the items of a sequence of Type 1.

        Raises
        ------
        AttributeMissing, AttributeEmpty
            If there is none.
        """
        items = self.items(tag)
        if not items:
            self._lack(tag)
        return items

    def _lack(self, tag: int) -> None:
        if tag in self:
            raise AttributeEmpty(f"{show(tag)} has no value; it needs one", tag)
        raise AttributeMissing(f"{show(tag)} is not there; it is needed", tag)


def show(tag: int) -> str:
    """Return a tag as people write it."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
