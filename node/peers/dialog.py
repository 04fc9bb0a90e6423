"""Messages of other services than Storage with a peer that we call, in one Association and one thread."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from types import TracebackType

from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from node.errors import Broken, DestinationDown, NotDicom
from node.peers.association import associate
from node.peers.command import N_EVENT_REPORT_RQ, Command, encode_cancel_command, encode_report_response, read_command
from node.peers.data_set import encode_data_set
from node.peers.negotiation import ACCEPTED
from node.peers.pdata import (
    COMMAND_FRAGMENT,
    LAST_FRAGMENT,
    MAX_COMMAND_BYTES,
    encode_command,
    encode_message,
    fragment_bytes,
    read_fragments,
)
from node.peers.peer import Peer
from node.peers.upper_layer import P_DATA_TF, RELEASE_RQ

# The SOP Class, and its one well-known SOP Instance (PS3.4 J.3.5).
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
# A report on 10,000 objects has 1.5 MB.
MAX_DATA_SET_BYTES = 4 * 1024 * 1024
IMPLICIT = str(ImplicitVRLittleEndian)
PROCESSING_FAILURE = 0x0110
SUCCESS = 0x0000


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the peer.

    Attributes
    ----------
    data_set
        In Implicit VR Little Endian; empty where there is none.
    """

    command: Command
    data_set: bytes


# Keeps what a report says before it returns; a peer whose report could not be kept is told so.
TakeReport = Callable[[bytes], bool]


