"""A Storage SCP that does as it is told, right or wrong, on plain sockets: it has no state machine that could race.

pynetdicom's own acceptor is no peer for such tests: `AE.shutdown` sends an abort to every Association that is alive,
and in the thread of one that was just rejected or released that is an `InvalidEventError`. What comes is read by the
decoders of pynetdicom and pydicom, so that our own encoders are not judged by themselves.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF

from node.peers.peer import DestinationSpec
from tests.pdus import (
    APPLICATION_CONTEXT,
    COMMAND,
    ECHO_RQ,
    LAST,
    NO_DATA_SET,
    RELEASE_RP,
    RELEASE_RQ,
    Item,
    Pdu,
    abort,
    ae_title,
    command_set,
    element,
    item,
    message,
    p_data,
    pdu,
    pdv,
    short,
)
from tests.peers import free_port

IS_RESPONSE = 0x8000
# Between the bytes of a response that dribbles.
DRIBBLE_S = 0.1
ACCEPTED, ABSTRACT_SYNTAX_NOT_SUPPORTED = 0, 3
# Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21).
Rejection = tuple[int, int, int]
CALLING_AET_NOT_RECOGNIZED: Rejection = (1, 1, 3)
LOCAL_LIMIT_EXCEEDED: Rejection = (2, 3, 2)

Answer = Callable[[int, UID], int]


class Odd(IntEnum):
    """What an answer may be instead of a Status (0000,0900)."""

    NO_STATUS = -1
    SILENCE = -2
    ABORT = -3
    CLOSE = -4
    RELEASE = -5
    WRONG_MESSAGE = -6
    DRIBBLE = -7
    DATA_SET = -8


def taken(number: int, sop_class_uid: UID) -> int:
    """Answer Success, always."""
    return 0x0000


@dataclass
class Scp:
    """Answers its n-th C-STORE (from 1) with what `answer` says.

    Attributes
    ----------
    refused
        SOP Class UIDs of which it accepts no Presentation Context.
    max_pdu
        The Maximum Length that it announces; None for none.
    reject
        With what it rejects every Association.
    most
        How many Associations it grants at once.
    chosen
        The Transfer Syntax UID that it answers in every Presentation Context, whatever was proposed.
    user_items
        Sub-items of the User Information behind the Maximum Length, and items behind it.
    releases_as_well
        Whether it asks for a release itself when it is asked for one, and waits for the consent.
    """

    answer: Answer = taken
    refused: tuple[str, ...] = ()
    max_pdu: int | None = 16382
    reject: Rejection | None = None
    most: int = 100
    chosen: str | None = None
    user_items: tuple[bytes, bytes] = (b"", b"")
    releases_as_well: bool = False
    port: int = field(default_factory=free_port)
    stored: list[str] = field(default_factory=list)
    data_sets: list[bytes] = field(default_factory=list)
    requests: int = 0
    associations: int = 0
    standing: int = 0
    released: int = 0
    aborted: int = 0
    consents: int = 0
    silence: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def spec(self) -> DestinationSpec:
        return DestinationSpec(name="pacs", transport="cstore", aet="SCP", host="127.0.0.1", port=self.port)

    @contextmanager
    def running(self) -> Iterator["Scp"]:
        """Serve until the context ends; connections still open are closed then."""
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            connections: list[socket.socket] = []
            threads: list[threading.Thread] = []

            def accept() -> None:
                with suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        connections.append(connection)
                        threads.append(threading.Thread(target=self._serve, args=(connection,)))
                        threads[-1].start()

            acceptor = threading.Thread(target=accept)
            acceptor.start()
            try:
                yield self
            finally:
                self.silence.set()
                listener.shutdown(socket.SHUT_RDWR)
                acceptor.join()
                for connection in connections:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                for thread in threads:
                    thread.join()

    def _serve(self, connection: socket.socket) -> None:
        """Serve one connection until the peer or we end it."""
        with connection, suppress(ConnectionError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = _receive_pdu(connection)
            if request is None:
                return
            with self._lock:
                reject = self.reject or (LOCAL_LIMIT_EXCEEDED if self.standing >= self.most else None)
                self.associations += reject is None
                self.standing += reject is None
            if reject is not None:
                connection.sendall(pdu(Pdu.ASSOCIATE_RJ, struct.pack(">xBBB", *reject)))
                return
            try:
                connection.sendall(self._acceptance(request))
                self._serve_association(connection)
            finally:
                with self._lock:
                    self.standing -= 1

    def _acceptance(self, request: bytes) -> bytes:
        """Return the A-ASSOCIATE-AC."""
        decoded = A_ASSOCIATE_RQ()
        decoded.decode(request)
        answers = b""
        for context in decoded.presentation_context:
            result = ABSTRACT_SYNTAX_NOT_SUPPORTED if context.abstract_syntax in self.refused else ACCEPTED
            head = struct.pack(">BxBx", context.presentation_context_id, result)
            syntax = item(Item.TRANSFER_SYNTAX, str(self.chosen or context.transfer_syntax[0]).encode())
            answers += item(Item.ANSWERED_CONTEXT, head + syntax)
        length = b"" if self.max_pdu is None else item(Item.MAXIMUM_LENGTH, struct.pack(">I", self.max_pdu))
        sub_items, items = self.user_items
        user = item(Item.USER_INFORMATION, length + sub_items)
        head = struct.pack(">HH", 1, 0) + ae_title("SCP") + ae_title("RADNODE") + bytes(32)
        application = item(Item.APPLICATION_CONTEXT, APPLICATION_CONTEXT.encode())
        return pdu(Pdu.ASSOCIATE_AC, head + application + answers + user + items)

    def _serve_association(self, connection: socket.socket) -> None:
        """Answer requests until the Association ends."""
        command = data_set = b""
        while (received := _receive_pdu(connection)) is not None:
            if received[0] == Pdu.RELEASE_RQ:
                self.released += 1
                if self.releases_as_well:
                    connection.sendall(RELEASE_RQ)
                    consent = _receive_pdu(connection)
                    self.consents += consent is not None and consent[0] == Pdu.RELEASE_RP
                connection.sendall(RELEASE_RP)
                return
            if received[0] == Pdu.ABORT:
                self.aborted += 1
                return
            assert received[0] == Pdu.P_DATA
            assert not self.max_pdu or len(received) - 6 <= self.max_pdu
            decoded = P_DATA_TF()
            decoded.decode(received)
            for value in decoded.presentation_data_value_items:
                content = value.presentation_data_value or b""
                control = content[0]
                command += content[1:] if control & COMMAND else b""
                data_set += b"" if control & COMMAND else content[1:]
                if not control & LAST:
                    continue
                request = read_dataset(BytesIO(command), is_implicit_VR=True, is_little_endian=True)
                if control & COMMAND and request.CommandDataSetType != NO_DATA_SET:
                    continue
                if not self._respond(connection, value.presentation_context_id or 0, request, data_set):
                    return
                command = data_set = b""

    def _respond(self, connection: socket.socket, context_id: int, request: Dataset, data_set: bytes) -> bool:
        """Answer one request; return whether the Association goes on."""
        if request.CommandField == ECHO_RQ:
            connection.sendall(_response(context_id, request, 0))
            return True
        with self._lock:
            self.requests += 1
            number = self.requests
        status = self.answer(number, request.AffectedSOPClassUID)
        if status == 0x0000 or status >> 12 == 0xB:
            self.data_sets.append(data_set)
            self.stored.append(request.AffectedSOPInstanceUID)
        if status >= 0 or status == Odd.NO_STATUS:
            connection.sendall(_response(context_id, request, status if status >= 0 else None))
            return True
        self._misbehave(connection, context_id, request, Odd(status))
        return False

    def _misbehave(self, connection: socket.socket, context_id: int, request: Dataset, how: Odd) -> None:
        """Answer one C-STORE as no peer should, and wait until the requestor gives up."""
        right = _response(context_id, request, 0)
        request.MessageID = request.MessageID % 0xFFFF + 1
        wrong: dict[Odd, Sequence[bytes]] = {
            Odd.ABORT: (abort(),),
            Odd.RELEASE: (RELEASE_RQ,),
            Odd.WRONG_MESSAGE: (_response(context_id, request, 0),),
            Odd.DATA_SET: (p_data(pdv(context_id, LAST, bytes(8))),),
            Odd.DRIBBLE: [bytes((byte,)) for byte in right],
        }
        for piece in wrong.get(how, ()):
            connection.sendall(piece)
            if how is Odd.DRIBBLE and self.silence.wait(DRIBBLE_S):
                break
        if how is not Odd.CLOSE:
            _receive_pdu(connection)


def _response(context_id: int, request: Dataset, status: int | None) -> bytes:
    """Return the response to a request; None leaves the Status out."""
    elements = [
        element(0x0002, str(request.AffectedSOPClassUID).encode()),
        short(0x0100, request.CommandField | IS_RESPONSE),
        short(0x0120, request.MessageID),
        short(0x0800, NO_DATA_SET),
    ]
    if status is not None:
        elements.append(short(0x0900, status))
    if "AffectedSOPInstanceUID" in request:
        elements.append(element(0x1000, str(request.AffectedSOPInstanceUID).encode()))
    return message(context_id, command_set(*elements))


def _receive_pdu(connection: socket.socket) -> bytes | None:
    """Return the next PDU, or None when the peer closed the connection."""
    head = _receive(connection, 6)
    if head is None:
        return None
    body = _receive(connection, int.from_bytes(head[2:], "big"))
    return None if body is None else head + body


def _receive(connection: socket.socket, count: int) -> bytes | None:
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            return None
        received += piece
    return received
