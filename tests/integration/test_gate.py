"""The gate over real sockets, with receivers that the test plays: who gets which connection, and who gets none."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_network
from threading import Event

import pytest

from node.dimse.channel import (
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
    open_pair,
)
from node.dimse.gate import Gate
from node.dimse.lobby import MAX_WAITING
from node.dimse.scp import ListenerSettings

LIMIT_S = 20.0
SETTINGS = ListenerSettings(
    aet="RADNODE",
    bind="127.0.0.1",
    port=0,
    max_pdu_bytes=65536,
    max_associations=2,
    max_associations_per_peer=2,
    dimse_timeout_s=5.0,
)


class Player:
    """A receiver that does what the test says."""

    def __init__(self, gate: Gate, number: int, *, queue_bytes: int = 0) -> None:
        ours, theirs = open_pair()
        if queue_bytes:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, queue_bytes)
        self.channel = Channel(theirs)
        self.connections: list[socket.socket] = []
        gate.attach(number, ours)

    def say(self, message: Message) -> None:
        self.channel.send(message)

    def hear(self) -> Message:
        received = self.channel.receive(LIMIT_S)
        assert received is not None
        message, connection = received
        if connection is not None:
            self.connections.append(connection)
        return message

    def hear_arrival(self) -> str:
        message = self.hear()
        assert isinstance(message, Arrived), message
        return message.association_id

    def ask(self, association_id: str) -> bool:
        self.say(Requested(association_id=association_id))
        message = self.hear()
        assert isinstance(message, Answered)
        assert message.association_id == association_id
        return message.is_admitted

    def die(self) -> None:
        for connection in self.connections:
            connection.close()
        self.channel.close()


class House:
    """A gate, and everything that a test opens around it."""

    def __init__(self, stack: ExitStack, settings: ListenerSettings) -> None:
        self._stack = stack
        self.woken = Event()
        self.refused: list[str] = []
        self.gate = Gate(settings, committed=self.woken.set, refused=self.refused.append)
        self.address = self.gate.start()
        stack.callback(self.gate.stop, 0.0)

    def player(self, number: int = 1, *, queue_bytes: int = 0) -> Player:
        player = Player(self.gate, number, queue_bytes=queue_bytes)
        self._stack.callback(player.die)
        player.say(Ready())
        return player

    def connect(self) -> socket.socket:
        return self._stack.enter_context(socket.create_connection(self.address, timeout=LIMIT_S))


@contextmanager
def open_house(settings: ListenerSettings = SETTINGS) -> Iterator[House]:
    with ExitStack() as stack:
        yield House(stack, settings)


@pytest.fixture
def house() -> Iterator[House]:
    with open_house() as opened:
        yield opened


def test_a_connection_waits_until_a_receiver_is_ready_and_is_served_by_it(house: House) -> None:
    client = house.connect()
    receiver = house.player()
    message = receiver.hear()
    assert isinstance(message, Arrived)
    assert (message.host, message.port) == client.getsockname()
    receiver.connections[0].sendall(b"hello")
    assert client.recv(9) == b"hello"


def test_the_receiver_with_the_fewest_connections_gets_the_next(house: House) -> None:
    one, two = house.player(1), house.player(2)
    assert house.gate.wait_until_ready(2, LIMIT_S)
    house.connect()
    first = one.hear_arrival()
    house.connect()
    two.hear_arrival()
    house.connect()
    one.hear_arrival()
    house.connect()
    two.hear_arrival()
    one.say(Ended(association_id=first))
    # Asked on the same channel, so it is answered after the end was counted.
    assert not one.ask("nobody")
    house.connect()
    one.hear_arrival()


def test_associations_are_counted_over_all_receivers_exactly(house: House) -> None:
    one, two = house.player(1), house.player(2)
    assert house.gate.wait_until_ready(2, LIMIT_S)
    players, names = [one, two, one, two], []
    for player in players:
        house.connect()
        names.append(player.hear_arrival())
    assert [player.ask(name) for player, name in zip(players, names, strict=True)] == [True, True, False, False]
    one.say(Ended(association_id=names[0]))
    assert not one.ask("nobody")
    assert two.ask(names[3])


def test_a_receiver_that_dies_is_counted_off_and_its_heir_is_told_what_it_left(house: House) -> None:
    one, two = house.player(1), house.player(2)
    assert house.gate.wait_until_ready(2, LIMIT_S)
    house.connect()
    lost = one.hear_arrival()
    house.connect()
    kept = two.hear_arrival()
    assert one.ask(lost)
    assert two.ask(kept)
    one.die()
    heir = house.player(1)
    assert heir.hear() == Orphaned(association_id=lost)
    house.connect()
    assert heir.ask(heir.hear_arrival())


def test_an_heir_that_is_ready_before_the_death_is_heard_of_is_told_all_the_same(house: House) -> None:
    one = house.player(1)
    house.connect()
    lost = one.hear_arrival()
    assert one.ask(lost)
    heir = house.player(1)
    assert house.gate.wait_until_ready(2, LIMIT_S)
    one.die()
    assert heir.hear() == Orphaned(association_id=lost)


def test_a_commit_of_a_receiver_wakes_the_stations(house: House) -> None:
    house.player().say(Committed())
    assert house.woken.wait(LIMIT_S)


def test_too_many_who_ask_for_nothing_have_to_go_the_oldest_first(house: House) -> None:
    receiver = house.player()
    names = []
    for _ in range(MAX_WAITING):
        house.connect()
        names.append(receiver.hear_arrival())
    house.connect()
    heard = [receiver.hear(), receiver.hear()]
    newcomer = next(message for message in heard if isinstance(message, Arrived))
    assert [message for message in heard if not isinstance(message, Arrived)] == [Unwanted(association_id=names[0])]
    assert not receiver.ask(names[0])
    assert receiver.ask(newcomer.association_id)


def test_a_receiver_that_is_stuck_gets_nothing_and_the_others_everything(house: House) -> None:
    stuck, served = house.player(1, queue_bytes=1), house.player(2)
    assert house.gate.wait_until_ready(2, LIMIT_S)
    # What one has that reads nothing more; both have the same number of connections in turns until then.
    for _ in range(30):
        house.connect()
    for _ in range(20):
        served.hear_arrival()
    stuck.die()


def test_an_address_outside_the_networks_is_closed_at_once_and_told_once() -> None:
    strict = replace(SETTINGS, allowed_networks=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    with open_house(strict) as house:
        house.player()
        for _ in range(5):
            # Without a receiver's help.
            assert house.connect().recv(1) == b""
        assert house.refused == ["127.0.0.1"]


def test_an_address_inside_the_networks_is_served() -> None:
    with open_house(replace(SETTINGS, allowed_networks=(ip_network("127.0.0.0/8"),))) as house:
        receiver = house.player()
        house.connect()
        receiver.hear_arrival()
        assert not house.refused


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_ipv4_address_is_the_same_one_when_it_comes_by_a_socket_of_both_kinds() -> None:
    both = replace(SETTINGS, bind="::", insecure=True, allowed_networks=(ip_network("127.0.0.0/8"),))
    with open_house(both) as house, socket.create_connection(("127.0.0.1", house.address[1]), timeout=LIMIT_S):
        house.player().hear_arrival()


def test_stop_accepts_no_more_and_tells_the_receivers(house: House) -> None:
    receiver = house.player()
    house.connect()
    name = receiver.hear_arrival()
    house.gate.stop(3.0)
    assert receiver.hear() == Drain(timeout_s=3.0)
    assert not receiver.ask(name)
    with pytest.raises(ConnectionRefusedError):
        house.connect()
    late = house.player(2)
    assert late.hear() == Drain(timeout_s=3.0)
