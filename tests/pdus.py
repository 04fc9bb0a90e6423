"""The Upper Layer Protocol written from scratch, so that a test can write what no toolkit would; one call a PDU.

Whatever has a length field takes `length=`, to let it lie. A `Wire` sends bytes and reads answers, which compare by
value: ``wire.answer() == Response(C_STORE_RSP, 1, 0x0000)``.

References: DICOM PS3.8 9.3 and annex D, PS3.7 6.3 and annex E.
"""

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic

from node.peers.peer import Peer
from tests.instances import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT, INSTANCE

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
# Message Control Header of a PDV.
DATA, COMMAND, LAST = 0, 1, 2
STORE_RQ, STORE_RSP, ECHO_RQ, ECHO_RSP = 0x0001, 0x8001, 0x0030, 0x8030
HAS_DATA_SET, NO_DATA_SET = 0x0001, 0x0101
# What `associate_rq` proposes unless told otherwise.
STORAGE_ID, ECHO_ID, IMPLICIT_ID = 1, 3, 5
ANSWER_LIMIT_S = 20.0


class Pdu(IntEnum):
    """PDU type."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class Item(IntEnum):
    """Type of an item or sub-item of an A-ASSOCIATE-RQ or -AC."""

    APPLICATION_CONTEXT = 0x10
    PROPOSED_CONTEXT = 0x20
    ANSWERED_CONTEXT = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS_UID = 0x52
    ASYNCHRONOUS_WINDOW = 0x53
    ROLE_SELECTION = 0x54
    IMPLEMENTATION_VERSION = 0x55
    EXTENDED_NEGOTIATION = 0x56
    COMMON_EXTENDED_NEGOTIATION = 0x57
    USER_IDENTITY = 0x58


def pdu(kind: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a PDU of any type."""
    return struct.pack(">BxI", kind, len(body) if length is None else length) + body


