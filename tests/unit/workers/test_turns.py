"""One at a time on a device: who is next, that nobody waits for ever, and that the dead hold nobody up."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from node.domain.job import Priority
from tests.peers import wait_until
from tests.turn_takers import TAKERS, TURNS
from workers.turns import Ask, Gate, Gatekeeper

LIMIT_S = 60.0


class Clock:
    """Tells the time, and how often it was asked: once for each that is heard, and once for each that is let in."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return time.monotonic()


class Queue:
    """A gate with a keeper, and takers in threads."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.clock = Clock()
        self.served: list[str] = []
        Gatekeeper(self.gate, elapsed_s=self.clock).start()

    def join(self, name: str, ask: Ask) -> threading.Thread:
        """Return the thread of one who waits in the queue by now."""
        asked = self.clock.asked
        thread = threading.Thread(target=self._take, args=(name, ask))
        thread.start()
        wait_until(lambda: self.clock.asked > asked, what="a keeper who has heard", limit_s=LIMIT_S)
        return thread

    def _take(self, name: str, ask: Ask) -> None:
        with self.gate.turn(ask):
            self.served.append(name)


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue()
    yield made
    made.gate.close()


def routine(expected_s: float) -> Ask:
    return Ask(priority=Priority.ROUTINE, expected_s=expected_s)


def test_what_waits_goes_stat_first_then_by_length_and_priority(queue: Queue) -> None:
    with ExitStack() as inside:
        inside.enter_context(queue.gate.turn(routine(1.0)))
        waiting = [
            queue.join("long", routine(1000.0)),
            queue.join("short", routine(10.0)),
            queue.join("low", Ask(priority=Priority.LOW, expected_s=1000.0)),
            queue.join("stat", Ask(priority=Priority.STAT, expected_s=10000.0)),
            queue.join("high", Ask(priority=Priority.HIGH, expected_s=1000.0)),
        ]
        assert queue.served == []
    for thread in waiting:
        thread.join(LIMIT_S)
    assert queue.served == ["stat", "high", "short", "long", "low"]


def test_who_has_waited_for_a_multiple_of_his_length_comes_before_what_is_shorter() -> None:
    long, short = routine(1.0), routine(0.1)
    assert long.urgency(0.5) < short.urgency(0.5)
    assert long.urgency(12.0) > short.urgency(1.0)
    low = Ask(priority=Priority.LOW, expected_s=1.0)
    assert low.urgency(0.0) < long.urgency(0.0) < low.urgency(4.0)
    assert long.urgency(1e9) < Ask(priority=Priority.STAT, expected_s=100.0).urgency(0.0)


def test_a_clock_that_tells_no_length_divides_by_nothing() -> None:
    assert routine(0.0).urgency(0.0) == routine(5.0).urgency(0.0)


def test_a_stream_of_short_turns_does_not_keep_a_long_one_waiting_for_ever(queue: Queue) -> None:
    done = threading.Event()

    def stream() -> None:
        while not done.is_set():
            with queue.gate.turn(routine(0.01)):
                time.sleep(0.001)

    streams = [threading.Thread(target=stream) for _ in range(3)]
    for thread in streams:
        thread.start()
    try:
        queue.join("long", routine(0.02)).join(LIMIT_S)
        assert queue.served == ["long"]
    finally:
        done.set()
        for thread in streams:
            thread.join(LIMIT_S)


def test_processes_are_inside_one_at_a_time_and_those_that_die_hold_nobody_up(tmp_path: Path) -> None:
    book = tmp_path / "book"
    subprocess.run([sys.executable, "-m", "tests.turn_takers", str(book)], check=True, timeout=LIMIT_S)
    notes = [tuple(line.split()) for line in book.read_text().splitlines()]
    assert notes[0][0] == "dies"
    ins, outs = notes[1::2], notes[2::2]
    assert len(ins) == len(outs)
    assert all((came[0], went[0], came[1]) == ("in", "out", went[1]) for came, went in zip(ins, outs, strict=True))
    assert sorted(Counter(ins).values()) == [TURNS] * TAKERS
