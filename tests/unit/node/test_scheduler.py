"""The belt ticks when it is woken, when a station is due, and whatever a station throws."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from node.clock import ClockWatch
from node.errors import LedgerBusy
from node.scheduler import Belt, Sharing
from tests.ledgers import NOON, at

DEADLINE_S = 10.0


class Turns:
    """A station that counts its turns, and lets a test wait for them."""

    def __init__(self, answer: Callable[[int], datetime | None] = lambda turn: None) -> None:
        self._answer = answer
        self._changed = threading.Condition()
        self.count = 0

    def tick(self, now: datetime) -> datetime | None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()
        return self._answer(self.count)

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, timeout=DEADLINE_S)


def test_stations_are_ticked_in_order() -> None:
    order: list[str] = []
    both = threading.Event()

    def first(now: datetime) -> None:
        order.append("first")

    def second(now: datetime) -> None:
        order.append("second")
        both.set()

    belt = Belt("test", {"first": first, "second": second}, lambda: NOON)
    belt.start()
    assert both.wait(DEADLINE_S)
    belt.stop()
    assert order[:2] == ["first", "second"]


def test_a_wake_up_during_a_tick_is_not_lost() -> None:
    def answer(turn: int) -> datetime:
        if turn < 50:
            belt.wake()
        return at(3600)

    turns = Turns(answer)
    belt = Belt("test", {"station": turns.tick}, lambda: NOON)
    belt.start()
    turns.wait_for(50)
    belt.stop()


def test_a_station_that_is_due_is_ticked_without_a_wake_up() -> None:
    turns = Turns(lambda turn: at(0.001))
    belt = Belt("test", {"station": turns.tick}, lambda: NOON)
    belt.start()
    turns.wait_for(3)
    belt.stop()


@pytest.mark.parametrize("error", [LedgerBusy("locked"), ValueError("Canary^Patient")])
def test_a_station_that_fails_stops_neither_the_others_nor_the_belt(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(now: datetime) -> datetime | None:
        raise error

    healthy = Turns()
    belt = Belt("test", {"failing": fail, "healthy": healthy.tick}, lambda: NOON)
    with caplog.at_level(logging.WARNING, logger="node.scheduler"):
        belt.start()
        healthy.wait_for(1)
        belt.wake()
        healthy.wait_for(2)
        belt.stop()
    expected = "station waits" if isinstance(error, LedgerBusy) else "station broken"
    assert {record.getMessage() for record in caplog.records} == {expected}


def test_a_clock_that_is_set_is_followed_before_any_station_is_told_the_time() -> None:
    heard: list[str] = []
    times = iter([NOON, at(3600), at(3600), at(3600)])
    done = threading.Event()

    def follow(leap: timedelta, now: datetime) -> None:
        heard.append(f"set to {now:%H:%M}, {leap.total_seconds():.0f} s")
        if len(heard) == 2:
            raise LedgerBusy("locked")

    def tick(now: datetime) -> datetime | None:
        heard.append(f"{now:%H:%M}")
        if len(heard) >= 4:
            done.set()
        belt.wake()
        return None

    belt = Belt("test", {"station": tick}, lambda: next(times, at(3600)), follow=follow, watch=ClockWatch(lambda: 0.0))
    belt.start()
    belt.wake()
    wait_for_retry = done.wait(DEADLINE_S)
    belt.stop()
    assert wait_for_retry
    assert heard[:4] == ["12:00", "set to 13:00, 3600 s", "set to 13:00, 3600 s", "13:00"]


def test_stop_ends_a_belt_that_waits_for_a_far_event() -> None:
    turns = Turns(lambda turn: at(3600))
    belt = Belt("test", {"station": turns.tick}, lambda: NOON)
    belt.start()
    turns.wait_for(1)
    belt.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "belt-test"]


def test_a_belt_that_is_to_end_begins_no_other_tick_and_asks_for_no_lead() -> None:
    begun, asked = threading.Event(), []
    go_on = threading.Event()

    def tick(now: datetime) -> datetime | None:
        begun.set()
        assert go_on.wait(DEADLINE_S)
        return now

    def leads() -> bool:
        asked.append(begun.is_set())
        return True

    next_one = Turns()
    belt = Belt("test", {"in hand": tick, "next": next_one.tick}, lambda: NOON, sharing=Sharing(leads=leads))
    belt.start()
    assert begun.wait(DEADLINE_S)
    # Returns although a tick is in hand.
    belt.expect_end()
    go_on.set()
    belt.stop()
    assert (next_one.count, asked) == (0, [False])


def test_a_belt_that_was_never_started_stops_too() -> None:
    Belt("test", {}, lambda: NOON).stop()
