"""pynetdicom's Upper Layer provider, with the receive lane inside and waits instead of pauses."""

import logging
import os
import queue
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine

from node.dimse.command import C_ECHO_RQ, UNRECOGNIZED_OPERATION, Command, command_pdus, data_set_pdus
from node.dimse.connection import CONNECTION_CLOSED, INVALID_PDU, GuardedSocket
from node.dimse.contexts import is_offered
from node.dimse.doorbell import SWEEP_S, Doorbell, RingingQueue
from node.dimse.lane import Lane, Outcome, Sink
from node.dimse.line import Line
from node.dimse.negotiation import A_ASSOCIATE_RQ
from node.dimse.timer import SteadyTimer
from node.logs import log_context

logger = logging.getLogger(__name__)

ESTABLISHED = "Sta6"
AWAITING_REQUEST = "Sta2"
AWAITING_ANSWER = "Sta3"
AWAITING_CLOSE = "Sta13"
A_ABORT = 0x07
# A-ASSOCIATE response, P-DATA, A-RELEASE and A-ABORT of our own side (PS3.8 table 9-10).
OUR_REQUESTS = frozenset({"Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})
# What is announced and does not begin for so long of the time that a peer has, is empty; 5 s of the usual 30.
EMPTY_AFTER = 1 / 6
# A message must come at this rate at least, after its first `timeout_s`; no link between hospitals is slower.
MIN_BYTES_PER_S = 4096


class ForgivingMachine(StateMachine):
    """pynetdicom's state machine; what we have to say to a peer that is gone by then is dropped, and breaks nothing.

    Its thread would die of it, with the connection open: between our answer and its turn the peer may abort.
    """

    def do_action(self, event: str) -> None:
        """Do what PS3.8 9.2.3 says for `event` in the state at hand."""
        if event in OUR_REQUESTS and (event, self.current_state) not in TRANSITION_TABLE:
            with suppress(queue.Empty):
                self.dul.to_provider_queue.get_nowait()
            return
        super().do_action(event)


class LaneProvider(DULServiceProvider):
    """Runs pynetdicom's state machine, and the lane while an Association is established.

    Parameters
    ----------
    begin
        Begins to receive the data set of a C-STORE that came in the Presentation Context of this ID.
    association_id
        For the log.
    screen
        Judges an A-ASSOCIATE-RQ, and returns what pynetdicom is given instead of it.
    """

    def __init__(
        self,
        assoc: Association,
        bell: Doorbell,
        begin: Callable[[Command, int], Sink],
        association_id: str,
        screen: Callable[[bytes], bytes],
    ) -> None:
        super().__init__(assoc)
        # Whoever made the Association sets their seconds.
        self._idle_timer, self.artim_timer = SteadyTimer(None), SteadyTimer(None)
        self.state_machine = ForgivingMachine(self)
        self._bell = bell
        self._begin = begin
        self._screen = screen
        self._association_id = association_id
        self._lane: Lane | None = None
        self._line: Line | None = None
        self._is_serving = False
        self._has_refused = False
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
                self.let_go()
                # Ends the wait for an A-ASSOCIATE-RQ, which will not come any more.
                self.to_user_queue.put(None)

    def let_go(self) -> None:
        """Free what it holds: it has run, or never will."""
        if self._lane is not None:
            self._lane.close()
        if self._line is not None:
            self._line.close()
        self._guarded_socket.buffer.release()
        with self._wake_lock:
            os.close(self._wake_descriptor)
            self._wake_descriptor = -1

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
        """Return whether the peer was silent for too long; while we store, it is we who are silent.

        Whoever stops in the middle of a message has the patience of the lane, which ends otherwise.
        """
        is_between_messages = self._lane is None or self._lane.is_idle
        return is_between_messages and not self._is_serving and bool(super().idle_timer_expired())

    def is_accepted(self, context_id: int) -> bool:
        """Return whether `context_id` names an accepted Presentation Context."""
        choice = self._guarded_socket.choices.get(context_id)
        return choice is not None and choice.is_accepted

    def is_served(self, request: Command, context_id: int) -> bool:
        """Return whether `request` is what the Presentation Context was negotiated for."""
        sop_class_uid = self._guarded_socket.choices[context_id].abstract_syntax_uid
        if is_offered(request.command_field, sop_class_uid):
            return request.command_field != C_ECHO_RQ or request.sop_class_uid == sop_class_uid
        if not self._has_refused:
            # Once: the peer may ask as often as it likes.
            logger.warning("message refused", extra={"status": f"{UNRECOGNIZED_OPERATION:04X}"})
            self._has_refused = True
        return False

    def begin(self, request: Command, context_id: int) -> Sink:
        """Begin to receive the data set of a C-STORE."""
        return self._begin(request, context_id)

    def respond(self, response: bytes, context_id: int) -> None:
        """Send the Command Set of a response, in one piece."""
        encoded = command_pdus(context_id, response, max_pdu_bytes=self.assoc.requestor.maximum_length or 0)
        if self._line is not None:
            self._line.send(encoded)

    def send_data_set(self, encoded: bytes, context_id: int) -> None:
        """Send the data set of a response, in one piece."""
        pdus = data_set_pdus(context_id, encoded, max_pdu_bytes=self.assoc.requestor.maximum_length or 0)
        if self._line is not None:
            self._line.send(pdus)

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        if bytestream[0] == A_ASSOCIATE_RQ and self.state_machine.current_state == AWAITING_REQUEST:
            bytestream = bytearray(self._screen(bytes(bytestream)))
        elif bytestream[0] == A_ABORT:
            # Source and reason change nothing, and pynetdicom breaks at those that PS3.8 table 9-26 does not know.
            bytestream[8:10] = bytes(len(bytestream[8:10]))
        return cast(tuple[Any, str], super()._decode_pdu(bytestream))

    def _is_transport_event(self) -> bool:
        if not self.event_queue.empty():
            return False
        state = self.state_machine.current_state
        if state == ESTABLISHED:
            return self._run_lane()
        if state == AWAITING_ANSWER:
            # What the peer says before our answer comes after it; the answer would find another state (PS3.8 9.2).
            self._wait_for_us(SWEEP_S)
            return False
        if state == AWAITING_CLOSE:
            self._guarded_socket.hang_up()
            self.event_queue.put(CONNECTION_CLOSED)
            return True
        if not self._guarded_socket.ready:
            self._wait(SWEEP_S)
        return bool(super()._is_transport_event())

    @property
    def _guarded_socket(self) -> GuardedSocket:
        # `GuardedServer` sets no other kind.
        return cast(GuardedSocket, self.socket)

    def _connection(self) -> socket.socket:
        connection = self._guarded_socket.socket
        if connection is None:
            raise OSError("the connection is closed")
        return connection

    def _run_lane(self) -> bool:
        try:
            if self._lane is None or self._line is None:
                self._lane, self._line = self._open_lane()
            outcome = self._receive(self._lane, self._line)
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

    def _open_lane(self) -> tuple[Lane, Line]:
        guarded = self._guarded_socket
        guarded.established()
        guarded.buffer.open()
        line = Line(self._connection(), timeout_s=guarded.timeout_s)
        return Lane(guarded.buffer, self, max_pdu_bytes=self.assoc.acceptor.maximum_length or 2**32), line

    def _receive(self, lane: Lane, line: Line) -> Outcome:
        """Return `MORE` only when the state machine has to look at its queues."""
        buffer = self._guarded_socket.buffer
        while True:
            outcome = self._advance(lane)
            if outcome is not Outcome.MORE or self._kill_thread or not self.to_provider_queue.empty():
                return outcome
            if line.fill(buffer):
                self._heard_s = monotonic()
                self._idle_timer.restart()
                continue
            patience_s = self._patience_s(lane)
            if patience_s <= 0:
                if not lane.may_be_empty:
                    return Outcome.INVALID
                self._conclude(lane)
                continue
            if not self._wait(patience_s) and lane.is_idle:
                return outcome

    def _advance(self, lane: Lane) -> Outcome:
        self._is_serving = True
        try:
            return lane.advance()
        finally:
            self._is_serving = False

    def _conclude(self, lane: Lane) -> None:
        self._is_serving = True
        try:
            lane.conclude()
        finally:
            self._is_serving = False

    def _patience_s(self, lane: Lane) -> float:
        now = monotonic()
        if lane.is_idle or lane.messages != self._message:
            self._message, self._begun_s, self._heard_s = lane.messages, now, now
        if lane.is_idle:
            return SWEEP_S
        timeout_s = self._guarded_socket.timeout_s
        if lane.may_be_empty:
            return self._heard_s + timeout_s * EMPTY_AFTER - now
        allowed_s = timeout_s + lane.message_bytes / MIN_BYTES_PER_S
        return min(self._heard_s + timeout_s, self._begun_s + allowed_s) - now

    def _pass_on(self, encoded: bytes) -> None:
        pdu, event = self._decode_pdu(bytearray(encoded))
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)

    def _wait_for_us(self, timeout_s: float) -> None:
        """Return when woken, or when the time is over, whatever the peer says."""
        watch = select.poll()
        watch.register(self._wake_descriptor, select.POLLIN)
        watch.poll(timeout_s * 1000)
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_descriptor)

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
