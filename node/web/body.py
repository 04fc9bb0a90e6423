"""The body of a request, handed piece by piece to whoever takes it, in a thread; a body that stops is given up."""

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from node.errors import RequestStalled, TooLarge
from node.web.stream import STREAM, BodyStream

# What may wait while the piece before is written.
MAX_WAITING_BYTES = 1024 * 1024
# A body must come at this rate at least, after its first `silence_s`; no link between hospitals is slower.
MIN_BYTES_PER_S = 4096
# What is read of a body that is refused, so that its sender hears why before the connection closes.
MAX_DRAINED_BYTES = 64 * 2**20
DRAIN_S = 5.0
Read = TypeVar("Read")


def replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read to whoever reads it next."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


class Basket:
    """Holds a small body as it comes."""

    def __init__(self, max_bytes: int) -> None:
        self.content = bytearray()
        self._max_bytes = max_bytes

    def put(self, piece: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises
        ------
        TooLarge
            If there are too many.
        """
        self.content += piece
        if len(self.content) > self._max_bytes:
            raise TooLarge(f"such a body has at most {self._max_bytes} bytes here; send less at a time")


class Body:
    """One body on its way.

    Parameters
    ----------
    silence_s
        Longest time without a byte.
    limiter
        How many threads may work on bodies at a time; one that waits for its client holds none.

    Attributes
    ----------
    is_over
        Whether all of it has come.
    """

    def __init__(self, request: Request, *, silence_s: float, limiter: CapacityLimiter) -> None:
        self._request = request
        self._silence_s = silence_s
        self._limiter = limiter
        self._received_bytes = 0
        self._waited_s = 0.0
        self._is_stalled = False
        self._stream: BodyStream | None = None
        self.is_over = False

    async def pour(self, take: Callable[[bytes | memoryview], None]) -> None:
        """Hand everything to `take`, one piece after the other, and return when the body is over.

        What came before it stopped is handed over, too. No thread is in `take` when this returns or raises.

        Raises
        ------
        RequestStalled
            If nothing comes for `silence_s`, or far too little.
        ClientDisconnect
            If the client is gone.
        """
        opened = self._open_stream()
        if opened is not None:
            begun, self._stream = opened
            await self._pour_stream(take, begun, self._stream)
            return
        waiting = _Waiting()
        reader = asyncio.create_task(self._fill(waiting))
        try:
            while piece := await waiting.take_all():
                await run_sync(take, piece, limiter=self._limiter)
            await reader
        finally:
            reader.cancel()
            await asyncio.wait({reader})
            if not reader.cancelled():
                # Where `take` has failed as well, nobody asks for it.
                reader.exception()

    def _open_stream(self) -> tuple[bytes, BodyStream] | None:
        opener = getattr(self._request.state, STREAM, None)
        return None if opener is None else opener()

    async def _pour_stream(self, take: Callable[[bytes | memoryview], None], begun: bytes, stream: BodyStream) -> None:
        self._received_bytes += len(begun)
        if begun:
            await run_sync(take, begun, limiter=self._limiter)
        while not self.is_over:
            await self._patiently(stream.wait())
            self._received_bytes += await run_sync(stream.pour, take, limiter=self._limiter)
            await self._end_stream(stream)

    async def _end_stream(self, stream: BodyStream) -> None:
        if stream.is_over:
            stream.give_back()
            # Those around us see by this that there is no more.
            self.is_over = not (await self._request.receive()).get("more_body", False)

    async def drain(self) -> None:
        """Read on for a while, for nothing; whoever sends does not listen before."""
        try:
            async with asyncio.timeout(DRAIN_S):
                while not (self.is_over or self._is_stalled) and self._received_bytes < MAX_DRAINED_BYTES:
                    await (self._read() if self._stream is None else self._pass_over(self._stream))
        except (TimeoutError, ClientDisconnect):
            return

    async def _pass_over(self, stream: BodyStream) -> None:
        if not stream.is_over:
            self._received_bytes += await stream.wait()
            stream.forget()
        await self._end_stream(stream)

    async def _fill(self, waiting: "_Waiting") -> None:
        try:
            while not self.is_over:
                await waiting.put(await self._patiently(self._read()))
        finally:
            waiting.close()

    async def _patiently(self, reading: Coroutine[Any, Any, Read]) -> Read:
        """Return what is read, unless nothing comes for too long."""
        begun_s = monotonic()
        left_s = self._silence_s + self._received_bytes / MIN_BYTES_PER_S - self._waited_s
        try:
            async with asyncio.timeout(min(self._silence_s, left_s)):
                return await reading
        except TimeoutError as exc:
            self._is_stalled = True
            text = f"{self._received_bytes} bytes of the body came, and no more; send the rest again"
            raise RequestStalled(text) from exc
        finally:
            self._waited_s += monotonic() - begun_s

    async def _read(self) -> bytes:
        """Return the next piece, which may be empty."""
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.is_over = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        self._received_bytes += len(piece)
        return piece


class _Waiting:
    """What came and is not taken yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._is_closed = False
        self._has_news = asyncio.Event()
        self._has_room = asyncio.Event()

    async def put(self, piece: bytes) -> None:
        """Add `piece`, and return when there is room for another one."""
        self._pieces.append(piece)
        self._size_bytes += len(piece)
        self._has_news.set()
        if self._size_bytes >= MAX_WAITING_BYTES:
            self._has_room.clear()
            await self._has_room.wait()

    def close(self) -> None:
        """Take note that nothing more comes."""
        self._is_closed = True
        self._has_news.set()

    async def take_all(self) -> bytes:
        """Return everything that waits, as soon as there is something; empty when nothing more comes."""
        while not self._size_bytes and not self._is_closed:
            self._has_news.clear()
            await self._has_news.wait()
        taken, self._pieces, self._size_bytes = b"".join(self._pieces), [], 0
        self._has_room.set()
        return taken
