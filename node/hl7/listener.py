"""Where HL7 messages come in: connections, each with a thread of its own, bounds on all that a peer may take."""

import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from threading import Lock, Thread
from time import monotonic
from typing import Protocol

from node.errors import MessageFraming, Misconfigured, NodeError
from node.hl7.framing import Deframer, frame
from node.networks import Network, is_allowed, is_loopback, open_listener

logger = logging.getLogger(__name__)

BACKLOG = 64
CHUNK_BYTES = 65_536
# The listener looks so often whether it is to end; seconds.
POLL_S = 0.5
STOP_S = 10.0
LEAST_WAIT_S = 0.001


class Desk(Protocol):
    """Who answers."""

    def answer(self, encoded: bytes, *, peer: str) -> Sequence[bytes]:
        """Return what is answered to a message, after what follows is durable."""

    def complain(self, error: NodeError, *, peer: str) -> Sequence[bytes]:
        """Return what is answered to something that is no message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How much a peer may take.

    Attributes
    ----------
    networks
        Who may connect; empty: anybody who reaches the address.
    max_connections
        At a time; with one more, the one that has been silent longest must go.
    max_bytes
        Of one message.
    message_s
        How long one message may take from its first byte to its last, and one answer; seconds.
    """

    bind: str
    port: int
    networks: Sequence[Network]
    max_connections: int
    max_bytes: int
    message_s: float


class Listener:
    """Listens for messages; handed a `Desk` that answers them.

    Raises
    ------
    Misconfigured
        If anybody in the network could send, by `start`.
    """

    def __init__(self, terms: Terms, desk: Desk, *, tls: ssl.SSLContext | None) -> None:
        self._terms = terms
        self._desk = desk
        self._tls = tls
        self._lock = Lock()
        self._visits: list[Visit] = []
        self._is_over = False
        self._thread = Thread(target=self._run, name="hl7", daemon=True)

    def start(self) -> tuple[str, int]:
        """Listen; return address and port.

        Raises
        ------
        Misconfigured
            If the port is taken, or anybody in the network could send.
        """
        terms = self._terms
        require_guarded(terms.bind, terms.networks)
        self._socket = open_listener(terms.bind, terms.port, section="hl7", backlog=BACKLOG)
        self._socket.settimeout(POLL_S)
        address: tuple[str, int] = self._socket.getsockname()[:2]
        self._thread.start()
        return address

    def stop(self) -> None:
        """Take no other message; what is in hand is answered before this returns."""
        self._is_over = True
        if not self._thread.is_alive():
            return
        self._thread.join()
        with self._lock:
            visits = list(self._visits)
        for visit in visits:
            visit.leave()
        ends_s = monotonic() + STOP_S
        for visit in visits:
            visit.thread.join(max(0.0, ends_s - monotonic()))

    def _run(self) -> None:
        with closing(self._socket):
            while not self._is_over:
                with suppress(TimeoutError):
                    connection, address = self._socket.accept()
                    self._receive(connection, str(address[0]))

    def _receive(self, connection: socket.socket, peer: str) -> None:
        if not is_allowed(peer, self._terms.networks):
            logger.warning("connection refused", extra={"peer": peer})
            connection.close()
            return
        visit = Visit(connection, peer, self._leave)
        visit.thread = Thread(target=self._serve, args=(visit,), name="hl7-visit", daemon=True)
        with self._lock:
            self._visits.append(visit)
            others = [one for one in self._visits if not one.is_leaving]
            crowd = len(others) - self._terms.max_connections
            for one in sorted(others[:-1], key=lambda one: one.heard_s)[: max(0, crowd)]:
                logger.warning("connection ended", extra={"peer": one.peer})
                one.leave()
        visit.thread.start()

    def _leave(self, visit: "Visit") -> None:
        with self._lock:
            self._visits.remove(visit)

    def _serve(self, visit: "Visit") -> None:
        with visit, suppress(OSError):
            self._converse(visit)

    def _converse(self, visit: "Visit") -> None:
        visit.connection.settimeout(self._terms.message_s)
        if self._tls is not None and not visit.secure(self._tls):
            return
        deframer = Deframer(max_bytes=self._terms.max_bytes)
        while not visit.is_leaving:
            try:
                content = self._read(visit, deframer)
                if not content:
                    return
                for message in deframer.feed(content):
                    visit.begun_s = monotonic()
                    self._send(visit, self._desk.answer(message, peer=visit.peer))
            except MessageFraming as exc:
                # Where the next one begins is not known any more.
                self._send(visit, self._desk.complain(exc, peer=visit.peer))
                return

    def _read(self, visit: "Visit", deframer: Deframer) -> bytes:
        """Return what comes next; between two messages a peer may be silent as long as nobody needs its place."""
        if not deframer.is_inside:
            visit.connection.settimeout(None)
            content = visit.connection.recv(CHUNK_BYTES)
            visit.begun_s = visit.heard_s = monotonic()
            return content
        left_s = visit.begun_s + self._terms.message_s - monotonic()
        try:
            # Zero would mean not to wait at all, which fails otherwise.
            visit.connection.settimeout(max(left_s, LEAST_WAIT_S))
            return visit.connection.recv(CHUNK_BYTES)
        except TimeoutError as exc:
            raise MessageFraming(f"the message did not end within {self._terms.message_s:g} s") from exc

    def _send(self, visit: "Visit", answers: Sequence[bytes]) -> None:
        visit.connection.settimeout(self._terms.message_s)
        for answer in answers:
            visit.connection.sendall(frame(answer))


def require_guarded(bind: str, networks: Sequence[Network]) -> None:
    """Return where not anybody could send.

    Raises
    ------
    Misconfigured
        If the address lets the network in, and nobody is named who may.
    """
    if not networks and not is_loopback(bind):
        raise Misconfigured(f"hl7.bind {bind} lets the network in and hl7.allowed_networks is empty; list who may send")


class Visit:
    """One connection; a context manager that closes it.

    Attributes
    ----------
    heard_s, begun_s
        When something came last, and when the message in hand began, by `time.monotonic`.
    """

    def __init__(self, connection: socket.socket, peer: str, left: Callable[["Visit"], None]) -> None:
        self.connection = connection
        self.peer = peer
        self.thread = Thread()
        self.is_leaving = False
        self.heard_s = self.begun_s = monotonic()
        self._left = left

    def __enter__(self) -> "Visit":
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection, and be counted no more."""
        self.connection.close()
        self._left(self)

    def secure(self, context: ssl.SSLContext) -> bool:
        """Go on by TLS; return whether both agreed on it."""
        try:
            self.connection = context.wrap_socket(self.connection, server_side=True)
        except OSError as exc:
            logger.warning("tls handshake failed", extra={"peer": self.peer, "error_type": type(exc).__name__})
            return False
        return True

    def leave(self) -> None:
        """Take no other message; one that is in hand is answered."""
        self.is_leaving = True
        # Who waits for a message is woken; an answer is still sent.
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)
