"""How many objects a minute one Destination is sent at most."""

from datetime import datetime, timedelta

# What may leave at once after a rest, as a part of a minute.
BURST_S = 10.0
MINUTE_S = 60.0
# What sums of fractions lose.
ROUNDING = 1e-6


class Pace:
    """Grants room for objects as time passes, ten seconds' worth at once.

    Parameters
    ----------
    per_minute
        Objects a minute; 0 sets no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_second = per_minute / MINUTE_S
        self._most = max(1.0, self._per_second * BURST_S)
        self._room = self._most
        self._seen_at: datetime | None = None

    def room(self, now: datetime, *, wanted: int) -> int:
        """Return how many of the objects `wanted` may leave now."""
        if not self._per_second:
            return wanted
        # A clock that is set back gives nothing, and takes nothing away.
        passed_s = 0.0 if self._seen_at is None else max(0.0, (now - self._seen_at).total_seconds())
        self._seen_at = now
        self._room = min(self._most, self._room + passed_s * self._per_second)
        return min(wanted, int(self._room + ROUNDING))

    def spend(self, count: int) -> None:
        """Take note that so many left."""
        self._room -= count

    def opens_at(self, now: datetime) -> datetime:
        """Return when there is room for as many as leave at once, or now where there is no limit."""
        if not self._per_second:
            return now
        return now + timedelta(seconds=max(0.0, (self._most - self._room) / self._per_second))
