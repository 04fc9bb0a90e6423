"""A peer that speaks DICOM wrongly, byte by byte: what a node answers to it, in words."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from struct import Struct

from pydicom.uid import ExplicitVRLittleEndian

from node.errors import NotDicom
from node.peers.association import ECHO_FORM
from node.peers.command import encode_store_command, read_response
from node.peers.negotiation import ACCEPTED, encode_request, read_acceptance
from node.peers.pdata import CommandDecoder, encode_command
from node.peers.peer import Peer
from node.peers.upper_layer import ASSOCIATE_AC, P_DATA_TF, UpperLayer
from node.rehearsal.wrongs import Offer
from node.tls import client_context

CONTEXT_ID = 1
FRAGMENT_BYTES = 4096
LAST_FRAGMENT = 0x02
PDV_HEADER = Struct(">BxIIBB")
# PDV length, Presentation Context ID and Message Control Header; the first does not count itself.
PDU_OVERHEAD_BYTES, PDV_OVERHEAD_BYTES = 6, 2
ANSWER_LIMIT_S = 20.0
SUCCESS = 0x0000


def offer(peer: Peer, wrong: Offer, *, limit_s: float = ANSWER_LIMIT_S) -> tuple[bool, str]:
    """Send one object on an Association of its own; return whether it was taken, and the answer in words.

    Parameters
    ----------
    limit_s
        How long an answer is awaited; seconds.
    """
    try:
        layer = UpperLayer(_connect(peer), timeout_s=limit_s)
    except OSError as exc:
        return False, f"no connection ({exc.strerror or exc})"
    try:
        return _exchange(layer, peer, wrong)
    except TimeoutError:
        return False, f"no answer within {limit_s:.0f} s"
    except (OSError, NotDicom):
        return False, "connection ended"
    finally:
        layer.abort()


def break_off(peer: Peer, wrong: Offer, *, after: float) -> None:
    """Send one object in part, and break the connection in the middle of its data set.

    Parameters
    ----------
    after
        Which part of the data set leaves; above 0, below 1.
    """
    connection = _connect(peer)
    layer = UpperLayer(connection, timeout_s=ANSWER_LIMIT_S)
    try:
        if _negotiate(layer, peer, wrong) is None:
            message = _message(wrong)
            layer.send(message[: int(len(message) * after)])
    except (OSError, NotDicom):
        # The node ended it first; it is broken all the same.
        pass
    finally:
        with suppress(OSError):
            connection.close()


@contextmanager
def loiterers(peer: Peer, *, count: int) -> Iterator[None]:
    """Hold connections that say nothing, half a request, or something that is not DICOM."""
    half = encode_request(called_aet=peer.aet, calling_aet=peer.calling_aet, contexts={CONTEXT_ID: ECHO_FORM})
    words = (b"", half[: len(half) // 2], b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
    with ExitStack() as held:
        for number in range(count):
            with suppress(OSError):
                connection = held.enter_context(socket.create_connection((peer.host, peer.port), ANSWER_LIMIT_S))
                connection.sendall(words[number % len(words)])
        yield


def _exchange(layer: UpperLayer, peer: Peer, wrong: Offer) -> tuple[bool, str]:
    """Return whether the object was taken, and the answer in words."""
    refusal = _negotiate(layer, peer, wrong)
    if refusal is not None:
        return False, refusal
    layer.send(_message(wrong))
    decoder = CommandDecoder()
    while not decoder.is_complete:
        kind, body = layer.receive()
        if kind != P_DATA_TF:
            return False, "Association aborted"
        decoder.feed(body)
    status = read_response(decoder.command).status
    if status is None:
        return False, "response without Status"
    return status == SUCCESS or status >> 12 == 0xB, f"Status {status:04X}"


def _negotiate(layer: UpperLayer, peer: Peer, wrong: Offer) -> str | None:
    """Return in words why there is no Association for the object; None where there is one."""
    form = (wrong.sop_class_uid, str(ExplicitVRLittleEndian))
    layer.send(encode_request(called_aet=peer.aet, calling_aet=peer.calling_aet, contexts={CONTEXT_ID: form}))
    kind, body = layer.receive()
    if kind != ASSOCIATE_AC:
        return "Association refused"
    return None if read_acceptance(body).results.get(CONTEXT_ID) == ACCEPTED else "Presentation Context refused"


def _message(wrong: Offer) -> bytes:
    """Return the PDUs of a C-STORE-RQ with its data set."""
    command = encode_store_command(message_id=1, sop_class_uid=wrong.sop_class_uid, sop_instance_uid=wrong.command_uid)
    parts = [encode_command(command, context_id=CONTEXT_ID, fragment=FRAGMENT_BYTES)]
    for start in range(0, len(wrong.data_set), FRAGMENT_BYTES):
        piece = wrong.data_set[start : start + FRAGMENT_BYTES]
        control = LAST_FRAGMENT if start + FRAGMENT_BYTES >= len(wrong.data_set) else 0
        header = PDV_HEADER.pack(
            P_DATA_TF, len(piece) + PDU_OVERHEAD_BYTES, len(piece) + PDV_OVERHEAD_BYTES, CONTEXT_ID, control
        )
        parts.append(header + piece)
    return b"".join(parts)


def _connect(peer: Peer) -> socket.socket:
    """Return a connection, by TLS where the peer wants it."""
    connection = socket.create_connection((peer.host, peer.port), timeout=ANSWER_LIMIT_S)
    if peer.tls is None:
        return connection
    return client_context(peer.tls).wrap_socket(connection, server_hostname=peer.host)
