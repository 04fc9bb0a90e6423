"""The receive lane: data sets of C-STORE requests go from the socket's buffer to whoever keeps them, never whole.

So do those of C-FIND requests and of normalized services. It parses P-DATA-TF PDUs of an established Association.
Every other PDU, and every other message that is served, is left to pynetdicom; a request that nobody serves is answered
here.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from node.dimse.buffer import ReceiveBuffer
from node.dimse.command import (
    C_CANCEL_RQ,
    C_FIND_RQ,
    C_STORE_RQ,
    IS_COMMAND,
    IS_LAST,
    IS_RESPONSE,
    MAX_COMMAND_BYTES,
    N_ACTION_RQ,
    N_CREATE_RQ,
    N_EVENT_REPORT_RQ,
    N_GET_RQ,
    N_SET_RQ,
    P_DATA_TF,
    PDU_HEADER,
    PDV_HEADER,
    PDV_OVERHEAD,
    UNRECOGNIZED_OPERATION,
    Command,
    Reply,
    p_data,
    parse_command,
    response_to,
)
from node.errors import NotDicom

# Whose data sets go to a `Sink`.
STREAMED = frozenset({
    C_STORE_RQ, C_FIND_RQ, N_EVENT_REPORT_RQ, N_GET_RQ, N_SET_RQ, N_ACTION_RQ, N_CREATE_RQ,
})  # fmt: skip
# Whose data set is an object.
NEVER_EMPTY = frozenset({C_STORE_RQ})
# Status of a response that brings a match (PS3.4 CC.2.8.4).
PENDING = 0xFF00
# The data set of any other message; the node offers no service that has one.
MAX_OTHER_BYTES = 64 * 1024
PDV_LENGTH_BYTES = 4
# Less than one writev() takes (IOV_MAX of Linux is 1,024), so that whoever keeps them may add some; also keeps a
# flood of tiny fragments from growing.
MAX_FRAGMENTS = 1000


class Outcome(Enum):
    """Why the lane stopped."""

    MORE = auto()  # everything that came is parsed
    OTHER_PDU = auto()  # a PDU of another type stands first in the buffer
    OTHER_MESSAGE = auto()  # `Lane.take_message` holds a message that is served and no C-STORE
    INVALID = auto()  # what came is no valid P-DATA-TF here; the Association must be aborted


class Sink(Protocol):
    """One data set under way; nothing of it raises, its `finish` tells how it went.

    Attributes
    ----------
    max_message_bytes
        Length beyond which nobody listens any more: the message has no end.
    """

    max_message_bytes: int

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next fragments; they are valid during the call only."""

    def finish(self) -> Reply:
        """Return how it ended; Success only after the Instance is durable."""

    def discard(self) -> None:
        """Forget it: the peer went, or broke the protocol."""


class Service(Protocol):
    """What the lane asks of the Association that it serves."""

    def is_accepted(self, context_id: int) -> bool:
        """Return whether `context_id` names an accepted Presentation Context."""

    def is_served(self, request: Command, context_id: int) -> bool:
        """Return whether `request` is what the Presentation Context was negotiated for."""

    def begin(self, request: Command, context_id: int) -> Sink:
        """Begin to receive the data set of a C-STORE, or of a normalized service."""

    def respond(self, response: bytes, context_id: int) -> None:
        """Send the Command Set of a response."""

    def send_data_set(self, encoded: bytes, context_id: int) -> None:
        """Send the data set of the response that was sent last."""


