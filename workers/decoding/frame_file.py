"""Where the Frames of a multi-frame Instance lie in its file: one after another, or in pieces of a codestream."""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from node.domain.study import InstanceFacts
from node.errors import PixelsUndecodable
from workers.decoding.form import (
    EXPLICIT_HEADER_BYTES,
    IMPLICIT_HEADER_BYTES,
    PIXEL_DATA,
    UNDEFINED_LENGTH,
    Form,
    describe_form,
)

ITEM, END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE0DD
ITEM_HEADER = struct.Struct("<HHI")
# An encoder cuts a Frame into a few fragments at most; more are an attack on whoever lists them.
MAX_FRAGMENTS_OF_A_FRAME = 64

Pieces = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFile:
    """The file of a multi-frame Instance.

    Attributes
    ----------
    form
        Of one Frame; its offset is that of the first one, or of the first Item of what is encapsulated.
    pieces
        First byte and length of each fragment of each Frame; empty where Frames lie as they are.
    """

    path: Path
    form: Form
    pieces: tuple[Pieces, ...] = ()

    def find_frame(self, number: int) -> Form:
        """Return the Form of the native Frame of a number, from 1."""
        return replace(self.form, offset=self.form.offset + (number - 1) * self.form.size_bytes)


def open_frame_file(path: Path, facts: InstanceFacts, told: Mapping[str, Any], *, frames: int) -> FrameFile:
    """Return where the Frames of an Instance lie, after proof that there are so many.

    Parameters
    ----------
    told
        Keyword to value of the Image Pixel Module, as the file's own header says.
    frames
        How many it announces, > 0.

    Raises
    ------
    PixelsUndecodable
        If the pixels are of another kind than is read here, or Pixel Data is not where the ledger says, not of that
        length, or in fragments that cannot be told apart.
    OSError
        If the file cannot be read.

    References
    ----------
    DICOM PS3.5 8.1.1, A.4
    """
    form = describe_form(facts, told)
    if form is None:
        raise PixelsUndecodable(
            f"instance {facts.sop_instance_uid}: expected uncompressed or encapsulated gray Frames of 8, 16 or 32 "
            "bits; let the sender convert it, or resend it in Explicit VR Little Endian"
        )
    with path.open("rb") as file:
        length = _find_length(file, form)
        if form.is_native:
            needed = frames * form.size_bytes
            if length not in (needed, needed + needed % 2) or os.fstat(file.fileno()).st_size < form.offset + needed:
                raise _tell_odd(form)
            return FrameFile(path=path, form=form)
        if length != UNDEFINED_LENGTH:
            raise _tell_odd(form)
        file.seek(form.offset)
        return FrameFile(path=path, form=form, pieces=_list_pieces(file, form, frames))


def _find_length(file: BinaryIO, form: Form) -> int:
    """Return the length of Pixel Data by the header of the element in front of its value."""
    is_implicit = form.transfer_syntax_uid == ImplicitVRLittleEndian
    order = ">" if form.transfer_syntax_uid == ExplicitVRBigEndian else "<"
    size = IMPLICIT_HEADER_BYTES if is_implicit else EXPLICIT_HEADER_BYTES
    file.seek(form.offset - size)
    head = file.read(size)
    if len(head) < size or head[:4] != struct.pack(f"{order}HH", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF):
        raise _tell_odd(form)
    (length,) = struct.unpack(f"{order}I", head[-4:])
    return int(length)


def _list_pieces(file: BinaryIO, form: Form, frames: int) -> tuple[Pieces, ...]:
    (table_at, table_bytes), *fragments = _list_items(file, form, most=1 + frames * MAX_FRAGMENTS_OF_A_FRAME)
    if len(fragments) == frames:
        return tuple((fragment,) for fragment in fragments)
    if frames == 1 and fragments:
        return (tuple(fragments),)
    file.seek(table_at)
    starts = [start for (start,) in struct.iter_unpack("<I", file.read(min(table_bytes, 4 * frames) // 4 * 4))]
    # Offsets count from the first byte of the first Item behind the table (PS3.5 A.4).
    base = table_at + table_bytes
    by_start = {at - ITEM_HEADER.size - base: number for number, (at, _) in enumerate(fragments)}
    if len(starts) != frames or not all(start in by_start for start in starts):
        raise _tell_odd(form)
    borders = [*(by_start[start] for start in starts), len(fragments)]
    if borders[0] != 0 or any(first >= second for first, second in pairwise(borders)):
        raise _tell_odd(form)
    return tuple(tuple(fragments[first:second]) for first, second in pairwise(borders))


def _list_items(file: BinaryIO, form: Form, *, most: int) -> list[tuple[int, int]]:
    """Return first byte and length of the Basic Offset Table and of each fragment."""
    found: list[tuple[int, int]] = []
    size, at = os.fstat(file.fileno()).st_size, file.tell()
    while True:
        head = file.read(ITEM_HEADER.size)
        if len(head) < ITEM_HEADER.size:
            raise _tell_odd(form)
        group, element, length = ITEM_HEADER.unpack(head)
        at += ITEM_HEADER.size
        if group << 16 | element == END_OF_SEQUENCE and found:
            return found
        if group << 16 | element != ITEM or len(found) >= most or length > size - at:
            raise _tell_odd(form)
        found.append((at, length))
        at += length
        file.seek(at)


def _tell_odd(form: Form) -> PixelsUndecodable:
    return PixelsUndecodable(
        f"instance {form.sop_instance_uid}: Pixel Data does not hold the Frames that the header announces, or does not "
        "tell them apart; resend it from its source"
    )
