"""Faults of the connection itself: ends in the middle, storms, and many at a time."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.instances import ct_slice, encode
from tests.node_process import NodeProcess
from tests.pdus import (
    COMMAND,
    DATA,
    ECHO_RSP,
    LAST,
    RELEASE_RQ,
    STORAGE_ID,
    STORE_RSP,
    Aborted,
    Answer,
    Closed,
    Released,
    Response,
    Wire,
    abort,
    associate_rq,
    associated,
    echo,
    message,
    p_data,
    pdv,
    store_rq,
    wire_to,
)

# store.max_instance_bytes of the node of these tests.
MAX_INSTANCE_BYTES = 1_000_000
WHOLE = encode(ct_slice())
HALF_A_STORE = p_data(pdv(STORAGE_ID, COMMAND | LAST, store_rq())) + p_data(pdv(STORAGE_ID, DATA, WHOLE[:50]))


def spool_of(node: NodeProcess) -> list[Path]:
    """Return what lies in the store and is no whole Instance."""
    return [path for path in (node.folder / "data" / "store" / ".incoming").rglob("*") if path.is_file()]


ENDS: dict[str, tuple[Callable[[Wire], None], list[Answer]]] = {
    "abort": (lambda wire: wire.send(abort()), [Closed()]),
    "release": (lambda wire: wire.send(RELEASE_RQ), [Released(), Closed()]),
    "half close": (Wire.half_close, [Closed()]),
    "close": (lambda wire: wire.connection.close(), []),
    "RST": (Wire.reset, []),
}


@pytest.mark.parametrize("end", ENDS)
def test_end_mid_data_set_leaves_nothing(node: NodeProcess, end: str) -> None:
    action, expected = ENDS[end]
    with associated(node.peer) as wire:
        wire.send(HALF_A_STORE)
        action(wire)
        if expected:
            assert wire.answers(limit_s=5.0) == expected


def test_nothing_is_left_in_the_spool(node: NodeProcess) -> None:
    """Of all that was cut off before."""
    assert spool_of(node) == []


def test_end_in_the_middle_of_a_request_is_harmless(node: NodeProcess) -> None:
    request = associate_rq()
    for cut in range(0, len(request), 7):
        with wire_to(node.peer) as wire:
            wire.send(request[:cut])
            if cut % 2:
                wire.reset()


def test_endless_data_set_is_aborted_at_the_largest_instance(node: NodeProcess) -> None:
    fragment = p_data(pdv(STORAGE_ID, DATA, bytes(100_000)))
    with associated(node.peer) as wire:
        wire.send(p_data(pdv(STORAGE_ID, COMMAND | LAST, store_rq())), fragment * (5 * MAX_INSTANCE_BYTES // 100_000))
        assert wire.answers(limit_s=5.0) == [Aborted(2, 0), Closed()]
    assert spool_of(node) == []


def connect_and_go(node: NodeProcess, number: int) -> None:
    with wire_to(node.peer) as wire:
        if number % 3 == 0:
            wire.send(b"\1")
        if number % 2:
            wire.reset()


def test_storm_of_connections_that_go_at_once_stops_nobody(node: NodeProcess) -> None:
    """600 of them, three at a time; an Association beside them is served all the while."""
    is_over = Event()

    def storm() -> None:
        for number in range(200):
            connect_and_go(node, number)
        is_over.set()

    storms = [Thread(target=storm) for _ in range(3)]
    with associated(node.peer) as good:
        for thread in storms:
            thread.start()
        served = 0
        while not is_over.is_set():
            good.send(echo(served))
            assert good.answer() == Response(ECHO_RSP, served, 0)
            served += 1
        for thread in storms:
            thread.join()
        good.release()
    assert served


def test_300_associations_in_a_row(node: NodeProcess) -> None:
    for number in range(300):
        with associated(node.peer) as wire:
            wire.send(echo(number))
            assert wire.answer() == Response(ECHO_RSP, number, 0)
            wire.release()


def test_200_idle_associations_leave_room_for_one_that_stores(node: NodeProcess) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(associated(node.peer)) for _ in range(200)]
        with associated(node.peer) as wire:
            wire.send(message(STORAGE_ID, store_rq(), WHOLE))
            assert wire.answer() == Response(STORE_RSP, 1, 0)
            wire.release()
        for number, wire in enumerate(idle):
            wire.send(echo(number))
            assert wire.answer() == Response(ECHO_RSP, number, 0)
            wire.release()