class Dialog:
    """One Association on which is asked; a context manager.

    Parameters
    ----------
    peer
        Who is called.
    sop_classes
        SOP Class UIDs that may be asked of, one Presentation Context each, in Implicit VR Little Endian, which every
        peer speaks (PS3.5 10.1).
    take_report
        Returns whether the Event Information of a report on Storage Commitment was understood, after it was kept;
        unless it is given, a peer that sends one is told that nobody waits for it.

    Raises
    ------
    DestinationDown
        On entering, if there is no connection, or the Association is rejected or not answered.
    Misconfigured
        On entering, if the peer does not know one of the AE titles.
    """

    def __init__(
        self, peer: Peer, sop_classes: Iterable[str], *, take_report: TakeReport = lambda _report: False
    ) -> None:
        self._peer = peer
        self._contexts = {2 * index + 1: (uid, IMPLICIT) for index, uid in enumerate(sop_classes)}
        self._take_report = take_report
        self._message_id = 0
        self._is_over = False

    def __enter__(self) -> "Dialog":
        """Negotiate."""
        self._layer, answer = associate(self._peer, self._contexts)
        self._ids = {
            key[0]: context_id
            for context_id, key in self._contexts.items()
            if answer.results.get(context_id) == ACCEPTED and answer.transfer_syntaxes[context_id] == IMPLICIT
        }
        try:
            self._fragment = fragment_bytes(answer.max_pdu_bytes)
        except DestinationDown:
            self._layer.abort()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release, or abort after an error."""
        if self._is_over:
            self._layer.consent()
        elif exc_type is None:
            self._layer.release()
        else:
            self._layer.abort()

    @property
    def accepted(self) -> frozenset[str]:
        """SOP Class UIDs whose Presentation Context the peer accepted."""
        return frozenset(self._ids)

    @property
    def timeout_s(self) -> float:
        """How long one response may take; seconds."""
        return self._peer.timeout_s

    def next_message_id(self) -> int:
        """Return the Message ID (0000,0110) of the next request."""
        self._message_id += 1
        return self._message_id

    def request(self, sop_class_uid: str, command: bytes, data_set: Dataset) -> None:
        """Send one request with its data set.

        Raises
        ------
        DestinationDown
            If the Association is lost.
        """
        context_id = self._ids[sop_class_uid]
        self._send(encode_command(command, context_id=context_id, fragment=self._fragment))
        self._send(encode_message(encode_data_set(data_set), context_id=context_id, fragment=self._fragment))

    def response(self, *, until_s: float | None = None) -> Message:
        """Return the next response to the last request; reports that come before it are taken and answered.

        Parameters
        ----------
        until_s
            When it must have come at the latest, by `time.monotonic`; None: as long as the peer is not silent.

        Raises
        ------
        DestinationDown
            If the Association is lost, the peer is silent, or answers something else.
        """
        while True:
            message = self._receive(self._peer.timeout_s, until_s=until_s)
            if message is None:
                raise DestinationDown(f"{self._peer} gave no response in time, {self._peer.timeout_s:g} s each")
            if self._is_report(message):
                continue
            if message.command.answers != self._message_id:
                raise DestinationDown(f"{self._peer} answered another request than ours")
            return message

    def poll(self, within_s: float) -> Message | None:
        """Return the next response to the last request; None: none came in so many seconds.

        Raises
        ------
        DestinationDown
            If the Association is lost or ended, or the peer answers something else.
        """
        message = self._receive(within_s)
        if message is None and self._is_over:
            raise DestinationDown(f"{self._peer} ended the Association instead of answering")
        if message is None or self._is_report(message):
            return None
        if message.command.answers != self._message_id:
            raise DestinationDown(f"{self._peer} answered another request than ours")
        return message

    def cancel(self, sop_class_uid: str) -> None:
        """Ask the peer to end what the last request asked for; its last response comes soon (PS3.7 9.3.2.3).

        Raises
        ------
        DestinationDown
            If the Association is lost.
        """
        command = encode_cancel_command(cancels=self._message_id)
        self._send(encode_command(command, context_id=self._ids[sop_class_uid], fragment=self._fragment))

    def listen(self, within_s: float) -> bool:
        """Take and answer what the peer reports by itself in so many seconds; return whether it may report more.

        Raises
        ------
        DestinationDown
            If the Association is lost, or something else comes.
        """
        message = self._receive(within_s)
        if message is not None and not self._is_report(message):
            raise DestinationDown(f"{self._peer} sent a message that nobody asked for")
        return not self._is_over

    def _is_report(self, message: Message) -> bool:
        """Return whether a message is a report, after it was answered."""
        command = message.command
        if command.command_field != N_EVENT_REPORT_RQ or command.message_id is None:
            return False
        status = SUCCESS if self._take_report(message.data_set) else PROCESSING_FAILURE
        response = encode_report_response(
            answers=command.message_id,
            sop_class_uid=STORAGE_COMMITMENT,
            sop_instance_uid=COMMITMENT_INSTANCE,
            status=status,
        )
        context_id = self._ids.get(STORAGE_COMMITMENT, 1)
        self._send(encode_command(response, context_id=context_id, fragment=self._fragment))
        return True

    def _send(self, block: bytes) -> None:
        try:
            self._layer.send(block)
        except OSError as exc:
            raise DestinationDown(f"{self._peer} broke the Association while it was asked: {exc}") from exc

    def _receive(self, within_s: float, *, until_s: float | None = None) -> Message | None:
        """Return the next message; None when none came in time, or the peer ends the Association."""
        decoder = MessageDecoder()
        try:
            while not decoder.is_complete:
                wait_s = self._peer.timeout_s if decoder.has_begun else within_s
                kind, body = self._layer.receive(_cut(wait_s, until_s))
                if kind == RELEASE_RQ and not decoder.has_begun:
                    self._is_over = True
                    return None
                if kind != P_DATA_TF:
                    raise ConnectionAbortedError(f"PDU of type {kind:02X}H")
                decoder.feed(body)
        except TimeoutError as exc:
            if decoder.has_begun:
                raise DestinationDown(f"{self._peer} stopped in the middle of a message") from exc
            return None
        except OSError as exc:
            raise DestinationDown(f"{self._peer} ended the Association instead of answering") from exc
        except NotDicom as exc:
            raise DestinationDown(f"{self._peer} answered with something that is no message: {exc}") from exc
        return decoder.message


def _cut(wait_s: float, until_s: float | None) -> float:
    """Return how long may be waited; seconds, > 0.

    Raises
    ------
    TimeoutError
        If the time is over.
    """
    if until_s is None:
        return wait_s
    left_s = until_s - monotonic()
    if left_s <= 0.0:
        raise TimeoutError
    return min(wait_s, left_s)


class MessageDecoder:
    """Puts a message together from the fragments in its PDUs.

    Attributes
    ----------
    has_begun, is_complete
        Whether something of it has come, and all of it.
    """

    def __init__(self) -> None:
        self.has_begun = False
        self.is_complete = False
        self._encoded = bytearray()
        self._command: Command | None = None
        self._data_set = bytearray()

    @property
    def message(self) -> Message:
        """Return it, once it is complete.

        Raises
        ------
        Broken
            If it is not.
        """
        if self._command is None or not self.is_complete:
            raise Broken("a message was read before it was complete")
        return Message(command=self._command, data_set=bytes(self._data_set))

    def feed(self, body: bytes) -> None:
        """Take in the body of one P-DATA-TF PDU.

        Raises
        ------
        NotDicom
            If it is damaged, too long, or goes beyond the message.
        """
        self.has_begun = True
        for _, control, piece in read_fragments(body):
            self._take(piece, control)

    def _take(self, piece: memoryview, control: int) -> None:
        """Take in one fragment."""
        is_command = bool(control & COMMAND_FRAGMENT)
        if self.is_complete or is_command != (self._command is None):
            raise NotDicom("fragments of two messages are mixed")
        target, limit = (self._encoded, MAX_COMMAND_BYTES) if is_command else (self._data_set, MAX_DATA_SET_BYTES)
        target += piece
        if len(target) > limit:
            raise NotDicom(f"it has more than {limit} bytes")
        if not control & LAST_FRAGMENT:
            return
        if is_command:
            self._command = read_command(bytes(self._encoded))
            self.is_complete = not self._command.has_data_set
        else:
            self.is_complete = True
