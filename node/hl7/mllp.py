"""A connection to a receiver of HL7 messages (MLLP), kept from one message to the next.

References: HL7 v2 Transport Specification: MLLP, Release 1.
"""

import select
import socket
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from node.errors import DestinationDown, MessageFraming
from node.hl7.framing import Deframer, frame
from node.tls import TlsTrust, explain, secure

CHUNK_BYTES = 65_536
# No acknowledgment is longer.
MAX_ANSWER_BYTES = 1024 * 1024
LEAST_WAIT_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where messages go.

    Attributes
    ----------
    name
        For the words of an error.
    timeout_s
        How long a connection, and an answer, may take; seconds, > 0.
    tls
        None: plain.
    """

    name: str
    host: str
    port: int
    timeout_s: float
    tls: TlsTrust | None = None

    def __str__(self) -> str:
        return f"destination {self.name} ({self.host}:{self.port})"


class Line:
    """One connection that is opened when it is needed; used by one thread at a time."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._connection: socket.socket | None = None

    def open(self) -> socket.socket:
        """Return a connection on which nothing is left of an earlier message.

        Raises
        ------
        DestinationDown
            If there is none.
        Misconfigured
            If one of both does not trust the other's certificate.
        """
        if self._connection is not None and self._is_stale(self._connection):
            self.close()
        if self._connection is None:
            self._connection = _connect(self._receiver)
        return self._connection

    def ask(self, message: bytes) -> bytes:
        """Return what is answered to a message; after an error, the connection is closed.

        Raises
        ------
        DestinationDown
            If there is no answer: whether the message was taken is not known.
        MessageFraming
            If what comes is no message.
        """
        connection = self.open()
        try:
            return self._exchange(connection, message)
        except OSError as exc:
            self.close()
            if isinstance(exc, TimeoutError):
                what = f"gave no answer within {self._receiver.timeout_s:g} s"
            else:
                what = f"ended the connection before its answer ({explain(exc)})"
            raise DestinationDown(f"{self._receiver} {what}") from exc
        except MessageFraming:
            self.close()
            raise

    def close(self) -> None:
        """End the connection; the next message opens another one."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None

    def _exchange(self, connection: socket.socket, message: bytes) -> bytes:
        ends_s = monotonic() + self._receiver.timeout_s
        deframer = Deframer(max_bytes=MAX_ANSWER_BYTES)
        connection.settimeout(self._receiver.timeout_s)
        connection.sendall(frame(message))
        while True:
            # Zero would mean not to wait at all, which fails otherwise.
            connection.settimeout(max(ends_s - monotonic(), LEAST_WAIT_S))
            content = connection.recv(CHUNK_BYTES)
            if not content:
                raise ConnectionResetError
            for answer in deframer.feed(content):
                return answer

    @staticmethod
    def _is_stale(connection: socket.socket) -> bool:
        """Return whether the receiver ended the connection, or said something that nobody asked for."""
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable)


def _connect(receiver: Receiver) -> socket.socket:
    try:
        connection = socket.create_connection((receiver.host, receiver.port), timeout=receiver.timeout_s)
    except socket.gaierror as exc:
        raise DestinationDown(f"{receiver}: the host name cannot be resolved; correct it, or the DNS") from exc
    except TimeoutError as exc:
        words = f"no connection within {receiver.timeout_s:g} s; check host, port and firewall"
        raise DestinationDown(f"{receiver}: {words}") from exc
    except OSError as exc:
        words = f"no connection ({exc.strerror or exc}); check host and port, and that it runs"
        raise DestinationDown(f"{receiver}: {words}") from exc
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receiver.tls is None:
        return connection
    return secure(connection, receiver.tls, host=receiver.host, called=str(receiver))
