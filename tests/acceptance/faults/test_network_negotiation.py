"""Faults before an Association: who asks, for what, and how wrongly the request is written."""

import struct

import pytest

from tests.instances import CT_IMAGE_STORAGE, IMPLICIT, ct_slice, encode
from tests.node_process import NodeProcess
from tests.pdus import (
    ECHO_RSP,
    IMPLEMENTATION,
    PROPOSALS,
    RELEASE_RP,
    RELEASE_RQ,
    STORAGE_ID,
    STORE_RSP,
    VERIFICATION,
    Aborted,
    Answer,
    Closed,
    Item,
    Pdu,
    Rejected,
    Response,
    abort,
    associate_rq,
    associated,
    echo,
    echo_rq,
    item,
    message,
    pdu,
    proposal,
    store_rq,
    wire_to,
)

PRIVATE = "1.2.840.99999.1"
SHELL_TEXT = "$(id);`id`|x>/y"

# A-ABORT by the provider: invalid PDU parameter value; by the user, which is what PS3.8 table 9-8 (AA-1) says.
INVALID, UNEXPECTED = Aborted(2, 6), Aborted(0, 0)

TURNED_AWAY: dict[str, tuple[bytes, Answer]] = {
    "wrong called AE title": (associate_rq(called="OTHER"), Rejected(1, 1, 7)),
    "wrong calling AE title": (associate_rq(calling="STRANGER"), Rejected(1, 1, 3)),
    "shell text as called AE title": (associate_rq(called=SHELL_TEXT), Rejected(1, 1, 7)),
    "shell text as calling AE title": (associate_rq(calling=SHELL_TEXT), Rejected(1, 1, 3)),
    "empty called AE title": (associate_rq(called=""), Rejected(1, 1, 7)),
    "empty calling AE title": (associate_rq(calling=""), Rejected(1, 1, 3)),
    "control characters as calling AE title": (associate_rq(calling="\x00\x1b[2J\r\n"), Rejected(1, 1, 3)),
    "letters beyond ASCII as calling AE title": (associate_rq(calling="RÖNTGEN"), Rejected(1, 1, 3)),
    "protocol version without bit 0": (associate_rq(protocol_version=2), Rejected(1, 2, 2)),
    "another application context": (associate_rq(application_context=PRIVATE), Rejected(1, 1, 2)),
    "no application context": (associate_rq(application_context=None), Rejected(1, 1, 2)),
    "even context id": (associate_rq(proposals=[proposal(2, VERIFICATION, IMPLICIT)]), INVALID),
    "context id 0": (associate_rq(proposals=[proposal(0, VERIFICATION, IMPLICIT)]), INVALID),
    "context id twice": (associate_rq(proposals=[PROPOSALS[0], PROPOSALS[0]]), INVALID),
    "no context": (associate_rq(proposals=[]), INVALID),
    "PDU longer than any request": (pdu(Pdu.ASSOCIATE_RQ, bytes(64), length=2**32 - 1), UNEXPECTED),
    "PDU shorter than its fixed part": (pdu(Pdu.ASSOCIATE_RQ, bytes(10)), INVALID),
    "PDU cut inside an item": (associate_rq(length=100)[:106], INVALID),
    "item longer than its PDU": (associate_rq(items=item(0x99, b"x", length=60000)), INVALID),
    "sub-item longer than its item": (associate_rq(user_items=item(0x99, b"x", length=60000)), INVALID),
    "context item longer than its PDU": (
        associate_rq(proposals=[item(Item.PROPOSED_CONTEXT, bytes(4), length=60000)]),
        INVALID,
    ),
    "syntax longer than its context": (
        associate_rq(
            proposals=[item(Item.PROPOSED_CONTEXT, b"\1\0\0\0" + item(Item.ABSTRACT_SYNTAX, b"1.2", length=999))]
        ),
        INVALID,
    ),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: node\r\nUser-Agent: x\r\n\r\n", UNEXPECTED),
    "TLS on the plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(240)), UNEXPECTED),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", UNEXPECTED),
    "PDU of type 0": (pdu(0), UNEXPECTED),
    "PDU of a reserved type": (pdu(8, bytes(100)), UNEXPECTED),
    "PDU of type 255": (pdu(255, bytes(100)), UNEXPECTED),
    "P-DATA before an Association": (echo(), UNEXPECTED),
    "release before an Association": (RELEASE_RQ, UNEXPECTED),
    "A-ASSOCIATE-AC to the acceptor": (bytes([2]) + associate_rq()[1:], UNEXPECTED),
    "A-ASSOCIATE-RJ to the acceptor": (pdu(Pdu.ASSOCIATE_RJ, b"\0\1\1\1"), UNEXPECTED),
    "A-RELEASE-RP before an Association": (RELEASE_RP, UNEXPECTED),
    "abort before an Association": (abort(), Closed()),
}


@pytest.mark.parametrize("fault", TURNED_AWAY)
def test_request_is_turned_away(node: NodeProcess, fault: str) -> None:
    """One answer, then the connection is closed; nothing of what was sent is looked at again."""
    request, expected = TURNED_AWAY[fault]
    with wire_to(node.peer) as wire:
        wire.send(request)
        answers = wire.answers(limit_s=5.0)
    assert answers == ([expected, Closed()] if expected != Closed() else [Closed()])


