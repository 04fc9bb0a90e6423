"""A DICOM Association that we open: negotiated for files as they are, and C-ECHO."""

import os
import socket
import ssl
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from pydicom.uid import UID, ImplicitVRLittleEndian

from node.domain.capability import Form, name_kind
from node.errors import (
    DestinationDown,
    FileUnreadable,
    Misconfigured,
    NotDicom,
    SopClassNotSupported,
)
from node.peers.command import (
    C_ECHO_RSP,
    C_STORE_RSP,
    VERIFICATION,
    Response,
    encode_echo_command,
    encode_store_command,
    read_response,
)
from node.peers.negotiation import ACCEPTED, MAX_PDU_BYTES, Acceptance, encode_request, read_acceptance, read_rejection
from node.peers.parcel import Outcome
from node.peers.part10 import FileHead
from node.peers.pdata import CommandDecoder, DataSetEncoder, encode_command, fragment_bytes
from node.peers.peer import Peer
from node.peers.status import DOUBTFUL_TRIES, SUCCESS, judge_status
from node.peers.upper_layer import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF, UpperLayer
from node.tls import explain, secure

MAX_MESSAGE_ID = 0xFFFF
# Result (PS3.8 table 9-18) and A-ASSOCIATE-RJ (PS3.8 table 9-21).
ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4
REJECTED_PERMANENT = 1
SOURCE_SERVICE_USER = 1
CALLING_AET_NOT_RECOGNIZED = 3
CALLED_AET_NOT_RECOGNIZED = 7
ECHO_FORM: Form = (VERIFICATION, str(ImplicitVRLittleEndian))


