"""The station that lets Studies follow what RIS and HIS ordered while, or after, their images came."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

log = logging.getLogger(__name__)

# Conditions whose answer an order may change.
ASKED_OF_ORDERS = frozenset({"order_priority", "procedure_code", "requesting_service"})
# Orders that are too old are looked for so often.
FORGET_EVERY = timedelta(hours=1)


class HeardLedger(Protocol):
    """What the station asks of the ledger."""

    def hear_orders(self, *, are_asked_for: bool, now: datetime) -> int:
        """Let Studies that are here follow orders that came since; return how many were heard of."""
        ...

    def forget(self, *, before: datetime) -> int:
        """Delete the orders that did not change since `before` and whose Study is not here; return how many."""
        ...


class ImagingOrders:
    """Hears of orders, and forgets them when nothing came of them.

    Parameters
    ----------
    are_asked_for
        Whether rules ask of orders; see `ask_of_orders`.
    keep
        How long an order waits for its Study.
    """

    def __init__(self, ledger: HeardLedger, *, are_asked_for: bool, keep: timedelta) -> None:
        self._ledger = ledger
        self._are_asked_for = are_asked_for
        self._keep = keep
        self._forgot_at: datetime | None = None

    def tick(self, now: datetime) -> datetime | None:
        """Hear of what came; return `now` when more may have come, else when orders are forgotten next.

        Returns after what follows for Studies is committed.
        """
        heard = self._ledger.hear_orders(are_asked_for=self._are_asked_for, now=now)
        if heard:
            log.info("orders heard", extra={"count": heard})
            return now
        # Where the clock was set back, at once.
        if self._forgot_at is None or not timedelta(0) <= now - self._forgot_at < FORGET_EVERY:
            self._ledger.forget(before=now - self._keep)
            self._forgot_at = now
        return self._forgot_at + FORGET_EVERY


def ask_of_orders(tables: Iterable[Mapping[str, object]]) -> bool:
    """Return whether a rule of these tables has a condition whose answer an order may change."""
    return any(_asks(table) for table in tables)


def _asks(entry: object) -> bool:
    if isinstance(entry, Mapping):
        return not ASKED_OF_ORDERS.isdisjoint(entry) or any(map(_asks, entry.values()))
    return isinstance(entry, Sequence) and not isinstance(entry, str) and any(map(_asks, entry))
