"""What the functional groups of a multi-frame image tell rules: how its Frames lie and are sampled (PS3.3 C.7.6.16)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import zip_longest
from math import isfinite

from pydicom.tag import Tag

from node.domain.frame_groups import (
    FRAME_GROUPS,
    MAX_FRAMES,
    UNASSIGNED_KEYWORDS,
    UNASSIGNED_OF_FRAME,
    UNASSIGNED_SHARED,
)
from node.errors import NotDicom, TooComplex
from node.header.codes import coded_tags, read_codes
from node.header.elements import Element, ElementReader
from node.header.values import MAX_VALUE_BYTES, Scalar, decode_value, decoded_tags

SHARED_GROUPS, FRAMES_GROUPS = int(Tag("SharedFunctionalGroupsSequence")), int(Tag("PerFrameFunctionalGroupsSequence"))
GROUP_TAGS = frozenset({SHARED_GROUPS, FRAMES_GROUPS})
PLANE_POSITION, IMAGE_POSITION = int(Tag("PlanePositionSequence")), int(Tag("ImagePositionPatient"))
FRAME_TYPE, CODE_STRING = int(Tag("FrameType")), b"CS"
TYPE_GROUPS = tuple(int(Tag(group)) for group, told in FRAME_GROUPS.items() if "FrameType" in told)
UNASSIGNED = frozenset({int(Tag(UNASSIGNED_SHARED)), int(Tag(UNASSIGNED_OF_FRAME))})
# The unassigned attributes may hold a vendor's private ones; a group of more is not looked into.
MAX_GROUP_BYTES, MAX_GROUP_ELEMENTS = 4 * 2**20, 10_000
# Three Decimal Strings of more digits than PS3.5 6.2 allows, as some write them.
MAX_POSITION_BYTES = 96
COORDINATES = 3
# Five Code Strings, and as many again.
MAX_TYPE_BYTES = 170
# What Image Type (0008,0008) says where Frames differ; its values 2 and 3 never do (PS3.3 C.8.16.1).
MIXED, NEVER_MIXED = "MIXED", (2, 3)
# Stands for what a Frame says of itself, and nobody understands: what all share must not take its place.
UNREADABLE = b"?"
# No patient is longer, and no position of a slice is known to less than a thousandth of a millimetre.
MAX_COORDINATE_MM, DECIMALS = 1e6, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Attributes out of functional groups.

    Attributes
    ----------
    kept
        Tag to Value Representation and value, as encoded.
    codes
        Keyword to the codes of each Code Sequence.
    """

    kept: Mapping[int, tuple[bytes, bytes]] = field(default_factory=dict)
    codes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def over(self, other: "Told") -> "Told":
        """Return both; what this one tells goes before `other`."""
        return Told(kept={**other.kept, **self.kept}, codes={**other.codes, **self.codes})


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What was read of functional groups; of Frames that differ, the first one's stand for all.

    Of each Frame there are its place and its type.

    Attributes
    ----------
    seen
        Tags of the Sequences that were read.
    assigned
        What groups tell that are for it.
    unassigned
        What a conversion kept of single slices; None where it kept nothing.
    positions
        Image Position (Patient) (0020,0032) of each Frame, as encoded; empty where it has none of its own.
    shared_position
        That of the Frames that have none of their own.
    types
        Each Frame Type (0008,9007) once, as encoded; empty bytes stand for Frames that have none of their own.
    shared_type
        That of these.
    is_sound
        False where something is damaged, too large or comes twice, or there are more than `MAX_FRAMES`.
    """

    seen: frozenset[int] = frozenset()
    assigned: Told = field(default_factory=Told)
    unassigned: Told | None = None
    positions: tuple[bytes, ...] = ()
    shared_position: bytes = b""
    types: tuple[bytes, ...] = ()
    shared_type: bytes = b""
    is_sound: bool = True

    @property
    def are_read(self) -> bool:
        """Whether the groups of the Frames were read, and all is sound."""
        return self.is_sound and FRAMES_GROUPS in self.seen


def read_groups(reader: ElementReader, sequence: Element, known: Groups) -> Groups:
    """Return `known` and what Shared or Per-Frame Functional Groups Sequence adds to it.

    Raises
    ------
    TooComplex
        As the reader does, of the sequence itself.
    """
    if sequence.tag in known.seen:
        return replace(known, is_sound=False)
    found, seen = replace(known, seen=known.seen | {sequence.tag}), 0
    positions: list[bytes] = []
    types: dict[bytes, None] = {}
    try:
        for item in reader.look_into(sequence, _wanted(), most=MAX_FRAMES):
            if seen == 0:
                found = _add_groups(reader, item, found, is_shared=sequence.tag == SHARED_GROUPS)
            if seen < MAX_FRAMES:
                positions.append(_read_position(reader, item))
                types[_read_type(reader, item)] = None
            seen += 1
    except TooComplex:
        raise
    except NotDicom:
        return replace(found, is_sound=False)
    if sequence.tag == SHARED_GROUPS:
        return replace(found, shared_position=next(iter(positions), b""), shared_type=next(iter(types), b""))
    is_sound = found.is_sound and seen <= MAX_FRAMES
    return replace(found, positions=tuple(positions), types=tuple(types), is_sound=is_sound)


def list_columns(groups: Groups) -> list[list[float]] | None:
    """Return where the Frames lie, as `FRAME_POSITIONS` keeps it; None where one does not tell."""
    points = [read_position(raw or groups.shared_position) for raw in groups.positions]
    known = [point for point in points if point is not None]
    if not known or len(known) != len(points):
        return None
    return [column[:1] if len(set(column)) == 1 else column for column in map(list, zip(*known, strict=True))]


def merge_types(image_type: Sequence[Scalar], groups: Groups) -> list[Scalar]:
    """Return Image Type (0008,0008) as the Frames tell it: their Frame Type (0008,9007) where all say the same.

    Where they differ, or Image Type says so, a value is ``MIXED``; of values 2 and 3, that of Image Type is kept.

    References
    ----------
    DICOM PS3.3 C.8.16.1
    """
    told = {raw or groups.shared_type for raw in groups.types} - {b""}
    values = [decode_value("ImageType", CODE_STRING, raw, (), little_endian=True) for raw in told]
    types = [one for one in values if isinstance(one, list)]
    merged: list[Scalar] = []
    for place, (own, *said) in enumerate(zip_longest(image_type, *types, fillvalue=""), start=1):
        if own == MIXED or len(set(said)) > 1:
            merged.append(own if own and place in NEVER_MIXED else MIXED)
        else:
            merged.append(next(iter(said), "") or own)
    return merged


def read_position(raw: bytes) -> tuple[float, ...] | None:
    """Return Image Position (Patient) (0020,0032), mm, to a thousandth; None where it is none."""
    try:
        numbers = [float(part) for part in raw.decode("ascii").strip("\0 ").split("\\")]
    except ValueError:
        return None
    if len(numbers) != COORDINATES or not all(isfinite(one) and abs(one) <= MAX_COORDINATE_MM for one in numbers):
        return None
    return tuple(round(one, DECIMALS) for one in numbers)


@cache
def _to_read() -> Mapping[int, frozenset[int]]:
    """Return group to what rules know of its attributes."""
    known = decoded_tags().keys() | coded_tags().keys()
    groups = {**FRAME_GROUPS, UNASSIGNED_SHARED: UNASSIGNED_KEYWORDS, UNASSIGNED_OF_FRAME: UNASSIGNED_KEYWORDS}
    tags = {int(Tag(group)): frozenset(int(Tag(keyword)) for keyword in told) & known for group, told in groups.items()}
    return {group: told for group, told in tags.items() if told and group != PLANE_POSITION}


@cache
def _wanted() -> frozenset[int]:
    return frozenset({PLANE_POSITION, *TYPE_GROUPS, *_to_read()})


def _add_groups(reader: ElementReader, item: Mapping[int, Element | None], known: Groups, *, is_shared: bool) -> Groups:
    """Return `known` and what an item tells of all Frames, or of the first."""
    told, unassigned, is_sound = Told(), known.unassigned, known.is_sound
    for group, wanted in _to_read().items():
        element = item[group]
        if element is None:
            continue
        one = _read_group(reader, element, wanted)
        is_sound = is_sound and one is not None
        if group in UNASSIGNED:
            unassigned = (unassigned or Told()).over(one or Told())
        else:
            told = (one or Told()).over(told)
    # What a Frame says goes before what all share.
    assigned = known.assigned.over(told) if is_shared else told.over(known.assigned)
    return replace(known, assigned=assigned, unassigned=unassigned, is_sound=is_sound)


def _read_group(reader: ElementReader, group: Element, wanted: frozenset[int]) -> Told | None:
    """Return what the first item of a group tells; None where it, or a value, is damaged or too large."""
    if group.length > MAX_GROUP_BYTES:
        return None
    inner = reader.within(group, max_elements=MAX_GROUP_ELEMENTS)
    try:
        found = next(inner.look_into(group._replace(offset=0), wanted, most=1), {})
    except NotDicom:
        return None
    keywords = coded_tags()
    told = [element for element in found.values() if element is not None]
    plain = [element for element in told if element.tag not in keywords]
    if any(element.length > MAX_VALUE_BYTES for element in plain):
        return None
    codes = {keywords[element.tag]: read_codes(inner, element) for element in told if element.tag in keywords}
    return Told(
        kept={element.tag: (element.vr, inner.value_of(element)) for element in plain},
        codes={keyword: one for keyword, one in codes.items() if one},
    )


def _read_position(reader: ElementReader, item: Mapping[int, Element | None]) -> bytes:
    group = item[PLANE_POSITION]
    if group is None:
        return b""
    try:
        return reader.value_in(group, IMAGE_POSITION, max_bytes=MAX_POSITION_BYTES) or UNREADABLE
    except NotDicom:
        return UNREADABLE


def _read_type(reader: ElementReader, item: Mapping[int, Element | None]) -> bytes:
    group = next((item[tag] for tag in TYPE_GROUPS if item[tag] is not None), None)
    if group is None:
        return b""
    try:
        return reader.value_in(group, FRAME_TYPE, max_bytes=MAX_TYPE_BYTES)
    except NotDicom:
        return b""
