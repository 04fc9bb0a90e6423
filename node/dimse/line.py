"""The connection of an established Association, for the lane: read and written without waiting first."""

import socket
import ssl
from contextlib import suppress

from node.dimse.buffer import ReceiveBuffer

NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Line:
    """Reads and writes beside pynetdicom.

    Python waits before each call on a socket that has a timeout, also when something is there; so the lane has a
    descriptor of its own of the same connection, without one. A TLS connection cannot be had twice.

    Parameters
    ----------
    timeout_s
        Within which the peer must take what is sent, seconds.
    """

    def __init__(self, connection: socket.socket, *, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._own = None if isinstance(connection, ssl.SSLSocket) else connection.dup()
        if self._own is not None:
            self._own.setblocking(False)

    def fill(self, buffer: ReceiveBuffer) -> bool:
        """Return whether something came, without waiting for it.

        Raises
        ------
        OSError
            If the connection broke, or the peer closed it.
        """
        try:
            count = buffer.fill(self._own) if self._own is not None else self._fill_from_tls(buffer)
        except NOT_NOW:
            return False
        if not count:
            raise OSError("the peer closed the connection")
        return True

    def send(self, encoded: bytes) -> None:
        """Send everything.

        Raises
        ------
        OSError
            If the connection broke, or the peer does not read.
        """
        sent = 0
        if self._own is not None:
            with suppress(BlockingIOError):
                sent = self._own.send(encoded)
        if sent < len(encoded):
            self._connection.sendall(encoded[sent:])

    def _fill_from_tls(self, buffer: ReceiveBuffer) -> int:
        self._connection.setblocking(False)
        try:
            return buffer.fill(self._connection)
        finally:
            self._connection.settimeout(self._timeout_s)

    def close(self) -> None:
        """Let go of the own descriptor; the connection is somebody else's to end."""
        if self._own is not None:
            self._own.close()
