"""The HTTP server: uvicorn on a socket that listens already, with guards for connections that ask for nothing."""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from node.errors import RequestMalformed
from node.networks import Network, is_allowed
from node.web.problems import problem_of

logger = logging.getLogger(__name__)

# From the first byte of a request's headers to their last one; also from the beginning of a connection.
HEADERS_S = 10.0
KEEP_ALIVE_S = 15.0
STALLED_S = 30.0
# Linger for 0 s.
RESET = struct.pack("ii", 1, 0)
MAX_HEADER_BYTES = 64 * 1024
# Each costs a descriptor; beyond, requests are told 503.
MAX_CONNECTIONS = 512
BACKLOG = 128
LIBRARIES = ("uvicorn", "uvicorn.error", "asyncio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What a connection must pass.

    Attributes
    ----------
    networks
        Who may connect; none is everybody.
    refused
        Called with the address of whoever else tried, in a thread.
    headers_s
        How long the headers of a request may take, and how long one may be waited for at first.
    stalled_s
        How long a peer may take none of what waits for it.
    """

    networks: Sequence[Network] = ()
    refused: Callable[[str], None]
    headers_s: float = HEADERS_S
    stalled_s: float = STALLED_S


class GuardedProtocol(H11Protocol):
    """One connection; its peer must be allowed, and must ask for something soon."""

    guards: "Guards"
    _patience: asyncio.TimerHandle | None = None
    _watch: asyncio.TimerHandle | None = None
    # What waited for the peer when it was looked at last, and whether it took some of it since.
    _waiting_bytes = 0
    _has_moved = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as H11Protocol does
        """Take the connection, or close it at once."""
        super().connection_made(transport)
        host = self.client[0] if self.client else ""
        if not host or not is_allowed(host, self.guards.networks):
            logger.warning("connection refused", extra={"peer": host, "outcome": "network not allowed"})
            # The ledger may be locked for long, and the loop waits for nobody.
            self.loop.run_in_executor(None, self.guards.refused, host)
            transport.abort()
            return
        self._wait_for_headers()
        self._watch = self.loop.call_later(self.guards.stalled_s, self._look_at_waiting)

    def data_received(self, data: bytes) -> None:
        """Take what came; the time for the headers runs from their first byte to their last."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._patience is None:
            self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """Write on: the peer took what waited for it."""
        self._has_moved = True
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and close."""
        problem = problem_of(RequestMalformed(msg))
        headers = [*problem.raw_headers, (b"connection", b"close")]
        events = (
            h11.Response(status_code=problem.status_code, headers=headers),
            h11.Data(data=bytes(problem.body)),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _look_at_waiting(self) -> None:
        waiting_bytes = self.transport.get_write_buffer_size()
        if waiting_bytes and waiting_bytes == self._waiting_bytes and not self._has_moved:
            logger.info("connection stalled", extra={"bytes": waiting_bytes})
            # Else the kernel would keep what it has for the peer, some MiB, for many minutes more.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()
            return
        self._waiting_bytes, self._has_moved = waiting_bytes, False
        self._watch = self.loop.call_later(self.guards.stalled_s, self._look_at_waiting)

    def _wait_for_headers(self) -> None:
        self._patience = self.loop.call_later(self.guards.headers_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class WebServer:
    """Serves one application until it is told to stop.

    Parameters
    ----------
    drain_s
        How long requests under way may go on after `stop`.
    """

    def __init__(self, app: ASGIApp, guards: Guards, *, drain_s: float) -> None:
        for library in LIBRARIES:
            logging.getLogger(library).setLevel(logging.WARNING)
        config = uvicorn.Config(
            app,
            http=_protocol_for(guards),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=int(KEEP_ALIVE_S),
            timeout_graceful_shutdown=int(drain_s),
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        self._server = _Server(config)

    def run(self, listening: socket.socket) -> None:
        """Serve what connects to `listening`; returns after `stop`, when every request is answered, or time is up."""
        self._server.run(sockets=[listening])

    def stop(self) -> None:
        """Accept no more; any thread may say so."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


def _protocol_for(guards: Guards) -> type[GuardedProtocol]:
    return type("ProtocolWithGuards", (GuardedProtocol,), {"guards": guards})
