"""The HTTP server: uvicorn on a socket that listens already, with guards for connections that ask for nothing."""

import asyncio
import logging
import socket
import ssl
from asyncio import BaseTransport
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from node.errors import RequestMalformed
from node.networks import Network, is_allowed
from node.web.handover import STORES, Handover, take_over
from node.web.problems import problem_of
from node.web.stalls import StallWatch
from node.web.stream import STREAM, BodyStream, duplicate

logger = logging.getLogger(__name__)

# From the first byte of a request's headers to their last one; also from the beginning of a connection.
HEADERS_S = 10.0
KEEP_ALIVE_S = 15.0
STALLED_S = 30.0
# Subscribers of workitems say nothing that anybody reads.
MAX_MESSAGE_BYTES = 4096
MAX_HEADER_BYTES = 64 * 1024
# Each costs a descriptor; beyond, requests are told 503.
MAX_CONNECTIONS = 512
# A terminal server with many browsers is one address; none takes all. Each open page has one for what is new.
MAX_OF_ONE_ADDRESS = MAX_CONNECTIONS // 2
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
    max_of_one_address
        How many connections one address may have; what comes beyond is closed. None: any, where all come by a proxy.
    """

    networks: Sequence[Network] = ()
    refused: Callable[[str], None]
    headers_s: float = HEADERS_S
    stalled_s: float = STALLED_S
    max_of_one_address: int | None = MAX_OF_ONE_ADDRESS


class GuardedProtocol(H11Protocol):
    """One connection; its peer must be allowed, and must ask for something soon."""

    guards: "Guards"
    handover: Handover | None = None
    # What another process has read of the connection, before it passed it on.
    begun = b""
    _is_plain = False
    _patience: asyncio.TimerHandle | None = None
    _watch: StallWatch | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as H11Protocol does
        """Take the connection, or close it at once."""
        super().connection_made(transport)
        self._is_plain = transport.get_extra_info("sslcontext") is None
        if self._is_plain:
            self.app_state = {**self.app_state, STREAM: self.open_stream}
        host = self.client[0] if self.client else ""
        if not host or not is_allowed(host, self.guards.networks):
            logger.warning("connection refused", extra={"peer": host, "outcome": "network not allowed"})
            # The ledger may be locked for long, and the loop waits for nobody.
            self.loop.run_in_executor(None, self.guards.refused, host)
            transport.abort()
            return
        if self._is_one_too_many(host):
            logger.warning("connection refused", extra={"peer": host, "outcome": "too many of one address"})
            transport.abort()
            return
        self._wait_for_headers()
        self._watch = StallWatch(transport, stalled_s=self.guards.stalled_s)
        if self.begun:
            self.data_received(self.begun)

    def data_received(self, data: bytes) -> None:
        """Take what came; the time for the headers runs from their first byte to their last."""
        if self.handover is not None and self._begins_to_store(data):
            descriptor = self.transport.get_extra_info("socket").fileno()
            if self.handover.pass_on(descriptor, data):
                # Only our descriptor of it is closed.
                self.transport.abort()
                return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._patience is None:
            self._wait_for_headers()

    def _begins_to_store(self, data: bytes) -> bool:
        """Return whether a request begins that stores, and nothing was read before it that is not answered."""
        is_idle = self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE
        # What stands there was read as the beginning of another request.
        return self._is_plain and data.startswith(STORES) and is_idle and not self.conn.trailing_data[0]

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_watching()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to the other protocol."""
        self._stop_watching()
        super().handle_websocket_upgrade(event)

    def resume_writing(self) -> None:
        """Write on: the peer took what waited for it."""
        if self._watch is not None:
            self._watch.moved()
        super().resume_writing()

    def open_stream(self) -> tuple[bytes, BodyStream] | None:
        """Return what has come of the body of this request, and what brings the rest; None where it has no length.

        Everything of the connection belongs to the stream until the body is over.
        """
        cycle, headers = self.cycle, Headers(raw=self.headers)
        length = headers.get("content-length")
        if length is None or cycle.disconnected or not cycle.more_body or self.conn.their_state is not h11.SEND_BODY:
            return None
        connection = duplicate(self.transport)
        if connection is None:
            # The usual way needs no descriptor, and tells that a client is gone.
            return None
        begun = bytes(cycle.body)
        if cycle.waiting_for_100_continue:
            self.transport.write(self.conn.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            cycle.waiting_for_100_continue = False
        # For h11 the request is over from now on: it would copy each byte of the body twice to count it.
        cycle.conn = self.conn = _past_body(keeps_open=self._keeps_open(headers))
        cycle.body, cycle.message_event = bytearray(), asyncio.Event()
        self.flow.pause_reading()
        return begun, BodyStream(self.transport, connection, self, int(length) - len(begun))

    def _keeps_open(self, headers: Headers) -> bool:
        return self.scope["http_version"] == "1.1" and "close" not in headers.get("connection", "").lower()

    def body_over(self) -> None:
        """Go on with answers, and with the next request."""
        self.flow.resume_reading()
        self.cycle.more_body = False
        self.cycle.message_event.set()

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

    def _is_one_too_many(self, host: str) -> bool:
        most = self.guards.max_of_one_address
        return most is not None and sum(one.client is not None and one.client[0] == host for one in self.connections
                                        if isinstance(one, H11Protocol)) > most  # fmt: skip

    def _wait_for_headers(self) -> None:
        self._patience = self.loop.call_later(self.guards.headers_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _stop_watching(self) -> None:
        self._stop_waiting()
        if self._watch is not None:
            self._watch.stop()


class GuardedChannel(WebSocketsSansIOProtocol):
    """One WebSocket; its peer must take what it is sent."""

    stalled_s: float
    _watch: StallWatch | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Take over the connection."""
        super().connection_made(transport)
        self._watch = StallWatch(self.transport, stalled_s=self.stalled_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._watch is not None:
            self._watch.stop()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """Write on: the peer took what waited for it."""
        if self._watch is not None:
            self._watch.moved()
        super().resume_writing()

    async def send(self, message: Any) -> None:
        """Send what the application says; one that refuses the handshake has completed it, too."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            # Else it would be logged as a fault.
            self.handshake_complete = True


class WebServer:
    """Serves one application until it is told to stop.

    Parameters
    ----------
    drain_s
        How long requests under way may go on after `stop`.
    tls
        What accepts connections by TLS; None: they come without.
    handover
        Who else serves connections that store; None: nobody does.
    """

    def __init__(
        self,
        app: ASGIApp,
        guards: Guards,
        *,
        drain_s: float,
        tls: ssl.SSLContext | None = None,
        handover: Handover | None = None,
    ) -> None:
        for library in LIBRARIES:
            logging.getLogger(library).setLevel(logging.WARNING)
        config = uvicorn.Config(
            app,
            http=_protocol_for(guards, handover),
            loop="asyncio",
            ws=_channel_for(guards),
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
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
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )
        self._server = _Server(config)

    def run(self, listening: socket.socket) -> None:
        """Serve what connects to `listening`; returns after `stop`, when every request is answered, or time is up."""
        self._server.run(sockets=[listening])

    def run_behind(self, lane: socket.socket) -> None:
        """Serve what is passed on over `lane`; returns as `run` does."""
        self._server.lane = lane
        self._server.run(sockets=[])

    def stop(self) -> None:
        """Accept no more; any thread may say so."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    # Where connections are passed on to us; None: we listen ourselves.
    lane: socket.socket | None = None

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._arriving: set[asyncio.Task[object]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve, with everything loaded that the first request in a thread would wait for."""
        await run_in_threadpool(_do_nothing)
        await super().startup(sockets)
        if self.lane is not None:
            asyncio.get_running_loop().add_reader(self.lane, self._welcome, self.lane)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the connections; no more are taken over."""
        if self.lane is not None:
            asyncio.get_running_loop().remove_reader(self.lane)
        await super().shutdown(sockets)

    def _welcome(self, lane: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            arrived = take_over(lane)
        except EOFError:
            loop.remove_reader(lane)
            return
        if arrived is not None:
            connection, begun = arrived
            task = loop.create_task(loop.connect_accepted_socket(lambda: self._protocol(begun), connection))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    def _protocol(self, begun: bytes) -> GuardedProtocol:
        serve = self.config.http_protocol_class
        protocol: GuardedProtocol = serve(  # type: ignore[assignment, call-arg]  # as uvicorn does it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        protocol.begun = begun
        return protocol

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


def _do_nothing() -> None:
    pass


def _past_body(*, keeps_open: bool) -> h11.Connection:
    """Return the state of a connection whose request has come whole."""
    connection = h11.Connection(h11.SERVER, MAX_HEADER_BYTES)
    closing = b"" if keeps_open else b"Connection: close\r\n"
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n" + closing + b"\r\n")
    while connection.their_state not in (h11.DONE, h11.MUST_CLOSE):
        connection.next_event()
    return connection


def _protocol_for(guards: Guards, handover: Handover | None) -> type[GuardedProtocol]:
    return type("ProtocolWithGuards", (GuardedProtocol,), {"guards": guards, "handover": handover})


def _channel_for(guards: Guards) -> type[GuardedChannel]:
    return type("ChannelWithGuards", (GuardedChannel,), {"stalled_s": guards.stalled_s})
