"""Frames out of a Part 10 file: as they are stored, or decoded; runs in a caged process only."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)

from node.codecs import DECODER_ERRORS, MAX_PIXELS, PLUGINS
from node.errors import FileUnreadable, NotFound, PixelsUndecodable

PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
IMPLICIT_HEADER_BYTES, EXPLICIT_HEADER_BYTES = 8, 12
BITS_OF_A_BYTE, WORD_BYTES = 8, 2
Decoded = TypeVar("Decoded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An Instance whose Frames can be had.

    Attributes
    ----------
    header
        Everything before Pixel Data.
    pixels
        The file at the value of Pixel Data, or the whole data set where it was deflated.
    options
        What pydicom's decoders want to know.
    length
        Value Length of Pixel Data, bytes; of what was deflated, or is encapsulated, it says nothing.
    """

    header: Dataset
    pixels: BinaryIO | Dataset
    options: Mapping[str, Any]
    length: int

    @property
    def transfer_syntax_uid(self) -> UID:
        """How the file is encoded."""
        return UID(self.header.file_meta.TransferSyntaxUID)

    @property
    def frames(self) -> int:
        """How many Frames there are."""
        return max(int(self.header.get("NumberOfFrames") or 1), 1)

    @property
    def uid(self) -> str:
        """SOP Instance UID, for messages."""
        return str(self.header.get("SOPInstanceUID", "without UID"))


def read_header(file: BinaryIO) -> Dataset:
    """Return what stands before Pixel Data; the file is left there, if it has any and is not deflated.

    Raises
    ------
    FileUnreadable
        If it is no Part 10 file.
    """
    try:
        return dcmread(file, stop_before_pixels=True)
    except DECODER_ERRORS as exc:
        raise FileUnreadable(f"{_name(file.name)} of the store cannot be read ({type(exc).__name__})") from exc


@contextmanager
def open_source(path: str) -> Iterator[Source]:
    """Give the Frames of a file.

    Raises
    ------
    FileUnreadable
        If it is absent, or no Part 10 file.
    NotFound
        If it has no Pixel Data.
    PixelsUndecodable
        If a Frame is larger than `MAX_PIXELS`.
    """
    with open_file(path) as file:
        header = read_header(file)
        uid = header.get("SOPInstanceUID", "without UID")
        source = _inflated(file, header)
        found = _find_pixels(source, header)
        if found is None:
            raise NotFound(f"instance {uid} has no Pixel Data; see its metadata")
        told, length = found
        rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
        if rows * columns > MAX_PIXELS:
            raise PixelsUndecodable(f"instance {uid}: {rows} x {columns} pixels, at most {MAX_PIXELS} are read")
        options = {**as_pixel_options(header), **told, "transfer_syntax_uid": header.file_meta.TransferSyntaxUID}
        yield Source(header=header, pixels=source, options=options, length=length)


def find_pixels(file: BinaryIO, header: Dataset) -> tuple[str, str] | None:
    """Return keyword and VR of the pixels of a file, whatever its header says of them; None where there are none.

    Parameters
    ----------
    file
        Where `read_header` left it.
    """
    found = _find_pixels(_inflated(file, header), header)
    return None if found is None else (found[0]["pixel_keyword"], found[0]["pixel_vr"])


@contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """Give a file of the store.

    Raises
    ------
    FileUnreadable
        If it cannot be opened.
    """
    try:
        file = open(path, "rb")  # noqa: PTH123, SIM115 closed below, so that only the opening is judged here
    except OSError as exc:
        raise FileUnreadable(
            f"{_name(path)} of the store cannot be opened ({type(exc).__name__}); see its disk"
        ) from exc
    with file:
        yield file


def check_frame(source: Source, number: int) -> None:
    """Raise NotFound unless there is a Frame of this number, which begins at 1."""
    if not 1 <= number <= source.frames:
        raise NotFound(f"instance {source.uid} has Frames 1 to {source.frames}, not {number}")


def stored_frame(source: Source, number: int) -> bytes:
    """Return a Frame as it is stored: its code stream, or its bytes.

    Raises
    ------
    NotFound
        If there is no such Frame.
    PixelsUndecodable
        If it cannot be found in Pixel Data.
    """
    check_frame(source, number)
    if not source.transfer_syntax_uid.is_encapsulated:
        return _native_frame(source, number)
    if isinstance(source.pixels, Dataset):
        raise PixelsUndecodable(f"instance {source.uid} is deflated and encapsulated")
    header = source.header
    offsets = None
    if "ExtendedOffsetTable" in header and "ExtendedOffsetTableLengths" in header:
        offsets = bytes(header.ExtendedOffsetTable), bytes(header.ExtendedOffsetTableLengths)
    try:
        return get_frame(source.pixels, number - 1, extended_offsets=offsets, number_of_frames=source.frames)
    except (*DECODER_ERRORS, StopIteration) as exc:
        raise PixelsUndecodable(
            f"instance {source.uid}: Frame {number} cannot be found in its fragments ({type(exc).__name__})"
        ) from exc


def plain_frame(source: Source, number: int) -> bytes:
    """Return a Frame as in Explicit VR Little Endian: decoded where it is compressed, color then as RGB by pixel.

    Raises
    ------
    NotFound
        If there is no such Frame.
    PixelsUndecodable
        If no decoder understands it.
    """
    if source.transfer_syntax_uid.is_encapsulated:
        pixels = decode_frame(source, number)
        return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    content = stored_frame(source, number)
    return _swapped(source, content) if source.transfer_syntax_uid == ExplicitVRBigEndian else content


