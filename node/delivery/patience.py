"""How long and how often a Destination is tried."""

from dataclasses import dataclass
from datetime import timedelta

# A pause grows by up to this part of itself, so that nodes that lost a PACS together do not return together.
JITTER = 0.25
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
        Longest pause before jitter; seconds.
    give_up_days
        Age at which a Delivery that never succeeded is REFUSED; days, > 0.
    """

    first_retry_s: float = 2.0
    max_retry_s: float = 300.0
    give_up_days: float = 30.0

    def pause(self, failures: int, chance: float) -> timedelta:
        """Return how long to wait after so many failures in a row.

        Parameters
        ----------
        failures
            At least 1.
        chance
            Uniform in [0, 1).
        """
        doubled = self.first_retry_s * 2.0 ** min(failures - 1, MAX_DOUBLINGS)
        return timedelta(seconds=min(doubled, self.max_retry_s) * (1.0 + JITTER * chance))
