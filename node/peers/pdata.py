"""Messages as the bytes of P-DATA-TF PDUs, the data set straight from its file (PS3.8 9.3.5 and annex E)."""

import os
from collections.abc import Iterator, Sequence
from struct import Struct

from node.errors import DestinationDown, NotDicom

P_DATA_TF = 0x04
# PDU type, reserved, PDU length, PDV length, Presentation Context ID, Message Control Header.
PDV_HEADER = Struct(">BxIIBB")
# What follows the PDU's own header: PDV length, Presentation Context ID, Message Control Header.
PDV_ITEM = Struct(">IBB")
# What PDU length counts besides the fragment: PDV length (4), context (1), control header (1).
PDV_OVERHEAD_BYTES = 6
# PDV length counts context and control header.
PDV_ITEM_OVERHEAD_BYTES = 2
LAST_FRAGMENT = 0x02
COMMAND_FRAGMENT = 0x01
# A peer without limit gets PDUs of this size; larger ones gained nothing on loopback.
LARGEST_FRAGMENT_BYTES = 256 * 1024
# Fragments of small PDUs are read and written together, so that a peer with 16 KB PDUs does not cost two system calls
# for each. Of 256 KB to 4 MB none was faster; this stays in the processor's cache.
BLOCK_BYTES = 512 * 1024
# IOV_MAX of Linux: into how many places one preadv reads.
MAX_FRAGMENTS = 1024
# The longest of the standard's responses has a few hundred bytes.
MAX_COMMAND_BYTES = 16 * 1024


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
    return _pdus(command, context_id, COMMAND_FRAGMENT, fragment)


def encode_message(data_set: bytes, *, context_id: int, fragment: int) -> bytes:
    """Return the PDUs of a whole data set that is at hand; `DataSetEncoder` is for those in files."""
    return _pdus(data_set, context_id, 0, fragment)


def read_fragments(body: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Yield Presentation Context ID, Message Control Header and fragment of each item of a P-DATA-TF PDU.

    Parameters
    ----------
    body
        What follows the header of the PDU.

    Raises
    ------
    NotDicom
        If an item is cut.
    """
    view, at = memoryview(body), 0
    while at < len(body):
        if at + PDV_ITEM.size > len(body):
            raise NotDicom("a Presentation Data Value is cut")
        length, context_id, control = PDV_ITEM.unpack_from(body, at)
        end = at + length + PDV_ITEM.size - PDV_ITEM_OVERHEAD_BYTES
        if length < PDV_ITEM_OVERHEAD_BYTES or end > len(body):
            raise NotDicom("a Presentation Data Value has another length than it says")
        yield context_id, control, view[at + PDV_ITEM.size : end]
        at = end


class DataSetEncoder:
    """Reads data sets from their files into PDUs, in one buffer for all of them.

    The file's bytes are read to where they leave from, each fragment behind the header of its PDU. A mapped file would
    save that copy, but one that somebody shortens meanwhile kills the process with SIGBUS, and files that a person
    names may be anybody's; `sendfile` would save it too, but not over TLS, and sent no faster.

    Parameters
    ----------
    fragment
        Bytes of the data set in one PDU, > 0 and even.
    """

    def __init__(self, fragment: int) -> None:
        self._fragment = fragment
        self._stride = PDV_HEADER.size + fragment
        count = max(1, min(BLOCK_BYTES // self._stride, MAX_FRAGMENTS))
        self._buffer = memoryview(bytearray(count * self._stride))
        starts = range(PDV_HEADER.size, len(self._buffer), self._stride)
        self._rooms = tuple(self._buffer[start : start + fragment] for start in starts)

    def blocks(self, descriptor: int, *, start: int, end: int, context_id: int) -> Iterator[memoryview]:
        """Yield the PDUs of a data set; each block is overwritten by the next.

        Parameters
        ----------
        descriptor
            Of the open file.
        start, end
            Where the data set lies in the file, bytes; `end` > `start`.

        Raises
        ------
        EOFError
            If the file ends earlier, because somebody is changing it.
        OSError
            If it cannot be read.
        """
        while start < end:
            size = min(end - start, len(self._rooms) * self._fragment)
            full, rest = divmod(size, self._fragment)
            rooms = [*self._rooms[:full], self._rooms[full][:rest]] if rest else self._rooms[:full]
            _read_into(rooms, descriptor, start)
            start += size
            yield self._enclose([len(room) for room in rooms], context_id, is_last=start == end)

    def _enclose(self, lengths: Sequence[int], context_id: int, *, is_last: bool) -> memoryview:
        """Write the headers of fragments of these lengths, and return the block."""
        for place, length in enumerate(lengths):
            control = LAST_FRAGMENT if is_last and place == len(lengths) - 1 else 0
            PDV_HEADER.pack_into(self._buffer, place * self._stride, *_header(length, context_id, control))
        return self._buffer[: (len(lengths) - 1) * self._stride + PDV_HEADER.size + lengths[-1]]


def _read_into(rooms: Sequence[memoryview], descriptor: int, start: int) -> None:
    """Fill `rooms` from a place in a file."""
    missing = sum(map(len, rooms))
    while missing:
        count = os.preadv(descriptor, rooms, start)
        if not count:
            msg = f"{missing} bytes short"
            raise EOFError(msg)
        start, missing = start + count, missing - count
        if missing:
            rooms = _without(rooms, count)


def _without(rooms: Sequence[memoryview], count: int) -> Sequence[memoryview]:
    """Return what `count` bytes leave of `rooms`."""
    place = 0
    while count >= len(rooms[place]):
        count -= len(rooms[place])
        place += 1
    return [rooms[place][count:], *rooms[place + 1 :]]


class CommandDecoder:
    """Puts the command set of a response together from the fragments in its PDUs.

    Attributes
    ----------
    command
        What has come so far.
    is_complete
        Whether that is all of it.
    """

    def __init__(self) -> None:
        self.command = b""
        self.is_complete = False

    def feed(self, body: bytes) -> None:
        """Take in the body of one P-DATA-TF PDU.

        Raises
        ------
        NotDicom
            If it is damaged, too long, or holds something else than a command set.
        """
        for _, control, piece in read_fragments(body):
            if self.is_complete or not control & COMMAND_FRAGMENT:
                raise NotDicom("a data set came, or a second message, where one response was due")
            self.command += piece
            self.is_complete = bool(control & LAST_FRAGMENT)
        if len(self.command) > MAX_COMMAND_BYTES:
            raise NotDicom(f"a response has more than {MAX_COMMAND_BYTES} bytes")


def _header(length: int, context_id: int, control: int) -> tuple[int, int, int, int, int]:
    """Return the fields of `PDV_HEADER` for a fragment of `length` bytes."""
    return P_DATA_TF, length + PDV_OVERHEAD_BYTES, length + PDV_ITEM_OVERHEAD_BYTES, context_id, control


def _pdus(message: bytes, context_id: int, control: int, fragment: int) -> bytes:
    """Return the PDUs of a whole command set or data set."""
    starts = range(0, len(message), fragment)
    return b"".join(
        _pdv(
            message[start : start + fragment],
            context_id,
            control | (LAST_FRAGMENT if start + fragment >= len(message) else 0),
        )
        for start in starts
    )


def _pdv(piece: bytes, context_id: int, control: int) -> bytes:
    """Return one P-DATA-TF PDU with one PDV."""
    return PDV_HEADER.pack(*_header(len(piece), context_id, control)) + piece
