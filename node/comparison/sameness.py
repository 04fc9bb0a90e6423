"""In what two files of one Instance differ, whatever Transfer Syntax each is in; runs in a caged process only."""

from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from typing import BinaryIO

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from node.decoding import Source, decode_frame, find_pixels, open_file, open_source, read_header
from node.errors import NotFound

PIXEL_DATA = "Pixel Data"
COLOR_SAMPLES = 3
# What an archive writes about its own copy, and how text is encoded, which is read.
LEFT_OUT = frozenset(
    Tag(keyword)
    for keyword in (
        "SpecificCharacterSet", "RetrieveURL", "RetrieveAETitle", "InstanceAvailability", "StorageMediaFileSetID",
        "StorageMediaFileSetUID", "OriginalAttributesSequence", "ContributingEquipmentSequence",
    )
)  # fmt: skip
# How Pixel Data is cut into fragments; what is in these is compared.
OF_PIXELS = frozenset(
    Tag(keyword)
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "EncapsulatedPixelDataValueTotalLength")
)
# A codec of color chooses them; what it decodes is RGB.
OF_COLOR = frozenset({Tag("PhotometricInterpretation"), Tag("PlanarConfiguration")})
CHUNK_BYTES = 1024 * 1024
SEQUENCE, UNKNOWN = "SQ", "UN"
# Their words are in the order of bytes of the Transfer Syntax, which nobody turns.
OTHER = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", UNKNOWN})
ILLEGIBLE = "\N{REPLACEMENT CHARACTER}"


def list_differences(earlier: str, later: str) -> list[str]:
    """Return the names of the elements in which two files differ, in the order of their tags; Pixel Data last.

    An element without a value is one that is absent. Pixel Data is decoded, and compared only where nothing else
    differs; what follows it is not read.

    Raises
    ------
    FileUnreadable
        If one is absent, or no Part 10 file.
    NotFound
        If one alone has Pixel Data.
    PixelsUndecodable
        If no decoder understands one.
    """
    try:
        with open_source(earlier) as one, open_source(later) as other:
            names = [_name(tag) for tag in _differing(one.header, other.header, _left_out(one, other))]
            return names or ([] if _show_the_same(one, other) else [PIXEL_DATA])
    except NotFound:
        headers = [_read_without_pixels(path) for path in (earlier, later)]
        if headers[0] is None or headers[1] is None:
            raise
        return [_name(tag) for tag in _differing(headers[0], headers[1])]


def _read_without_pixels(path: str) -> Dataset | None:
    """Return the data set of a file, None where it has Pixel Data."""
    with open_file(path) as file:
        header = read_header(file)
        return None if find_pixels(file, header) else header


def _left_out(one: Source, other: Source) -> frozenset[BaseTag]:
    in_color = all(source.header.get("SamplesPerPixel") == COLOR_SAMPLES for source in (one, other))
    is_coded = any(source.transfer_syntax_uid.is_encapsulated for source in (one, other))
    return LEFT_OUT | OF_PIXELS | OF_COLOR if in_color and is_coded else LEFT_OUT | OF_PIXELS


def _show_the_same(one: Source, other: Source) -> bool:
    if one.transfer_syntax_uid == other.transfer_syntax_uid and _go_on_alike(one.pixels, other.pixels):
        return True
    if one.frames != other.frames:
        return False
    return all(
        np.array_equal(decode_frame(one, number), decode_frame(other, number)) for number in range(1, one.frames + 1)
    )


def _go_on_alike(one: BinaryIO | Dataset, other: BinaryIO | Dataset) -> bool:
    """Return whether two files hold the same bytes from where they are; they are left there."""
    if isinstance(one, Dataset) or isinstance(other, Dataset):
        return False
    places = one.tell(), other.tell()
    pieces = (iter(partial(file.read, CHUNK_BYTES), b"") for file in (one, other))
    is_alike = all(piece == other_piece for piece, other_piece in zip_longest(*pieces))
    one.seek(places[0])
    other.seek(places[1])
    return is_alike


def _differing(
    one: Dataset, other: Dataset, left_out: frozenset[BaseTag] = LEFT_OUT, *, is_encoded_alike: bool = True
) -> Iterator[BaseTag]:
    """Give the elements that differ; text in items is encoded as the data set around them says, too."""
    is_encoded_alike &= one.get("SpecificCharacterSet") == other.get("SpecificCharacterSet")
    for tag in sorted({*one.keys(), *other.keys()}):
        if tag in left_out or tag.element == 0:
            continue
        if is_encoded_alike and _are_alike(one.get_item(tag), other.get_item(tag)):
            continue
        if not _say_the_same(one.get(tag), other.get(tag), is_encoded_alike=is_encoded_alike):
            yield tag


def _are_alike(raw: DataElement | RawDataElement | None, other: DataElement | RawDataElement | None) -> bool:
    """Return whether two values that nobody has decoded are the same bytes, of one VR as far as both name it."""
    if not isinstance(raw, RawDataElement) or not isinstance(other, RawDataElement):
        return False
    is_one_vr = raw.VR == other.VR or not {raw.VR, other.VR}.isdisjoint({None, UNKNOWN})
    return is_one_vr and (raw.is_little_endian, raw.value) == (other.is_little_endian, other.value)


def _say_the_same(here: DataElement | None, there: DataElement | None, *, is_encoded_alike: bool) -> bool:
    if here is None or there is None:
        return all(element is None or element.is_empty for element in (here, there))
    if here.VR == there.VR == SEQUENCE:
        pairs = zip(here.value, there.value, strict=False)
        return len(here.value) == len(there.value) and not any(
            any(True for _ in _differing(item, other, is_encoded_alike=is_encoded_alike)) for item, other in pairs
        )
    if here.is_empty and there.is_empty:
        return True
    # Bytes of one order of bytes were compared before; what could not be decoded tells nothing.
    is_legible = ILLEGIBLE not in f"{here.value}{there.value}"
    return here.VR == there.VR and here.VR not in OTHER and is_legible and bool(here.value == there.value)


def _name(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or str(tag)
