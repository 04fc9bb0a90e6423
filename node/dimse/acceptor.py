"""The guards around pynetdicom's acceptor: bounded in bytes, seconds and number, and counted until they are over.

What is used of pynetdicom beyond its documentation is listed in `node.dimse.internals`. The documented way deep-copies
170 contexts of 45 Transfer Syntaxes per Association (130-200 ms), reads in pieces of 4 KB without limit or deadline,
leaves a socket open that the peer closed first, gives no answer to a C-STORE that lacks a UID, and counts silent
connections as Associations.
"""

import gc
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ssl import SSLContext
from threading import Condition
from time import monotonic
from typing import Any, Protocol, cast

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation

from node.dimse.channel import (
    Answered,
    Arrived,
    Channel,
    Committed,
    Drain,
    Ended,
    Message,
    Orphaned,
    Ready,
    Requested,
    Unwanted,
    Vacated,
)
from node.dimse.command import Command
from node.dimse.connection import GuardedSocket, Limits
from node.dimse.doorbell import Doorbell, RingingQueue
from node.dimse.lane import Sink
from node.dimse.negotiation import HouseRules, Refusal, judge_request
from node.dimse.provider import LaneProvider
from node.errors import Broken
from node.logs import log_context
from node.tls import explain

logger = logging.getLogger(__name__)

