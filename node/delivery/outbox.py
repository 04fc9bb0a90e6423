"""What the courier needs of the ledger: the outbox of one Destination."""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from node.domain.result import Delivery


class DeliveryLedger(Protocol):
    """What the courier needs of the ledger; each operation is one transaction.

    The operations named `record_` count one attempt, and do nothing where the Delivery was tried or made due anew since
    it was read; `now` is when the Destination answered. `defer_deliveries` counts none: the objects were not tried.
    """

    def due_deliveries(self, destination: str, now: datetime, limit: int) -> tuple[Delivery, ...]:
        """Return PENDING Deliveries whose `not_before` has come: fewest attempts first, then the oldest Study."""

    def still_pending(self, delivery_ids: Collection[int]) -> frozenset[int]:
        """Return which of these Deliveries are PENDING."""

    def next_delivery_at(self, destination: str) -> datetime | None:
        """Return the earliest `not_before` of a PENDING Delivery; None if there is none."""

    def retries_ordered(self, destination: str) -> int:
        """Return how many Deliveries to a Destination were made due by hand, ever."""

    def record_sent(
        self, delivery: Delivery, *, now: datetime, reason_code: str | None, reason_text: str | None
    ) -> None:
        """Turn a Delivery SENT; the reason is the warning with which it was taken."""

    def record_refused(self, delivery: Delivery, *, now: datetime, reason_code: str, reason_text: str) -> bool:
        """Turn a Delivery REFUSED, order what can stand in for it, and return whether a person must act."""

    def record_retry(
        self, delivery: Delivery, *, now: datetime, not_before: datetime, reason: tuple[str, str], is_doubtful: bool
    ) -> None:
        """Leave a Delivery PENDING until `not_before`, and count a doubt where it is one."""

    def leave_out(self, delivery: Delivery) -> None:
        """Forget a Delivery of an object that is none that its Destination is told of."""

    def defer_deliveries(
        self, destination: str, *, now: datetime, not_before: datetime, reason: tuple[str, str], is_news: bool
    ) -> None:
        """Let the PENDING Deliveries of the Destination wait; without news only those that have another reason."""

    def overdue_deliveries(self, destination: str, ordered_before: datetime) -> tuple[Delivery, ...]:
        """Return PENDING Deliveries that were ordered, or last made due by hand, so long ago."""

    def delivery_age_start(self, delivery_id: int) -> datetime | None:
        """Return when the Delivery was ordered; None if it is not there any more."""
