"""The station that looks after Jobs that wait for earlier Studies: what came, what will not, and what is late."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

logger = logging.getLogger(__name__)


class WaitLedger(Protocol):
    """What the station asks of the ledger."""

    def has_any(self) -> bool:
        """Return whether a search is under way."""
        ...

    def has_due(self, now: datetime) -> bool:
        """Return whether somebody is to be asked for priors."""
        ...

    def advance(self, now: datetime) -> int:
        """End the searches of which nothing is to come, and tell those that are late; return how many moved."""
        ...

    def next_late(self) -> datetime | None:
        """Return when the next search is late."""
        ...


class PriorWaits:
    """Lets the rules be asked again when a search for priors is over, or late.

    Parameters
    ----------
    call
        Called when somebody is to be asked for priors.
    """

    def __init__(self, ledger: WaitLedger, *, call: Callable[[], None]) -> None:
        self._ledger = ledger
        self._call = call

    def tick(self, now: datetime) -> datetime | None:
        """Move what is due; return `now` when rules are to be asked again, else when the next search is late.

        Returns after what follows for Studies is committed.
        """
        if not self._ledger.has_any():
            return None
        moved = self._ledger.advance(now)
        if self._ledger.has_due(now):
            self._call()
        if moved:
            logger.info("priors heard", extra={"count": moved})
            return now
        return self._ledger.next_late()
