"""The smallest requestor of an Association that can be measured with: it does nothing while the receiver works.

It shares no protocol machine with what it measures: pynetdicom would take longer for a C-STORE than the receivers do.
"""

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from select import POLLIN, poll
from types import TracebackType

from node.dimse.command import IS_COMMAND, IS_LAST, P_DATA_TF, PDU_HEADER, PDV_HEADER, p_data
from node.errors import DestinationDown
from node.header.part10 import IMPLEMENTATION_CLASS_UID
from node.peers.command import encode_store_command

HOST = "127.0.0.1"
TIMEOUT_S = 120.0
# PDU types (PS3.8 9.3).
A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_RELEASE_RQ, A_RELEASE_RP = 0x01, 0x02, 0x05, 0x06
# Items (PS3.8 9.3.2, 9.3.3, annex D).
APPLICATION_CONTEXT, PROPOSED_CONTEXT, ANSWERED_CONTEXT = 0x10, 0x20, 0x21
ABSTRACT_SYNTAX, TRANSFER_SYNTAX, USER_INFORMATION = 0x30, 0x40, 0x50
MAXIMUM_LENGTH, IMPLEMENTATION_CLASS = 0x51, 0x52
APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"
PROTOCOL_VERSION = 1
OUR_MAXIMUM_LENGTH = 128 * 1024
ACCEPTANCE = 0
# Protocol version, titles and reserved bytes of A-ASSOCIATE-RQ and -AC; the items stand behind them.
ASSOCIATE_FIXED = struct.Struct(">HH16s16s32x")
ITEM_HEADER = struct.Struct(">BxH")
CONTEXT_HEADER = struct.Struct(">BxBx")
UNSIGNED_LONG = struct.Struct(">I")
# Status (0000,0900) US 2 in Implicit VR Little Endian.
STATUS_HEADER = struct.pack("<HHI", 0x0000, 0x0900, 2)
# A peer without limit gets PDUs of this size.
LARGEST_FRAGMENT_BYTES = 128 * 1024 - PDV_HEADER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One Presentation Context that is proposed."""

    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]


class Requestor:
    """One Association; a context manager that releases it.

    Parameters
    ----------
    port
        Of the loopback.
    proposals
        1-128; they get the IDs 1, 3, 5 ...

    Attributes
    ----------
    accepted
        IDs of the accepted Presentation Contexts.
    fragment_bytes
        The most that one PDU may carry.

    Raises
    ------
    DestinationDown
        On entering, if nobody accepts the connection or the Association.
    """

    def __init__(self, port: int, proposals: Sequence[Proposal], *, aet: str) -> None:
        self._port = port
        self._request = encode_request(proposals, aet=aet)
        self.accepted: Sequence[int] = ()
        self.fragment_bytes = 0

    def __enter__(self) -> "Requestor":
        """Connect and negotiate."""
        try:
            self._socket = socket.create_connection((HOST, self._port), timeout=TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(self._request)
        except OSError as exc:
            raise DestinationDown(f"port {self._port}: no Association ({exc.strerror or exc})") from exc
        pdu_type, body = self.read_pdu()
        if pdu_type != A_ASSOCIATE_AC:
            self._socket.close()
            raise DestinationDown(f"port {self._port}: the Association was answered with PDU type {pdu_type:02X}H")
        self._read_answer(body)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release, wait for the answer, and close the connection."""
        if exc_type is None and self.is_open:
            self._socket.sendall(PDU_HEADER.pack(A_RELEASE_RQ, 4) + bytes(4))
            self.read_pdu()
        self._socket.close()

    @property
    def is_open(self) -> bool:
        """Whether the peer has neither closed the connection nor said anything unasked."""
        watch = poll()
        watch.register(self._socket, POLLIN)
        return not watch.poll(0)

    def store(self, message: Iterable[memoryview | bytes]) -> int:
        """Send the PDUs of a C-STORE-RQ and return the Status (0000,0900) of its response.

        Raises
        ------
        DestinationDown
            If the connection breaks, or another PDU comes.
        """
        try:
            for piece in message:
                self._socket.sendall(piece)
        except OSError as exc:
            raise DestinationDown(f"port {self._port} took no more of a C-STORE ({exc.strerror or exc})") from exc
        pdu_type, body = self.read_pdu()
        at = body.find(STATUS_HEADER)
        if pdu_type != P_DATA_TF or at < 0:
            raise DestinationDown(f"port {self._port} answered a C-STORE with PDU type {pdu_type:02X}H")
        return int.from_bytes(body[at + len(STATUS_HEADER) :][:2], "little")

    def read_pdu(self) -> tuple[int, bytes]:
        """Return the type of the next PDU, and what stands behind its length.

        Raises
        ------
        DestinationDown
            If the peer closes the connection, or is silent for two minutes.
        """
        try:
            pdu_type, length = PDU_HEADER.unpack(self._read(PDU_HEADER.size))
            return pdu_type, self._read(length)
        except OSError as exc:
            raise DestinationDown(f"port {self._port} gave no answer ({exc.strerror or exc})") from exc

    def _read(self, length: int) -> bytes:
        content = b""
        while len(content) < length:
            piece = self._socket.recv(length - len(content))
            if not piece:
                raise DestinationDown(f"port {self._port} closed the connection")
            content += piece
        return content

    def _read_answer(self, body: bytes) -> None:
        items = list(_items(body[ASSOCIATE_FIXED.size :]))
        contexts = [CONTEXT_HEADER.unpack_from(item) for kind, item in items if kind == ANSWERED_CONTEXT]
        self.accepted = [context_id for context_id, result in contexts if result == ACCEPTANCE]
        user = b"".join(item for kind, item in items if kind == USER_INFORMATION)
        lengths = [UNSIGNED_LONG.unpack(item)[0] for kind, item in _items(user) if kind == MAXIMUM_LENGTH]
        room = lengths[0] - PDV_HEADER.size if lengths and lengths[0] else LARGEST_FRAGMENT_BYTES
        self.fragment_bytes = min(room, LARGEST_FRAGMENT_BYTES) & ~1


