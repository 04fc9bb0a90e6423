"""The station that leaves no Job waiting for a model that nobody has any more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from node.domain.job import JobID
from node.domain.model_version import ModelVersion
from node.upgrade import Upgrade
from tests.ledgers import NOON, at

INSTALLED = {"lung_nodules": ModelVersion(name="ct-nodules", version="2.0.0")}


@dataclass
class MemoryLedger:
    """An `UpgradeLedger` that counts how often it is asked."""

    asked: list[datetime] = field(default_factory=list)

    def adopt_models(self, installed: Mapping[str, ModelVersion], *, now: datetime) -> Sequence[JobID]:
        assert installed == INSTALLED
        self.asked.append(now)
        return [JobID("1")]


def test_waiting_jobs_are_looked_at_at_the_start_and_then_twice_a_minute() -> None:
    ledger = MemoryLedger()
    station = Upgrade(ledger, INSTALLED)
    assert station.tick(NOON) == at(30)
    assert station.tick(at(29)) == at(30)
    assert station.tick(at(30)) == at(60)
    assert ledger.asked == [NOON, at(30)]


def test_a_clock_that_is_set_back_does_not_stop_it() -> None:
    ledger = MemoryLedger()
    station = Upgrade(ledger, INSTALLED)
    station.tick(NOON)
    assert station.tick(at(-3600)) == at(-3570)
    assert ledger.asked == [NOON, at(-3600)]
