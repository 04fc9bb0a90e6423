"""A timer that nobody can set: pynetdicom's own goes by the clock, and a clock that is set ends every Association."""

from time import monotonic

from pynetdicom.timer import Timer


class SteadyTimer(Timer):
    """Expires so many seconds after its start, as they really pass."""

    @property
    def remaining(self) -> float:
        """Seconds until it expires, negative after that; 1 when it never does."""
        if self.timeout is None:
            return 1.0
        if self._start_time is None:
            return float(self.timeout)
        end_s = monotonic() if self._end_time is None else self._end_time
        return float(self.timeout - (end_s - self._start_time))

    def start(self) -> None:
        """Start it, or start it again."""
        self._start_time, self._end_time = monotonic(), None

    def stop(self) -> None:
        """Stop it where it stands."""
        self._end_time = monotonic()