# An A-ASSOCIATE-RQ with 128 contexts of 45 Transfer Syntaxes has 0.2 MB; nothing else may pass our maximum length.
MAX_ASSOCIATE_BYTES = 2**20
# How long the gate may take to answer; it needs far less.
ANSWER_S = 5.0
# What an abort may take to be over.
ABORT_S = 2.0
# Quiet after which pynetdicom's garbage is collected.
COLLECT_AFTER_S = 60.0
DEFAULT_TIMEOUT_S = 60.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one Association has done so far; it becomes one line of the log."""

    association_id: str
    begun_s: float = field(default_factory=monotonic)
    calling_aet: str = ""
    called_aet: str = ""
    is_admitted: bool = False
    stored: int = 0
    refused: int = 0
    received_bytes: int = 0


class Callbacks(Protocol):
    """Who is told what happens to an Association."""

    def bindings(self) -> list[tuple[evt.EventType, Callable[..., Any]]]:
        """Return which handler serves which event of pynetdicom."""

    def begin(self, assoc: "GuardedAssociation", request: Command, context_id: int) -> Sink:
        """Begin to receive the data set of a C-STORE."""

    def tls_failed(self, assoc: "GuardedAssociation", why: str) -> None:
        """Take note that the peer of `assoc` spoke, and no TLS connection came of it."""

    def ended(self, assoc: "GuardedAssociation") -> None:
        """Take note that `assoc` is over."""

    def orphaned(self, association_id: str) -> None:
        """Take note that an Association is over that another receiver had."""


class GuardedAssociation(Association):
    """An Association that tells when it is over, exactly once, after its last message was served."""

    def __init__(self, server: "GuardedServer", association_id: str) -> None:
        super().__init__(server.ae, MODE_ACCEPTOR)
        self.tally = Tally(association_id=association_id)
        self.server = server
        bell = Doorbell()
        bell.set()
        self._reactor_checkpoint = bell
        # Why it is none, once its A-ASSOCIATE-RQ has come.
        self.refusal: Refusal | None = None
        self._provider = LaneProvider(self, bell, self._begin, self.tally.association_id, self._screen)
        self.dul = self._provider
        self.dimse.msg_queue = RingingQueue(bell)
        # They set the timers of the provider, which is a new one.
        self.acse_timeout = self.ae.acse_timeout
        self.network_timeout = self.ae.network_timeout

    def run_reactor(self) -> None:
        """Run until the Association is over, with its id in every line of the log."""
        with log_context(association=self.tally.association_id):
            try:
                if self._is_secured():
                    super().run_reactor()
                else:
                    self._provider.let_go()
            finally:
                if isinstance(self.dul.socket, GuardedSocket):
                    self.dul.socket._shutdown_socket()
                self.server.forget(self)

    def _is_secured(self) -> bool:
        """Return whether the peer may ask: where TLS is wanted, after a handshake that counts into its time to ask."""
        context, guarded = self.server.tls, self.dul.socket
        if context is None or not isinstance(guarded, GuardedSocket):
            return True
        try:
            is_secured = guarded.secure(context)
        except OSError as exc:
            self.server.callbacks.tls_failed(self, explain(exc))
            return False
        self.acse_timeout = guarded.left_s
        return is_secured

    @property
    def has_babbled(self) -> bool:
        """Whether the peer said something, and it was no A-ASSOCIATE-RQ."""
        spoken = self.dul.socket
        return self.requestor.primitive is None and isinstance(spoken, GuardedSocket) and spoken.has_hung_up

    @property
    def guarded_socket(self) -> GuardedSocket:
        """The connection; nobody sets another kind."""
        return cast(GuardedSocket, self.dul.socket)

    def _begin(self, request: Command, context_id: int) -> Sink:
        return self.server.callbacks.begin(self, request, context_id)

    def _screen(self, encoded: bytes) -> bytes:
        verdict = judge_request(encoded, self.server.rules)
        self.refusal = verdict.refusal
        self.guarded_socket.choices = verdict.choices
        self.guarded_socket.role = verdict.role
        return verdict.encoded


class GuardedServer:
    """Serves the connections that come over a channel, and says when the last Association is over.

    It does what pynetdicom's own server does, which would bind a port for itself.
    """

    def __init__(
        self,
        ae: ApplicationEntity,
        channel: Channel,
        callbacks: Callbacks,
        rules: HouseRules,
        tls: SSLContext | None = None,
    ) -> None:
        self.ae = ae
        self.tls = tls
        self.callbacks = callbacks
        self.rules = rules
        self.timeout_s = ae.network_timeout or DEFAULT_TIMEOUT_S
        self._channel = channel
        self._open: dict[str, GuardedAssociation] = {}
        # What the gate has answered to those that ask to become an Association.
        self._answers: dict[str, bool] = {}
        self._is_closing = False
        self._is_tidy = True
        self._changed = Condition()

    def serve(self) -> float:
        """Serve until the gate says Drain, or is gone; return how long Associations may go on, seconds."""
        # A gate that is gone already is found by the first look.
        with suppress(OSError):
            self._channel.send(Ready())
        while True:
            try:
                received = self._channel.receive(COLLECT_AFTER_S)
            except TimeoutError:
                self._tidy_up()
                continue
            if received is None:
                return 0.0
            message, connection = received
            if isinstance(message, Drain):
                return message.timeout_s
            self._heed(message, connection)

    def admit(self, assoc: GuardedAssociation) -> bool:
        """Return whether the gate lets `assoc` become an Association; it counts them over all receivers."""
        key = assoc.tally.association_id
        with suppress(OSError):
            self._channel.send(Requested(association_id=key))
        with self._changed:
            self._changed.wait_for(lambda: key in self._answers or self._is_closing, ANSWER_S)
            assoc.tally.is_admitted = self._answers.pop(key, False)
        return assoc.tally.is_admitted

    def forget(self, assoc: GuardedAssociation) -> None:
        """Tell that `assoc` is over, then stop counting it."""
        try:
            self.callbacks.ended(assoc)
        finally:
            self._drop(assoc.tally.association_id)

    def drain(self, timeout_s: float) -> None:
        """Return when every Association is over: wait at most `timeout_s`, then abort those that are left."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not any(a.tally.is_admitted for a in self._open.values()), timeout_s)
            left = list(self._open.values())
        for assoc in left:
            if assoc.tally.is_admitted and not assoc.is_released:
                assoc.abort(block=False)
            else:
                _close(assoc)
        with self._changed:
            self._changed.wait_for(lambda: not self._open, ABORT_S)

    def _heed(self, message: Message, connection: socket.socket | None) -> None:
        match message:
            case Arrived():
                self._take(message, connection)
            case Answered():
                with self._changed:
                    if message.association_id in self._open:
                        self._answers[message.association_id] = message.is_admitted
                        self._changed.notify_all()
            case Unwanted():
                with self._changed:
                    assoc = self._open.get(message.association_id)
                if assoc is not None:
                    _close(assoc)
            case Orphaned():
                self.callbacks.orphaned(message.association_id)
            case Drain() | Ready() | Requested() | Vacated() | Ended() | Committed():
                raise Broken(f"{type(message).__name__} is no message for a receiver")

    def _take(self, arrived: Arrived, connection: socket.socket | None) -> None:
        if connection is None:
            logger.error("connection lost", extra={"peer": arrived.host, "outcome": "no descriptor left"})
            self._drop(arrived.association_id)
            return
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(self.timeout_s)
            self._associate(connection, arrived).start()
        except (OSError, RuntimeError):
            # No thread or no descriptor is left for it; the others go on.
            logger.exception("connection lost", extra={"peer": arrived.host})
            connection.close()
            self._drop(arrived.association_id)

    def _associate(self, connection: socket.socket, arrived: Arrived) -> GuardedAssociation:
        assoc = GuardedAssociation(self, arrived.association_id)
        assoc.name = f"AcceptorThread@{arrived.association_id}"
        limits = Limits(
            max_pdu_bytes=max(self.ae.maximum_pdu_size, MAX_ASSOCIATE_BYTES),
            timeout_s=self.timeout_s,
            deadline_s=assoc.tally.begun_s + (self.ae.acse_timeout or DEFAULT_TIMEOUT_S),
        )
        assoc.set_socket(GuardedSocket(assoc, connection, limits))
        assoc.acceptor.maximum_length = self.ae.maximum_pdu_size
        assoc.acceptor.ae_title = self.ae.ae_title
        assoc.acceptor.address_info = AddressInformation.from_tuple(connection.getsockname())
        assoc.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self.ae.implementation_version_name
        assoc.requestor.address_info = AddressInformation(arrived.host, arrived.port)
        for event, handler in self.callbacks.bindings():
            assoc.bind(event, handler)
        for event in (evt.EVT_RELEASED, evt.EVT_ABORTED):
            assoc.bind(event, self._vacate, [arrived.association_id])
        with self._changed:
            self._open[arrived.association_id] = assoc
            self._is_tidy = False
        return assoc

    def _vacate(self, _event: evt.Event, association_id: str) -> None:
        with suppress(OSError):
            self._channel.send(Vacated(association_id=association_id))

    def _drop(self, association_id: str) -> None:
        with self._changed:
            self._open.pop(association_id, None)
            self._answers.pop(association_id, None)
            self._changed.notify_all()
        # The gate may be gone; then nobody counts.
        with suppress(OSError):
            self._channel.send(Ended(association_id=association_id))

    def _tidy_up(self) -> None:
        """Collect what dead Associations have left, but not while one is open: it would stop all threads for long."""
        if not self._open and not self._is_tidy:
            gc.collect()
            self._is_tidy = True


def _close(assoc: GuardedAssociation) -> None:
    if isinstance(assoc.dul.socket, GuardedSocket):
        assoc.dul.socket.cut()
