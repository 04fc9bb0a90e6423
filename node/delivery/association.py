"""A DICOM Association that we open: negotiated for files as they are, and C-ECHO."""

import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from types import TracebackType

from pydicom.uid import UID
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import from a table
from pynetdicom.transport import AddressInformation, AssociationSocket

from node.delivery.parcel import Outcome
from node.delivery.part10 import FileHead
from node.delivery.pdata import encode_command, encode_data_set, encode_store_command, fragment_bytes
from node.delivery.status import DOUBTFUL_TRIES, judge_status
from node.domain.capability import Form, name_kind
from node.errors import DestinationDown, Misconfigured, SopClassNotSupported

MAX_MESSAGE_ID = 0xFFFF
MAX_AET_LENGTH = 16
# Result (PS3.8 table 9-18) and A-ASSOCIATE-RJ (PS3.8 table 9-21).
ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4
REJECTED_PERMANENT = 1
SOURCE_SERVICE_USER = 1
CALLING_AET_NOT_RECOGNIZED = 3
CALLED_AET_NOT_RECOGNIZED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """An Application Entity that we call.

    Attributes
    ----------
    aet
        Called AE title, 1-16 characters.
    calling_aet
        Our own AE title, 1-16 characters.
    timeout_s
        Silence that counts as failure; seconds, > 0.
    """

    aet: str
    host: str
    port: int
    calling_aet: str = "RADNODE"
    timeout_s: float = 30.0

    def __str__(self) -> str:
        """Return the peer as people write it: ``AET@host:port``."""
        return f"{self.aet}@{self.host}:{self.port}"


def is_ae_title(text: str) -> bool:
    """Return whether `text` can be an AE title: 1-16 characters that are not all spaces (PS3.5 6.2, AE)."""
    return 1 <= len(text.strip()) <= MAX_AET_LENGTH and text.isascii() and text.isprintable() and "\\" not in text


class _WitnessSocket(socket.socket):
    """A TCP socket that remembers why it could not connect; pynetdicom only logs it."""

    refusal: OSError | None = None

    def connect(self, address: tuple[str, int]) -> None:  # type: ignore[override]  # the base takes any address
        """Connect, or keep the reason and raise it."""
        try:
            super().connect(address)
        except OSError as exc:
            self.refusal = exc
            raise


class _CallingSocket(AssociationSocket):
    """An AssociationSocket on a `_WitnessSocket` without Nagle's delay."""

    witness: _WitnessSocket

    def _create_socket(self, address: AddressInformation) -> socket.socket:
        """Return an unbound socket; the system chooses the local address."""
        family = socket.AF_INET if address.is_ipv4 else socket.AF_INET6
        self.witness = _WitnessSocket(family, socket.SOCK_STREAM)
        # Without it every C-STORE waits 40-80 ms for a delayed acknowledgment.
        self.witness.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.witness