class StoreAssociation:
    """One Association on which objects are stored; a context manager.

    Parameters
    ----------
    peer
        Who is called.
    keys
        The (SOP Class UID, Transfer Syntax UID) pairs that will be sent, at most 128; each becomes one Presentation
        Context, so that the bytes need no conversion.

    Raises
    ------
    DestinationDown
        On entering, if there is no connection, or the Association is rejected or not answered.
    Misconfigured
        On entering, if the peer does not know one of the AE titles.
    """

    def __init__(self, peer: Peer, keys: Iterable[Form]) -> None:
        self._peer = peer
        self._contexts = {2 * index + 1: key for index, key in enumerate(dict.fromkeys(keys))}
        self._message_id = 0
        self._is_sound = True

    def __enter__(self) -> "StoreAssociation":
        """Negotiate."""
        self._layer, answer = associate(self._peer, self._contexts)
        self._results = {key: _result(answer, context_id, key) for context_id, key in self._contexts.items()}
        self._ids = {key: context_id for context_id, key in self._contexts.items()}
        try:
            self._fragment = fragment_bytes(answer.max_pdu_bytes)
        except DestinationDown:
            self._layer.abort()
            raise
        self._encoder = DataSetEncoder(self._fragment)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release, or abort after an error."""
        if exc_type is None and self._is_sound:
            self._layer.release()
        else:
            self._layer.abort()

    @property
    def accepted(self) -> frozenset[Form]:
        """The pairs whose Presentation Context the peer accepted."""
        return frozenset(key for key, result in self._results.items() if result == ACCEPTED)

    @property
    def is_sound(self) -> bool:
        """Whether a further object can be sent; not so after one of which only a part could be read."""
        return self._is_sound

    def store(self, path: Path, head: FileHead) -> Outcome:
        """Send one file and return what the peer made of it, or why our own file could not be sent.

        Raises
        ------
        DestinationDown
            If the Association is lost, the peer is silent, or its response has no Status; whether it has the object is
            not known, and no further one can be sent on this Association.
        """
        key = (head.sop_class_uid, head.transfer_syntax_uid)
        if self._results.get(key) != ACCEPTED:
            return self._judge_context(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            return Outcome.unreadable(head.sop_instance_uid, exc)
        self._message_id = self._message_id % MAX_MESSAGE_ID + 1
        self._is_sound = False
        try:
            self._send(descriptor, head, self._ids[key])
        except FileUnreadable as exc:
            # Half a message cannot be taken back; only the end of the Association tells the peer to forget it.
            return Outcome.unreadable(head.sop_instance_uid, exc)
        except EOFError:
            return Outcome.cut(head.sop_instance_uid)
        finally:
            os.close(descriptor)
        status, comment = self._read_answer()
        self._is_sound = True
        return judge_status(status, comment=comment)

    def _judge_context(self, key: Form) -> Outcome:
        """Return what follows from a Presentation Context that was not accepted."""
        sop_class_uid, transfer_syntax_uid = key
        sop_class = f"{name_kind(sop_class_uid)} ({sop_class_uid})"
        result = self._results.get(key)
        if result == ABSTRACT_SYNTAX_NOT_SUPPORTED:
            return Outcome.refused(SopClassNotSupported(f"{self._peer} does not take {sop_class}"))
        if result == TRANSFER_SYNTAXES_NOT_SUPPORTED:
            syntax = f"{UID(transfer_syntax_uid).name} ({transfer_syntax_uid})"
            return Outcome.refused(SopClassNotSupported(f"{self._peer} does not take {sop_class} in {syntax}"))
        reason = f"{self._peer} did not accept {sop_class}: result {result}"
        return Outcome.retry(SopClassNotSupported(reason), tries=DOUBTFUL_TRIES)

    def _send(self, descriptor: int, head: FileHead, context_id: int) -> None:
        """Send the command set, then the data set as it is in the file."""
        command = encode_store_command(
            message_id=self._message_id, sop_class_uid=head.sop_class_uid, sop_instance_uid=head.sop_instance_uid
        )
        self._write(encode_command(command, context_id=context_id, fragment=self._fragment))
        blocks = self._encoder.blocks(descriptor, start=head.offset_bytes, end=head.size_bytes, context_id=context_id)
        try:
            for block in blocks:
                self._write(block)
        except OSError as exc:
            # The connection's own errors are DestinationDown by now.
            raise FileUnreadable(exc.strerror or str(exc)) from exc

    def _write(self, block: bytes | memoryview) -> None:
        """Write to the connection."""
        try:
            self._layer.send(block)
        except OSError as exc:
            raise DestinationDown(f"{self._peer} broke the Association while receiving: {exc}") from exc

    def _read_answer(self) -> tuple[int, str]:
        """Return Status and Error Comment of the response to the last request."""
        response = _read_response(self._layer, self._peer)
        if (response.command_field, response.message_id) != (C_STORE_RSP, self._message_id):
            raise DestinationDown(f"{self._peer} answered a C-STORE with another message")
        if response.status is None:
            raise DestinationDown(f"{self._peer} answered without Status (0000,0900); nothing is known of the object")
        return response.status, response.comment


def echo(peer: Peer) -> None:
    """Return when `peer` answered a C-ECHO with Success.

    Raises
    ------
    DestinationDown
        If it did not; the message says why in words.
    """
    try:
        layer, answer = associate(peer, {1: ECHO_FORM})
    except Misconfigured as exc:
        raise DestinationDown(str(exc)) from exc
    try:
        _exchange_echo(peer, layer, answer)
    except OSError as exc:
        layer.abort()
        raise DestinationDown(f"{peer} broke the Association before it answered C-ECHO: {exc}") from exc
    except DestinationDown:
        layer.abort()
        raise
    layer.release()


def _exchange_echo(peer: Peer, layer: UpperLayer, answer: Acceptance) -> None:
    """Send a C-ECHO in Presentation Context 1, and return when the response says Success."""
    if answer.results.get(1) != ACCEPTED:
        raise DestinationDown(f"{peer} does not take C-ECHO (Verification SOP Class)")
    command = encode_echo_command(message_id=1)
    layer.send(encode_command(command, context_id=1, fragment=fragment_bytes(answer.max_pdu_bytes)))
    response = _read_response(layer, peer)
    if response.command_field != C_ECHO_RSP or response.status != SUCCESS:
        shown = "no status" if response.status is None else f"status {response.status:04X}H"
        raise DestinationDown(f"{peer} answered C-ECHO with {shown}")


def associate(
    peer: Peer,
    contexts: Mapping[int, Form],
    *,
    scp_roles: Collection[str] = (),
    max_pdu_bytes: int = MAX_PDU_BYTES,
) -> tuple[UpperLayer, Acceptance]:
    """Return an Association that proposes these Presentation Contexts by their ID; the peer may have accepted none.

    Parameters
    ----------
    scp_roles
        SOP Class UIDs of which we want to be the SCP.
    max_pdu_bytes
        Longest PDU that we take, at most what `UpperLayer` does.

    Raises
    ------
    DestinationDown
        If there is no connection, or the Association is rejected or not answered.
    Misconfigured
        If the peer does not know one of the AE titles, or TLS failed.
    """
    layer = UpperLayer(_connect(peer), timeout_s=peer.timeout_s)
    try:
        with suppress(ssl.SSLEOFError, ConnectionError):
            layer.send(
                encode_request(
                    called_aet=peer.aet,
                    calling_aet=peer.calling_aet,
                    contexts=contexts,
                    scp_roles=scp_roles,
                    max_pdu_bytes=max_pdu_bytes,
                )
            )
        return layer, _read_acceptance(peer, *layer.receive())
    except ssl.SSLError as exc:
        # With TLS 1.3 a peer that refuses our certificate says so after the handshake.
        layer.abort()
        raise Misconfigured(f"{peer}: TLS failed: {explain(exc)}; check our certificate and key") from exc
    except (OSError, NotDicom) as exc:
        layer.abort()
        words = "connected, but the Association was not answered; is this a DICOM port?"
        raise DestinationDown(f"{peer}: {words}") from exc
    except (DestinationDown, Misconfigured):
        layer.abort()
        raise


def _connect(peer: Peer) -> socket.socket:
    """Return a connection without Nagle's delay, for which every C-STORE would wait 40-80 ms."""
    limit_s = peer.timeout_s if peer.connect_s is None else peer.connect_s
    try:
        connection = socket.create_connection((peer.host, peer.port), timeout=limit_s)
    except socket.gaierror as exc:
        raise DestinationDown(f"{peer}: the host name cannot be resolved ({exc.strerror or exc})") from exc
    except TimeoutError as exc:
        words = f"no connection within {limit_s:g} s; check host, port and firewall"
        raise DestinationDown(f"{peer}: {words}") from exc
    except OSError as exc:
        words = f"no connection ({exc.strerror or exc}); check host and port, and that it runs"
        raise DestinationDown(f"{peer}: {words}") from exc
    connection.settimeout(peer.timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection if peer.tls is None else secure(connection, peer.tls, host=peer.host, called=str(peer))


def _read_acceptance(peer: Peer, kind: int, body: bytes) -> Acceptance:
    """Return what an A-ASSOCIATE-AC says; raise for any other answer."""
    if kind == ASSOCIATE_AC:
        return read_acceptance(body)
    if kind == ABORT:
        raise DestinationDown(f"{peer} aborted instead of answering the request for an Association")
    if kind != ASSOCIATE_RJ:
        raise NotDicom(f"PDU of type {kind:02X}H instead of an answer")
    answer = read_rejection(body)
    words = f"{peer} rejected the Association: {answer.words}"
    if (answer.result, answer.source) == (REJECTED_PERMANENT, SOURCE_SERVICE_USER):
        if answer.reason == CALLING_AET_NOT_RECOGNIZED:
            raise Misconfigured(f"{words}; register our AE title {peer.calling_aet} there")
        if answer.reason == CALLED_AET_NOT_RECOGNIZED:
            raise Misconfigured(f"{words}; it has another AE title than {peer.aet}")
    raise DestinationDown(words)


def _result(answer: Acceptance, context_id: int, key: Form) -> int | None:
    """Return the Result of one Presentation Context; None where the peer said nothing of it."""
    result = answer.results.get(context_id)
    # A peer may only choose what was offered (PS3.8 9.3.3.2); one that does not would misread the bytes.
    if result == ACCEPTED and answer.transfer_syntaxes[context_id] != key[1]:
        return TRANSFER_SYNTAXES_NOT_SUPPORTED
    return result


def _read_response(layer: UpperLayer, peer: Peer) -> Response:
    """Return the next response."""
    decoder = CommandDecoder()
    try:
        while not decoder.is_complete:
            kind, body = layer.receive()
            if kind != P_DATA_TF:
                raise ConnectionAbortedError(f"PDU of type {kind:02X}H")
            decoder.feed(body)
        return read_response(decoder.command)
    except TimeoutError as exc:
        raise DestinationDown(f"{peer} gave no response within {peer.timeout_s:g} s") from exc
    except OSError as exc:
        raise DestinationDown(f"{peer} ended the Association instead of answering") from exc
    except NotDicom as exc:
        raise DestinationDown(f"{peer} answered with something that is no response: {exc}") from exc
