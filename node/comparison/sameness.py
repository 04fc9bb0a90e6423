"""In what two files of one Instance differ, whatever Transfer Syntax each is in; runs in a caged process only."""

from collections.abc import Iterator

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from node.decoding import Source, decode_frame, open_source

PIXEL_DATA = "Pixel Data"
PIXEL_GROUP = 0x7FE0
COLOR_SAMPLES = 3
# What an archive writes about its own copy, and how text is encoded, which is read.
LEFT_OUT = frozenset(
    Tag(keyword)
    for keyword in (
        "SpecificCharacterSet", "RetrieveURL", "RetrieveAETitle", "InstanceAvailability", "StorageMediaFileSetID",
        "StorageMediaFileSetUID", "OriginalAttributesSequence", "ContributingEquipmentSequence",
    )
)  # fmt: skip
# Codecs of color choose them; pixels are compared as RGB.
OF_COLOR = frozenset({Tag("PhotometricInterpretation"), Tag("PlanarConfiguration")})
SEQUENCE = "SQ"


def list_differences(earlier: str, later: str) -> list[str]:
    """Return the names of the elements in which two files differ, in the order of their tags; Pixel Data last.

    An element without a value is one that is absent. Pixel Data is decoded, and compared only where nothing else
    differs.

    Raises
    ------
    FileUnreadable
        If one is absent, or no Part 10 file.
    NotFound
        If one has no Pixel Data.
    PixelsUndecodable
        If no decoder understands one.
    """
    with open_source(earlier) as one, open_source(later) as other:
        names = [_name(tag) for tag in _differing(one.header, other.header, _left_out(one, other))]
        return names or ([] if _show_the_same(one, other) else [PIXEL_DATA])


def _left_out(one: Source, other: Source) -> frozenset[BaseTag]:
    in_color = all(source.header.get("SamplesPerPixel") == COLOR_SAMPLES for source in (one, other))
    return LEFT_OUT | OF_COLOR if in_color else LEFT_OUT


def _show_the_same(one: Source, other: Source) -> bool:
    if one.frames != other.frames:
        return False
    return all(
        np.array_equal(decode_frame(one, number), decode_frame(other, number)) for number in range(1, one.frames + 1)
    )


def _differing(
    one: Dataset, other: Dataset, left_out: frozenset[BaseTag] = LEFT_OUT, *, is_encoded_alike: bool = True
) -> Iterator[BaseTag]:
    """Give the elements that differ; text in items is encoded as the data set around them says, too."""
    is_encoded_alike &= one.get("SpecificCharacterSet") == other.get("SpecificCharacterSet")
    for tag in sorted({*one.keys(), *other.keys()}):
        if tag in left_out or tag.element == 0 or tag.group == PIXEL_GROUP:
            continue
        if is_encoded_alike and _are_alike(one.get_item(tag), other.get_item(tag)):
            continue
        if not _say_the_same(one.get(tag), other.get(tag), is_encoded_alike=is_encoded_alike):
            yield tag


def _are_alike(raw: DataElement | RawDataElement | None, other: DataElement | RawDataElement | None) -> bool:
    """Return whether two values that nobody has decoded are the same bytes, whatever VR is named."""
    return (
        isinstance(raw, RawDataElement)
        and isinstance(other, RawDataElement)
        and (raw.is_little_endian, raw.value) == (other.is_little_endian, other.value)
    )


def _say_the_same(here: DataElement | None, there: DataElement | None, *, is_encoded_alike: bool) -> bool:
    if here is None or there is None:
        return all(element is None or element.is_empty for element in (here, there))
    if here.VR == there.VR == SEQUENCE:
        pairs = zip(here.value, there.value, strict=False)
        return len(here.value) == len(there.value) and not any(
            any(True for _ in _differing(item, other, is_encoded_alike=is_encoded_alike)) for item, other in pairs
        )
    return bool(here.value == there.value) or (here.is_empty and there.is_empty)


def _name(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or str(tag)
