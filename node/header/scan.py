"""The header scan: one pass over an encoded data set that tells what it is and whether it is whole."""

import mmap
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from tempfile import TemporaryFile

from node.domain.study import KEPT_KEYWORDS, Attributes
from node.domain.uids import InstanceUID, SeriesUID, StudyUID, check_uid
from node.errors import NotDicom
from node.header.elements import PIXEL_DATA, UNDEFINED_LENGTH, Element, ElementReader, Encoded
from node.header.part10 import read_part10
from node.header.values import Value, character_encodings, decode_value, kept_tags

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN, DEFLATED_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN})
# The data set itself is deflated in these; the last two are JPIP Referenced Deflate and its HTJ2K sibling.
DEFLATED = frozenset({DEFLATED_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
STANDARD_PREFIX = "1.2.840.10008.1.2."
# A deflate bomb ends here; reports and waveforms, the usual deflated objects, stay far below.
MAX_INFLATED_BYTES = 256 * 2**20
INFLATE_CHUNK_BYTES = 256 * 1024
LAST_META_GROUP = 0x0003
# Pixel Data Provider URL, Float, Double Float and plain Pixel Data: one of them goes with the Image Pixel modules.
PIXEL_CARRIERS = frozenset({0x00287FE0, 0x7FE00008, 0x7FE00009, PIXEL_DATA})
SPECIFIC_CHARACTER_SET = 0x00080005
# Share of the samples that native Pixel Data holds when chrominance is subsampled (PS3.3 C.7.6.3.1.2).
SUBSAMPLED = {"YBR_FULL_422": (2, 3), "YBR_PARTIAL_422": (2, 3), "YBR_PARTIAL_420": (1, 2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the scan found.

    Attributes
    ----------
    attributes
        Keyword to value for those of `KEPT_KEYWORDS` that are present, not empty and valid. A list exactly where the
        dictionary allows more than one value.
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


def scan_data_set(content: Encoded, *, transfer_syntax_uid: str, start: int = 0) -> Header:
    """Return the header of the data set that begins at byte `start` of `content`; pixels are never decoded.

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
    if transfer_syntax_uid not in DEFLATED:
        return _scan(content, transfer_syntax_uid=transfer_syntax_uid, start=start)
    with _inflated(content, start) as inflated:
        found = _scan(inflated, transfer_syntax_uid=transfer_syntax_uid, start=0)
    return replace(found, data_set_offset=start, pixel_data_offset=None)


def _scan(data: Encoded, *, transfer_syntax_uid: str, start: int) -> Header:
    little_endian = transfer_syntax_uid != EXPLICIT_BIG_ENDIAN
    reader = ElementReader(data, implicit=transfer_syntax_uid == IMPLICIT_LITTLE_ENDIAN, little_endian=little_endian)
    kept, pixels = _collect(reader, start)
    values = _decode(data, kept, little_endian=little_endian)
    _check_pixels(pixels, values, is_native=transfer_syntax_uid in NATIVE)
    return Header(
        study_instance_uid=StudyUID(_uid(values, "StudyInstanceUID")),
        series_instance_uid=SeriesUID(_uid(values, "SeriesInstanceUID")),
        sop_instance_uid=InstanceUID(_uid(values, "SOPInstanceUID")),
        sop_class_uid=_uid(values, "SOPClassUID"),
        transfer_syntax_uid=transfer_syntax_uid,
        attributes={keyword: values[keyword] for keyword in KEPT_KEYWORDS if keyword in values},
        data_set_offset=start,
        pixel_data_offset=pixels.offset if pixels is not None and pixels.tag == PIXEL_DATA else None,
    )


def _check_transfer_syntax(transfer_syntax_uid: str) -> None:
    if transfer_syntax_uid != IMPLICIT_LITTLE_ENDIAN and not transfer_syntax_uid.startswith(STANDARD_PREFIX):
        shown = transfer_syntax_uid[:64].encode("ascii", "backslashreplace").decode()
        raise NotDicom(f"Transfer Syntax {shown} is unknown; send the Instance in one of the standard's")


@contextmanager
def _inflated(content: Encoded, start: int) -> Iterator[Encoded]:
    # In a nameless file: a peer must not decide how much memory we take.
    with TemporaryFile() as file:
        size = 0
        for piece in _inflate(content, start):
            size += len(piece)
            if size > MAX_INFLATED_BYTES:
                raise NotDicom(f"the deflated data set is larger than {MAX_INFLATED_BYTES} bytes; send it uncompressed")
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
            while stream.unconsumed_tail or len(piece) == INFLATE_CHUNK_BYTES:
                yield piece
                piece = stream.decompress(stream.unconsumed_tail, INFLATE_CHUNK_BYTES)
            yield piece
            if stream.eof:
                return
    except zlib.error as exc:
        raise NotDicom("the deflated data set is damaged; resend the Instance") from exc
    raise NotDicom("the deflated data set is cut; resend the Instance")


def _collect(reader: ElementReader, start: int) -> tuple[dict[int, Element], Element | None]:
    wanted = kept_tags()
    kept: dict[int, Element] = {}
    pixels = None
    for element in reader.elements(start):
        if element.tag >> 16 <= LAST_META_GROUP:
            raise NotDicom(f"no data set: it holds ({element.tag >> 16:04X},{element.tag & 0xFFFF:04X}); resend it")
        if element.tag in wanted and element.length != UNDEFINED_LENGTH:
            kept[element.tag] = element
        elif element.tag in PIXEL_CARRIERS:
            pixels = element
    return kept, pixels


def _decode(data: Encoded, kept: Mapping[int, Element], *, little_endian: bool) -> dict[str, Value]:
    charset = kept.get(SPECIFIC_CHARACTER_SET)
    encodings = character_encodings(_raw(data, charset) if charset is not None else b"")
    wanted = kept_tags()
    values: dict[str, Value] = {}
    for tag, element in kept.items():
        raw = _raw(data, element)
        value = decode_value(wanted[tag], element.vr, raw, encodings, little_endian=little_endian)
        if value is not None:
            values[wanted[tag]] = value
    return values


def _raw(data: Encoded, element: Element) -> bytes:
    return data[element.offset : element.offset + element.length]


def _uid(values: Mapping[str, Value], keyword: str) -> str:
    return check_uid(str(values.get(keyword, "")), keyword=keyword)


def _check_pixels(pixels: Element | None, values: Mapping[str, Value], *, is_native: bool) -> None:
    if pixels is None:
        if "BitsAllocated" in values:
            raise NotDicom("the header announces Pixel Data (7FE0,0010), and none came; it is cut; resend the Instance")
        return
    if pixels.tag != PIXEL_DATA or pixels.length == UNDEFINED_LENGTH or not is_native:
        return
    rows, columns, bits = (_count(values, keyword) for keyword in ("Rows", "Columns", "BitsAllocated"))
    samples = rows * columns * max(_count(values, "SamplesPerPixel"), 1) * max(_count(values, "NumberOfFrames"), 1)
    share, whole = SUBSAMPLED.get(str(values.get("PhotometricInterpretation", "")), (1, 1))
    expected = -(-samples * share * bits // (whole * 8))
    # Longer is padding that readers ignore; shorter means that pixels are missing.
    if pixels.length < expected:
        raise NotDicom(
            f"Pixel Data (7FE0,0010) is cut: {pixels.length} bytes where {expected} are announced; resend the Instance"
        )


def _count(values: Mapping[str, Value], keyword: str) -> int:
    value = values.get(keyword)
    return value if isinstance(value, int) else 0
