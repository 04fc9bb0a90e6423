"""The receive lane over real sockets: bytes cut and joined in every way, and peers that do not keep to the rules."""

import inspect
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from threading import enumerate as all_threads
from time import monotonic, sleep
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association

from node.dimse import internals
from node.dimse.command import IS_COMMAND, IS_LAST, PDU_HEADER, parse_command
from node.dimse.doorbell import SWEEP_S
from node.store.files import Reserve
from tests.instances import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT, INSTANCE, ct_slice, encode
from tests.integration.test_dimse import DEADLINE_S, Peer, data_set_bytes
from tests.pdus import command_set, echo_rq, item, short, store_rq
from tests.peers import wait_until

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
STORAGE_ID, VERIFICATION_ID, IMPLICIT_ID = 1, 3, 5
A_ASSOCIATE_AC, P_DATA_TF, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = 2, 4, 5, 6, 7
WHOLE = encode(ct_slice())


def associate_request(*, max_length: int = 0) -> bytes:
    contexts = b"".join(
        item(0x20, struct.pack(">B3x", number) + item(0x30, abstract.encode()) + item(0x40, syntax.encode()))
        for number, abstract, syntax in (
            (STORAGE_ID, CT_IMAGE_STORAGE, EXPLICIT),
            (VERIFICATION_ID, VERIFICATION, IMPLICIT),
            (IMPLICIT_ID, CT_IMAGE_STORAGE, IMPLICIT),
        )
    )
    user = item(0x51, struct.pack(">I", max_length)) + item(0x52, b"1.2.3.4") + item(0x55, b"RAW")
    titles = b"RADNODE".ljust(16) + b"MODALITY".ljust(16) + b"\0" * 32
    body = struct.pack(">HH", 1, 0) + titles + item(0x10, APPLICATION_CONTEXT) + contexts + item(0x50, user)
    return struct.pack(">BxI", 1, len(body)) + body


def pdv(context_id: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">IBB", len(fragment) + 2, context_id, control) + fragment


