"""Connections passed on to other processes: in turn, with what was read of them; nobody waits for who takes none."""

import socket
from collections.abc import Iterator

import pytest

from node.web.handover import Handover, take_over
from node.web.lane import MAX_BEGUN_BYTES, open_lane

BEGUN = b"POST /dicom-web/studies HTTP/1.1\r\n"
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def lane() -> Iterator[Pair]:
    ours, theirs = open_lane()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def connection() -> Iterator[Pair]:
    """Return a connection as the node has it, and its client's end."""
    here, client = socket.socketpair()
    with here, client:
        client.settimeout(10.0)
        yield here, client


def test_each_second_connection_is_passed_on_with_what_was_read_of_it(lane: Pair, connection: Pair) -> None:
    (ours, theirs), (here, client) = lane, connection
    handover = Handover([ours])
    assert [handover.pass_on(here.fileno(), BEGUN) for _ in range(4)] == [False, True, False, True]
    for _ in range(2):
        arrived = take_over(theirs)
        assert arrived is not None
        passed, begun = arrived
        with passed:
            assert begun == BEGUN
            passed.sendall(b"!")
            assert client.recv(1) == b"!"
    assert take_over(theirs) is None


def test_a_process_that_takes_nothing_is_left_alone(lane: Pair, connection: Pair) -> None:
    ours, theirs = lane
    handover = Handover([ours])
    turns = [handover.pass_on(connection[0].fileno(), bytes(MAX_BEGUN_BYTES)) for _ in range(2000)]
    assert any(turns)
    assert not any(turns[-10:])
    taken = 0
    while (arrived := take_over(theirs)) is not None:
        arrived[0].close()
        taken += 1
    assert taken == sum(turns)


def test_the_end_of_a_lane_is_told(lane: Pair) -> None:
    ours, theirs = lane
    ours.close()
    with pytest.raises(EOFError):
        take_over(theirs)
