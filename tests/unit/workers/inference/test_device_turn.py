"""What a Job waits for before its network runs: its turn, and room on the device; elsewhere for nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from node.domain.job import Priority
from workers.inference.ladder import Footing, Ladder
from workers.inference.turn import PATIENCE_S, UNKNOWN_S, Turns, device_turn
from workers.stopwatch import Stopwatch
from workers.turns import Ask, Gate, Gatekeeper

LIMIT_S = 60.0


class Door(Gate):
    """A gate without a queue that notes who asked."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.inside = 0

    @contextmanager
    def turn(self, ask: Ask) -> Iterator[None]:
        self.asked.append(ask)
        self.inside += 1
        assert self.inside == 1
        try:
            yield
        finally:
            self.inside -= 1


class Clock:
    """Goes on by a step each time that it is asked."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


class Memory:
    """A device with so much room, a block of which is given back at each look."""

    def __init__(self, *, free: int, freed: int = 0, peak: int = 0) -> None:
        self.free = free
        self.freed = freed
        self.peak = peak
        self.begun = self.ended = 0

    def free_bytes(self) -> int:
        self.free += self.freed
        return self.free

    def begin(self) -> None:
        self.begun += 1

    def end(self) -> int:
        self.ended += 1
        return self.peak


@device_turn()
def ask_network(door: Door) -> int:
    return door.inside


@pytest.fixture
def door() -> Door:
    return Door()


def test_without_a_shared_device_nothing_is_waited_for(door: Door) -> None:
    assert ask_network(door) == 0
    assert door.asked == []


def test_a_network_has_the_device_and_what_lies_around_it_has_not(door: Door) -> None:
    with Turns(door, None).of("lung", Priority.HIGH):
        assert door.inside == 0
        assert ask_network(door) == 1
        assert door.inside == 0
    assert door.asked == [Ask(priority=Priority.HIGH, expected_s=UNKNOWN_S)]
    assert ask_network(door) == 0


def test_a_turn_inside_of_a_turn_is_the_same_one(door: Door) -> None:
    with Turns(door, None).of("lung", Priority.ROUTINE), device_turn():
        assert ask_network(door) == 1
    assert len(door.asked) == 1


def test_a_turn_is_expected_to_take_what_the_last_one_of_its_pipeline_took(door: Door) -> None:
    turns = Turns(door, None, elapsed_s=Clock(0.25))
    for pipeline in ("lung", "lung", "brain"):
        with turns.of(pipeline, Priority.ROUTINE):
            ask_network(door)
    assert [ask.expected_s for ask in door.asked] == [UNKNOWN_S, 0.25, UNKNOWN_S]


def test_a_network_that_fails_gives_its_turn_back(door: Door) -> None:
    memory = Memory(free=1)
    with Turns(door, memory).of("lung", Priority.ROUTINE):
        with pytest.raises(MemoryError), device_turn():
            raise MemoryError
        assert (memory.begun, memory.ended) == (1, 1)
        assert ask_network(door) == 1


def test_who_needs_more_room_than_there_is_lets_others_go_first(door: Door) -> None:
    memory = Memory(free=0, freed=40, peak=100)
    turns = Turns(door, memory)
    with turns.of("lung", Priority.ROUTINE):
        ask_network(door)
        memory.free = 0
        ask_network(door)
    # The first knows of no need; the second looks at 40, 80, and 120 bytes.
    assert len(door.asked) == 4
    assert (memory.begun, memory.ended) == (2, 2)


def test_room_that_never_comes_is_waited_for_with_patience_and_not_for_ever(door: Door) -> None:
    turns = Turns(door, Memory(free=0, peak=100), elapsed_s=Clock(PATIENCE_S / 2))
    with turns.of("lung", Priority.ROUTINE):
        ask_network(door)
        assert ask_network(door) == 1


def test_a_network_that_moved_to_the_cpu_waits_for_nobody(door: Door) -> None:
    def question(network: nn.Module, footing: Footing) -> int:
        inside = ask_network(door)
        if footing.device.type != "cpu":
            raise torch.OutOfMemoryError
        return inside

    class Movable(nn.Linear):
        def to(self, device: torch.device) -> "Movable":  # type: ignore[override]  # all that a ladder asks for
            return self.to_empty(device=device)

    with Turns(door, None).of("lung", Priority.ROUTINE):
        asked = Ladder(Movable(1, 1), torch.device("meta"), batch=1).ask(question)
    assert (asked.answer, len(door.asked)) == (0, 1)


def test_the_wait_for_a_turn_is_a_part_of_the_stage() -> None:
    gate = Gate()
    Gatekeeper(gate).start()
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with gate.turn(Ask(priority=Priority.STAT, expected_s=1.0)):
            inside.set()
            leave.wait(LIMIT_S)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(LIMIT_S)
    timer = threading.Timer(0.05, leave.set)

    @contextmanager
    def leave_soon() -> Iterator[None]:
        timer.start()
        yield

    shared = Turns(gate, None).of("lung", Priority.ROUTINE, waiting=leave_soon)
    with Stopwatch() as watch, watch.measure("infer"), shared, device_turn():
        pass
    holder.join(LIMIT_S)
    timer.join(LIMIT_S)
    gate.close()
    assert watch.seconds["infer.turn"] >= 0.04