def decode_frame(source: Source, number: int) -> NDArray[np.generic]:
    """Return the stored values of a Frame, (rows, columns) or (rows, columns, samples); color as RGB, but palettes.

    Raises
    ------
    NotFound
        If there is no such Frame.
    PixelsUndecodable
        If no decoder understands it, or it is not of the size that the header tells.
    """
    check_frame(source, number)

    def decode(decoder: Decoder, plugin: str) -> NDArray[np.generic]:
        pixels, _ = decoder.as_array(source.pixels, index=number - 1, decoding_plugin=plugin, **source.options)
        return pixels

    pixels = try_decoders(source, decode)
    if pixels.shape[:2] != (source.header.Rows, source.header.Columns):
        raise PixelsUndecodable(f"instance {source.uid}: Frame {number} is not of the size that the header tells")
    return pixels


def try_decoders(source: Source, decode: Callable[[Decoder, str], Decoded]) -> Decoded:
    """Return what the first decoder makes of it that is installed and understands it.

    Raises
    ------
    PixelsUndecodable
        If none does.
    """
    uid = source.transfer_syntax_uid
    why: Exception | None = None
    try:
        decoder = get_decoder(uid)
        plugins = _installed(decoder, uid)
    except (NotImplementedError, *DECODER_ERRORS) as exc:
        raise PixelsUndecodable(f"instance {source.uid}: {uid.name} cannot be decoded here") from exc
    for plugin in plugins:
        at = source.pixels.tell() if not isinstance(source.pixels, Dataset) else 0
        try:
            return decode(decoder, plugin)
        except (*DECODER_ERRORS, StopIteration) as exc:
            why = exc
        if not isinstance(source.pixels, Dataset):
            source.pixels.seek(at)
    raise PixelsUndecodable(
        f"instance {source.uid}: Pixel Data in {uid.name} cannot be decoded; resend it from its source "
        f"({type(why).__name__})"
    ) from why


def _installed(decoder: Decoder, uid: UID) -> Sequence[str]:
    if not uid.is_encapsulated:
        return ("",)
    named = PLUGINS.get(uid, decoder.available_plugins)
    return tuple(plugin for plugin in named if plugin in decoder.available_plugins) or ("",)


def _inflated(file: BinaryIO, header: Dataset) -> BinaryIO | Dataset:
    """Return the file, or the whole data set where it was deflated."""
    is_deflated = header.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    return dcmread(BytesIO(read_whole(file))) if is_deflated else file


def _find_pixels(source: BinaryIO | Dataset, header: Dataset) -> tuple[Mapping[str, Any], int] | None:
    """Return how Pixel Data is called and encoded, and its length; the file is left at its value.

    None where there is none.
    """
    if isinstance(source, Dataset):
        keyword = next((name for name in PIXEL_KEYWORDS.values() if name in source), None)
        return None if keyword is None else ({"pixel_keyword": keyword, "pixel_vr": source[keyword].VR}, 0)
    uid = UID(header.file_meta.TransferSyntaxUID)
    head = source.read(IMPLICIT_HEADER_BYTES if uid.is_implicit_VR else EXPLICIT_HEADER_BYTES)
    if len(head) < IMPLICIT_HEADER_BYTES:
        return None
    order = "<" if uid.is_little_endian else ">"
    group, number = struct.unpack_from(f"{order}HH", head)
    keyword = PIXEL_KEYWORDS.get(group << 16 | number)
    if keyword is None:
        return None
    vr = "OW" if uid.is_implicit_VR else head[4:6].decode("latin-1")
    (length,) = struct.unpack(f"{order}I", head[-4:])
    return {"pixel_keyword": keyword, "pixel_vr": vr}, length


def locate_pixels(path: str) -> Mapping[str, Any]:
    """Return how many Frames there are, and where those lie that a client can take as they are.

    Returns
    -------
    place
        ``frames``, and ``offset`` and ``length`` in bytes of the file; without them, Frames must be cut or decoded.
    """
    with open_source(path) as source:
        uid = source.transfer_syntax_uid
        place: dict[str, Any] = {"frames": source.frames}
        if not isinstance(source.pixels, Dataset) and not uid.is_encapsulated and uid.is_little_endian:
            place |= {"offset": source.pixels.tell(), "length": source.length}
        return place


def _native_frame(source: Source, number: int) -> bytes:
    if source.header.get("BitsAllocated") == 1:
        # Frames of single bits follow each other without padding; one by itself begins at a byte (PS3.5 8.1.1).
        return np.packbits(decode_frame(source, number).reshape(-1).astype(np.uint8), bitorder="little").tobytes()

    def cut(decoder: Decoder, _plugin: str) -> bytes:
        content, _ = decoder.as_buffer(source.pixels, index=number - 1, **source.options)
        return bytes(content)

    return try_decoders(source, cut)


def _swapped(source: Source, content: bytes) -> bytes:
    size_bytes = max(int(source.header.get("BitsAllocated") or 0) // BITS_OF_A_BYTE, 1)
    if size_bytes == 1 and source.options["pixel_vr"] != "OW":
        return content
    return swap(content, max(size_bytes, WORD_BYTES))


def swap(content: bytes, size_bytes: int) -> bytes:
    """Return words of so many bytes in the other order of bytes."""
    return np.frombuffer(content, dtype=f">u{size_bytes}").byteswap().tobytes()


def _name(path: str) -> str:
    """Return the name of a file, which is made of UIDs."""
    return Path(path).name


def read_whole(file: BinaryIO) -> bytes:
    """Return all bytes of a file, wherever it was read before."""
    file.seek(0)
    return file.read()