def test_bytes_behind_a_request_that_ends_too_early_change_nothing(node: NodeProcess) -> None:
    """The reason depends on which of the two faults is seen first."""
    with wire_to(node.peer) as wire:
        wire.send(associate_rq(length=100))
        answers = wire.answers(limit_s=5.0)
    assert answers in ([INVALID, Closed()], [Aborted(2, 0), Closed()])


USER_ITEMS = {
    "unknown user information items": item(0x5F, b"whatever") + item(0xFE, b"") + item(0x01, bytes(1000)),
    "asynchronous operations": item(Item.ASYNCHRONOUS_WINDOW, struct.pack(">HH", 0, 0)),
    "role selection": item(
        Item.ROLE_SELECTION,
        struct.pack(">H", len(CT_IMAGE_STORAGE)) + CT_IMAGE_STORAGE.encode() + b"\1\1",
    ),
    "extended negotiation": item(
        Item.EXTENDED_NEGOTIATION,
        struct.pack(">H", len(CT_IMAGE_STORAGE)) + CT_IMAGE_STORAGE.encode() + b"\2\0\0\0\0\0",
    ),
    "user identity": item(Item.USER_IDENTITY, b"\2\1" + struct.pack(">H4sH4s", 4, b"user", 4, b"pass")),
    "user identity of an unknown type": item(Item.USER_IDENTITY, b"\x63\1" + struct.pack(">H4sH", 4, b"user", 0)),
    "no implementation class UID": b"",
    "implementation version of 200 characters": IMPLEMENTATION + item(Item.IMPLEMENTATION_VERSION, b"v" * 200),
}
ODD_BUT_LEGAL = {
    "protocol version with further bits": associate_rq(protocol_version=0x8003),
    "unknown items behind the user information": associate_rq(items=item(0x77, bytes(300)) + item(0xFF)),
    "spaces around the AE titles": associate_rq(called=" RADNODE", calling="  MODALITY"),
    **{name: associate_rq(user_items=IMPLEMENTATION + items) for name, items in USER_ITEMS.items()},
}


@pytest.mark.parametrize("fault", ODD_BUT_LEGAL)
def test_request_is_accepted_all_the_same(node: NodeProcess, fault: str) -> None:
    with associated(node.peer, ODD_BUT_LEGAL[fault]) as wire:
        wire.send(echo(7))
        assert wire.answer() == Response(ECHO_RSP, 7, 0)
        wire.release()


NOT_SUPPORTED = {
    "unknown abstract syntax": (proposal(7, PRIVATE, IMPLICIT), 3),
    "unknown transfer syntax": (proposal(7, CT_IMAGE_STORAGE, PRIVATE), 4),
    "abstract syntax that is no UID": (proposal(7, "../../etc/passwd", IMPLICIT), 3),
}


@pytest.mark.parametrize("fault", NOT_SUPPORTED)
def test_context_is_refused_and_the_others_serve(node: NodeProcess, fault: str) -> None:
    proposed, result = NOT_SUPPORTED[fault]
    with wire_to(node.peer) as wire:
        accepted = wire.associate(associate_rq(proposals=[*PROPOSALS, proposed]))
        assert accepted.results == {1: 0, 3: 0, 5: 0, 7: result}
        wire.send(echo())
        assert wire.answer() == Response(ECHO_RSP, 1, 0)
        wire.release()


def test_nothing_but_unknown_contexts_is_an_association_without_any(node: NodeProcess) -> None:
    with wire_to(node.peer) as wire:
        assert wire.associate(associate_rq(proposals=[proposal(1, PRIVATE, IMPLICIT)])).results == {1: 3}
        wire.release()


def test_128_contexts_are_all_accepted_and_each_serves(node: NodeProcess) -> None:
    ids = range(1, 256, 2)
    every = [proposal(number, VERIFICATION, IMPLICIT) for number in ids]
    with wire_to(node.peer) as wire:
        assert wire.associate(associate_rq(proposals=every)).results == dict.fromkeys(ids, 0)
        for number in ids:
            wire.send(message(number, echo_rq(number)))
            assert wire.answer() == Response(ECHO_RSP, number, 0)
        wire.release()


@pytest.mark.parametrize("max_length", [1, 7])
def test_peer_that_takes_no_answer_is_rejected(node: NodeProcess, max_length: int) -> None:
    with wire_to(node.peer) as wire:
        wire.send(associate_rq(max_length=max_length))
        assert wire.answers(limit_s=5.0) == [Rejected(1, 1, 1), Closed()]


@pytest.mark.parametrize("max_length", [0, 8, 16])
def test_answers_fit_the_longest_pdu_of_the_peer(node: NodeProcess, max_length: int) -> None:
    with associated(node.peer, associate_rq(max_length=max_length)) as wire:
        wire.send(message(STORAGE_ID, store_rq(), encode(ct_slice())), echo(2))
        assert {wire.answer(), wire.answer()} == {Response(STORE_RSP, 1, 0), Response(ECHO_RSP, 2, 0)}
        wire.release()
