"""What time it is; handed to whoever needs to know, so that tests may say."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

# A clock that is led to the right time moves less between two looks; one that is set moves more.
TOLERANCE = timedelta(seconds=5)


def utc_now() -> datetime:
    """Return the present instant, aware, in UTC."""
    return datetime.now(UTC)


class ClockWatch:
    """Notices that somebody set the clock, or that the machine slept.

    Parameters
    ----------
    elapsed_s
        Seconds since any moment, which nobody can set.
    """

    def __init__(self, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._elapsed_s = elapsed_s
        self._began: tuple[datetime, float] | None = None

    def leap(self, now: datetime) -> timedelta:
        """Return how far the clock, which says `now`, was set since it was last accepted; zero where it was not."""
        if self._began is None:
            self.accept(now)
            return timedelta(0)
        at, elapsed_s = self._began
        leap = (now - at) - timedelta(seconds=self._elapsed_s() - elapsed_s)
        if abs(leap) > TOLERANCE:
            return leap
        self.accept(now)
        return timedelta(0)

    def accept(self, now: datetime) -> None:
        """Take `now` for the right time."""
        self._began = (now, self._elapsed_s())
