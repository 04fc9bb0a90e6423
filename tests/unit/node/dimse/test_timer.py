"""A timer that takes pynetdicom's place does what that one does."""

from node.dimse.timer import SteadyTimer
from tests.peers import wait_until

SHORT_S = 0.02


def test_it_expires_after_its_seconds_and_begins_anew_when_it_is_started_again() -> None:
    timer = SteadyTimer(SHORT_S)
    assert (timer.expired, timer.remaining) == (False, SHORT_S)
    timer.start()
    wait_until(lambda: timer.expired, what="an expired timer", limit_s=10.0)
    assert timer.remaining < 0
    timer.timeout = 100.0
    timer.restart()
    assert not timer.expired
    assert 99.0 < timer.remaining <= 100.0


def test_stopped_it_stands_still() -> None:
    timer = SteadyTimer(100.0)
    timer.start()
    timer.stop()
    left_s = timer.remaining
    assert 99.0 < left_s == timer.remaining


def test_without_seconds_it_never_expires() -> None:
    timer = SteadyTimer(None)
    timer.start()
    assert (timer.expired, timer.remaining) == (False, 1.0)
