"""The order in which waiting Jobs are served."""

import pytest

from node.domain.job import Priority
from node.domain.lane import FRONT, LANES, lane_of


@pytest.mark.parametrize(
    ("priority", "expected_s", "waited_s", "lane"),
    [
        (Priority.STAT, 0.1, 0, 0),
        (Priority.STAT, 300, 0, 2),
        (Priority.HIGH, 0.1, 0, 3),
        (Priority.ROUTINE, None, 0, 7),
        (Priority.ROUTINE, 2.0, 0, 6),
        (Priority.ROUTINE, 20.1, 0, 8),
        (Priority.LOW, 300, 0, LANES - 1),
        (Priority.LOW, 300, 119, LANES - 2),
        (Priority.LOW, 300, 120, LANES - 3),
        (Priority.LOW, 300, 1e6, FRONT),
        (Priority.HIGH, 0.1, 1e6, FRONT),
        (Priority.STAT, 300, 1e6, 0),
        # A clock that was set back makes nobody wait longer.
        (Priority.ROUTINE, 1.0, -500, 6),
    ],
)
def test_priority_goes_first_then_the_short_and_waiting_brings_forward(
    priority: Priority, expected_s: float | None, waited_s: float, lane: int
) -> None:
    assert lane_of(priority, expected_s=expected_s, waited_s=waited_s, ageing_s=60.0) == lane
