"""The header scan: one pass over an encoded data set that tells what it is and whether it is whole."""

import mmap
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from tempfile import TemporaryFile
from typing import Any

from node.domain.contrast import GIVEN, NOT_GIVEN, is_given_with_frames
from node.domain.frame_groups import PLACED_CLASSES, PLACING_KEYWORDS
from node.domain.study import CODED_KEYWORDS, CONTRAST_GIVEN, FRAME_POSITIONS, KEPT_KEYWORDS, Attributes, Place
from node.domain.uids import UID_PATTERN, InstanceUID, SeriesUID, StudyUID, check_uid
from node.errors import NotDicom, TooLarge
from node.header.codes import coded_tags, read_codes
from node.header.elements import PIXEL_DATA, UNDEFINED_LENGTH, Element, ElementReader, Encoded
from node.header.groups import GROUP_TAGS, Groups, Told, list_columns, merge_types, read_groups
from node.header.part10 import read_part10
from node.header.values import MAX_VALUE_BYTES, Value, character_encodings, decode_value, decoded_tags, kept_tags

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN, DEFLATED_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN})
# The data set itself is deflated in these; the last two are JPIP Referenced Deflate and its HTJ2K sibling.
DEFLATED = frozenset({DEFLATED_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
# The first bytes of each element of the File Meta Information; of no data set, in Big Endian neither.
META_BYTES = b"\2\0"
STANDARD_PREFIX = "1.2.840.10008.1.2."
# A deflate bomb ends here; reports and waveforms, the usual deflated objects, stay far below.
MAX_INFLATED_BYTES = 256 * 2**20
INFLATE_CHUNK_BYTES = 256 * 1024
# Pixel Data Provider URL, Float, Double Float and plain Pixel Data: one of them goes with the Image Pixel modules.
PIXEL_CARRIERS = frozenset({0x00287FE0, 0x7FE00008, 0x7FE00009, PIXEL_DATA})
SPECIFIC_CHARACTER_SET, SOP_CLASS_UID, CONTRAST_AGENTS = 0x00080005, 0x00080016, 0x00180012
# How it may be told that an element is one.
CODE_STRING = frozenset({b"CS", b"UN", b""})
OF_FRAMES = GROUP_TAGS | {CONTRAST_AGENTS}
# What Frames say in a word of their own, and what single slices call it; rules know the latter.
SLICE_NAMES = {"EffectiveEchoTime": "EchoTime"}
# Share of the samples that native Pixel Data holds when chrominance is subsampled (PS3.3 C.7.6.3.1.2).
SUBSAMPLED = {"YBR_FULL_422": (2, 3), "YBR_PARTIAL_422": (2, 3), "YBR_PARTIAL_420": (1, 2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the scan found.

    Attributes
    ----------
    attributes
        Keyword to value for those of `KEPT_KEYWORDS` and `CODED_KEYWORDS` that are present, not empty and valid. A
        list exactly where the dictionary allows more than one value. Beside them `FRAME_POSITIONS` and
        `CONTRAST_GIVEN`, where they are told.
    data_set_offset
        Byte of the scanned content at which the data set begins.
    pixel_data_offset
        Byte of the scanned content at which the value of Pixel Data (7FE0,0010) begins; None without, or deflated.
    """

    study_instance_uid: StudyUID
    series_instance_uid: SeriesUID
    sop_instance_uid: InstanceUID
    sop_class_uid: str
    transfer_syntax_uid: str
    attributes: Attributes
    data_set_offset: int
    pixel_data_offset: int | None

    @property
    def place(self) -> Place:
        """Where the Instance belongs."""
        return Place(self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What stands before the Pixel Data of a data set.

    Attributes
    ----------
    kept
        Tag to Value Representation and value, as encoded, of each attribute that is read.
    codes
        Keyword to the codes of each Code Sequence that is read.
    has_agents, names_agents
        Whether Contrast/Bolus Agent Sequence (0018,0012) of Frames has Items, and whether one says which agent.
    groups
        What functional groups tell of Frames that have a place in the patient.
    pixels
        Where Pixel Data (or what stands for it) lies; None when it was not reached.
    """

    kept: Mapping[int, tuple[bytes, bytes]] = field(default_factory=dict)
    codes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    has_agents: bool = False
    names_agents: bool = False
    groups: Groups = field(default_factory=Groups)
    pixels: Element | None = None

    def moved(self, offset: int) -> "Beginning":
        """Return the same for a data set that begins at byte `offset`."""
        if self.pixels is None:
            return self
        return replace(self, pixels=self.pixels._replace(offset=self.pixels.offset + offset))


def scan_file(content: Encoded) -> Header:
    """Return the header of a Part 10 file; offsets count from the beginning of the file.

    Raises
    ------
    NotDicom
        If the file is no Part 10 file, or its data set is cut or damaged.
    BadIdentifier
        If a UID is missing or malformed.
    """
    part10 = read_part10(content)
    return scan_data_set(content, transfer_syntax_uid=part10.transfer_syntax_uid, start=part10.data_set_offset)


def scan_data_set(
    content: Encoded, *, transfer_syntax_uid: str, start: int = 0, begun: Beginning | None = None
) -> Header:
    """Return the header of the data set that begins at byte `start` of `content`; pixels are never decoded.

    Parameters
    ----------
    begun
        What `scan_beginning` found in the first bytes of the data set.

    Raises
    ------
    NotDicom
        If an element is cut, Pixel Data is shorter than the header says, encapsulated Pixel Data does not end, the
        Transfer Syntax is unknown, or the bytes are no data set.
    BadIdentifier
        If a UID is missing or malformed.

    References
    ----------
    DICOM PS3.5 7, 8 and A.4
    """
    _check_transfer_syntax(transfer_syntax_uid)
    if begun is None and content[start : start + len(META_BYTES)] == META_BYTES:
        # Behind real ones, as a file, nobody could tell where the data set begins.
        raise NotDicom("no data set: it begins like File Meta Information (0002,xxxx); resend it")
    if transfer_syntax_uid not in DEFLATED:
        return _scan(content, begun or Beginning(), transfer_syntax_uid=transfer_syntax_uid, start=start)
    with _inflated(content, start) as inflated:
        found = _scan(inflated, Beginning(), transfer_syntax_uid=transfer_syntax_uid, start=0)
    return replace(found, data_set_offset=start, pixel_data_offset=None)


def scan_beginning(head: bytes, *, transfer_syntax_uid: str) -> Beginning | None:
    """Return what `head`, the first bytes of a data set, holds before its Pixel Data; None when they do not get there.

    It can be handed to `scan_data_set` when the rest has come, which then need not read the header again.
    """
    if transfer_syntax_uid in DEFLATED or head.startswith(META_BYTES):
        return None
    try:
        found = _collect(_reader(head, transfer_syntax_uid), Beginning(), start=0)
    except NotDicom:
        # It may go on behind `head`; if it does not, the scan of the whole says so.
        return None
    return found if found.pixels is not None else None


def _scan(data: Encoded, begun: Beginning, *, transfer_syntax_uid: str, start: int) -> Header:
    reader = _reader(data, transfer_syntax_uid)
    found = begun.moved(start) if begun.pixels is not None else _collect(reader, begun, start=start)
    if found.pixels is not None:
        found = _collect(reader, found, start=reader.end_of(found.pixels))
    pixels, is_little_endian = found.pixels, transfer_syntax_uid != EXPLICIT_BIG_ENDIAN
    values = _decode(found.kept, little_endian=is_little_endian)
    _check_pixels(pixels, values, is_native=transfer_syntax_uid in NATIVE)
    return Header(
        study_instance_uid=StudyUID(_uid(values, "StudyInstanceUID")),
        series_instance_uid=SeriesUID(_uid(values, "SeriesInstanceUID")),
        sop_instance_uid=InstanceUID(_uid(values, "SOPInstanceUID")),
        sop_class_uid=_uid(values, "SOPClassUID"),
        transfer_syntax_uid=transfer_syntax_uid,
        attributes=_list_attributes(found, values, little_endian=is_little_endian),
        data_set_offset=start,
        pixel_data_offset=pixels.offset if pixels is not None and pixels.tag == PIXEL_DATA else None,
    )


def _check_transfer_syntax(transfer_syntax_uid: str) -> None:
    if transfer_syntax_uid != IMPLICIT_LITTLE_ENDIAN and not transfer_syntax_uid.startswith(STANDARD_PREFIX):
        # What is no UID is not repeated: it may be a patient's name.
        shown = transfer_syntax_uid if UID_PATTERN.match(transfer_syntax_uid) else "that is no UID"
        raise NotDicom(f"Transfer Syntax {shown} is unknown; send the Instance in one of the standard's")


@contextmanager
def _inflated(content: Encoded, start: int) -> Iterator[Encoded]:
    # In a nameless file: a peer must not decide how much memory we take.
    with TemporaryFile() as file:
        size = 0
        for piece in _inflate(content, start):
            size += len(piece)
            if size > MAX_INFLATED_BYTES:
                raise TooLarge(f"the deflated data set is larger than {MAX_INFLATED_BYTES} bytes; send it uncompressed")
            file.write(piece)
        if not size:
            yield b""
            return
        file.flush()
        with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as mapped:
            yield mapped


def _inflate(content: Encoded, start: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for begin in range(start, len(content), INFLATE_CHUNK_BYTES):
            rest = content[begin : begin + INFLATE_CHUNK_BYTES]
            piece = stream.decompress(rest, INFLATE_CHUNK_BYTES)
            # A full piece may have more behind it, even when no input is left.
            while not stream.eof and (stream.unconsumed_tail or len(piece) == INFLATE_CHUNK_BYTES):
                yield piece
                piece = stream.decompress(stream.unconsumed_tail, INFLATE_CHUNK_BYTES)
            yield piece
            if stream.eof:
                return
    except zlib.error as exc:
        raise NotDicom("the deflated data set is damaged; resend the Instance") from exc
    raise NotDicom("the deflated data set is cut; resend the Instance")


def _reader(data: Encoded, transfer_syntax_uid: str) -> ElementReader:
    return ElementReader(
        data,
        implicit=transfer_syntax_uid == IMPLICIT_LITTLE_ENDIAN,
        little_endian=transfer_syntax_uid != EXPLICIT_BIG_ENDIAN,
    )


def _collect(reader: ElementReader, begun: Beginning, *, start: int) -> Beginning:
    """Return `begun` and what follows from byte `start` on, up to Pixel Data or the end."""
    kept, told, pixels = dict(begun.kept), begun, begun.pixels
    for element in reader.find(_wanted_tags(), start):
        if element.tag in kept or (element.tag in PIXEL_CARRIERS and pixels is not None):
            # Some readers take the first, some the last (PS3.5 7.1 allows one).
            raise NotDicom(f"({element.tag >> 16:04X},{element.tag & 0xFFFF:04X}) comes twice; correct the sender")
        if element.tag in PIXEL_CARRIERS:
            pixels = element
            if element.tag == PIXEL_DATA:
                break
        elif element.tag in _sequence_tags():
            told = _read_sequence(reader, element, told, is_placed=_class_of(kept) in PLACED_CLASSES)
        elif element.length <= MAX_VALUE_BYTES:
            kept[element.tag] = (element.vr, reader.value_of(element))
    return replace(told, kept=kept, pixels=pixels)


def _read_sequence(reader: ElementReader, element: Element, known: Beginning, *, is_placed: bool) -> Beginning:
    if element.tag in OF_FRAMES and not is_placed:
        return known
    if element.tag in GROUP_TAGS:
        return replace(known, groups=read_groups(reader, element, known.groups))
    if element.tag == CONTRAST_AGENTS:
        names_agents = bool(read_codes(reader, element))
        return replace(known, has_agents=reader.holds_items(element), names_agents=names_agents)
    codes = read_codes(reader, element)
    return replace(known, codes={**known.codes, coded_tags()[element.tag]: codes}) if codes else known


@cache
def _wanted_tags() -> frozenset[int]:
    return frozenset(kept_tags()) | PIXEL_CARRIERS | _sequence_tags()


@cache
def _sequence_tags() -> frozenset[int]:
    return frozenset(coded_tags()) | OF_FRAMES


def _class_of(kept: Mapping[int, tuple[bytes, bytes]]) -> str:
    _, sop_class_uid = kept.get(SOP_CLASS_UID, (b"", b""))
    return sop_class_uid.decode("ascii", "replace").strip("\0 ")


def _list_attributes(found: Beginning, values: Mapping[str, Value], *, little_endian: bool) -> dict[str, Any]:
    """Return what is kept; of multi-frame images as if each Frame were an Instance."""
    told: dict[str, Any] = {**values, **_list_codes(found.codes)}
    if _class_of(found.kept) not in PLACED_CLASSES:
        return _only_kept(told)
    told = {keyword: value for keyword, value in told.items() if keyword not in PLACING_KEYWORDS}
    if not found.groups.are_read:
        return _only_kept(told)
    charset = {tag: raw for tag, raw in found.kept.items() if tag == SPECIFIC_CHARACTER_SET}

    def decode(one: Told) -> dict[str, Any]:
        plain = _decode({**one.kept, **charset}, little_endian=little_endian)
        return {SLICE_NAMES.get(keyword, keyword): value for keyword, value in plain.items()} | _list_codes(one.codes)

    told = {**decode(found.groups.unassigned or Told()), **told, **decode(found.groups.assigned)}
    image_type = merge_types(told.get("ImageType", []), found.groups)
    columns, given = list_columns(found.groups), _tell_contrast(found, told)
    has_all = columns is not None and len(found.groups.positions) == _count(values, "NumberOfFrames")
    return {
        **_only_kept(told | {"ImageType": image_type} if any(image_type) else told),
        **({FRAME_POSITIONS: columns} if has_all else {}),
        **({CONTRAST_GIVEN: given} if given else {}),
    }


def _tell_contrast(found: Beginning, told: Mapping[str, Any]) -> str:
    """Return whether contrast was given when Frames were acquired; empty where that is open."""
    is_given = is_given_with_frames(
        sop_class_uid=_class_of(found.kept),
        has_agents=found.has_agents,
        names_agents=found.names_agents,
        administered=told.get("ContrastBolusAgentAdministered"),
        keeps_slices=found.groups.unassigned is not None,
    )
    return "" if is_given is None else GIVEN if is_given else NOT_GIVEN


def _list_codes(codes: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {keyword: list(found) for keyword, found in codes.items()}


def _only_kept(told: Mapping[str, Any]) -> dict[str, Any]:
    return {keyword: told[keyword] for keyword in (*KEPT_KEYWORDS, *CODED_KEYWORDS) if keyword in told}


def _decode(kept: Mapping[int, tuple[bytes, bytes]], *, little_endian: bool) -> dict[str, Value]:
    vr, charset = kept.get(SPECIFIC_CHARACTER_SET, (b"", b""))
    if b"\0" in charset.rstrip(b"\0 ") or vr not in CODE_STRING:
        # Some readers stop at it, and could read nothing else of the Instance.
        raise NotDicom("Specific Character Set (0008,0005) is no Code String; correct the sender")
    encodings = character_encodings(charset)
    wanted = decoded_tags()
    values: dict[str, Value] = {}
    for tag, (vr, raw) in kept.items():
        value = decode_value(wanted[tag], vr, raw, encodings, little_endian=little_endian)
        if value is not None:
            values[wanted[tag]] = value
    return values


def _uid(values: Mapping[str, Value], keyword: str) -> str:
    return check_uid(str(values.get(keyword, "")), keyword=keyword)


def _check_pixels(pixels: Element | None, values: Mapping[str, Value], *, is_native: bool) -> None:
    if pixels is None:
        if "BitsAllocated" in values:
            raise NotDicom("the header announces Pixel Data (7FE0,0010), and none came; it is cut; resend the Instance")
        return
    if pixels.tag != PIXEL_DATA:
        return
    if is_native == (pixels.length == UNDEFINED_LENGTH):
        how = "encapsulated" if is_native else "not encapsulated"
        raise NotDicom(f"Pixel Data (7FE0,0010) is {how}, against its Transfer Syntax (PS3.5 A.4); correct the sender")
    if is_native:
        _check_length(pixels.length, values)


def _check_length(length: int, values: Mapping[str, Value]) -> None:
    rows, columns, bits = (_count(values, keyword) for keyword in ("Rows", "Columns", "BitsAllocated"))
    frames = max(_count(values, "NumberOfFrames"), 1)
    samples = rows * columns * max(_count(values, "SamplesPerPixel"), 1) * frames
    share, whole = SUBSAMPLED.get(str(values.get("PhotometricInterpretation", "")), (1, 1))
    expected = -(-samples * share * bits // (whole * 8))
    if length < expected:
        raise NotDicom(
            f"Pixel Data (7FE0,0010) is cut: {length} bytes where {expected} are announced; resend the Instance"
        )
    # Some senders fill up, and readers ignore it; but what could be one more Frame must not be passed over.
    if expected and (length - expected - expected % 2) * frames >= expected:
        raise NotDicom(
            f"Pixel Data (7FE0,0010) has {length} bytes where {frames} Frames of {rows} x {columns} pixels take "
            f"{expected}; correct the sender"
        )


def _count(values: Mapping[str, Value], keyword: str) -> int:
    value = values.get(keyword)
    return value if isinstance(value, int) else 0
