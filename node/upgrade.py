"""The station that asks waiting Jobs of the models that are installed now."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from node.domain.job import JobID
from node.domain.model_version import ModelVersion

logger = logging.getLogger(__name__)

# A Job that an earlier version ran may come back at any time: its worker was told to end, or fell silent.
PERIOD = timedelta(seconds=30)


class UpgradeLedger(Protocol):
    """What the station asks of the ledger."""

    def adopt_models(self, installed: Mapping[str, ModelVersion], *, now: datetime) -> Sequence[JobID]:
        """Ask waiting Jobs of these models, where they were ordered on others; returns those Jobs."""
        ...


class Upgrade:
    """Leaves no Job waiting for a model that nobody has any more.

    Parameters
    ----------
    installed
        Name of each configured Pipeline to its model.
    """

    def __init__(self, ledger: UpgradeLedger, installed: Mapping[str, ModelVersion]) -> None:
        self._ledger = ledger
        self._installed = installed
        self._next_at: datetime | None = None

    def tick(self, now: datetime) -> datetime | None:
        """Look at the waiting Jobs twice a minute; return when to look again."""
        due = self._next_at is None or now >= self._next_at or self._next_at - now > PERIOD
        if due:
            for job_id in self._ledger.adopt_models(self._installed, now=now):
                logger.warning("job asked of another model", extra={"job_id": job_id})
            self._next_at = now + PERIOD
        return self._next_at
