"""How long and how often a Destination is tried."""

from dataclasses import dataclass
from datetime import datetime, timedelta

# A pause grows by up to this part of itself, so that nodes that lost a PACS together do not return together.
JITTER = 0.25
# A Destination that is down is asked at least so often, jitter apart: with `probe.KNOCK_LIMIT_S`, one that returns is
# found within 10 s.
LONGEST_KNOCK_S = 6.0
# 2 ** 40 first pauses are beyond every longest pause; without it the power overflows after a month of failures.
MAX_DOUBLINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long and how often deliveries are tried; ``[delivery]`` of the settings.

    Attributes
    ----------
    first_retry_s
        Pause after the first failure, doubled for each further one; seconds, > 0.
    max_retry_s
        Longest pause between two attempts of one object, before jitter; seconds.
    give_up_days
        Age at which a Delivery that never succeeded is REFUSED; days, > 0.
    per_minute
        How many objects a Destination is sent at most; 0 sets no limit.
    """

    first_retry_s: float = 2.0
    max_retry_s: float = 300.0
    give_up_days: float = 30.0
    per_minute: int = 0

    @property
    def give_up_after(self) -> timedelta:
        """`give_up_days` as a span of time."""
        return timedelta(days=self.give_up_days)

    @property
    def longest_pause(self) -> timedelta:
        """What no pause exceeds."""
        return timedelta(seconds=self.max_retry_s * (1.0 + JITTER))

    def pause(self, failures: int, chance: float) -> timedelta:
        """Return how long an object waits that was not taken so many times in a row.

        Parameters
        ----------
        failures
            At least 1.
        chance
            Uniform in [0, 1).
        """
        return self._grown(failures, chance, longest_s=self.max_retry_s)

    def is_lasting(self, until: datetime | None, *, now: datetime) -> bool:
        """Return whether a pause lasts that ends then; one that is longer than any means that the clock was set."""
        return until is not None and timedelta(0) < until - now <= self.longest_pause

    def knock_pause(self, failures: int, chance: float) -> timedelta:
        """Return how long to leave a Destination alone that was down so many times in a row; see `pause`.

        To ask it costs a connection and no object, so it is asked often, and what waits leaves soon after its return.
        """
        return self._grown(failures, chance, longest_s=min(self.max_retry_s, LONGEST_KNOCK_S))

    def _grown(self, failures: int, chance: float, *, longest_s: float) -> timedelta:
        doubled = self.first_retry_s * 2.0 ** min(failures - 1, MAX_DOUBLINGS)
        return timedelta(seconds=min(doubled, longest_s) * (1.0 + JITTER * chance))