class Lane:
    """Parses what is in `buffer`, as far as it goes; everything it has seen is kept for the next call.

    Parameters
    ----------
    max_pdu_bytes
        Largest P-DATA-TF PDU that was announced, bytes.

    Attributes
    ----------
    messages
        Messages that are over.
    message_bytes
        What came of the message under way, bytes.

    References
    ----------
    DICOM PS3.8 9.3.5 and annex E
    """

    def __init__(self, buffer: ReceiveBuffer, service: Service, *, max_pdu_bytes: int) -> None:
        self._buffer = buffer
        self._service = service
        self._max_pdu_bytes = max_pdu_bytes
        self._pdu_left = 0
        # Bytes of the fragment at hand that have not come yet; None between two fragments.
        self._left: int | None = None
        self._control = 0
        self._context_id = 0
        self._command = bytearray()
        self._request: Command | None = None
        self._is_served = False
        self._sink: Sink | None = None
        self._other = bytearray()
        self._has_data = False
        self._fragments: list[memoryview] = []
        self.message_bytes = 0
        self.messages = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a PDU or message has come that is not answered yet."""
        return self._is_between_messages and not self._pdu_left and self._left is None and not len(self._buffer)

    @property
    def may_be_empty(self) -> bool:
        """Whether a request announced a data set of which nothing has come, and which may well be empty.

        pynetdicom announces an empty Attribute List like any other, and then sends none (PS3.7 6.3.1 knows no such
        message); it waits for the answer all the same.
        """
        request = self._request
        is_due = request is not None and request.has_data_set and request.command_field not in NEVER_EMPTY
        return (
            is_due
            and self._sink is not None
            and not self._has_data
            and not len(self._buffer)
            and not self._pdu_left
            and self._left is None
        )

    def conclude(self) -> None:
        """Serve the request of which the data set does not come, as if it were empty."""
        self._end_data_set()

    @property
    def _is_between_messages(self) -> bool:
        return self._request is None and not self._command

    def advance(self) -> Outcome:
        """Parse what is in the buffer, and return why it ended there."""
        outcome = None
        while outcome is None:
            outcome = self._step()
        # They point into the buffer, which is filled anew.
        self._flush()
        return outcome

    def take_message(self) -> bytes:
        """Return the P-DATA-TF PDUs of the message that `OTHER_MESSAGE` told of, in one whole PDU."""
        command, data_set = bytes(self._command), bytes(self._other)
        has_data_set = self._request is not None and self._request.has_data_set
        encoded = p_data(self._context_id, IS_COMMAND | IS_LAST, command)
        if has_data_set:
            second = p_data(self._context_id, IS_LAST, data_set)[PDU_HEADER.size :]
            body = encoded[PDU_HEADER.size :] + second
            encoded = PDU_HEADER.pack(P_DATA_TF, len(body)) + body
        self._forget()
        return encoded

    def close(self) -> None:
        """Forget what is under way; the Association is over."""
        self._fragments.clear()
        if self._sink is not None:
            self._sink.discard()
        self._forget()

    def _step(self) -> Outcome | None:
        if self._left is not None:
            return self._take_fragment()
        return self._open_fragment() if self._pdu_left else self._open_pdu()

    def _open_pdu(self) -> Outcome | None:
        buffer = self._buffer
        if len(buffer) < PDU_HEADER.size:
            return Outcome.MORE
        pdu_type, length = PDU_HEADER.unpack_from(buffer.view, buffer.start)
        if pdu_type != P_DATA_TF:
            return Outcome.OTHER_PDU
        if not PDV_HEADER.size <= length <= self._max_pdu_bytes:
            return Outcome.INVALID
        buffer.start += PDU_HEADER.size
        self._pdu_left = length
        return None

    def _open_fragment(self) -> Outcome | None:
        buffer = self._buffer
        if self._pdu_left < PDV_HEADER.size:
            return Outcome.INVALID
        if len(buffer) < PDV_HEADER.size:
            return Outcome.MORE
        length, context_id, control = PDV_HEADER.unpack_from(buffer.view, buffer.start)
        if not PDV_OVERHEAD <= length <= self._pdu_left - PDV_LENGTH_BYTES:
            return Outcome.INVALID
        if not self._is_expected(context_id, is_command=bool(control & IS_COMMAND)):
            return Outcome.INVALID
        buffer.start += PDV_HEADER.size
        self._pdu_left -= PDV_LENGTH_BYTES + length
        self._left = length - PDV_OVERHEAD
        self._control, self._context_id = control, context_id
        self._has_data = not control & IS_COMMAND
        return None

    def _is_expected(self, context_id: int, *, is_command: bool) -> bool:
        if is_command == (self._request is not None):
            return False
        if self._is_between_messages:
            return self._service.is_accepted(context_id)
        return context_id == self._context_id

    def _take_fragment(self) -> Outcome | None:
        buffer = self._buffer
        left = self._left or 0
        count = min(left, len(buffer))
        if count:
            piece = buffer.view[buffer.start : buffer.start + count]
            buffer.start += count
            self._left = left - count
            if not self._keep(piece):
                return Outcome.INVALID
        if self._left:
            return Outcome.MORE
        self._left = None
        if not self._control & IS_LAST:
            return None
        return self._end_command() if self._control & IS_COMMAND else self._end_data_set()

    def _keep(self, piece: memoryview) -> bool:
        self.message_bytes += len(piece)
        if self._sink is not None:
            self._fragments.append(piece)
            if len(self._fragments) >= MAX_FRAGMENTS:
                self._flush()
            return self.message_bytes <= self._sink.max_message_bytes
        target, limit = (
            (self._command, MAX_COMMAND_BYTES) if self._control & IS_COMMAND else (self._other, MAX_OTHER_BYTES)
        )
        if len(target) + len(piece) > limit:
            return False
        target += piece
        return True

    def _end_command(self) -> Outcome | None:
        try:
            request = parse_command(bytes(self._command))
        except NotDicom:
            return Outcome.INVALID
        is_answerable = request.message_id is not None and not request.command_field & IS_RESPONSE
        if not is_answerable and request.command_field != C_CANCEL_RQ:
            # Nobody could tell which request a response answers, or we have asked for nothing.
            return Outcome.INVALID
        self._request = request
        self._is_served = request.command_field != C_CANCEL_RQ and self._service.is_served(request, self._context_id)
        if self._is_served and request.command_field in STREAMED:
            self._sink = self._service.begin(request, self._context_id)
        return None if request.has_data_set else self._end_data_set()

    def _end_data_set(self) -> Outcome | None:
        request, context_id = self._request, self._context_id
        if request is None:
            return Outcome.INVALID
        if self._sink is not None:
            self._flush()
            reply = self._sink.finish()
        elif request.command_field == C_CANCEL_RQ:
            # Requests are served one after the other, so nothing is under way that could be canceled (PS3.7 9.3.2.3).
            self._forget()
            return None
        elif self._is_served:
            return Outcome.OTHER_MESSAGE
        else:
            reply = Reply(status=UNRECOGNIZED_OPERATION)
        self._forget()
        for match in reply.matches:
            self._respond(request, Reply(status=PENDING, data_set=match), context_id)
        self._respond(request, reply, context_id)
        return None

    def _respond(self, request: Command, reply: Reply, context_id: int) -> None:
        self._service.respond(response_to(request, reply), context_id)
        if reply.data_set:
            self._service.send_data_set(reply.data_set, context_id)

    def _flush(self) -> None:
        if self._fragments:
            if self._sink is not None:
                self._sink.write(self._fragments)
            self._fragments = []

    def _forget(self) -> None:
        self._command, self._other = bytearray(), bytearray()
        self._request = self._sink = None
        self._has_data = False
        self.message_bytes = 0
        self.messages += 1
