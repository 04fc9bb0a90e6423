"""The guards around pynetdicom's acceptor: bounded in bytes, seconds and number, and counted until they are over.

What is used of pynetdicom beyond its documentation is listed in `node.dimse.internals`. The documented way deep-copies
170 contexts of 45 Transfer Syntaxes per Association (130-200 ms), reads in pieces of 4 KB without limit or deadline,
leaves a socket open that the peer closed first, gives no answer to a C-STORE that lacks a UID, and counts silent
connections as Associations.
"""

import logging
import socket
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition
from time import monotonic
from typing import Any, Protocol
from uuid import uuid4

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AssociationServer, RequestHandler

from node.dimse.command import Command
from node.dimse.lane import Sink
from node.dimse.provider import Doorbell, GuardedSocket, LaneProvider, Limits, RingingQueue
from node.logs import log_context

logger = logging.getLogger(__name__)

# An A-ASSOCIATE-RQ with 128 contexts of 45 Transfer Syntaxes has 0.2 MB; nothing else may pass our maximum length.
MAX_ASSOCIATE_BYTES = 2**20
# Connections that have not become an Association yet, beyond those that may.
MAX_WAITING = 64
BACKLOG = 128
# Rounds of the accepting thread without an Association after which pynetdicom collects garbage.
COLLECT_AFTER_ROUNDS = 600
DEFAULT_TIMEOUT_S = 60.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one Association has done so far; it becomes one line of the log."""

    association_id: str = field(default_factory=lambda: uuid4().hex)
    begun_s: float = field(default_factory=monotonic)
    calling_aet: str = ""
    called_aet: str = ""
    is_admitted: bool = False
    stored: int = 0
    refused: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many Associations there may be at a time.

    Attributes
    ----------
    associations
        In all.
    per_peer
        From one address.
    """

    associations: int
    per_peer: int


class Callbacks(Protocol):
    """Who is told what happens to an Association."""

    def bindings(self) -> list[tuple[evt.EventType, Callable[..., Any]]]:
        """Return which handler serves which event of pynetdicom."""

    def begin(self, assoc: "GuardedAssociation", request: Command, context_id: int) -> Sink:
        """Begin to receive the data set of a C-STORE."""

    def ended(self, assoc: "GuardedAssociation") -> None:
        """Take note that `assoc` is over."""


class GuardedAssociation(Association):
    """An Association that tells when it is over, exactly once, after its last message was served."""

    def __init__(self, server: "GuardedServer") -> None:
        super().__init__(server.ae, MODE_ACCEPTOR)
        self.tally = Tally()
        self.server = server
        self._server = server
        bell = Doorbell()
        bell.set()
        self._reactor_checkpoint = bell
        self.dul = LaneProvider(self, bell, self._begin, self.tally.association_id)
        self.dimse.msg_queue = RingingQueue(bell)
        # They set the timers of the provider, which is a new one.
        self.acse_timeout = self.ae.acse_timeout
        self.network_timeout = self.ae.network_timeout

    def run_reactor(self) -> None:
        """Run until the Association is over, with its id in every line of the log."""
        with log_context(association=self.tally.association_id):
            try:
                super().run_reactor()
            finally:
                self.server.forget(self)

    def _begin(self, request: Command, context_id: int) -> Sink:
        return self.server.callbacks.begin(self, request, context_id)


class GuardedHandler(RequestHandler):
    """Makes a `GuardedAssociation` of a connection."""

    server: "GuardedServer"

    def _create_association(self) -> GuardedAssociation:
        server = self.server
        assoc = GuardedAssociation(server)
        assoc.name = f"AcceptorThread@{assoc.tally.association_id}"
        deadline_s = assoc.tally.begun_s + (server.ae.acse_timeout or DEFAULT_TIMEOUT_S)
        limits = Limits(
            max_pdu_bytes=max(server.ae.maximum_pdu_size, MAX_ASSOCIATE_BYTES),
            timeout_s=server.timeout_s,
            deadline_s=deadline_s,
        )
        assoc.set_socket(GuardedSocket(assoc, self.request, limits))
        assoc.acceptor.maximum_length = self.ae.maximum_pdu_size
        assoc.acceptor.ae_title = server.ae_title
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self.ae.implementation_version_name
        assoc.requestor.address_info = self.remote
        for event, handler in server.callbacks.bindings():
            assoc.bind(event, handler)
        server.remember(assoc)
        return assoc


class GuardedServer(AssociationServer):
    """Accepts connections, counts them, and says when the last Association is over."""

    request_queue_size = BACKLOG

    def __init__(
        self, ae: ApplicationEntity, address: tuple[str, int], callbacks: Callbacks, capacity: Capacity
    ) -> None:
        self.callbacks = callbacks
        self.timeout_s = ae.network_timeout or DEFAULT_TIMEOUT_S
        self._capacity = capacity
        self._open: set[GuardedAssociation] = set()
        self._changed = Condition()
        # No contexts here: each Association is given those that it asks for.
        super().__init__(ae, address, ae.ae_title, [], request_handler=GuardedHandler)
        self._gc = [0, COLLECT_AFTER_ROUNDS]

    def service_actions(self) -> None:
        """Collect what dead Associations have left, but not while one is open: it would stop all threads for long."""
        if not self._open:
            super().service_actions()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Return the next connection; it answers at once and never blocks without end."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self.timeout_s)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 the signature is socketserver's
        """Return False, which closes the connection, when too many are open."""
        with self._changed:
            return len(self._open) < self._capacity.associations + MAX_WAITING

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 the signature is socketserver's
        """Log that a connection could not become an Association; the others go on."""
        logger.error("connection lost", exc_info=sys.exc_info())

    def admit(self, assoc: GuardedAssociation) -> bool:
        """Return whether `assoc` may be one of the parallel Associations, and count it if so."""
        with self._changed:
            hosts = Counter(other.requestor.address for other in self._open if other.tally.is_admitted)
            has_room = hosts.total() < self._capacity.associations
            assoc.tally.is_admitted = has_room and hosts[assoc.requestor.address] < self._capacity.per_peer
            return assoc.tally.is_admitted

    def remember(self, assoc: GuardedAssociation) -> None:
        """Count `assoc` among the open connections."""
        with self._changed:
            self._open.add(assoc)

    def forget(self, assoc: GuardedAssociation) -> None:
        """Tell that `assoc` is over, then stop counting it."""
        try:
            self.callbacks.ended(assoc)
        finally:
            with self._changed:
                self._open.discard(assoc)
                self._changed.notify_all()

    def shutdown(self) -> None:
        """Stop accepting connections; open Associations go on."""
        super(AssociationServer, self).shutdown()
        self.server_close()

    def drain(self, timeout_s: float) -> None:
        """Wait until every Association is over, at most `timeout_s`, then abort those that are left."""
        with self._changed:
            self._changed.wait_for(lambda: not any(a.tally.is_admitted for a in self._open), timeout_s)
            left = list(self._open)
        for assoc in left:
            if assoc.tally.is_admitted:
                assoc.abort(block=False)
            elif isinstance(assoc.dul.socket, GuardedSocket):
                assoc.dul.socket.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._open, timeout_s)
