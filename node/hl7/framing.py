"""Where a message begins and ends on a connection (MLLP).

References: HL7 v2 Transport Specification: MLLP, Release 1.
"""

from collections.abc import Iterator

from node.errors import MessageFraming

START, END, CARRIAGE_RETURN = b"\x0b", b"\x1c", b"\r"
# What some senders put between two messages, and nobody means.
BETWEEN = b"\r\n"


def frame(message: bytes) -> bytes:
    """Return a message as it is sent."""
    return START + message + END + CARRIAGE_RETURN


class Deframer:
    """Finds messages in what comes.

    Parameters
    ----------
    max_bytes
        Of one message.

    Attributes
    ----------
    is_inside
        Whether a message has begun, and not ended.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self.is_inside = False

    def feed(self, content: bytes) -> Iterator[bytes]:
        """Yield the messages that are complete with what came now.

        Raises
        ------
        MessageFraming
            If something else stands between messages, one begins inside another, or one is too long.
        """
        self._buffer += content
        while self._begin():
            end = self._buffer.find(END)
            held = self._buffer[: end if end >= 0 else len(self._buffer)]
            if START in held:
                raise MessageFraming("a message begins before the one before it has ended")
            if len(held) > self._max_bytes:
                raise MessageFraming(f"the message is longer than {self._max_bytes} bytes")
            if end < 0:
                return
            del self._buffer[: end + 1]
            self.is_inside = False
            yield bytes(held)

    def _begin(self) -> bool:
        """Return whether a message has begun; what may stand before it is passed over."""
        if not self.is_inside:
            left = self._buffer.lstrip(BETWEEN)
            if left and left[:1] != START:
                raise MessageFraming("what comes does not begin with the sign for the begin of a message (0BH)")
            self.is_inside = bool(left)
            self._buffer = left[1:]
        return self.is_inside
