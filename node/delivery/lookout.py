"""Keeps fresh what the ledger knows of one Destination: a probe a day, and each of its answers."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from node.domain.capability import WRITTEN_FORMS, Capability, Form
from node.errors import DestinationDown, Misconfigured, SopClassNotSupported
from node.peers.parcel import Fate, Outcome
from node.peers.patience import Patience

logger = logging.getLogger(__name__)

DESTINATION_PROBED = "destination probed"
DESTINATION_NOT_PROBED = "destination not probed"
FRESH_FOR = timedelta(days=1)
AT_ONCE = datetime.min.replace(tzinfo=UTC)
OURS = frozenset(WRITTEN_FORMS.values())


class CapabilityLedger(Protocol):
    """What the lookout needs of the ledger; each operation is one transaction."""

    def find_capability(self, destination: str, address: str) -> Capability | None:
        """Return what is known of a Destination at this address."""

    def record_probe(self, seen: Capability, *, forgets_answers: bool) -> None:
        """Keep what a probe found."""

    def record_answer(self, destination: str, address: str, form: Form, *, is_taken: bool) -> None:
        """Keep what a Destination did with an object."""


class Lookout:
    """Knows what one Destination accepts; used by the thread of its courier.

    Parameters
    ----------
    destination
        Its name in the settings.
    address
        Where it is; what was known of another address does not count.
    probe
        Returns which forms it accepts, or None where only sending tells; see `node.delivery.probe.probe_forms`.
    chance
        Uniform in [0, 1).
    """

    def __init__(
        self,
        *,
        destination: str,
        address: str,
        probe: Callable[[], frozenset[Form] | None],
        ledger: CapabilityLedger,
        patience: Patience,
        chance: Callable[[], float],
    ) -> None:
        self._destination = destination
        self._address = address
        self._probe = probe
        self._ledger = ledger
        self._patience = patience
        self._chance = chance
        self._failures = 0
        self._next_at: datetime | None = AT_ONCE

    def refresh(self, now: datetime) -> datetime | None:
        """Probe when that was not done for a day; returns when to be called next, None where only sending tells.

        A Destination that does not answer is asked again with growing pauses; that holds up no Delivery.
        """
        if self._next_at is not None and now >= self._next_at:
            known = self._ledger.find_capability(self._destination, self._address)
            asked_at = None if known is None else known.asked_at
            stale_at = AT_ONCE if asked_at is None else asked_at + FRESH_FOR
            self._next_at = stale_at if now < stale_at else self._ask(now)
        return self._next_at

    def learn(self, form: Form, outcome: Outcome) -> None:
        """Keep what the Destination did with one object, where it says something about all objects of its form."""
        is_taken = outcome.fate is Fate.SENT
        if form in OURS and (is_taken or outcome.code == SopClassNotSupported.code):
            self._ledger.record_answer(self._destination, self._address, form, is_taken=is_taken)

    def _ask(self, now: datetime) -> datetime | None:
        """Return when to be called next, after the Destination was asked."""
        facts = {"destination": self._destination}
        try:
            accepted = self._probe()
        except (DestinationDown, Misconfigured) as exc:
            self._failures += 1
            # Once: the Deliveries that fail tell the rest.
            level = logging.WARNING if self._failures == 1 else logging.DEBUG
            logger.log(level, DESTINATION_NOT_PROBED, extra={**facts, "reason_code": exc.code})
            return now + self._patience.pause(self._failures, self._chance())
        self._failures = 0
        if accepted is None:
            return None
        self._ledger.record_probe(see(self._destination, self._address, accepted, now=now), forgets_answers=False)
        logger.info(DESTINATION_PROBED, extra=facts)
        return now + FRESH_FOR


def see(destination: str, address: str, accepted: frozenset[Form], *, now: datetime) -> Capability:
    """Return what a probe that was answered with `accepted` says of a Destination."""
    return Capability(
        destination=destination, address=address, accepted=accepted, refused=OURS - accepted, asked_at=now
    )
