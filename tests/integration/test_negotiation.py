"""Negotiation over raw sockets: each A-ASSOCIATE-RQ has one answer by PS3.8, and the next sender is served."""

import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from threading import enumerate as all_threads
from time import monotonic

import pytest

from node.peers.peer import Peer as Address
from tests.instances import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT, ct_slice, encode
from tests.integration.test_dimse import Peer
from tests.pdus import (
    ECHO_RSP,
    STORAGE_ID,
    STORE_RSP,
    VERIFICATION,
    Aborted,
    Accepted,
    Answer,
    Closed,
    Item,
    Pdu,
    Rejected,
    Response,
    Wire,
    associate_rq,
    associated,
    echo,
    item,
    message,
    p_data,
    pdu,
    proposal,
    store_rq,
    wire_to,
)
from tests.peers import wait_until

ACCEPTED = Accepted({1: 0, 3: 0, 5: 0}, 65536)
INVALID = Aborted(2, 6)
NOT_SUPPORTED = Rejected(1, 1, 2)
CALLED, CALLING = Rejected(1, 1, 7), Rejected(1, 1, 3)
# Context ID 1 and three reserved bytes.
HEAD = b"\1\0\0\0"
TOO_MANY = range(1, 259, 2)
LONGEST_NAME = "1." + "2" * 62


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    peer = Peer(tmp_path)
    yield peer
    peer.listener.stop(1.0)


def address(peer: Peer) -> Address:
    return Address(aet="RADNODE", host=peer.host, port=peer.port)


def ask(peer: Peer, request: bytes) -> list[Answer]:
    """Return every answer to a request; an Association that it makes is aborted."""
    with wire_to(address(peer)) as wire:
        wire.send(request)
        first = wire.answer()
        if isinstance(first, Accepted):
            return [first]
        return [first, *wire.answers()]


def assert_serves(peer: Peer) -> None:
    with associated(address(peer)) as wire:
        wire.send(echo())
        assert wire.answer() == Response(ECHO_RSP, 1, 0x0000)
        wire.release()


def user_item(kind: int, body: bytes) -> bytes:
    return item(Item.IMPLEMENTATION_CLASS_UID, b"1.2.3.4") + item(kind, body)


def uid_field(uid: str) -> bytes:
    return struct.pack(">H", len(uid)) + uid.encode()


