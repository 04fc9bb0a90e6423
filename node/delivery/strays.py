"""Station 6c: what waits for a Destination that the settings name no longer ends one day, and a person is told."""

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Protocol

from node.domain.result import Delivery

logger = logging.getLogger(__name__)

DELIVERIES_WITHOUT_DESTINATION = "deliveries without destination"
NO_DESTINATION = "no-destination"
LOOK_EVERY = timedelta(hours=1)


class StrayLedger(Protocol):
    """What this station asks of the ledger; each operation is one transaction."""

    def waiting_destinations(self) -> frozenset[str]:
        """Return every Destination for which something is PENDING, or LOST and not taken note of."""

    def stray_deliveries(self, destination: str, ordered_before: datetime) -> tuple[Delivery, ...]:
        """Return what waits for a Destination since so long ago."""

    def record_refused(self, delivery: Delivery, *, now: datetime, reason_code: str, reason_text: str) -> bool:
        """Turn a Delivery REFUSED, and return whether a person must act."""


class Strays:
    """Refuses what no courier will ever take, after the time that every Delivery has.

    Parameters
    ----------
    destinations
        Those of the settings.
    give_up_days
        Days, > 0.
    """

    def __init__(self, destinations: Collection[str], ledger: StrayLedger, *, give_up_days: float) -> None:
        self._destinations = frozenset(destinations)
        self._ledger = ledger
        self._give_up_days = give_up_days

    def tick(self, now: datetime) -> datetime:
        """Refuse what waited for too long; return when to be called next.

        Until then its alarm stands, and a Destination that is named again takes all of it.
        """
        ordered_before = now - timedelta(days=self._give_up_days)
        for name in sorted(self._ledger.waiting_destinations() - self._destinations):
            found = self._ledger.stray_deliveries(name, ordered_before)
            for delivery in found:
                text = (
                    f"the settings name no destination {name}, and it waited for {self._give_up_days:g} days; name it "
                    f"again, then `radnode deliveries retry`. Last: {delivery.reason_text or 'never tried'}"
                )
                self._ledger.record_refused(delivery, now=now, reason_code=NO_DESTINATION, reason_text=text)
            if found:
                facts = {"destination": name, "count": len(found), "reason_code": NO_DESTINATION}
                logger.error(DELIVERIES_WITHOUT_DESTINATION, extra=facts)
        return now + LOOK_EVERY
