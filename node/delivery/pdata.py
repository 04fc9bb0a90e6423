"""A C-STORE request as the bytes of P-DATA-TF PDUs, straight from a file (PS3.7 9.3.1.1, PS3.8 9.3.5)."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from node.errors import DestinationDown

P_DATA_TF = 0x04
# PDU type, reserved, PDU length, PDV length, Presentation Context ID, Message Control Header.
PDV_HEADER = struct.Struct(">BxIIBB")
# What PDU length counts besides the fragment: PDV length (4), context (1), control header (1).
PDV_OVERHEAD_BYTES = 6
# PDV length counts context and control header.
PDV_ITEM_OVERHEAD_BYTES = 2
LAST_FRAGMENT = 0x02
COMMAND_FRAGMENT = 0x01
# A peer without limit gets PDUs of this size; larger ones gained nothing on loopback.
LARGEST_FRAGMENT_BYTES = 256 * 1024
# Fragments of small PDUs are written together, so that a peer with 16 KB PDUs does not cost a system call for each.
WRITE_BYTES = 1024 * 1024

C_STORE_RQ = 0x0001
PRIORITY_MEDIUM = 0x0000
DATA_SET_PRESENT = 0x0001
ELEMENT = struct.Struct("<HHI")


def encode_store_command(*, message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Return the command set of a C-STORE-RQ in Implicit VR Little Endian.

    References
    ----------
    DICOM PS3.7 table 9.3-1
    """
    elements = b"".join(
        (
            _element(0x0002, _ui(sop_class_uid)),
            _element(0x0100, struct.pack("<H", C_STORE_RQ)),
            _element(0x0110, struct.pack("<H", message_id)),
            _element(0x0700, struct.pack("<H", PRIORITY_MEDIUM)),
            _element(0x0800, struct.pack("<H", DATA_SET_PRESENT)),
            _element(0x1000, _ui(sop_instance_uid)),
        )
    )
    return _element(0x0000, struct.pack("<I", len(elements))) + elements


def _element(number: int, value: bytes) -> bytes:
    """Return one element of group 0000."""
    return ELEMENT.pack(0x0000, number, len(value)) + value


def _ui(uid: str) -> bytes:
    """Return a UID padded to even length with NUL (PS3.5 9.4)."""
    encoded = uid.encode("ascii")
    return encoded + b"\0" * (len(encoded) % 2)


def fragment_bytes(max_pdu_bytes: int) -> int:
    """Return how much of a message one PDU may hold; even, as PS3.8 annex E wants fragments.

    Parameters
    ----------
    max_pdu_bytes
        Maximum Length Received that the peer announced; 0 for no limit (PS3.8 D.1).

    Raises
    ------
    DestinationDown
        If no fragment fits.
    """
    if max_pdu_bytes == 0:
        return LARGEST_FRAGMENT_BYTES
    room = min(max_pdu_bytes - PDV_OVERHEAD_BYTES, LARGEST_FRAGMENT_BYTES) & ~1
    if room <= 0:
        raise DestinationDown(f"the peer takes PDUs of {max_pdu_bytes} bytes; no fragment fits, correct it at the peer")
    return room


def encode_command(command: bytes, *, context_id: int, fragment: int) -> bytes:
    """Return the PDUs of a whole command set."""
    starts = range(0, len(command), fragment)
    return b"".join(
        _pdv(
            command[start : start + fragment],
            context_id,
            COMMAND_FRAGMENT | (LAST_FRAGMENT if start + fragment >= len(command) else 0),
        )
        for start in starts
    )


def encode_data_set(file: BinaryIO, length_bytes: int, *, context_id: int, fragment: int) -> Iterator[bytes]:
    """Yield the PDUs of a data set, about `WRITE_BYTES` at a time.

    Parameters
    ----------
    file
        Stands at the first byte of the data set.
    length_bytes
        Length of the data set, > 0.

    Raises
    ------
    EOFError
        If the file ends earlier, because somebody is changing it.
    """
    remaining = length_bytes
    pieces: list[bytes] = []
    gathered = 0
    while remaining:
        piece = file.read(min(fragment, remaining))
        if not piece:
            msg = f"{remaining} bytes short"
            raise EOFError(msg)
        remaining -= len(piece)
        pieces.append(_pdv(piece, context_id, 0 if remaining else LAST_FRAGMENT))
        gathered += len(piece)
        if gathered >= WRITE_BYTES or not remaining:
            yield b"".join(pieces)
            pieces, gathered = [], 0


def _pdv(piece: bytes, context_id: int, control: int) -> bytes:
    """Return one P-DATA-TF PDU with one PDV."""
    length = len(piece)
    header = PDV_HEADER.pack(
        P_DATA_TF, length + PDV_OVERHEAD_BYTES, length + PDV_ITEM_OVERHEAD_BYTES, context_id, control
    )
    return header + piece
