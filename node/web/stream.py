"""The body of a request straight from its connection into one buffer, by the thread that takes it.

On its usual way a body is copied six times, by asyncio, h11, uvicorn and whoever takes it, each copy into fresh memory,
and the event loop is asked for every piece. That costs more processor time than to hash and write what came.
"""

import asyncio
import select
import socket
from collections.abc import Callable
from os import dup
from threading import Lock
from time import monotonic
from typing import Protocol

from starlette.requests import ClientDisconnect

# Name in the state of a request of what opens its stream.
STREAM = "open_stream"
BUFFER_BYTES = 512 * 1024
# What comes slower than this keeps no thread: it is waited for by the event loop.
WORTH_BYTES, WORTH_S = 128 * 1024, 0.02
# After so many bytes another request has its turn.
TURN_BYTES = 8 * 2**20


class Owner(Protocol):
    """Who has the connection before and after, and all the time as far as answers go."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""

    def pause_writing(self) -> None:
        """Write no more for now."""

    def resume_writing(self) -> None:
        """Write on."""

    def body_over(self) -> None:
        """Take the connection back: all of the body has come."""


class BodyStream(asyncio.BufferedProtocol):
    """What is left of one body on its way; of what follows on the connection no byte is read.

    Parameters
    ----------
    transport
        Whose reading is paused.
    connection
        Its socket once more, for the thread; it is closed when the stream ends, and while no thread reads.
    left_bytes
        How much of the body is to come, > 0.
    """

    def __init__(self, transport: asyncio.Transport, connection: socket.socket, owner: Owner, left_bytes: int) -> None:
        self._transport = transport
        self._connection = connection
        # Not select(): it knows descriptors up to 1023 only.
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self._reading = Lock()
        self._owner = owner
        self._left_bytes = left_bytes
        self._memory = memoryview(bytearray(min(BUFFER_BYTES, left_bytes)))
        self._filled_bytes = 0
        self._is_lost = False
        self._has_news = asyncio.Event()
        transport.set_protocol(self)

    @property
    def is_over(self) -> bool:
        """Whether all of the body was read; the connection is its owner's again."""
        return not self._left_bytes

    async def wait(self) -> int:
        """Return how many bytes came, as soon as some did, for `pour` to take.

        Raises
        ------
        ClientDisconnect
            If the client is gone.
        """
        if not self._is_lost:
            self._transport.resume_reading()
            await self._has_news.wait()
            self._has_news.clear()
        if not self._filled_bytes:
            raise ClientDisconnect
        return self._filled_bytes

    def pour(self, take: Callable[[memoryview], None]) -> int:
        """Hand on what came, and what comes now as long as it comes fast; return how many bytes that were.

        For a thread, between calls of `wait`.
        """
        try:
            with self._reading:
                return self._pour(take)
        finally:
            if self._is_lost:
                self._close()

    def _pour(self, take: Callable[[memoryview], None]) -> int:
        poured = 0
        while True:
            filled, self._filled_bytes = self._filled_bytes, 0
            take(self._memory[:filled])
            poured += filled
            if (filled < WORTH_BYTES and poured > filled) or poured >= TURN_BYTES or not self._left_bytes:
                return poured
            self._filled_bytes = self._fill()
            self._left_bytes -= self._filled_bytes
            if not self._filled_bytes:
                return poured

    def forget(self) -> None:
        """Pass over what came."""
        self._filled_bytes = 0

    def give_back(self) -> None:
        """Let the owner have the connection again, once all of the body was read."""
        self._close()
        self._transport.set_protocol(self._owner)  # type: ignore[arg-type]  # it is uvicorn's
        self._owner.body_over()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 the signature is asyncio's
        """Return where the next bytes go."""
        return self._memory[: self._left_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of bytes that came; the next ones wait."""
        self._transport.pause_reading()
        self._filled_bytes = nbytes
        self._left_bytes -= nbytes
        self._has_news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the client is gone."""
        self._is_lost = True
        self._close()
        self._has_news.set()
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tell whoever writes."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Tell whoever writes."""
        self._owner.resume_writing()

    def _close(self) -> None:
        """Close the socket, unless a thread reads from it, which closes it then."""
        if self._reading.acquire(blocking=False):
            self._connection.close()
            self._reading.release()

    def _fill(self) -> int:
        """Return how many bytes came into the buffer before it was full, or `WORTH_S` passed with too few."""
        filled, room, until_s = 0, self._memory[: self._left_bytes], monotonic() + WORTH_S
        while filled < min(WORTH_BYTES, len(room)):
            try:
                got = self._connection.recv_into(room[filled:])
            except BlockingIOError:
                left_s = until_s - monotonic()
                if left_s <= 0 or not self._readable.poll(1000 * left_s):
                    break
                continue
            except OSError:
                # The event loop hears of it, too, or has closed it already.
                break
            if not got:
                break
            filled += got
        return filled


def duplicate(transport: asyncio.Transport) -> socket.socket | None:
    """Return the socket of a connection once more; None where it is closed, or no descriptor is free."""
    try:
        return socket.socket(fileno=dup(transport.get_extra_info("socket").fileno()))
    except OSError:
        return None
