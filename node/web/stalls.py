"""Connections whose peer takes nothing of what waits for it: they are ended, and their memory is free."""

import asyncio
import logging
import socket
import struct

logger = logging.getLogger(__name__)

# Linger for 0 s.
RESET = struct.pack("ii", 1, 0)


class StallWatch:
    """Looks at a connection now and then, until it is told to stop.

    Parameters
    ----------
    stalled_s
        How long a peer may take none of what waits for it.
    """

    def __init__(self, transport: asyncio.Transport, *, stalled_s: float) -> None:
        self._transport = transport
        self._stalled_s = stalled_s
        self._loop = asyncio.get_running_loop()
        # What waited for the peer when it was looked at last, and whether it took some of it since.
        self._waiting_bytes = 0
        self._has_moved = False
        self._timer = self._loop.call_later(stalled_s, self._look)

    def moved(self) -> None:
        """Take note that the peer took what waited for it."""
        self._has_moved = True

    def stop(self) -> None:
        """Look no more; once more is no harm."""
        self._timer.cancel()

    def _look(self) -> None:
        waiting_bytes = self._transport.get_write_buffer_size()
        if waiting_bytes and waiting_bytes == self._waiting_bytes and not self._has_moved:
            logger.info("connection stalled", extra={"bytes": waiting_bytes})
            # Else the kernel would keep what it has for the peer, some MiB, for many minutes more.
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._transport.abort()
            return
        self._waiting_bytes, self._has_moved = waiting_bytes, False
        self._timer = self._loop.call_later(self._stalled_s, self._look)
