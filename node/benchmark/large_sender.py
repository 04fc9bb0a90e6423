"""A sender of one Instance of any size that never holds it: its pixels are a pattern.

``python -m node.benchmark.large_sender PORT AET NUMBER MEBIBYTES`` speaks as `node.benchmark.timed_sender` does.
"""

import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from struct import pack

from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from node.benchmark.load import CT_IMAGE_STORAGE, ct_header
from node.benchmark.requestor import Proposal, Requestor
from node.benchmark.timed_sender import send_on_command, write_timing
from node.dimse.command import IS_COMMAND, IS_LAST, p_data
from node.header.part10 import read_part10
from node.peers.command import encode_store_command

MEBIBYTE = 2**20
# Of 16 bits each: a row has 64 KiB.
COLUMNS = 32 * 1024
ROW_BYTES = 2 * COLUMNS
# Rows (0028,0010) is an unsigned short.
MAX_MEBIBYTES = 0xFFFF * ROW_BYTES // MEBIBYTE
# Noise, so that nothing on the way can make it smaller.
PATTERN = b"".join(sha256(bytes((number,))).digest() for number in range(128))
# Fragments that are sent with one call.
TOGETHER = 8
HEAD_BYTES = 16 * 1024


def encode_header(number: int, mebibytes: int) -> bytes:
    """Return the data set up to its pixels, in Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, ct_header(rows=mebibytes * MEBIBYTE // ROW_BYTES, columns=COLUMNS, number=number))
    return buffer.getvalue() + pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, mebibytes * MEBIBYTE)


def encode_store(number: int, mebibytes: int, fragment_bytes: int) -> Iterator[bytes]:
    """Yield the PDUs of a C-STORE-RQ, some at a time."""
    header = ct_header(rows=mebibytes * MEBIBYTE // ROW_BYTES, columns=COLUMNS, number=number)
    command = encode_store_command(
        message_id=1, sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid=str(header.SOPInstanceUID)
    )
    yield p_data(1, IS_COMMAND | IS_LAST, command) + p_data(1, 0, encode_header(number, mebibytes))
    repeats = fragment_bytes // len(PATTERN)
    left = mebibytes * MEBIBYTE // len(PATTERN)
    pdu = p_data(1, 0, PATTERN * repeats)
    wagon = pdu * TOGETHER
    while left > repeats * TOGETHER:
        left -= repeats * TOGETHER
        yield wagon
    while left > repeats:
        left -= repeats
        yield pdu
    yield p_data(1, IS_LAST, PATTERN * left)


def is_kept(path: Path, number: int, mebibytes: int) -> bool:
    """Return whether a file holds the data set of `number`, to the last byte."""
    header, piece = encode_header(number, mebibytes), PATTERN * (MEBIBYTE // len(PATTERN))
    with path.open("rb") as file:
        file.seek(read_part10(file.read(HEAD_BYTES)).data_set_offset)
        has_header = file.read(len(header)) == header
        return has_header and all(file.read(MEBIBYTE) == piece for _ in range(mebibytes)) and not file.read(1)


def main() -> None:
    """Send the Instance that the command line names."""
    port, aet, number, mebibytes = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    proposal = Proposal(sop_class_uid=CT_IMAGE_STORAGE, transfer_syntax_uids=(str(ExplicitVRLittleEndian),))
    with Requestor(port, (proposal,), aet=aet) as requestor:
        timing = send_on_command(requestor, [encode_store(number, mebibytes, requestor.fragment_bytes)])
    write_timing(timing)


if __name__ == "__main__":
    main()