def item(kind: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Return an item or sub-item of an A-ASSOCIATE PDU."""
    return struct.pack(">BxH", kind, len(body) if length is None else length) + body


def proposal(context_id: int, abstract_syntax: str, *transfer_syntaxes: str) -> bytes:
    """Return a Presentation Context as a requestor proposes it."""
    syntaxes = b"".join(item(Item.TRANSFER_SYNTAX, uid.encode()) for uid in transfer_syntaxes)
    head = struct.pack(">B3x", context_id)
    return item(Item.PROPOSED_CONTEXT, head + item(Item.ABSTRACT_SYNTAX, abstract_syntax.encode()) + syntaxes)


PROPOSALS = (
    proposal(STORAGE_ID, CT_IMAGE_STORAGE, EXPLICIT),
    proposal(ECHO_ID, VERIFICATION, IMPLICIT),
    proposal(IMPLICIT_ID, CT_IMAGE_STORAGE, IMPLICIT),
)
IMPLEMENTATION = item(Item.IMPLEMENTATION_CLASS_UID, b"1.2.3.4") + item(Item.IMPLEMENTATION_VERSION, b"RAW")


def associate_rq(
    *,
    called: str = "RADNODE",
    calling: str = "MODALITY",
    protocol_version: int = 1,
    application_context: str | None = APPLICATION_CONTEXT,
    proposals: Sequence[bytes] = PROPOSALS,
    max_length: int = 16384,
    user_items: bytes = IMPLEMENTATION,
    items: bytes = b"",
    length: int | None = None,
) -> bytes:
    """Return an A-ASSOCIATE-RQ.

    Parameters
    ----------
    user_items
        Sub-items of the user information, behind the maximum length.
    items
        Items behind the user information.
    """
    head = struct.pack(">HH", protocol_version, 0) + ae_title(called) + ae_title(calling) + bytes(32)
    context = b"" if application_context is None else item(Item.APPLICATION_CONTEXT, application_context.encode())
    user = item(Item.USER_INFORMATION, item(Item.MAXIMUM_LENGTH, struct.pack(">I", max_length)) + user_items)
    return pdu(Pdu.ASSOCIATE_RQ, head + context + b"".join(proposals) + user + items, length=length)


def ae_title(text: str) -> bytes:
    """Return an AE title as it stands in a PDU: 16 bytes, padded with spaces."""
    return text.encode("latin-1").ljust(16)


RELEASE_RQ = pdu(Pdu.RELEASE_RQ, bytes(4))
RELEASE_RP = pdu(Pdu.RELEASE_RP, bytes(4))


def abort(source: int = 0, reason: int = 0) -> bytes:
    """Return an A-ABORT."""
    return pdu(Pdu.ABORT, bytes((0, 0, source, reason)))


def pdv(context_id: int, control: int, fragment: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a Presentation Data Value item."""
    return struct.pack(">IBB", len(fragment) + 2 if length is None else length, context_id, control) + fragment


def p_data(*pdvs: bytes, length: int | None = None) -> bytes:
    """Return a P-DATA-TF of these PDVs."""
    return pdu(Pdu.P_DATA, b"".join(pdvs), length=length)


def element(number: int, value: bytes = b"", *, group: int = 0, length: int | None = None) -> bytes:
    """Return an element of a Command Set, the value padded to an even length unless `length` is told."""
    if length is None:
        value += bytes(len(value) % 2)
    return struct.pack("<HHI", group, number, len(value) if length is None else length) + value


def short(number: int, value: int) -> bytes:
    """Return an element of Value Representation US."""
    return element(number, struct.pack("<H", value))


def command_set(*elements: bytes) -> bytes:
    """Return a Command Set: its group length and these elements."""
    body = b"".join(elements)
    return element(0x0000, struct.pack("<I", len(body))) + body


def store_rq(
    message_id: int = 1,
    *,
    sop_class_uid: str = CT_IMAGE_STORAGE,
    sop_instance_uid: str = INSTANCE,
    data_set_type: int = HAS_DATA_SET,
) -> bytes:
    """Return the Command Set of a C-STORE-RQ."""
    return command_set(
        element(0x0002, sop_class_uid.encode()),
        short(0x0100, STORE_RQ),
        short(0x0110, message_id),
        short(0x0700, 0),
        short(0x0800, data_set_type),
        element(0x1000, sop_instance_uid.encode()),
    )


def echo_rq(message_id: int = 1) -> bytes:
    """Return the Command Set of a C-ECHO-RQ."""
    return command_set(
        element(0x0002, VERIFICATION.encode()),
        short(0x0100, ECHO_RQ),
        short(0x0110, message_id),
        short(0x0800, NO_DATA_SET),
    )


def message(context_id: int, command: bytes, data_set: bytes | None = None, *, fragment_bytes: int = 16000) -> bytes:
    """Return the P-DATA-TF PDUs of one message, one PDV in each."""
    pieces = list(_pdvs(context_id, COMMAND, command, fragment_bytes))
    if data_set is not None:
        pieces += _pdvs(context_id, DATA, data_set, fragment_bytes)
    return b"".join(map(p_data, pieces))


def _pdvs(context_id: int, kind: int, content: bytes, fragment_bytes: int) -> Iterator[bytes]:
    for begin in range(0, max(len(content), 1), fragment_bytes):
        is_last = begin + fragment_bytes >= len(content)
        yield pdv(context_id, kind | (LAST if is_last else 0), content[begin : begin + fragment_bytes])


def echo(message_id: int = 1) -> bytes:
    """Return a C-ECHO-RQ in the context that `associate_rq` proposes for it."""
    return message(ECHO_ID, echo_rq(message_id))


@dataclass(frozen=True, slots=True)
class Accepted:
    """A-ASSOCIATE-AC.

    Attributes
    ----------
    results
        Presentation Context ID to result: 0 accepted, 1 refused by the user, 3 abstract syntax, 4 transfer syntaxes not
        supported (PS3.8 table 9-18).
    max_length
        Longest P-DATA-TF that the acceptor takes, bytes.
    """

    results: Mapping[int, int]
    max_length: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class Aborted:
    """A-ABORT (PS3.8 table 9-26)."""

    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class Response:
    """The Command Set of a response, without its UIDs."""

    command_field: int
    message_id: int
    status: int
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """A-RELEASE-RP."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection was closed or reset."""


@dataclass(frozen=True, slots=True)
class Other:
    """A PDU that no acceptor should send."""

    kind: int
    body: bytes


Answer = Accepted | Rejected | Aborted | Response | Released | Closed | Other


class Wire:
    """A TCP connection to the node.

    What cannot be sent, because the node has closed the connection, is left to the answer to tell.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *pieces: bytes) -> None:
        """Send bytes, one segment a piece."""
        with suppress(ConnectionError):
            for piece in pieces:
                self.connection.sendall(piece)

    def associate(self, request: bytes | None = None) -> Accepted:
        """Return what the node answers to an A-ASSOCIATE-RQ, which it has to accept."""
        self.send(associate_rq() if request is None else request)
        answer = self.answer()
        assert isinstance(answer, Accepted), answer
        return answer

    def answer(self, limit_s: float = ANSWER_LIMIT_S) -> Answer:
        """Return the next answer.

        Raises
        ------
        TimeoutError
            If the node says nothing for `limit_s`.
        """
        self.connection.settimeout(limit_s)
        command = b""
        while True:
            found = self._read_pdu()
            if found is None:
                return Closed()
            kind, body = found
            if kind != Pdu.P_DATA:
                return _answer(kind, body)
            command += body[6:]
            if body[5] & LAST:
                return _response(command)

    def answers(self, limit_s: float = ANSWER_LIMIT_S) -> list[Answer]:
        """Return every answer until the connection is closed, which is the last one."""
        until_s = monotonic() + limit_s
        found: list[Answer] = []
        while not found or found[-1] != Closed():
            found.append(self.answer(max(until_s - monotonic(), 0.01)))
        return found

    def release(self) -> None:
        """End the Association in order."""
        self.send(RELEASE_RQ)
        answer = self.answer()
        assert answer == Released(), answer

    def half_close(self) -> None:
        """Say that nothing more will be sent; what the node says can still be read."""
        self.connection.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection by RST, as a peer that crashed."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _read_pdu(self) -> tuple[int, bytes] | None:
        head = self._read(6)
        if head is None:
            return None
        kind, length = struct.unpack(">BxI", head)
        body = self._read(length)
        return None if body is None else (kind, body)

    def _read(self, count: int) -> bytes | None:
        got = b""
        while len(got) < count:
            try:
                piece = self.connection.recv(count - len(got))
            except ConnectionError:
                return None
            if not piece:
                return None
            got += piece
        return got


@contextmanager
def wire_to(peer: Peer) -> Iterator[Wire]:
    """Give a connection that has said nothing yet."""
    with socket.create_connection((peer.host, peer.port), timeout=ANSWER_LIMIT_S) as connection:
        yield Wire(connection)


@contextmanager
def associated(peer: Peer, request: bytes | None = None) -> Iterator[Wire]:
    """Give an Association that the node has accepted."""
    with wire_to(peer) as wire:
        wire.associate(request)
        yield wire


def _answer(kind: int, body: bytes) -> Answer:
    match kind:
        case Pdu.ASSOCIATE_AC:
            return _accepted(body)
        case Pdu.ASSOCIATE_RJ:
            return Rejected(*body[1:4])
        case Pdu.ABORT:
            return Aborted(*body[2:4])
        case Pdu.RELEASE_RP:
            return Released()
        case _:
            return Other(kind, body)


def _accepted(body: bytes) -> Accepted:
    answered = list(items(body[68:]))
    user = dict(items(b"".join(content for kind, content in answered if kind == Item.USER_INFORMATION)))
    (max_length,) = struct.unpack(">I", user[Item.MAXIMUM_LENGTH])
    results = {content[0]: content[2] for kind, content in answered if kind == Item.ANSWERED_CONTEXT}
    return Accepted(results, max_length)


def items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each item, or sub-item of one."""
    at = 0
    while at < len(encoded):
        kind, length = struct.unpack_from(">BxH", encoded, at)
        yield kind, encoded[at + 4 : at + 4 + length]
        at += 4 + length


def _response(command: bytes) -> Response:
    values: dict[int, bytes] = {}
    at = 0
    while at < len(command):
        _, number, length = struct.unpack_from("<HHI", command, at)
        values[number] = command[at + 8 : at + 8 + length]
        at += 8 + length
    command_field, message_id, status = (int.from_bytes(values[n], "little") for n in (0x0100, 0x0120, 0x0900))
    return Response(command_field, message_id, status, values.get(0x0902, b"").decode("ascii").rstrip())
