"""A Destination is sent so many objects a minute, ten seconds' worth at once."""

from datetime import UTC, datetime, timedelta

import pytest

from node.peers.pace import Pace

NOON = datetime(2025, 1, 14, 12, tzinfo=UTC)


def test_without_a_limit_there_is_always_room() -> None:
    pace = Pace(0)
    assert pace.room(NOON, wanted=500) == 500
    pace.spend(500)
    assert pace.opens_at(NOON) == NOON


@pytest.mark.parametrize("per_minute", [1, 7, 30, 6000])
def test_room_follows_from_the_time_that_passed(per_minute: int) -> None:
    pace, now, sent = Pace(per_minute), NOON, 0
    while now < NOON + timedelta(minutes=60):
        room = pace.room(now, wanted=10_000)
        pace.spend(room)
        sent += room
        assert room <= max(1, per_minute / 6)
        opens_at = pace.opens_at(now)
        assert opens_at > now
        now = opens_at
    assert sent == pytest.approx(60 * per_minute, abs=max(1, per_minute / 6) + 1)


def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing() -> None:
    pace = Pace(60)
    assert pace.room(NOON, wanted=99) == 10
    pace.spend(10)
    assert pace.room(NOON - timedelta(hours=1), wanted=99) == 0
    assert pace.room(NOON - timedelta(hours=1) + timedelta(seconds=3), wanted=99) == 3