class _Caller(AE):
    """An AE whose Associations leave every response to the one who asked."""

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[SSLContext, str] | None
    ) -> AssociationSocket:
        """Return the socket of a new Association, whose reactor is parked before it takes its first step."""
        # The reactor thread may take a response off the queue before the sender does: send_c_store then blocks for the
        # whole timeout and returns an empty Dataset. A reactor that never runs cannot; abort and release wake it.
        assoc._reactor_checkpoint.clear()
        calling = _CallingSocket(assoc, address=address)
        calling.tls_args = tls_args
        return calling


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
        self._keys = tuple(dict.fromkeys(keys))
        self._message_id = 0
        self._is_sound = True

    def __enter__(self) -> "StoreAssociation":
        """Negotiate."""
        contexts = [build_context(sop_class_uid, syntax) for sop_class_uid, syntax in self._keys]
        self._assoc = _associate(self._peer, contexts)
        self._accepted, self._results = self._read_results(self._assoc)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release, or abort after an error."""
        if exc_type is None and self._is_sound and self._assoc.is_established:
            self._assoc.release()
        _end(self._assoc)

    @property
    def accepted(self) -> frozenset[Form]:
        """The pairs whose Presentation Context the peer accepted."""
        return frozenset(self._accepted)

    def store(self, path: Path, head: FileHead) -> Outcome:
        """Send one file and return what the peer made of it.

        Raises
        ------
        DestinationDown
            If the Association is lost, the peer is silent, or its response has no Status; whether it has the object is
            not known, and no further one can be sent on this Association.
        """
        key = (head.sop_class_uid, head.transfer_syntax_uid)
        context_id = self._accepted.get(key)
        if context_id is None:
            return self._judge_context(key)
        self._message_id = self._message_id % MAX_MESSAGE_ID + 1
        command = encode_store_command(
            message_id=self._message_id, sop_class_uid=head.sop_class_uid, sop_instance_uid=head.sop_instance_uid
        )
        self._is_sound = False
        self._write(self._blocks(path, head, command, context_id))
        status = self._read_status()
        self._is_sound = True
        return judge_status(status)

    def _read_results(self, assoc: Association) -> tuple[dict[Form, int], dict[Form, int]]:
        """Return the Presentation Context ID of each accepted pair and the Result of each refused one."""
        keys = {2 * index + 1: key for index, key in enumerate(self._keys)}
        accepted: dict[Form, int] = {}
        results: dict[Form, int] = {}
        for context in assoc.accepted_contexts:
            key = keys[context.context_id or 0]
            # A peer may only choose what was offered (PS3.8 9.3.3.2); one that does not would misread the bytes.
            if context.transfer_syntax[0] == key[1]:
                accepted[key] = context.context_id or 0
            else:
                results[key] = TRANSFER_SYNTAXES_NOT_SUPPORTED
        for context in assoc.rejected_contexts:
            results[keys[context.context_id or 0]] = context.result or 0
        return accepted, results

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

    def _blocks(self, path: Path, head: FileHead, command: bytes, context_id: int) -> Iterator[bytes]:
        """Yield the whole message as bytes of PDUs."""
        fragment = fragment_bytes(self._assoc.acceptor.maximum_length or 0)
        try:
            with path.open("rb") as file:
                file.seek(head.offset_bytes)
                yield encode_command(command, context_id=context_id, fragment=fragment)
                yield from encode_data_set(
                    file, head.size_bytes - head.offset_bytes, context_id=context_id, fragment=fragment
                )
        except (OSError, EOFError) as exc:
            # Half a message cannot be taken back; only the end of the Association tells the peer to forget it.
            raise DestinationDown(f"Instance {head.sop_instance_uid} could not be read to its end: {exc}") from exc

    def _write(self, blocks: Iterator[bytes]) -> None:
        """Write to the socket beside pynetdicom, which would queue the whole object in memory first."""
        witness = self._witness
        for block in blocks:
            try:
                witness.sendall(block)
            except OSError as exc:
                _silence(witness)
                raise DestinationDown(f"{self._peer} broke the Association while receiving: {exc}") from exc

    @property
    def _witness(self) -> _WitnessSocket:
        """The TCP socket."""
        calling = self._assoc.dul.socket
        if not isinstance(calling, _CallingSocket):
            raise DestinationDown(f"{self._peer}: the connection is closed")
        return calling.witness

    def _read_status(self) -> int:
        """Return the Status of the response to the last request."""
        _, response = self._assoc.dimse.get_msg(block=True)
        if response is None:
            if self._assoc.acse.is_aborted():
                raise DestinationDown(f"{self._peer} ended the Association instead of answering")
            raise DestinationDown(f"{self._peer} gave no response within {self._peer.timeout_s:g} s")
        if not isinstance(response, C_STORE) or response.MessageIDBeingRespondedTo != self._message_id:
            raise DestinationDown(f"{self._peer} answered a C-STORE with another message")
        if response.Status is None:
            raise DestinationDown(f"{self._peer} answered without Status (0000,0900); nothing is known of the object")
        return int(response.Status)


def echo(peer: Peer) -> None:
    """Return when `peer` answered a C-ECHO with Success.

    Raises
    ------
    DestinationDown
        If it did not; the message says why in words.
    """
    try:
        assoc = _associate(peer, [build_context(Verification)])
    except Misconfigured as exc:
        raise DestinationDown(str(exc)) from exc
    try:
        if not assoc.is_established:
            raise DestinationDown(f"{peer} does not take C-ECHO (Verification SOP Class)")
        status = assoc.send_c_echo().get("Status")
        if status != 0:
            shown = "no status" if status is None else f"status {status:04X}H"
            raise DestinationDown(f"{peer} answered C-ECHO with {shown}")
        assoc.release()
    finally:
        _end(assoc)


def _associate(peer: Peer, contexts: list[PresentationContext]) -> Association:
    """Return an Association; one on which the peer accepted no context at all is already ended."""
    caller = _Caller(ae_title=peer.calling_aet)
    caller.connection_timeout = peer.timeout_s
    caller.acse_timeout = peer.timeout_s
    caller.dimse_timeout = peer.timeout_s
    caller.network_timeout = None
    try:
        assoc = caller.associate(peer.host, peer.port, contexts=contexts, ae_title=peer.aet)
    except OSError as exc:
        raise DestinationDown(f"{peer}: the host name cannot be resolved ({exc.strerror or exc})") from exc
    if not assoc.is_established and not assoc.rejected_contexts:
        error = _explain(peer, assoc)
        _end(assoc)
        raise error
    if assoc.is_established and isinstance(assoc.dul.socket, _CallingSocket):
        # pynetdicom leaves accepted connections without a limit; a peer that stops reading would hold us for ever.
        assoc.dul.socket.witness.settimeout(peer.timeout_s)
    return assoc


def _explain(peer: Peer, assoc: Association) -> DestinationDown | Misconfigured:
    """Return why there is no Association, in words."""
    refusal = assoc.dul.socket.witness.refusal if isinstance(assoc.dul.socket, _CallingSocket) else None
    if isinstance(refusal, TimeoutError):
        return DestinationDown(f"{peer}: no connection within {peer.timeout_s:g} s; check host, port and firewall")
    if refusal is not None:
        return DestinationDown(f"{peer}: no connection ({refusal.strerror}); check host and port, and that it runs")
    answer = assoc.acceptor.primitive
    if not assoc.is_rejected or answer is None:
        return DestinationDown(f"{peer}: connected, but the Association was not answered; is this a DICOM port?")
    words = f"{peer} rejected the Association: {answer.reason_str}"
    if (answer.result, answer.result_source) == (REJECTED_PERMANENT, SOURCE_SERVICE_USER):
        if answer.diagnostic == CALLING_AET_NOT_RECOGNIZED:
            return Misconfigured(f"{words}; register our AE title {peer.calling_aet} there")
        if answer.diagnostic == CALLED_AET_NOT_RECOGNIZED:
            return Misconfigured(f"{words}; it has another AE title than {peer.aet}")
    return DestinationDown(words)


def _silence(witness: _WitnessSocket) -> None:
    """Shut the connection down, so that nobody waits for a peer that does not read."""
    try:
        witness.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _end(assoc: Association) -> None:
    """Abort what still stands and let pynetdicom's threads end."""
    if assoc.is_established and not assoc.acse.is_aborted():
        assoc.abort()
    assoc.kill()
    if isinstance(assoc.dul.socket, _CallingSocket):
        # pynetdicom leaves the descriptor open when the peer was the first to hang up.
        assoc.dul.socket.witness.close()
