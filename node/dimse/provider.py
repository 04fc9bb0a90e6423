"""pynetdicom's Upper Layer provider, with the receive lane inside and waits instead of pauses."""

import os
import queue
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock
from time import monotonic
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket

from node.dimse.buffer import ReceiveBuffer
from node.dimse.command import Command, command_pdus
from node.dimse.lane import Lane, Outcome, Sink
from node.logs import log_context

ESTABLISHED = "Sta6"
AWAITING_CLOSE = "Sta13"
CONNECTION_CLOSED = "Evt17"
INVALID_PDU = "Evt19"
# pynetdicom's timers are looked at so often when nothing else happens.
SWEEP_S = 1.0
# A message must come at this rate at least, after its first `timeout_s`; no link between hospitals is slower.
MIN_BYTES_PER_S = 4096


class Doorbell(Event):
    """Stands for the Event at which pynetdicom's reactor waits once in each round; else it turns 1,000 times a second.

    `wait` also waits for a ring, or for `SWEEP_S`; whatever the reactor looks at rings.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rung = Event()

    def ring(self) -> None:
        """Let the reactor make one round."""
        self._rung.set()

    def set(self) -> None:
        """Open the gate, and ring."""
        super().set()
        self._rung.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Return after a ring, and when the gate is open."""
        self._rung.wait(SWEEP_S)
        self._rung.clear()
        return super().wait(timeout)


class RingingQueue(queue.Queue[Any]):
    """A queue that rings when something is put into it."""

    def __init__(self, bell: Doorbell) -> None:
        super().__init__()
        self._bell = bell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put `item` into the queue, and ring."""
        super().put(item, block, timeout)
        self._bell.ring()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a connection may cost.

    Attributes
    ----------
    max_pdu_bytes
        Longest PDU of any type, bytes.
    timeout_s
        Within which a PDU must be complete, from its first byte on, seconds.
    deadline_s
        Until which the A-ASSOCIATE-RQ must have come, on the clock of `time.monotonic`.
    """

    max_pdu_bytes: int
    timeout_s: float
    deadline_s: float


class GuardedSocket(AssociationSocket):
    """Reads whole PDUs only, of bounded length, before a deadline; what the lane has received comes first."""

    def __init__(self, assoc: Association, connection: socket.socket, limits: Limits) -> None:
        self.buffer = ReceiveBuffer()
        self.timeout_s = limits.timeout_s
        self._max_pdu_bytes = limits.max_pdu_bytes
        self._deadline_s: float | None = limits.deadline_s
        super().__init__(assoc, client_socket=connection)

    @property
    def ready(self) -> bool:
        """Whether something can be read at once."""
        if len(self.buffer):
            return True
        if self.socket is None or not self._is_connected:
            return False
        # select(), which pynetdicom uses, fails from descriptor 1,024 on.
        watch = select.poll()
        try:
            watch.register(self.socket, select.POLLIN)
            return bool(watch.poll(0))
        except (OSError, ValueError):
            self.event_queue.put(CONNECTION_CLOSED)
            return False

    def established(self) -> None:
        """Lift the deadline that counts from the connection on."""
        self._deadline_s = None

    def recv(self, nr_bytes: int) -> bytearray:
        """Return `nr_bytes` bytes, or fewer when the peer closed the connection.

        Raises
        ------
        OSError
            If the PDU is longer than we announced, or does not come in time.
        """
        if nr_bytes > self._max_pdu_bytes:
            raise OSError(f"PDU of {nr_bytes} bytes, {self._max_pdu_bytes} are allowed")
        connection = self.socket
        if connection is None:
            return bytearray()
        deadline = monotonic() + self.timeout_s
        if self._deadline_s is not None:
            deadline = min(deadline, self._deadline_s)
        buffer = bytearray(nr_bytes)
        view = memoryview(buffer)
        filled = self.buffer.take_into(view)
        while filled < nr_bytes:
            # A peer that sends a byte now and then must not live for ever.
            connection.settimeout(max(deadline - monotonic(), 0.001))
            count = connection.recv_into(view[filled:])
            if not count:
                break
            filled += count
        connection.settimeout(self.timeout_s)
        return bytearray(view[:filled]) if filled < nr_bytes else buffer

    def _shutdown_socket(self) -> None:
        connection = self.socket
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