def pdu(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return PDU_HEADER.pack(P_DATA_TF, len(body)) + body


def store_message(
    encoded: bytes = WHOLE, *, message_id: int = 1, uid: str = INSTANCE, context_id: int = STORAGE_ID
) -> bytes:
    command = pdu(pdv(context_id, IS_COMMAND | IS_LAST, store_rq(message_id, sop_instance_uid=uid)))
    return command + pdu(pdv(context_id, IS_LAST, encoded))


def echo_message(message_id: int) -> bytes:
    return pdu(pdv(VERIFICATION_ID, IS_COMMAND | IS_LAST, echo_rq(message_id)))


class Raw:
    """An established Association of which a test sees each byte."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.sendall(piece)

    def read(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self.connection.recv(count - len(got))
            if not piece:
                raise ConnectionError(f"closed after {got!r}")
            got += piece
        return got

    def read_pdu(self) -> tuple[int, bytes]:
        kind, length = PDU_HEADER.unpack(self.read(6))
        return kind, self.read(length)

    def read_response(self) -> tuple[int, int]:
        """Return Message ID Being Responded To and Status."""
        command = b""
        while True:
            kind, body = self.read_pdu()
            assert kind == P_DATA_TF
            command += body[6:]
            if body[5] & IS_LAST:
                break
        values = dict(elements(command))
        return values[0x0120], values[0x0900]

    def is_aborted(self) -> bool:
        try:
            kind, _ = self.read_pdu()
        except ConnectionError:
            return True
        return kind == A_ABORT

    def release(self) -> None:
        self.send(struct.pack(">BxI4x", A_RELEASE_RQ, 4))
        assert self.read_pdu()[0] == A_RELEASE_RP


def elements(command: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(command):
        _, number, length = struct.unpack_from("<HHI", command, at)
        yield number, int.from_bytes(command[at + 8 : at + 8 + length][:2], "little")
        at += 8 + length


@contextmanager
def raw(peer: Peer, *, max_length: int = 0) -> Iterator[Raw]:
    with socket.create_connection((peer.host, peer.port), timeout=DEADLINE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(associate_request(max_length=max_length))
        assoc = Raw(connection)
        assert assoc.read_pdu()[0] == A_ASSOCIATE_AC
        yield assoc


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    peer = Peer(tmp_path)
    yield peer
    peer.listener.stop(1.0)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def assert_stored(peer: Peer, *contents: bytes) -> None:
    stored = [data_set_bytes(peer.store.path(path)) for path in peer.store.list_paths("instances")]
    assert sorted(stored) == sorted(contents)


def test_message_cut_at_every_byte_is_stored_whole(peer: Peer) -> None:
    """Each turn sends one message in two pieces, cut one byte further on, and reads the answer."""
    message = store_message()
    with raw(peer) as assoc:
        for cut in range(1, len(message)):
            assoc.send(message[:cut])
            assoc.send(message[cut:])
            assert assoc.read_response() == (1, 0x0000), cut
        assoc.release()
    assert_stored(peer, WHOLE)


def test_message_that_comes_byte_by_byte_is_stored_whole(peer: Peer) -> None:
    with raw(peer) as assoc:
        assoc.send(*(bytes((byte,)) for byte in store_message()))
        assert assoc.read_response() == (1, 0x0000)
    assert_stored(peer, WHOLE)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_many_fragments_in_one_pdu_and_command_in_pieces(peer: Peer, size: int) -> None:
    def fragments(content: bytes, control: int) -> list[bytes]:
        starts = range(0, len(content), size)
        ends = [IS_LAST if at + size >= len(content) else 0 for at in starts]
        return [pdv(STORAGE_ID, control | end, content[at : at + size]) for at, end in zip(starts, ends, strict=True)]

    with raw(peer) as assoc:
        assoc.send(pdu(*fragments(store_rq(), IS_COMMAND), *fragments(WHOLE, 0)))
        assert assoc.read_response() == (1, 0x0000)
        assoc.release()
    assert_stored(peer, WHOLE)


def test_empty_fragments_are_harmless(peer: Peer) -> None:
    with raw(peer) as assoc:
        assoc.send(
            pdu(
                pdv(STORAGE_ID, IS_COMMAND, store_rq()),
                pdv(STORAGE_ID, IS_COMMAND | IS_LAST, b""),
                pdv(STORAGE_ID, 0, b""),
                pdv(STORAGE_ID, 0, WHOLE),
                pdv(STORAGE_ID, IS_LAST, b""),
            )
        )
        assert assoc.read_response() == (1, 0x0000)
    assert_stored(peer, WHOLE)


def test_pipelined_requests_are_answered_in_order(peer: Peer) -> None:
    uids = [f"1.2.3.4.{number}" for number in range(10, 30)]
    contents = [encode(ct_slice(sop_instance_uid=uid)) for uid in uids]
    messages = [store_message(c, message_id=n, uid=u) for n, (u, c) in enumerate(zip(uids, contents, strict=True))]
    with raw(peer) as assoc:
        assoc.send(b"".join(messages))
        assert [assoc.read_response() for _ in uids] == [(number, 0) for number in range(len(uids))]
        assoc.release()
    assert_stored(peer, *contents)


def test_echo_between_stores_and_release_behind_them_in_one_piece(peer: Peer) -> None:
    everything = store_message(message_id=1) + echo_message(2) + store_message(message_id=3)
    with raw(peer) as assoc:
        assoc.send(everything + struct.pack(">BxI4x", A_RELEASE_RQ, 4))
        answers = {assoc.read_response() for _ in range(3)}
        assert answers == {(1, 0), (2, 0), (3, 0)}
        assert assoc.read_pdu()[0] == A_RELEASE_RP
    peer.wait_for_end()
    assert_stored(peer, WHOLE)


def test_two_contexts_each_keep_their_transfer_syntax(peer: Peer) -> None:
    other = encode(ct_slice(sop_instance_uid="1.2.3.4.6"), IMPLICIT)
    with raw(peer) as assoc:
        assoc.send(store_message(other, uid="1.2.3.4.6", context_id=IMPLICIT_ID), store_message())
        assert [assoc.read_response()[1] for _ in range(2)] == [0, 0]
        assoc.release()
    kept = {facts.sop_instance_uid: facts.transfer_syntax_uid for facts in peer.ledger.instances.values()}
    assert kept == {"1.2.3.4.6": IMPLICIT, INSTANCE: EXPLICIT}


@pytest.mark.parametrize("max_length", [8, 9, 16, 64])
def test_response_fits_the_longest_pdu_that_the_peer_takes(peer: Peer, max_length: int) -> None:
    with raw(peer, max_length=max_length) as assoc:
        assoc.send(store_message())
        assert assoc.read_response() == (1, 0x0000)


@pytest.mark.parametrize(
    ("uid", "status"), [("1." * 40 + "1", 0x0117), ("", 0x0117), ("../x", 0x0117), ("1.2.9", 0xA900)]
)
def test_uid_of_the_command_that_is_none_or_another_gets_its_status_and_the_next_is_served(
    peer: Peer, tmp_path: Path, uid: str, status: int
) -> None:
    with raw(peer) as assoc:
        assoc.send(store_message(uid=uid), store_message(message_id=2))
        assert [assoc.read_response() for _ in range(2)] == [(1, status), (2, 0x0000)]
        assoc.release()
    assert len(files(tmp_path)) == 1


def test_store_request_without_a_data_set_gets_a_status(peer: Peer, tmp_path: Path) -> None:
    with raw(peer) as assoc:
        assoc.send(pdu(pdv(STORAGE_ID, IS_COMMAND | IS_LAST, store_rq(data_set_type=0x0101))))
        number, status = assoc.read_response()
        assert number == 1
        assert status in {0x0117, 0xC000}
        assoc.send(store_message(message_id=2))
        assert assoc.read_response() == (2, 0x0000)
    assert len(files(tmp_path)) == 1


def test_cut_pixel_data_is_refused_and_leaves_nothing(peer: Peer, tmp_path: Path) -> None:
    with raw(peer) as assoc:
        assoc.send(store_message(WHOLE[:-2]))
        assert assoc.read_response() == (1, 0xC000)
        assert files(tmp_path) == []


BAD = {
    "pdv longer than its pdu": PDU_HEADER.pack(P_DATA_TF, 20) + struct.pack(">IBB", 4000, STORAGE_ID, 3) + b"\0" * 14,
    "pdv shorter than its header": PDU_HEADER.pack(P_DATA_TF, 6) + struct.pack(">IBB", 1, STORAGE_ID, 3),
    "rest of the pdu too short for a pdv": pdu(pdv(STORAGE_ID, IS_COMMAND, b"ab") + b"\0\0\0"),
    "pdu without a pdv": PDU_HEADER.pack(P_DATA_TF, 0),
    "pdu longer than announced": PDU_HEADER.pack(P_DATA_TF, 65537) + b"\0" * 64,
    "context that was not accepted": pdu(pdv(99, IS_COMMAND | IS_LAST, store_rq())),
    "data set without a command": pdu(pdv(STORAGE_ID, IS_LAST, WHOLE)),
    "command inside a data set": pdu(
        pdv(STORAGE_ID, IS_COMMAND | IS_LAST, store_rq()), pdv(STORAGE_ID, IS_COMMAND | IS_LAST, store_rq())
    ),
    "data set in another context": pdu(
        pdv(STORAGE_ID, IS_COMMAND | IS_LAST, store_rq()), pdv(IMPLICIT_ID, IS_LAST, WHOLE)
    ),
    "command without a message id": pdu(
        pdv(STORAGE_ID, IS_COMMAND | IS_LAST, command_set(short(0x0100, 1), short(0x0800, 1)))
    ),
    "command of another group": pdu(pdv(STORAGE_ID, IS_COMMAND | IS_LAST, struct.pack("<HHI", 8, 0, 0))),
    "command whose element lies": pdu(pdv(STORAGE_ID, IS_COMMAND | IS_LAST, struct.pack("<HHI", 0, 2, 2**31))),
    "endless command": pdu(pdv(STORAGE_ID, IS_COMMAND, b"\0" * 20000)),
    "endless data set of no store": pdu(
        pdv(STORAGE_ID, IS_COMMAND | IS_LAST, command_set(short(0x0100, 0x20), short(0x0110, 1), short(0x0800, 1)))
    )
    + pdu(pdv(STORAGE_ID, 0, b"\0" * 60000))
    + pdu(pdv(STORAGE_ID, 0, b"\0" * 60000)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_the_protocol_is_aborted_leaves_nothing_and_harms_nobody(
    peer: Peer, tmp_path: Path, name: str
) -> None:
    with raw(peer) as good:
        with raw(peer) as bad:
            bad.send(BAD[name])
            assert bad.is_aborted()
        good.send(store_message())
        assert good.read_response() == (1, 0x0000)
    assert_stored(peer, WHOLE)
    wait_until(lambda: len(files(tmp_path)) == 1, what="nothing but the Instance")


@pytest.mark.parametrize("end", ["abort", "close", "reset"])
def test_sender_that_ends_mid_data_set_leaves_nothing(peer: Peer, tmp_path: Path, end: str) -> None:
    with raw(peer) as assoc:
        assoc.send(store_message(message_id=7))
        assert assoc.read_response() == (7, 0)
        assoc.send(pdu(pdv(STORAGE_ID, 3, store_rq(8))) + pdu(pdv(STORAGE_ID, 0, WHOLE[:50])))
        if end == "abort":
            assoc.send(struct.pack(">BxI4x", A_ABORT, 4))
        elif end == "reset":
            assoc.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.wait_for_end()
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("source", [0, 1, 2, 3, 255])
@pytest.mark.parametrize("reason", [0, 3, 255])
def test_abort_is_the_end_whatever_it_says(peer: Peer, source: int, reason: int) -> None:
    with raw(peer) as assoc:
        assoc.send(store_message())
        assert assoc.read_response() == (1, 0x0000)
        assoc.send(struct.pack(">BxIxxBB", A_ABORT, 4, source, reason))
        with pytest.raises(ConnectionError):
            assoc.read(1)
    peer.wait_for_end()


def test_peer_that_is_aborted_before_our_answer_ends_no_thread_of_ours(peer: Peer) -> None:
    """pynetdicom answers the C-ECHO, and its state machine knows no answer to a peer that was aborted meanwhile."""
    for _ in range(100):
        with raw(peer) as assoc:
            assoc.send(echo_message(1) + PDU_HEADER.pack(P_DATA_TF, 0))
            with suppress(ConnectionError):
                while True:
                    assoc.read_pdu()
    with raw(peer) as assoc:
        assoc.send(store_message())
        assert assoc.read_response() == (1, 0x0000)
    peer.wait_for_end()


def test_sender_that_stops_mid_message_is_aborted_in_time(tmp_path: Path) -> None:
    peer = Peer(tmp_path, dimse_timeout_s=0.5)
    try:
        with raw(peer) as assoc:
            begun = monotonic()
            assoc.send(store_message()[:-5])
            assert assoc.is_aborted()
            assert monotonic() - begun < DEADLINE_S / 2
    finally:
        peer.listener.stop(1.0)
    assert files(tmp_path) == []


def test_sender_of_single_bytes_is_aborted_though_never_silent(tmp_path: Path) -> None:
    peer = Peer(tmp_path, dimse_timeout_s=0.5)
    try:
        with raw(peer) as assoc:
            begun, is_over = monotonic(), False
            assoc.connection.settimeout(0.05)
            while not is_over and monotonic() - begun < DEADLINE_S:
                try:
                    assoc.send(pdu(pdv(STORAGE_ID, IS_COMMAND, b"\0")))
                    is_over = assoc.is_aborted()
                except TimeoutError:
                    continue
                except OSError:
                    is_over = True
            assert is_over
    finally:
        peer.listener.stop(1.0)


def test_half_an_association_request_is_closed_counted_from_the_connection(tmp_path: Path) -> None:
    """A byte now and then does not lengthen it."""
    peer = Peer(tmp_path, dimse_timeout_s=1.0)
    request = associate_request()
    try:
        with socket.create_connection((peer.host, peer.port), timeout=DEADLINE_S) as slow:
            begun, at = monotonic(), 0
            slow.settimeout(0.1)
            is_closed = False
            while not is_closed and monotonic() - begun < DEADLINE_S:
                try:
                    slow.sendall(request[at : at + 1])
                    at += 1
                    is_closed = slow.recv(1) == b""
                except TimeoutError:
                    continue
                except OSError:
                    is_closed = True
            assert is_closed
            assert at < len(request)
    finally:
        peer.listener.stop(1.0)


def test_one_address_gets_no_more_than_its_share(tmp_path: Path) -> None:
    peer = Peer(tmp_path, max_associations_per_peer=1)
    try:
        with raw(peer), peer.association() as second:
            assert second.is_rejected
            answer = second.acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
    finally:
        peer.listener.stop(1.0)


def test_full_store_is_told_after_the_data_set_and_the_association_lives(tmp_path: Path) -> None:
    peer = Peer(tmp_path, reserve=Reserve(reserve_bytes=2**62, reserve_percent=100))
    try:
        with raw(peer) as assoc:
            assoc.send(store_message(), echo_message(2))
            assert {assoc.read_response() for _ in range(2)} == {(1, 0xA700), (2, 0)}
    finally:
        peer.listener.stop(1.0)
    assert files(tmp_path) == []


def test_association_ends_without_a_thread_left(peer: Peer) -> None:
    with raw(peer) as assoc:
        assoc.send(store_message())
        assoc.read_response()
        mine = [t for t in all_threads() if isinstance(t, Association) and t.mode == MODE_ACCEPTOR]
        assert len(mine) == 1
        assoc.release()
    deadline = monotonic() + DEADLINE_S
    while any(t.is_alive() or t.dul.is_alive() for t in mine) and monotonic() < deadline:
        sleep(SWEEP_S / 100)
    assert not any(t.is_alive() or t.dul.is_alive() for t in mine)


def test_command_with_an_element_twice_is_refused() -> None:
    with pytest.raises(Exception, match="damaged"):
        parse_command(short(0x0100, 1) + short(0x0100, 2))


def parameters(method: Any) -> Sequence[str]:
    return tuple(inspect.signature(method).parameters)


def test_pynetdicom_still_is_what_the_lane_was_built_on() -> None:
    """When this fails, pynetdicom has changed below us: read its source, then node/dimse/internals.py."""
    assert version("pynetdicom") == internals.VERSION
    for method, names in internals.METHODS.items():
        assert parameters(method) == names, method.__qualname__
    assoc = Association(AE(), MODE_ACCEPTOR)
    for name in internals.ASSOCIATION_ATTRIBUTES:
        assert hasattr(assoc, name), name
    for name in internals.PROVIDER_ATTRIBUTES:
        assert hasattr(assoc.dul, name), name
    for key, action in internals.ACTIONS.items():
        assert internals.TRANSITIONS[key] == action, key