def encode_request(proposals: Sequence[Proposal], *, aet: str) -> bytes:
    """Return an A-ASSOCIATE-RQ PDU (PS3.8 9.3.2) to the AE title `aet`."""
    user = _item(MAXIMUM_LENGTH, UNSIGNED_LONG.pack(OUR_MAXIMUM_LENGTH))
    user += _item(IMPLEMENTATION_CLASS, IMPLEMENTATION_CLASS_UID.encode())
    contexts = b"".join(_encode_context(2 * index + 1, proposal) for index, proposal in enumerate(proposals))
    body = (
        ASSOCIATE_FIXED.pack(PROTOCOL_VERSION, 0, aet.ljust(16).encode(), b"MODALITY".ljust(16))
        + _item(APPLICATION_CONTEXT, APPLICATION_CONTEXT_NAME.encode())
        + contexts
        + _item(USER_INFORMATION, user)
    )
    return PDU_HEADER.pack(A_ASSOCIATE_RQ, len(body)) + body


def encode_store(
    *, message_id: int, sop_class_uid: str, sop_instance_uid: str, data_set: bytes, fragment_bytes: int
) -> bytes:
    """Return the PDUs of a C-STORE-RQ on the Presentation Context 1."""
    command = encode_store_command(
        message_id=message_id, sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid
    )
    starts = range(0, len(data_set), fragment_bytes)
    fragments = [
        p_data(1, IS_LAST if start == starts[-1] else 0, data_set[start : start + fragment_bytes]) for start in starts
    ]
    return b"".join((p_data(1, IS_COMMAND | IS_LAST, command), *fragments))


def _encode_context(context_id: int, proposal: Proposal) -> bytes:
    syntaxes = b"".join(_item(TRANSFER_SYNTAX, uid.encode()) for uid in proposal.transfer_syntax_uids)
    abstract = _item(ABSTRACT_SYNTAX, proposal.sop_class_uid.encode())
    return _item(PROPOSED_CONTEXT, CONTEXT_HEADER.pack(context_id, 0) + abstract + syntaxes)


def _item(kind: int, body: bytes) -> bytes:
    return ITEM_HEADER.pack(kind, len(body)) + body


def _items(encoded: bytes) -> Iterable[tuple[int, bytes]]:
    at = 0
    while at < len(encoded):
        kind, length = ITEM_HEADER.unpack_from(encoded, at)
        at += ITEM_HEADER.size
        yield kind, encoded[at : at + length]
        at += length
