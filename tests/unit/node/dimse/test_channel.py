"""Messages between gate and receivers: each comes as it went, connections too, and an end that closes is noticed."""

import socket
from collections.abc import Iterator

import pytest

from node.dimse.channel import (
    KINDS,
    Answered,
    Arrived,
    Channel,
    Committed,
    Drain,
    Ended,
    Message,
    Orphaned,
    Ready,
    Requested,
    Unwanted,
    Vacated,
    decode_message,
    encode_message,
    open_pair,
)
from node.errors import Broken

MESSAGES: list[Message] = [
    Arrived(association_id="a", host="10.1.2.3", port=40000),
    Answered(association_id="a", is_admitted=True),
    Unwanted(association_id="a"),
    Orphaned(association_id="a"),
    Drain(timeout_s=2.5),
    Ready(),
    Requested(association_id="a"),
    Vacated(association_id="a"),
    Ended(association_id="a"),
    Committed(),
]


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    one, other = (Channel(endpoint) for endpoint in open_pair())
    yield one, other
    one.close()
    other.close()


def test_every_message_is_read_as_it_was_written() -> None:
    assert {type(message).__name__ for message in MESSAGES} == set(KINDS)
    assert [decode_message(encode_message(message)) for message in MESSAGES] == MESSAGES


@pytest.mark.parametrize(
    "content",
    [b"", b"no JSON", b"[]", b'{"is": "Nobody"}', b'{"is": "Ready", "more": 1}', b'{"is": "Ended"}', b"\xff"],
)
def test_what_is_no_message_is_a_fault_of_ours(content: bytes) -> None:
    with pytest.raises(Broken):
        decode_message(content)


def test_messages_keep_their_bounds_and_their_order(pair: tuple[Channel, Channel]) -> None:
    for message in MESSAGES:
        pair[0].send(message)
    received = [pair[1].receive(1.0) for _ in MESSAGES]
    assert received == [(message, None) for message in MESSAGES]


def test_a_connection_goes_along_and_works_on_the_other_side(pair: tuple[Channel, Channel]) -> None:
    near, far = socket.socketpair()
    with near, far:
        pair[0].send(MESSAGES[0], far)
        far.close()
        received = pair[1].receive(1.0)
        assert received is not None
        message, connection = received
        assert message == MESSAGES[0]
        assert connection is not None
        with connection:
            assert not connection.get_inheritable()
            connection.sendall(b"hello")
        assert near.recv(9) == b"hello"
        assert near.recv(9) == b""


def test_an_end_that_closes_is_noticed_after_its_last_words(pair: tuple[Channel, Channel]) -> None:
    """Also when words to it were left unread, which the kernel tells as a reset."""
    pair[0].send(Ready())
    pair[1].send(Committed())
    pair[0].close()
    assert pair[1].receive(1.0) == (Ready(), None)
    assert pair[1].receive(1.0) is None
    with pytest.raises(OSError, match="pipe"):
        pair[1].send(Ready())


def test_an_end_that_does_not_read_stops_nobody_who_does_not_wait(pair: tuple[Channel, Channel]) -> None:
    def send_many() -> None:
        for _ in range(100_000):
            pair[0].send(Committed(), waits=False)

    with pytest.raises(BlockingIOError):
        send_many()


def test_silence_is_told_apart_from_the_end(pair: tuple[Channel, Channel]) -> None:
    with pytest.raises(TimeoutError):
        pair[1].receive(0.01)