class LaneProvider(DULServiceProvider):
    """Runs pynetdicom's state machine, and the lane while an Association is established.

    Parameters
    ----------
    begin
        Begins to receive the data set of a C-STORE that came in the Presentation Context of this ID.
    association_id
        For the log.
    """

    def __init__(
        self, assoc: Association, bell: Doorbell, begin: Callable[[Command, int], Sink], association_id: str
    ) -> None:
        super().__init__(assoc)
        self._bell = bell
        self._begin = begin
        self._association_id = association_id
        self._lane: Lane | None = None
        self._is_serving = False
        # Which message is under way, when it began, and when its last bytes came; for `_patience_s`.
        self._message = -1
        self._begun_s = self._heard_s = 0.0
        # The wait is in `_wait`, and ends when something happens.
        self._run_loop_delay = 0
        # By the time of a late `wake` the descriptor could be somebody else's.
        self._wake_lock = Lock()
        self._wake_descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._watch = select.poll()
        self._watch.register(self._wake_descriptor, select.POLLIN)
        self._watched = False
        self.to_user_queue = RingingQueue(bell)

    def run_reactor(self) -> None:
        """Run until the connection is over, with the Association's id in every line of the log."""
        with log_context(association=self._association_id):
            try:
                super().run_reactor()
            finally:
                if self._lane is not None:
                    self._lane.close()
                self._guarded_socket.buffer.release()
                with self._wake_lock:
                    os.close(self._wake_descriptor)
                    self._wake_descriptor = -1
                self._bell.ring()

    def wake(self) -> None:
        """End the wait for the peer: there is something else to do."""
        with self._wake_lock:
            if self._wake_descriptor >= 0:
                os.eventfd_write(self._wake_descriptor, 1)

    def send_pdu(self, primitive: Any) -> None:
        """Queue a primitive for the peer."""
        super().send_pdu(primitive)
        self.wake()

    def kill_dul(self) -> None:
        """End the reactor."""
        super().kill_dul()
        self.wake()

    def stop_dul(self) -> bool:
        """End the reactor if it is idle; returns whether it was."""
        self.wake()
        return bool(super().stop_dul())

    def idle_timer_expired(self) -> bool:
        """Return whether the peer was silent for too long; while we store, it is we who are silent."""
        return not self._is_serving and bool(super().idle_timer_expired())

    def is_accepted(self, context_id: int) -> bool:
        """Return whether `context_id` names an accepted Presentation Context."""
        return context_id in self.assoc._accepted_cx

    def begin(self, request: Command, context_id: int) -> Sink:
        """Begin to receive the data set of a C-STORE."""
        return self._begin(request, context_id)

    def respond(self, response: bytes, context_id: int) -> None:
        """Send the Command Set of a response, in one piece."""
        encoded = command_pdus(context_id, response, max_pdu_bytes=self.assoc.requestor.maximum_length or 0)
        self._connection().sendall(encoded)

    def _is_transport_event(self) -> bool:
        if not self.event_queue.empty():
            return False
        state = self.state_machine.current_state
        if state == ESTABLISHED:
            return self._run_lane()
        if state != AWAITING_CLOSE and not self._guarded_socket.ready:
            self._wait(SWEEP_S)
        return bool(super()._is_transport_event())

    @property
    def _guarded_socket(self) -> GuardedSocket:
        # `GuardedHandler` sets no other kind.
        return cast(GuardedSocket, self.socket)

    def _connection(self) -> socket.socket:
        connection = self._guarded_socket.socket
        if connection is None:
            raise OSError("the connection is closed")
        return connection

    def _run_lane(self) -> bool:
        if self._lane is None:
            self._guarded_socket.established()
            self._lane = Lane(
                self._guarded_socket.buffer, self, max_pdu_bytes=self.assoc.acceptor.maximum_length or 2**32
            )
        try:
            outcome = self._receive(self._lane)
        except OSError:
            self.event_queue.put(CONNECTION_CLOSED)
            return True
        match outcome:
            case Outcome.MORE:
                return False
            case Outcome.OTHER_PDU:
                self._read_pdu_data()
            case Outcome.OTHER_MESSAGE:
                self._pass_on(self._lane.take_message())
            case Outcome.INVALID:
                self.event_queue.put(INVALID_PDU)
        return True

    def _receive(self, lane: Lane) -> Outcome:
        """Return `MORE` only when the state machine has to look at its queues."""
        buffer = self._guarded_socket.buffer
        while True:
            outcome = self._advance(lane)
            if outcome is not Outcome.MORE or self._kill_thread or not self.to_provider_queue.empty():
                return outcome
            patience_s = self._patience_s(lane)
            if patience_s <= 0:
                return Outcome.INVALID
            if self._wait(patience_s):
                if not buffer.fill(self._connection()):
                    raise OSError("the peer closed the connection")
                self._heard_s = monotonic()
                self._idle_timer.restart()
            elif lane.is_idle:
                return outcome

    def _advance(self, lane: Lane) -> Outcome:
        self._is_serving = True
        try:
            return lane.advance()
        finally:
            self._is_serving = False

    def _patience_s(self, lane: Lane) -> float:
        now = monotonic()
        if lane.is_idle or lane.messages != self._message:
            self._message, self._begun_s, self._heard_s = lane.messages, now, now
        if lane.is_idle:
            return SWEEP_S
        timeout_s = self._guarded_socket.timeout_s
        allowed_s = timeout_s + lane.message_bytes / MIN_BYTES_PER_S
        return min(self._heard_s + timeout_s, self._begun_s + allowed_s) - now

    def _pass_on(self, encoded: bytes) -> None:
        pdu, event = self._decode_pdu(bytearray(encoded))
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)

    def _wait(self, timeout_s: float) -> bool:
        """Return whether the socket can be read; False when woken, or when the time is over."""
        if not self._watched:
            self._watch.register(self._connection(), select.POLLIN)
            self._watched = True
        ready = dict(self._watch.poll(max(timeout_s, 0.0) * 1000))
        if self._wake_descriptor in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake_descriptor)
            # What wakes us comes before what the peer sends.
            return False
        return bool(ready)
