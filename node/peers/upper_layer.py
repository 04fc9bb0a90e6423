"""The connection of an Association that we request: whole PDUs, on one socket and in one thread.

pynetdicom's requestor has two threads beside the sender's. One looks at the socket a thousand times a second, so that
every response waits for it; the other may take a response off the queue before the sender does, who then waits for the
whole timeout and gets an empty answer. An abort that meets the end of the connection kills the first with an error.
Here nobody but the sender touches the socket.

References
----------
DICOM PS3.8 9.2 and 9.3
"""

import socket
from contextlib import suppress
from struct import Struct
from time import monotonic

ASSOCIATE_AC = 0x02
ASSOCIATE_RJ = 0x03
P_DATA_TF = 0x04
RELEASE_RQ = 0x05
RELEASE_RP = 0x06
ABORT = 0x07
PDU_HEADER = Struct(">BxI")
# Release and abort hold four bytes; those of our A-ABORT mean service-user, reason 0 (PS3.8 table 9-26).
FOUR_BYTES = bytes(4)
# An A-ASSOCIATE-AC on 128 Presentation Contexts has some 15 KB, and a response must fit into what we announced.
MAX_PDU_BYTES = 128 * 1024
RECEIVE_BYTES = 64 * 1024
# What a peer may still have to say before it consents to a release.
MAX_PDUS_AT_RELEASE = 16


class UpperLayer:
    """Sends and receives PDUs.

    Parameters
    ----------
    connection
        Connected, blocking, and from now on in our care.
    timeout_s
        Silence that counts as failure; seconds, > 0.
    """

    def __init__(self, connection: socket.socket, *, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._deadline = 0.0
        self._received = bytearray()
        connection.settimeout(timeout_s)

    def send(self, data: bytes | memoryview) -> None:
        """Return after all of `data` is with the system.

        Raises
        ------
        OSError
            If the connection broke, or the peer took nothing for `timeout_s`.
        """
        rest = memoryview(data)
        # sendall() would give the peer that time for all of it.
        try:
            while rest:
                rest = rest[self._connection.send(rest) :]
        finally:
            # Who has hung up may have said why before.
            self._deadline = monotonic() + self._timeout_s

    def receive(self, within_s: float | None = None) -> tuple[int, bytes]:
        """Return type and body of the next PDU.

        Parameters
        ----------
        within_s
            How long it may take; seconds. None: `timeout_s` from when we last sent something.

        Raises
        ------
        TimeoutError
            If it is not complete in time; a peer that answers byte by byte is silent. What has come is kept.
        OSError
            If the connection is closed or broke, or the PDU is too long to be an answer.
        """
        deadline = self._deadline if within_s is None else monotonic() + within_s
        try:
            while (pdu := self._take()) is None:
                remaining_s = deadline - monotonic()
                if remaining_s <= 0:
                    raise TimeoutError("the PDU is not complete")
                self._connection.settimeout(remaining_s)
                received = self._connection.recv(RECEIVE_BYTES)
                if not received:
                    raise ConnectionResetError("the peer closed the connection")
                self._received += received
        finally:
            self._connection.settimeout(self._timeout_s)
        return pdu

    def release(self) -> None:
        """End the Association in order, then the connection.

        Nothing depends on the peer's consent: every object has had its response.

        References
        ----------
        DICOM PS3.8 7.2
        """
        with suppress(OSError):
            self.send(PDU_HEADER.pack(RELEASE_RQ, len(FOUR_BYTES)) + FOUR_BYTES)
            has_answered = False
            for _ in range(MAX_PDUS_AT_RELEASE):
                kind, _ = self.receive()
                if kind == RELEASE_RQ and not has_answered:
                    # Both ask at once: the requestor of the Association answers first (PS3.8 7.2.2.7).
                    self.send(PDU_HEADER.pack(RELEASE_RP, len(FOUR_BYTES)) + FOUR_BYTES)
                    has_answered = True
                elif kind != P_DATA_TF:
                    break
        self._connection.close()

    def consent(self) -> None:
        """Agree that the peer, who asked for it, ends the Association; then close the connection."""
        with suppress(OSError):
            self.send(PDU_HEADER.pack(RELEASE_RP, len(FOUR_BYTES)) + FOUR_BYTES)
        self._connection.close()

    def abort(self) -> None:
        """End the Association at once, and the connection, without waiting for a peer that does not read."""
        with suppress(OSError):
            self._connection.setblocking(False)
            self._connection.send(PDU_HEADER.pack(ABORT, len(FOUR_BYTES)) + FOUR_BYTES)
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _take(self) -> tuple[int, bytes] | None:
        """Return the first PDU received, or None if it is not complete."""
        if len(self._received) < PDU_HEADER.size:
            return None
        kind, length = PDU_HEADER.unpack_from(self._received)
        if length > MAX_PDU_BYTES:
            msg = f"a PDU of {length} bytes came where an answer was due"
            raise OSError(msg)
        end = PDU_HEADER.size + length
        if len(self._received) < end:
            return None
        body = bytes(self._received[PDU_HEADER.size : end])
        del self._received[:end]
        return kind, body
