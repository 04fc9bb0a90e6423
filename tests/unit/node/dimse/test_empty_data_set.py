"""A request whose data set is announced and does not come is one with an empty data set; a C-STORE is none."""

from collections.abc import Sequence

import pytest

from node.dimse.buffer import ReceiveBuffer
from node.dimse.command import C_FIND_RQ, C_STORE_RQ, IS_COMMAND, IS_LAST, N_ACTION_RQ, Command, Reply, p_data
from node.dimse.lane import Lane, Outcome, Sink
from tests.pdus import command_set, short

COMMAND_FIELD, MESSAGE_ID, DATA_SET_TYPE = 0x0100, 0x0110, 0x0800
DATA = b"\x08\x00\x18\x00\x02\x00\x00\x001\x00"


class Kept:
    """Takes a data set, and says that all is well."""

    def __init__(self) -> None:
        self.max_message_bytes = 1000
        self.content: bytes | None = None
        self._taken = b""

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next fragments."""
        self._taken += b"".join(fragments)

    def finish(self) -> Reply:
        """Return that it was taken."""
        self.content = self._taken
        return Reply(status=0)

    def discard(self) -> None:
        """Forget it."""


class Room:
    """An Association in which everything is served."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.answers = 0

    def is_accepted(self, context_id: int) -> bool:
        return context_id == 1

    def is_served(self, request: Command, context_id: int) -> bool:
        return True

    def begin(self, request: Command, context_id: int) -> Sink:
        return self.kept

    def respond(self, response: bytes, context_id: int) -> None:
        self.answers += 1

    def send_data_set(self, encoded: bytes, context_id: int) -> None:
        raise AssertionError("nothing goes with this answer")


def feed(lane: Lane, buffer: ReceiveBuffer, content: bytes) -> Outcome:
    buffer.view[buffer.end : buffer.end + len(content)] = content
    buffer.end += len(content)
    return lane.advance()


def announce(command_field: int) -> bytes:
    command = command_set(short(COMMAND_FIELD, command_field), short(MESSAGE_ID, 1), short(DATA_SET_TYPE, 1))
    return p_data(1, IS_COMMAND | IS_LAST, command)


def open_lane() -> tuple[Room, ReceiveBuffer, Lane]:
    room, buffer = Room(), ReceiveBuffer()
    buffer.open()
    return room, buffer, Lane(buffer, room, max_pdu_bytes=65536)


@pytest.mark.parametrize("command_field", [N_ACTION_RQ, C_FIND_RQ])
def test_what_does_not_begin_is_empty(command_field: int) -> None:
    room, buffer, lane = open_lane()
    assert feed(lane, buffer, announce(command_field)) is Outcome.MORE
    assert lane.may_be_empty
    lane.conclude()
    assert (room.kept.content, room.answers, lane.is_idle, lane.may_be_empty) == (b"", 1, True, False)


def test_what_has_begun_is_waited_for() -> None:
    room, buffer, lane = open_lane()
    data = p_data(1, IS_LAST, DATA)
    feed(lane, buffer, announce(N_ACTION_RQ))
    for at in range(len(data) - 1):
        assert feed(lane, buffer, data[at : at + 1]) is Outcome.MORE
        assert not lane.may_be_empty
    feed(lane, buffer, data[-1:])
    assert (room.kept.content, room.answers, lane.may_be_empty) == (DATA, 1, False)


def test_an_object_is_never_empty() -> None:
    _, buffer, lane = open_lane()
    feed(lane, buffer, announce(C_STORE_RQ))
    assert not lane.may_be_empty
