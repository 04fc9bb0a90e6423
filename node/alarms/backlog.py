"""Backlog: Jobs and Deliveries that wait too long, and those that were given up."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from node.alarms.reading import Reading, Verdict, judge, say_span
from node.domain.alarm import AlarmKind
from node.errors import Broken, DestinationDown, Misconfigured, NodeError, SettingsInvalid, Transient
from node.ledger.signs import WaitingJob

# Errors after which a Destination as a whole is left alone for a while.
DOWN = (DestinationDown, Misconfigured, SettingsInvalid)
# An age that was wrong is well again at this part of it.
WELL_AT = 0.5
# A node that was away has old ones, and so long to show that it sees to them.
AFTER_START_S = 60.0
# Ends of Jobs that no code of the error tree names.
DIED = ("worker-lost", "time-limit")


class BacklogLedger(Protocol):
    """What these watches ask of the ledger."""

    def oldest_waiting_job(self) -> WaitingJob | None:
        """Return the Job that has waited longest."""

    def overdue_jobs(self, now: datetime, *, due_before: datetime) -> tuple[int, int]:
        """Return how many Jobs have been due since before `due_before`, and how many a worker has."""

    def given_up_jobs(self, since: datetime, codes: Collection[str]) -> Mapping[str, int]:
        """Return Pipeline to how many Jobs were CANCELED after `since` for one of the reasons."""

    def oldest_pending_at(self, destination: str) -> datetime | None:
        """Return when the Delivery was ordered that has waited longest for a Destination."""

    def waiting_destinations(self) -> frozenset[str]:
        """Return every Destination for which something is PENDING, or LOST and not taken note of."""

    def is_obstructed(self, destination: str, codes: Collection[str]) -> bool:
        """Return whether something waits for a Destination for one of the reasons, and it took nothing since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long is too long; zero: is not watched.

    Attributes
    ----------
    given_up
        For so long a Job that was given up is an alarm, unless a person sees to it earlier.
    """

    job_wait: timedelta
    no_worker: timedelta
    given_up: timedelta
    delivery_wait: timedelta
    destination_down: timedelta


class JobWatch:
    """Watches Jobs.

    Parameters
    ----------
    is_broker_away
        Then nobody hears of a Job, and that is told elsewhere.
    """

    def __init__(
        self,
        pipelines: Iterable[str],
        ledger: BacklogLedger,
        limits: Limits,
        *,
        is_broker_away: Callable[[], bool],
    ) -> None:
        self._pipelines = tuple(pipelines)
        self._ledger = ledger
        self._limits = limits
        self._is_broker_away = is_broker_away
        self._codes = given_up_codes()

    def __call__(self, now: datetime) -> Iterable[Reading]:
        """Yield how they are."""
        if self._limits.job_wait:
            yield self._read_oldest(now)
        if self._limits.no_worker:
            yield self._read_workers(now)
        if self._limits.given_up:
            yield from self._read_given_up(now)

    def _read_oldest(self, now: datetime) -> Reading:
        oldest, limit_s = self._ledger.oldest_waiting_job(), self._limits.job_wait.total_seconds()
        age_s = 0.0 if oldest is None else (now - oldest.since).total_seconds()
        text = ""
        if oldest is not None:
            text = (
                f"job {oldest.job_id} ({oldest.pipeline}) has waited for {say_span(age_s)}; see whether workers run, "
                "and whether there are enough"
            )
        verdict = judge(age_s, wrong_from=limit_s, well_below=limit_s * WELL_AT)
        return Reading(kind=AlarmKind.JOBS_WAITING, subject="", verdict=verdict, text=text, after_s=AFTER_START_S)

    def _read_workers(self, now: datetime) -> Reading:
        limit = self._limits.no_worker
        overdue, held = self._ledger.overdue_jobs(now, due_before=now - limit)
        if held or not overdue:
            return Reading(kind=AlarmKind.NO_WORKER, subject="", verdict=Verdict.WELL)
        verdict = Verdict.BETWEEN if self._is_broker_away() else Verdict.WRONG
        text = (
            f"Jobs wait, and no worker has had one for {say_span(limit.total_seconds())}; start `radnode worker`, or "
            "see its log"
        )
        # A worker between two short Jobs has none either.
        return Reading(
            kind=AlarmKind.NO_WORKER, subject="", verdict=verdict, text=text, after_s=limit.total_seconds() / 2
        )

    def _read_given_up(self, now: datetime) -> Iterable[Reading]:
        found = self._ledger.given_up_jobs(now - self._limits.given_up, self._codes)
        for name in {*self._pipelines, *found}:
            verdict = Verdict.WRONG if found.get(name) else Verdict.WELL
            text = (
                f"{found.get(name)} Jobs of {name} were given up after all their attempts; see "
                "`radnode jobs list --state CANCELED`, then `radnode jobs retry`"
            )
            yield Reading(kind=AlarmKind.JOBS_QUARANTINED, subject=name, verdict=verdict, text=text)


class DeliveryWatch:
    """Watches what waits for each Destination, and for those that left the settings."""

    def __init__(self, destinations: Iterable[str], ledger: BacklogLedger, limits: Limits) -> None:
        self._destinations = tuple(destinations)
        self._ledger = ledger
        self._limits = limits
        self._codes = frozenset(kind.code for kind in DOWN)
        # Destinations that left the settings, as long as this process has known of them.
        self._strays: set[str] = set()

    def __call__(self, now: datetime) -> Iterable[Reading]:
        """Yield how they are."""
        for name in self._destinations:
            if self._limits.delivery_wait:
                yield self._read_oldest(name, now)
            if self._limits.destination_down:
                yield self._read_down(name)
        if self._limits.delivery_wait:
            yield from self._read_strays()

    def _read_strays(self) -> Iterable[Reading]:
        waiting = self._ledger.waiting_destinations().difference(self._destinations)
        self._strays |= waiting
        for name in sorted(self._strays):
            verdict = Verdict.WRONG if name in waiting else Verdict.WELL
            yield Reading(
                kind=AlarmKind.DELIVERIES_STUCK,
                subject=name,
                verdict=verdict,
                text=explain_stray(name),
                after_s=AFTER_START_S,
            )

    def _read_oldest(self, name: str, now: datetime) -> Reading:
        oldest, limit_s = self._ledger.oldest_pending_at(name), self._limits.delivery_wait.total_seconds()
        age_s = 0.0 if oldest is None else (now - oldest).total_seconds()
        text = (
            f"a Delivery to {name} has waited for {say_span(age_s)}; see "
            f"`radnode deliveries list --destination {name} --state PENDING`"
        )
        verdict = judge(age_s, wrong_from=limit_s, well_below=limit_s * WELL_AT)
        return Reading(kind=AlarmKind.DELIVERIES_STUCK, subject=name, verdict=verdict, text=text, after_s=AFTER_START_S)

    def _read_down(self, name: str) -> Reading:
        limit_s = self._limits.destination_down.total_seconds()
        is_down = self._ledger.is_obstructed(name, self._codes)
        text = (
            f"{name} has been down for {say_span(limit_s)} or longer; Results wait, and leave by themselves when it is "
            "there again. See `radnode doctor`"
        )
        verdict = Verdict.WRONG if is_down else Verdict.WELL
        return Reading(kind=AlarmKind.DESTINATION_DOWN, subject=name, verdict=verdict, text=text, after_s=limit_s)


def explain_stray(name: str) -> str:
    """Return what is to be done about Deliveries to a Destination that the settings do not name."""
    return (
        f"no such Destination in the settings: name {name} again, or leave its Deliveries until they are given up; see "
        f"`radnode deliveries list --destination {name}`"
    )


def given_up_codes() -> frozenset[str]:
    """Return the reasons for which a Job is CANCELED that has nothing to do with what it should read."""
    return frozenset({*DIED, *(kind.code for root in (Transient, Misconfigured, Broken) for kind in _below(root))})


def _below(root: type[NodeError]) -> Iterable[type[NodeError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _below(kind)
