"""A clock that is set is noticed, and one that is led is not."""

from datetime import datetime, timedelta

import pytest

from node.clock import TOLERANCE, ClockWatch
from tests.ledgers import NOON, at

HOUR = timedelta(hours=1)


class Hands:
    """A clock and the time that really passes."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.set_by = timedelta(0)

    def elapsed_s(self) -> float:
        return self.passed_s

    def now(self) -> datetime:
        return at(self.passed_s) + self.set_by


def test_time_that_passes_is_no_leap() -> None:
    hands = Hands()
    watch = ClockWatch(hands.elapsed_s)
    for hands.passed_s in (0.0, 5.0, 7200.0):
        assert not watch.leap(hands.now())


@pytest.mark.parametrize("leap", [HOUR, -HOUR])
def test_a_leap_is_told_until_it_is_accepted(leap: timedelta) -> None:
    hands = Hands()
    watch = ClockWatch(hands.elapsed_s)
    assert not watch.leap(NOON)
    hands.passed_s, hands.set_by = 3.0, leap
    assert watch.leap(hands.now()) == leap
    hands.passed_s = 4.0
    assert watch.leap(hands.now()) == leap
    watch.accept(hands.now())
    assert not watch.leap(hands.now())


def test_a_clock_that_is_led_never_leaps() -> None:
    hands = Hands()
    watch = ClockWatch(hands.elapsed_s)
    for step in range(1000):
        hands.passed_s, hands.set_by = step * 5.0, step * timedelta(seconds=0.1)
        assert not watch.leap(hands.now())
    assert hands.set_by > TOLERANCE
