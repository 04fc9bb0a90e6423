"""Peers that say nothing, stop in the middle or speak too slowly: each is ended in time, and all at once."""

import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic

import pytest

from tests.instances import ct_slice, encode
from tests.node_process import NodeProcess
from tests.pdus import (
    COMMAND,
    DATA,
    LAST,
    STORAGE_ID,
    Aborted,
    Answer,
    Closed,
    Wire,
    associate_rq,
    command_set,
    echo,
    message,
    p_data,
    pdv,
    short,
    store_rq,
)

# What node.dimse_timeout_s is as shipped would take minutes.
TIMEOUT_S = 2.0
NODE_KEYS = f"dimse_timeout_s = {TIMEOUT_S}\n"
# pynetdicom's timers are looked at once a second, and a lingering close takes another.
LIMIT_S = TIMEOUT_S + 6.0
DRIBBLE_S = 0.05
SMALL_BUFFER_BYTES = 4096
WHOLE = encode(ct_slice())
STORE = p_data(pdv(STORAGE_ID, COMMAND | LAST, store_rq()))
UNSERVED = message(STORAGE_ID, command_set(short(0x0100, 0x0020), short(0x0110, 1), short(0x0800, 0x0101)))
BY_PROVIDER, BY_USER = Aborted(2, 0), Aborted(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the node has ended a connection, and how long after it was opened."""

    answers: list[Answer]
    seconds: float


def silent(wire: Wire) -> list[Answer]:
    return wire.answers(LIMIT_S)


def half_sent(wire: Wire) -> list[Answer]:
    wire.send(associate_rq()[:100])
    return wire.answers(LIMIT_S)


def dribbled(wire: Wire, content: Iterator[bytes]) -> list[Answer]:
    """Send piece by piece until the node has had enough."""
    answers: list[Answer] = []
    for piece in content:
        wire.send(piece)
        try:
            answers.append(wire.answer(DRIBBLE_S))
        except TimeoutError:
            continue
        if answers[-1] == Closed():
            return answers
    raise AssertionError(answers)


def slow_request(wire: Wire) -> list[Answer]:
    return dribbled(wire, (bytes((byte,)) for byte in associate_rq()))


def idle(wire: Wire) -> list[Answer]:
    wire.associate()
    return wire.answers(LIMIT_S)


def stalled_in_a_pdu(wire: Wire) -> list[Answer]:
    wire.associate()
    wire.send(echo()[:-5])
    return wire.answers(LIMIT_S)


def stalled_in_a_data_set(wire: Wire) -> list[Answer]:
    wire.associate()
    wire.send(STORE, p_data(pdv(STORAGE_ID, DATA, WHOLE[:50])))
    return wire.answers(LIMIT_S)


def slow_data_set(wire: Wire) -> list[Answer]:
    wire.associate()
    wire.send(STORE)
    return dribbled(wire, (p_data(pdv(STORAGE_ID, DATA, b"ab")) for _ in range(1000)))


def slow_pdu(wire: Wire) -> list[Answer]:
    wire.associate()
    return dribbled(wire, (bytes((byte,)) for byte in STORE + p_data(pdv(STORAGE_ID, DATA, WHOLE))))


def deaf(wire: Wire) -> list[Answer]:
    """Ask and ask, and read no answer until the node stops taking questions."""
    wire.associate()
    wire.connection.settimeout(LIMIT_S)
    flood = UNSERVED * 1000
    try:
        while True:
            wire.connection.sendall(flood)
    except ConnectionError:
        return [Closed()]


PEERS: Mapping[str, tuple[Callable[[Wire], list[Answer]], list[Answer]]] = {
    "silent": (silent, [Closed()]),
    "half-sent A-ASSOCIATE-RQ": (half_sent, [Closed()]),
    "slowloris in the A-ASSOCIATE-RQ": (slow_request, [Closed()]),
    "idle Association": (idle, [BY_USER, Closed()]),
    "stalled in a PDU": (stalled_in_a_pdu, [BY_PROVIDER, Closed()]),
    "stalled in a data set": (stalled_in_a_data_set, [BY_PROVIDER, Closed()]),
    "slowloris in the data set": (slow_data_set, [BY_PROVIDER, Closed()]),
    "slowloris in a PDU": (slow_pdu, [BY_PROVIDER, Closed()]),
    "peer that reads no answer": (deaf, [Closed()]),
}


def meet(node: NodeProcess, behave: Callable[[Wire], list[Answer]]) -> Ending:
    with socket.socket() as connection:
        # So that not reading is noticed before megabytes of answers are on their way.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        connection.connect((node.peer.host, node.peer.port))
        begun_s = monotonic()
        return Ending(answers=behave(Wire(connection)), seconds=monotonic() - begun_s)


@pytest.fixture(scope="module")
def endings(node: NodeProcess) -> Mapping[str, Ending]:
    """Return how each peer was ended; they come together, so that they wait together."""
    with ThreadPoolExecutor(len(PEERS)) as pool:
        met = {name: pool.submit(meet, node, behave) for name, (behave, _) in PEERS.items()}
        return {name: future.result() for name, future in met.items()}


@pytest.mark.parametrize("peer", PEERS)
def test_peer_that_takes_too_long_is_ended(endings: Mapping[str, Ending], peer: str) -> None:
    _, expected = PEERS[peer]
    assert endings[peer].answers == expected
    assert endings[peer].seconds < LIMIT_S
