"""What the functional groups of a multi-frame image tell rules: how its Frames lie and are sampled (PS3.3 C.7.6.16)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType

from pydicom.tag import Tag
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
)

from node.errors import NotDicom
from node.header.elements import Element, ElementReader

# Others, such as Segmentations, may have ten times as many Frames, and no rule asks where these lie.
PLACED_CLASSES = frozenset({
    EnhancedCTImageStorage, EnhancedMRImageStorage, EnhancedPETImageStorage, LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage, LegacyConvertedEnhancedPETImageStorage,
})  # fmt: skip
SHARED_GROUPS, FRAME_GROUPS = int(Tag("SharedFunctionalGroupsSequence")), int(Tag("PerFrameFunctionalGroupsSequence"))
GROUP_TAGS = frozenset({SHARED_GROUPS, FRAME_GROUPS})
PLANE_POSITION, IMAGE_POSITION = int(Tag("PlanePositionSequence")), int(Tag("ImagePositionPatient"))
# Functional group to what is read of it; of Frames that differ, the first one's stands for all.
READ: Mapping[int, frozenset[int]] = MappingProxyType({
    int(Tag("PixelMeasuresSequence")): frozenset({int(Tag("PixelSpacing")), int(Tag("SliceThickness"))}),
    int(Tag("PlaneOrientationSequence")): frozenset({int(Tag("ImageOrientationPatient"))}),
    int(Tag("CTXRayDetailsSequence")): frozenset({int(Tag("KVP"))}),
    int(Tag("CTReconstructionSequence")): frozenset({int(Tag("ConvolutionKernel"))}),
})  # fmt: skip
COORDINATES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What was read of functional groups.

    Attributes
    ----------
    values
        Tag to Value Representation and value, as encoded.
    positions
        Image Position (Patient) (0020,0032) of each Frame, as encoded; empty where one has none.
    """

    values: Mapping[int, tuple[bytes, bytes]] = field(default_factory=dict)
    positions: tuple[bytes, ...] = ()


def read_groups(reader: ElementReader, sequence: Element, known: Groups) -> Groups:
    """Return `known` and what Shared or Per-Frame Functional Groups Sequence adds to it; nothing of a damaged one."""
    try:
        if sequence.tag == SHARED_GROUPS:
            shared = next(reader.items(sequence), None)
            return known if shared is None else Groups(values=_read_values(shared))
        values, positions = dict(known.values), []
        for number, frame in enumerate(reader.items(sequence)):
            if number == 0:
                values |= _read_values(frame)
            positions.append(_read_position(frame))
    except NotDicom:
        return known
    return Groups(values=values, positions=tuple(positions) if all(positions) else ())


def read_positions(positions: tuple[bytes, ...]) -> list[float] | None:
    """Return the three coordinates of each Frame, one after another, mm; None where one does not tell.

    Parameters
    ----------
    positions
        As `Groups` holds them.
    """
    coordinates: list[float] = []
    for raw in positions:
        try:
            numbers = [float(part) for part in raw.decode("ascii").strip("\0 ").split("\\")]
        except ValueError:
            return None
        if len(numbers) != COORDINATES or not all(map(isfinite, numbers)):
            return None
        coordinates += numbers
    return coordinates or None


def _read_values(item: ElementReader) -> dict[int, tuple[bytes, bytes]]:
    values: dict[int, tuple[bytes, bytes]] = {}
    for group in item.find(READ):
        inner = next(item.items(group), None)
        if inner is not None:
            values |= {one.tag: (one.vr, inner.value_of(one)) for one in inner.find(READ[group.tag])}
    return values


def _read_position(item: ElementReader) -> bytes:
    for group in item.find({PLANE_POSITION}):
        for inner in item.items(group):
            for one in inner.find({IMAGE_POSITION}):
                return inner.value_of(one)
    return b""
