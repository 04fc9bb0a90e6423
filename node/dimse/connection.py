"""The connection below an Association: read in whole PDUs, within limits, and ended without losing our last word."""

import select
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import current_thread
from time import monotonic

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from node.dimse.buffer import ReceiveBuffer
from node.dimse.contexts import Choice
from node.dimse.negotiation import A_ASSOCIATE_AC, write_choices

CONNECTION_CLOSED = "Evt17"
INVALID_PDU = "Evt19"
# How long a peer may take to read our last word and close the connection.
LINGER_S = 1.0
WASTE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a connection may cost.

    Attributes
    ----------
    max_pdu_bytes
        Longest PDU of any type, bytes.
    timeout_s
        Within which a PDU must be complete, from its first byte on, seconds.
    deadline_s
        Until which the A-ASSOCIATE-RQ must have come, on the clock of `time.monotonic`.
    """

    max_pdu_bytes: int
    timeout_s: float
    deadline_s: float


class GuardedSocket(AssociationSocket):
    """Reads whole PDUs only, of bounded length, before a deadline; what the lane has received comes first."""

    def __init__(self, assoc: Association, connection: socket.socket, limits: Limits) -> None:
        self.buffer = ReceiveBuffer()
        self.timeout_s = limits.timeout_s
        self._max_pdu_bytes = limits.max_pdu_bytes
        self._deadline_s: float | None = limits.deadline_s
        # What becomes of each proposed Presentation Context, by its ID.
        self.choices: Mapping[int, Choice] = {}
        # See `negotiation.Verdict`.
        self.role = b""
        # Whether we have ended the conversation.
        self.has_hung_up = False
        super().__init__(assoc, client_socket=connection)

    @property
    def ready(self) -> bool:
        """Whether something can be read at once."""
        if len(self.buffer):
            return True
        if self.socket is None or not self._is_connected:
            return False
        # select(), which pynetdicom uses, fails from descriptor 1,024 on.
        watch = select.poll()
        try:
            watch.register(self.socket, select.POLLIN)
            # What TLS has decrypted already is no more on the wire.
            return _is_pending(self.socket) or bool(watch.poll(0))
        except (OSError, ValueError):
            self.event_queue.put(CONNECTION_CLOSED)
            return False

    @property
    def left_s(self) -> float:
        """Seconds until the A-ASSOCIATE-RQ must have come; one millisecond when it is late."""
        return max((self._deadline_s or 0.0) - monotonic(), 0.001)

    def secure(self, context: ssl.SSLContext) -> bool:
        """Return whether TLS is spoken from now on; False when the peer was silent until the deadline, or went.

        Raises
        ------
        OSError
            If the peer spoke, and the handshake failed or was not complete at the deadline.
        """
        connection = self.socket
        if connection is None:
            return False
        connection.settimeout(self.left_s)
        try:
            # Whoever only looks whether the port is open is no failure of TLS.
            if not connection.recv(1, socket.MSG_PEEK):
                return False
        except OSError:
            return False
        secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        # From here on, whoever closes the connection ends the handshake too.
        self.socket = secured
        secured.settimeout(self.left_s)
        secured.do_handshake()
        secured.settimeout(self.timeout_s)
        return True

    def established(self) -> None:
        """Lift the deadline that counts from the connection on."""
        self._deadline_s = None

    def recv(self, nr_bytes: int) -> bytearray:
        """Return `nr_bytes` bytes, or fewer when the peer closed the connection.

        Raises
        ------
        OSError
            If the PDU is longer than we announced, or does not come in time.
        """
        if nr_bytes > self._max_pdu_bytes:
            # Comes before the end of the connection, which pynetdicom makes of the error.
            self.event_queue.put(INVALID_PDU)
            self.has_hung_up = True
            raise OSError(f"PDU of {nr_bytes} bytes, {self._max_pdu_bytes} are allowed")
        connection = self.socket
        if connection is None:
            return bytearray()
        deadline = monotonic() + self.timeout_s
        if self._deadline_s is not None:
            deadline = min(deadline, self._deadline_s)
        buffer = bytearray(nr_bytes)
        view = memoryview(buffer)
        filled = self.buffer.take_into(view)
        while filled < nr_bytes:
            # A peer that sends a byte now and then must not live for ever.
            left_s = deadline - monotonic()
            if left_s <= 0:
                raise TimeoutError("the PDU did not come in time")
            connection.settimeout(left_s)
            count = connection.recv_into(view[filled:])
            if not count:
                break
            filled += count
        connection.settimeout(self.timeout_s)
        return bytearray(view[:filled]) if filled < nr_bytes else buffer

    def send(self, bytestream: bytes) -> None:
        """Send a PDU of pynetdicom's; its A-ASSOCIATE-AC knows of few Presentation Contexts, and tells of all."""
        if bytestream[0] == A_ASSOCIATE_AC:
            bytestream = write_choices(bytestream, self.choices, self.role)
        super().send(bytestream)

    def hang_up(self) -> None:
        """Send nothing more, and pass over what still comes, until the peer closes too or `LINGER_S` are over.

        A connection that is closed with bytes unread is reset, and our last word may be lost to the peer.
        """
        self.has_hung_up = True
        connection = self.socket
        if connection is None:
            return
        waste = bytearray(WASTE_BYTES)
        deadline_s = monotonic() + LINGER_S
        with suppress(OSError):
            if isinstance(connection, ssl.SSLSocket):
                _say_goodbye(connection)
            socket.socket.shutdown(connection, socket.SHUT_WR)
            while (left_s := deadline_s - monotonic()) > 0:
                connection.settimeout(left_s)
                # Nobody decrypts it either.
                if not socket.socket.recv_into(connection, waste):
                    return

    def cut(self) -> None:
        """End the connection from another thread; the provider's notices, and closes it.

        To close it here would give its number to the next connection, and poll() in the other thread goes by the
        number: it would wait for that one.
        """
        connection = self.socket
        if connection is not None:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _shutdown_socket(self) -> None:
        connection = self.socket
        if connection is None:
            return
        with suppress(OSError):
            # OpenSSL serves one thread at a time, and that is the provider's.
            if isinstance(connection, ssl.SSLSocket) and current_thread() is self.assoc.dul:
                _say_goodbye(connection)
            # That of SSLSocket would let other threads read what is encrypted, as if it were plain.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        connection.close()


def _is_pending(connection: socket.socket) -> bool:
    return isinstance(connection, ssl.SSLSocket) and connection.pending() > 0


def _say_goodbye(connection: ssl.SSLSocket) -> None:
    connection.setblocking(False)
    # Sends the closure alert (RFC 8446 6.1), and does not wait for that of the peer.
    with suppress(OSError, ValueError):
        connection.unwrap()
