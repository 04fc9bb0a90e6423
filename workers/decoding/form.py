"""How the pixels of an Instance are stored, by what the ledger keeps of its header; the file must bear it out."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.codecs import MAX_PIXELS
from node.domain.study import InstanceFacts

NATIVE = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian})
GRAYSCALE = frozenset({"MONOCHROME1", "MONOCHROME2"})
BITS_OF_A_BYTE = 8
# What is read as it lies; other widths are pydicom's business.
BITS_ALLOCATED = frozenset({8, 16, 32})
PIXEL_DATA = 0x7FE00010
SOP_INSTANCE_UID = 0x00080018
UNDEFINED_LENGTH = 0xFFFFFFFF
IMPLICIT_HEADER_BYTES, EXPLICIT_HEADER_BYTES = 8, 12
PIXEL_VRS = frozenset({b"OB", b"OW"})
# A header that is longer is no header of a slice.
MAX_HEADER_BYTES = 1024 * 1024
# Samples per Pixel (0028,0002) of 1 in Explicit VR Little Endian: that of every gray image that is compressed.
ONE_SAMPLE = struct.pack("<HH2sHH", 0x0028, 0x0002, b"US", 2, 1)
# Extended Offset Table and Per-Frame Functional Groups Sequence: with either, a file is not what is read here.
NEVER_WANTED = (0x7FE00001, 0x52009230)
# What the ledger keeps where it is present, and of its kind. Absent there, it must be absent in the file too.
WHERE_KEPT = {"NumberOfFrames": 0x00280008, "RescaleIntercept": 0x00281052, "RescaleSlope": 0x00281053}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Pixels of one gray Frame.

    Attributes
    ----------
    offset
        Byte of the file at which the value of Pixel Data (7FE0,0010) begins.
    slope, intercept
        Rescale Slope (0028,1053) and Rescale Intercept (0028,1052); 1 and 0 where there are none.
    unwanted
        Tags that must not occur in the header.
    """

    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    photometric_interpretation: str
    slope: float
    intercept: float
    unwanted: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the attributes by their names; `dataclasses.asdict` takes as long as reading a slice."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def is_native(self) -> bool:
        """Whether the pixels lie in the file as they are."""
        return self.transfer_syntax_uid in NATIVE

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a stored value, in the order of bytes in which it lies in the file."""
        return _dtype(self.transfer_syntax_uid, self.pixel_representation, self.bits_allocated)

    @property
    def size_bytes(self) -> int:
        """Bytes of all stored values."""
        return self.rows * self.columns * (self.bits_allocated // BITS_OF_A_BYTE)


def read_form(facts: InstanceFacts) -> Form | None:
    """Return how an Instance is stored; None where the ledger does not tell enough, or tells of something else."""
    told, offset = facts.attributes, facts.pixel_data_offset
    if offset is None or offset > MAX_HEADER_BYTES or told.get("NumberOfFrames", 1) != 1:
        return None
    return describe_form(
        facts,
        told,
        unwanted=(*NEVER_WANTED, *(tag for keyword, tag in WHERE_KEPT.items() if keyword not in told)),
    )


def describe_form(facts: InstanceFacts, told: Mapping[str, Any], *, unwanted: tuple[int, ...] = ()) -> Form | None:
    """Return how the Frames of an Instance are stored; None where they are no gray ones that are read here.

    Parameters
    ----------
    told
        Keyword to value of the Image Pixel Module and of the rescaling.
    unwanted
        See `Form`.
    """
    offset = facts.pixel_data_offset
    if offset is None or told.get("SamplesPerPixel", 1) != 1:
        return None
    if told.get("PhotometricInterpretation") not in GRAYSCALE or not _is_readable(facts.transfer_syntax_uid, told):
        return None
    return Form(
        sop_instance_uid=facts.sop_instance_uid,
        transfer_syntax_uid=facts.transfer_syntax_uid,
        offset=offset,
        rows=told["Rows"],
        columns=told["Columns"],
        bits_allocated=told["BitsAllocated"],
        bits_stored=told["BitsStored"],
        pixel_representation=told["PixelRepresentation"],
        photometric_interpretation=told["PhotometricInterpretation"],
        slope=float(told.get("RescaleSlope", 1.0)),
        intercept=float(told.get("RescaleIntercept", 0.0)),
        unwanted=unwanted,
    )


def bears_out(head: bytes | bytearray, form: Form) -> bool:
    """Tell whether a file begins as its Form says: Pixel Data lies there, of that length, and nothing speaks against.

    It names its Instance: files of one Series are of one size, and may have been restored under each other's names.

    Parameters
    ----------
    head
        The file up to the value of Pixel Data.
    """
    is_implicit = form.transfer_syntax_uid == ImplicitVRLittleEndian
    order = ">" if form.transfer_syntax_uid == ExplicitVRBigEndian else "<"
    begin = len(head) - (IMPLICIT_HEADER_BYTES if is_implicit else EXPLICIT_HEADER_BYTES)
    uid_at = head.find(_write_tag(SOP_INSTANCE_UID, order))
    if uid_at < 0 or not head.startswith(_write_uid(form.sop_instance_uid, order, is_implicit=is_implicit), uid_at):
        return False
    if begin < 0 or not head.startswith(_write_tag(PIXEL_DATA, order), begin):
        return False
    if not is_implicit and bytes(head[begin + 4 : begin + 6]) not in PIXEL_VRS:
        return False
    (length,) = struct.unpack_from(f"{order}I", head, len(head) - 4)
    for tag in form.unwanted:
        if head.find(_write_tag(tag, order), 0, begin) >= 0:
            return False
    if form.is_native:
        return length in (form.size_bytes, form.size_bytes + form.size_bytes % 2)
    # An icon has one too; then it would not be known whose this is.
    return length == UNDEFINED_LENGTH and head.count(ONE_SAMPLE[:4]) == 1 and ONE_SAMPLE in head


def _write_uid(value: str, order: str, *, is_implicit: bool) -> bytes:
    """Return SOP Instance UID (0008,0018) as it lies in a file, with the padding of PS3.5 9.1."""
    padded = value.encode() + b"\0" * (len(value) % 2)
    length = struct.pack(f"{order}I", len(padded)) if is_implicit else b"UI" + struct.pack(f"{order}H", len(padded))
    return _write_tag(SOP_INSTANCE_UID, order) + length + padded


def _is_readable(transfer_syntax_uid: str, told: Mapping[str, Any]) -> bool:
    rows, columns, allocated, stored, representation = (
        told.get(keyword) for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
    )
    if not all(isinstance(value, int) for value in (rows, columns, allocated, stored, representation)):
        return False
    is_sound = (
        0 < told["Rows"] * told["Columns"] <= MAX_PIXELS
        and allocated in BITS_ALLOCATED
        and 1 <= told["BitsStored"] <= told["BitsAllocated"]
        and representation in (0, 1)
    )
    if transfer_syntax_uid in NATIVE:
        # Bytes in words of the other order change places (PS3.5 7.3).
        return is_sound and not (transfer_syntax_uid == ExplicitVRBigEndian and allocated == BITS_OF_A_BYTE)
    uid = UID(transfer_syntax_uid)
    return is_sound and uid.is_transfer_syntax and uid.is_encapsulated


@cache
def _dtype(transfer_syntax_uid: str, pixel_representation: int, bits_allocated: int) -> np.dtype[Any]:
    order = ">" if transfer_syntax_uid == ExplicitVRBigEndian else "<"
    return np.dtype(f"{order}{'ui'[pixel_representation]}{bits_allocated // BITS_OF_A_BYTE}")


@cache
def _write_tag(tag: int, order: str) -> bytes:
    return struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
