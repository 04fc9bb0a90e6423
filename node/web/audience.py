"""Everybody who is told of changes: one thread looks for them, and wakes all streams of the process."""

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

from node.errors import Broken, NodeError

logger = logging.getLogger(__name__)

# Of all browsers together; each takes a connection and some KB, and no thread.
MAX_LISTENERS = 128
# Of one visitor, so that nobody takes all; each open page has one.
MAX_OF_ONE = 8
LOOK_EVERY_S = 1.0
# So that no proxy ends what is silent.
HEARTBEAT_S = 15.0
# Then the browser asks anew, and must still be allowed to.
MAX_LIFE_S = 600.0
CHANGED, SILENT, HELLO = b"event: changed\ndata:\n\n", b":\n\n", b"event: hello\ndata:\n\n"


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """One stream."""

    loop: AbstractEventLoop
    visitor: str
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Audience:
    """All streams of a process, woken by one thread, which looks for changes as long as anybody listens.

    Parameters
    ----------
    look_every_s
        How often it looks, and a browser is told at most; seconds.
    """

    def __init__(self, *, look_every_s: float = LOOK_EVERY_S, max_listeners: int = MAX_LISTENERS) -> None:
        self._look_every_s = look_every_s
        self.max_listeners = max_listeners
        self._lock = Lock()
        self._listeners: set[Listener] = set()
        self._is_watched = False
        self._closing = Event()

    def join(self, sign: Callable[[], object], *, visitor: str) -> Listener | None:
        """Return a place among those who listen, None when all are taken, or theirs are, or the server ends.

        Parameters
        ----------
        sign
            Returns another value after each change; asked in a thread.
        """
        listener = Listener(asyncio.get_running_loop(), visitor)
        with self._lock:
            if self._closing.is_set() or len(self._listeners) >= self.max_listeners:
                return None
            if sum(other.visitor == visitor for other in self._listeners) >= MAX_OF_ONE:
                return None
            self._listeners.add(listener)
            if not self._is_watched:
                self._is_watched = True
                Thread(target=self._watch, args=(sign,), name="live", daemon=True).start()
        return listener

    async def tell(self, listener: Listener) -> AsyncIterator[bytes]:
        """Yield what one browser is sent, until it has gone, its time is up, or the server ends."""
        ends_at = listener.loop.time() + MAX_LIFE_S
        try:
            yield HELLO
            while not self._closing.is_set() and listener.loop.time() < ends_at:
                try:
                    await asyncio.wait_for(listener.woken.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield SILENT
                    continue
                listener.woken.clear()
                if not self._closing.is_set():
                    yield CHANGED
        finally:
            self.leave(listener)

    def leave(self, listener: Listener) -> None:
        """Give a place back; once more is no harm."""
        with self._lock:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream; any thread may say so."""
        self._closing.set()
        self._wake()

    def _watch(self, sign: Callable[[], object]) -> None:
        seen = _read(sign)
        while not self._closing.wait(self._look_every_s):
            with self._lock:
                if not self._listeners:
                    self._is_watched = False
                    return
            found = _read(sign)
            if found != seen:
                seen = found
                self._wake()

    def _wake(self) -> None:
        with self._lock:
            for listener in self._listeners:
                # Its loop may have ended meanwhile; the others are told all the same.
                with suppress(RuntimeError):
                    listener.loop.call_soon_threadsafe(listener.woken.set)


def _read(sign: Callable[[], object]) -> object:
    try:
        return sign()
    except NodeError as exc:
        # Whoever looks is to see that the ledger does not answer.
        logger.warning("change not looked for", extra={"reason_code": exc.code})
        return None
    except Exception:  # the outer edge of the thread: without it, no page would be told of anything any more
        logger.exception("change not looked for", extra={"reason_code": Broken.code})
        return None