HARMLESS = {
    "unknown user sub-item": associate_rq(user_items=user_item(0xEE, b"\xff" * 40)),
    "unknown item": associate_rq(items=item(0x77, b"\xff" * 40)),
    "item of an answer": associate_rq(items=item(0x21, b"\x01")),
    "unknown sub-item of a context": associate_rq(
        proposals=[
            item(0x20, b"\x01\0\0\0" + item(0x30, VERIFICATION.encode()) + item(0x41, b"?") + item(0x40, b"1.2")),
            *(proposal(number, CT_IMAGE_STORAGE, EXPLICIT) for number in (3, 5)),
        ]
    ),
    "asynchronous window": associate_rq(user_items=user_item(0x53, b"\0\0\0\0")),
    "role selection": associate_rq(user_items=user_item(0x54, uid_field(CT_IMAGE_STORAGE) + b"\0\1")),
    "role selection of nonsense": associate_rq(user_items=user_item(0x54, b"\xff\xff?")),
    "extended negotiation": associate_rq(user_items=user_item(0x56, uid_field(CT_IMAGE_STORAGE) + b"\2\0\1\0\0\0")),
    "common extended negotiation": associate_rq(
        user_items=user_item(0x57, uid_field(CT_IMAGE_STORAGE) + uid_field("1.2.840.10008.4.2") + b"\0\0")
    ),
    "user identity": associate_rq(user_items=user_item(0x58, b"\2\1" + b"\0\4user" + b"\0\4pass")),
    "user identity cut": associate_rq(user_items=user_item(0x58, b"\1")),
    "implementation without name": associate_rq(user_items=b""),
    "implementation of nonsense": associate_rq(user_items=item(0x52, b"\xff" * 80) + item(0x55, b"\xff" * 80)),
    "maximum length twice": associate_rq(user_items=item(0x51, b"\0\0\0\1")),
    "later protocol versions too": associate_rq(protocol_version=3),
    "padded application context": associate_rq(application_context="1.2.840.10008.3.1.1.1\0"),
    "padded titles": associate_rq(called=" RADNODE ", calling="MODALITY\0\0\0\0\0\0\0\0"),
    "shell text": associate_rq(calling="$(reboot);`id`&|"),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_the_standard_lets_pass_is_accepted_and_served(peer: Peer, case: str) -> None:
    with wire_to(address(peer)) as wire:
        wire.send(HARMLESS[case])
        found = wire.answer()
        assert isinstance(found, Accepted)
        if case == "unknown sub-item of a context":
            assert found.results == {1: 4, 3: 0, 5: 0}
            return
        assert found == ACCEPTED
        wire.send(echo())
        assert wire.answer() == Response(ECHO_RSP, 1, 0x0000)
        wire.send(message(STORAGE_ID, store_rq(2), encode(ct_slice())))
        assert wire.answer() == Response(STORE_RSP, 2, 0x0000)
        wire.release()
    peer.wait_for_end()
    assert not peer.ledger.events


REFUSED = {
    "protocol version 2 only": (associate_rq(protocol_version=2), Rejected(1, 2, 2)),
    "protocol version 0": (associate_rq(protocol_version=0), Rejected(1, 2, 2)),
    "other application context": (associate_rq(application_context="1.2.840.10008.3.1.1.2"), NOT_SUPPORTED),
    "application context of nonsense": (associate_rq(application_context="?" * 300), NOT_SUPPORTED),
    "no application context": (associate_rq(application_context=None), NOT_SUPPORTED),
    "called by another name": (associate_rq(called="OTHER"), CALLED),
    "called by no name": (associate_rq(called=""), CALLED),
    "called by shell text": (associate_rq(called="$(reboot)"), CALLED),
    "called in Latin": (associate_rq(called="RADNODÉ"), CALLED),
    "calling without a name": (associate_rq(calling=""), CALLING),
    "calling with a backslash": (associate_rq(calling="A\\B"), CALLING),
    "calling with an escape": (associate_rq(calling="A\x1b[2J"), CALLING),
    "calling in Latin": (associate_rq(calling="RÖNTGEN"), CALLING),
    "maximum length 1": (associate_rq(max_length=1), Rejected(1, 1, 1)),
    "maximum length 7": (associate_rq(max_length=7), Rejected(1, 1, 1)),
    "even context": (associate_rq(proposals=[proposal(2, VERIFICATION, IMPLICIT)]), INVALID),
    "context 0": (associate_rq(proposals=[proposal(0, VERIFICATION, IMPLICIT)]), INVALID),
    "context twice": (associate_rq(proposals=[proposal(1, VERIFICATION, IMPLICIT)] * 2), INVALID),
    "129 contexts": (associate_rq(proposals=[proposal(n % 256, VERIFICATION, IMPLICIT) for n in TOO_MANY]), INVALID),
    "no context": (associate_rq(proposals=[]), INVALID),
    "context without transfer syntax": (associate_rq(proposals=[proposal(1, VERIFICATION)]), INVALID),
    "context without abstract syntax": (associate_rq(proposals=[item(0x20, HEAD + item(0x40, b"1.2"))]), INVALID),
    "context of two bytes": (associate_rq(proposals=[item(0x20, b"\1\0")]), INVALID),
    "item beyond the PDU": (associate_rq(items=item(0x77, b"", length=9)), INVALID),
    "sub-item beyond its item": (associate_rq(user_items=item(0x77, b"", length=9)), INVALID),
    "syntax beyond its context": (associate_rq(proposals=[item(0x20, HEAD + item(0x30, b"1.2", length=60))]), INVALID),
    "item header cut": (associate_rq(items=b"\x50\0"), INVALID),
    "maximum length of two bytes": (associate_rq(proposals=[], items=item(0x50, item(0x51, b"\1\0"))), INVALID),
    "fixed fields cut": (pdu(Pdu.ASSOCIATE_RQ, b"\0\1\0\0" + b"RADNODE".ljust(16)), INVALID),
    "nothing inside": (pdu(Pdu.ASSOCIATE_RQ), INVALID),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_breaks_the_standard_has_one_answer_and_leaves_a_line(
    peer: Peer, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    request, answer = REFUSED[case]
    with caplog.at_level(logging.WARNING):
        assert ask(peer, request) == [answer, Closed()]
        wait_until(lambda: peer.ledger.events, what="an event")
    assert [kind for kind, _ in peer.ledger.events] == ["association-refused"]
    assert [record.message for record in caplog.records] == ["association rejected"]
    assert_serves(peer)


def test_context_with_names_that_are_none_is_refused_by_its_result_and_the_others_live(peer: Peer) -> None:
    proposals = [
        proposal(1, CT_IMAGE_STORAGE, EXPLICIT),
        proposal(3, "not a UID", EXPLICIT),
        proposal(5, CT_IMAGE_STORAGE, "not a UID"),
        proposal(7, "", EXPLICIT),
        proposal(9, LONGEST_NAME * 9, EXPLICIT),
        proposal(255, VERIFICATION, "", LONGEST_NAME * 9, IMPLICIT),
    ]
    assert ask(peer, associate_rq(proposals=proposals)) == [Accepted({1: 0, 3: 3, 5: 4, 7: 3, 9: 3, 255: 0}, 65536)]


def test_all_128_contexts_are_answered(peer: Peer) -> None:
    proposals = [proposal(number, CT_IMAGE_STORAGE, IMPLICIT, EXPLICIT) for number in range(1, 256, 2)]
    assert ask(peer, associate_rq(proposals=proposals)) == [Accepted(dict.fromkeys(range(1, 256, 2), 0), 65536)]


@pytest.mark.parametrize("max_length", [0, 8, 9, 16, 17, 2**32 - 1])
def test_answers_keep_to_the_longest_pdu_that_the_peer_takes(peer: Peer, max_length: int) -> None:
    with wire_to(address(peer)) as plain:
        wire = MeasuredWire(plain.connection)
        wire.associate(associate_rq(max_length=max_length))
        wire.send(echo(7))
        assert wire.answer() == Response(ECHO_RSP, 7, 0x0000)
        wire.send(message(STORAGE_ID, store_rq(8), encode(ct_slice())))
        assert wire.answer() == Response(STORE_RSP, 8, 0x0000)
        wire.release()
    assert max(wire.lengths) <= (max_length or 2**32)
    assert all(length % 2 == 0 for length in wire.lengths)


class MeasuredWire(Wire):
    """A wire that notes the length of each P-DATA-TF."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.lengths: list[int] = []

    def _read_pdu(self) -> tuple[int, bytes] | None:
        found = super()._read_pdu()
        if found is not None and found[0] == Pdu.P_DATA:
            self.lengths.append(len(found[1]))
        return found


def test_who_may_not_call_is_rejected_though_there_is_no_room_and_takes_none(tmp_path: Path) -> None:
    peer = Peer(tmp_path, max_associations=1, calling_aets=("MODALITY",))
    try:
        assert ask(peer, associate_rq(calling="STRANGER")) == [CALLING, Closed()]
        with associated(address(peer)):
            assert ask(peer, associate_rq(calling="STRANGER")) == [CALLING, Closed()]
            assert ask(peer, associate_rq()) == [Rejected(2, 3, 2), Closed()]
        # Both wrong: who is called is told first.
        assert ask(peer, associate_rq(called="OTHER", calling="STRANGER")) == [CALLED, Closed()]
    finally:
        peer.listener.stop(1.0)
    assert "STRANGER is not in security.calling_aets" in peer.ledger.events[0][1]


def test_what_comes_before_our_answer_is_served_after_it(peer: Peer) -> None:
    for _ in range(10):
        with wire_to(address(peer)) as wire:
            wire.send(associate_rq() + echo(4))
            assert wire.answer() == ACCEPTED
            assert wire.answer() == Response(ECHO_RSP, 4, 0x0000)
            wire.release()


def test_second_request_is_aborted(peer: Peer) -> None:
    with associated(address(peer)) as wire:
        wire.send(associate_rq())
        assert wire.answers()[0] == Aborted(2, 0)
    assert_serves(peer)


def test_other_pdus_before_the_request_are_aborted(peer: Peer) -> None:
    for early in (p_data(), pdu(Pdu.RELEASE_RQ, bytes(4)), pdu(Pdu.ASSOCIATE_AC, bytes(68)), pdu(0x77, b"?")):
        with wire_to(address(peer)) as wire:
            wire.send(early)
            assert wire.answers()[-1] == Closed()
    assert_serves(peer)


def test_request_that_dribbles_is_closed_counted_from_the_connection(tmp_path: Path) -> None:
    peer = Peer(tmp_path, dimse_timeout_s=1.5)
    try:
        with wire_to(address(peer)) as wire:
            began = monotonic()
            for byte in associate_rq():
                wire.send(bytes((byte,)))
                wire.connection.settimeout(0.1)
                try:
                    if wire.connection.recv(1) == b"":
                        break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            # The whole request would take 30 s.
            assert monotonic() - began < 10.0
        assert_serves(peer)
    finally:
        peer.listener.stop(1.0)


def test_refusals_leave_no_thread(peer: Peer) -> None:
    before = set(all_threads())
    for request, _ in REFUSED.values():
        ask(peer, request)
    wait_until(lambda: set(all_threads()) <= before, what="every thread is gone")
