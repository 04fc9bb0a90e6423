"""The bytes that a peer has sent and nobody has read yet; one buffer for the lane and for pynetdicom."""

import socket

# A few P-DATA-TF PDUs of the usual 128 KB; larger gains nothing, and one is held for each Association.
CAPACITY_BYTES = 512 * 1024


class ReceiveBuffer:
    """Bytes between the socket and whoever parses them.

    Attributes
    ----------
    view
        The whole buffer; unread are ``view[start:end]``.
    start, end
        Bytes into `view`.
    """

    __slots__ = ("end", "start", "view")

    def __init__(self) -> None:
        self.view = memoryview(b"")
        self.start = 0
        self.end = 0

    def open(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        """Take the memory; whoever has not become an Association needs none."""
        self.view = memoryview(bytearray(capacity_bytes))

    def __len__(self) -> int:
        return self.end - self.start

    def fill(self, connection: socket.socket) -> int:
        """Receive once behind what is unread, and return how many bytes came; 0 when the peer closed.

        What is unread moves to the front first, so no slice of `view` may be in use any more.

        Raises
        ------
        OSError
            If the connection broke.
        """
        unread = len(self)
        if self.start:
            self.view[:unread] = bytes(self.view[self.start : self.end])
            self.start, self.end = 0, unread
        count = connection.recv_into(self.view[self.end :])
        self.end += count
        return count

    def release(self) -> None:
        """Let go of the memory; the connection is over."""
        self.view, self.start, self.end = memoryview(b""), 0, 0

    def take_into(self, target: memoryview) -> int:
        """Move unread bytes to `target` until one of the two is exhausted; return how many."""
        count = min(len(self), len(target))
        target[:count] = self.view[self.start : self.start + count]
        self.start += count
        return count
