"""The belt: whether it moves; if not, where it stands, since when, and what is to be done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response

from node.domain.alarm import Alarm, AlarmKind
from node.domain.switch import Mode
from node.errors import NodeError
from node.ledger.alarms import AlarmLedger
from node.ledger.flow import FlowLedger, Passage, Queue, Station
from node.ledger.signs import SignLedger
from node.ledger.stages import StageLedger
from node.ledger.switches import SwitchLedger
from node.ledger.tallies import TallyLedger, TallyName
from node.ledger.worklist import WorklistLedger
from node.store.files import Reserve
from node.store.trash import Trash
from node.web.console.page import Pages
from node.web.console.sparkline import draw_line
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services
from node.wording import size_words

Reader = Annotated[Visitor, Depends(authorize(Right.READ))]
LOOKED_BACK = timedelta(hours=1)
PARTS = 30
SHARE_95, SHARE_50 = 0.95, 0.50
# What stands at a station, by the words beside the number.
WORDS = {
    Station.INTAKE: "Studies came",
    Station.ASSEMBLY: "open Series",
    Station.ROUTING: "Studies wait",
    Station.DISPATCH: "Jobs wait",
    Station.WORKER: "Jobs run",
    Station.DELIVERY: "Deliveries wait",
    Station.CONFIRMATION: "to be confirmed",
}
STAGES = {
    Station.ASSEMBLY: "receive",
    Station.ROUTING: "route",
    Station.DISPATCH: "wait",
    Station.WORKER: "work",
    Station.DELIVERY: "deliver",
}
# Where each kind of alarm says that the belt stands or is slow.
PLACES = {
    AlarmKind.SOURCE_SILENT: Station.INTAKE,
    AlarmKind.STORE_LOW: Station.INTAKE,
    AlarmKind.PIPELINE_SILENT: Station.ROUTING,
    AlarmKind.BROKER_AWAY: Station.DISPATCH,
    AlarmKind.JOBS_WAITING: Station.DISPATCH,
    AlarmKind.NO_WORKER: Station.WORKER,
    AlarmKind.JOBS_QUARANTINED: Station.WORKER,
    AlarmKind.DELIVERIES_STUCK: Station.DELIVERY,
    AlarmKind.DESTINATION_DOWN: Station.DELIVERY,
}
# Nothing gets past these.
STOPPED = frozenset(
    {AlarmKind.NO_WORKER, AlarmKind.BROKER_AWAY, AlarmKind.DESTINATION_DOWN, AlarmKind.STORE_LOW, AlarmKind.AUDIT_LOST}
)
HEADLINES = {
    AlarmKind.SOURCE_SILENT: "{0} sends nothing.",
    AlarmKind.PIPELINE_SILENT: "No Study matches {0}.",
    AlarmKind.JOBS_WAITING: "Jobs wait too long.",
    AlarmKind.NO_WORKER: "No worker takes Jobs.",
    AlarmKind.JOBS_QUARANTINED: "Jobs of {0} were given up.",
    AlarmKind.DELIVERIES_STUCK: "Delivery to {0} is behind.",
    AlarmKind.DESTINATION_DOWN: "{0} does not answer.",
    AlarmKind.STORE_LOW: "The store has little room.",
    AlarmKind.BROKER_AWAY: "The broker cannot be reached.",
    AlarmKind.AUDIT_LOST: "Records of the audit trail are lost.",
}
# Where a person sees to it.
REMEDIES = {
    AlarmKind.DELIVERIES_STUCK: ("/destinations/{0}", "See Destination"),
    AlarmKind.DESTINATION_DOWN: ("/destinations/{0}", "Test…"),
    AlarmKind.PIPELINE_SILENT: ("/rules", "See rules"),
    AlarmKind.JOBS_QUARANTINED: ("/models", "See models"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StationLine:
    """One station as the page shows it.

    Attributes
    ----------
    kind
        ``ok``, ``warning`` (behind) or ``critical`` (stopped).
    p50_s, p95_s
        How long the middle one, and the 95th of a hundred, took in the last hour; None where nothing passed.
    """

    name: str
    kind: str
    words: str
    count: int
    oldest_at: datetime | None
    passage: Passage
    p50_s: float | None
    p95_s: float | None
    line: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmLine:
    """One alarm, and where a person sees to it."""

    alarm: Alarm
    is_critical: bool
    headline: str
    url: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something that the belt needs."""

    name: str
    chip: str
    state: str
    detail: str


def router(services: Services) -> APIRouter:
    """Return the page of the belt."""
    routes, pages, gauge = APIRouter(), Pages(services), Gauge(services)

    @routes.get("/flow")
    def page(request: Request, visitor: Reader) -> Response:
        return pages.render(request, visitor, "flow.html", **gauge.read(services.clock()))

    return routes


class Gauge:
    """Reads what the page says."""

    def __init__(self, services: Services) -> None:
        self._services = services
        engine = services.engine
        self._flow, self._stages, self._alarms = FlowLedger(engine), StageLedger(engine), AlarmLedger(engine)
        self._signs, self._tallies, self._switches = SignLedger(engine), TallyLedger(engine), SwitchLedger(engine)
        self._worklist = WorklistLedger(engine)

    def read(self, now: datetime) -> Mapping[str, Any]:
        """Return the values of the template."""
        alarms = [tell_alarm(alarm) for alarm in self._alarms.standing_alarms()]
        alarms.sort(key=lambda line: (not line.is_critical, line.alarm.raised_at))
        needing = tell_needing(self._worklist.count_needing(), many=self._worklist.limits.counted)
        return {
            "now": now,
            "headline": tell_headline(alarms, needing=needing),
            "needing": needing,
            "stations": self._read_stations(alarms, now),
            "alarms_standing": alarms,
            "resources": self._read_resources(now),
        }

    def _read_stations(self, alarms: Sequence[AlarmLine], now: datetime) -> list[StationLine]:
        names = {*self._services.settings.destinations, *self._signs.waiting_destinations()}
        queues = self._flow.read_queues(names)
        passages = self._flow.read_passages(now - LOOKED_BACK, part=LOOKED_BACK / PARTS, parts=PARTS)
        seconds = self._stages.recent_seconds(now - LOOKED_BACK)
        received = self._tallies.read_tallies(TallyName.INSTANCES).values()
        last_at = max((tally.counted_at for tally in received), default=None)
        intake = Queue(count=passages[Station.INTAKE].total, oldest_at=last_at)
        lines = []
        for station in Station:
            queue = intake if station is Station.INTAKE else queues[station]
            spans = seconds.get(STAGES.get(station, ""), ())
            lines.append(
                StationLine(
                    name=station.value.capitalize(),
                    kind=_kind(station, alarms),
                    words=WORDS[station],
                    count=queue.count,
                    oldest_at=queue.oldest_at,
                    passage=passages[station],
                    p50_s=share_of(spans, SHARE_50),
                    p95_s=share_of(spans, SHARE_95),
                    line=draw_line(passages[station].counts),
                    note=_note(station, queue),
                )
            )
        return lines

    def _read_resources(self, now: datetime) -> list[Resource]:
        workers = self._flow.read_holders(now)
        found = [
            Resource(name=owner, chip="in-progress", state="Busy", detail=f"{count} Job{'' if count == 1 else 's'}")
            for owner, count in workers
        ]
        if not workers:
            found.append(Resource(name="Workers", chip="off", state="Idle", detail="no Job is in their hands"))
        switches = self._switches.read_modes()
        for name, mode in switches.items():
            if mode is not Mode.ON and name in self._services.settings.pipelines:
                found.append(Resource(name=name, chip=mode.value, state=mode.value.capitalize(), detail=mode.words))
        return [*found, self._read_store(), self._read_ledger()]

    def _read_store(self) -> Resource:
        settings = self._services.settings
        reserve = Reserve(reserve_bytes=settings.store.reserve_bytes, reserve_percent=settings.store.reserve_percent)
        try:
            total_bytes, free_bytes = Trash(settings.store_root).use_of_volume()
        except NodeError as exc:
            return Resource(name="Store", chip="critical", state="Cannot be read", detail=exc.code)
        kept_bytes = reserve.of_volume(total_bytes)
        detail = f"{size_words(free_bytes)} of {size_words(total_bytes)} free, reserve {size_words(kept_bytes)}"
        if free_bytes <= kept_bytes:
            return Resource(name="Store", chip="critical", state="Full", detail=detail)
        return Resource(name="Store", chip="match", state="Fine", detail=detail)

    def _read_ledger(self) -> Resource:
        kind = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[self._services.engine.dialect.name]
        return Resource(name="Ledger", chip="match", state="Fine", detail=f"{kind}, it answered this page")


def tell_alarm(alarm: Alarm) -> AlarmLine:
    """Return an alarm with its first words, and where a person sees to it."""
    url, action = REMEDIES.get(alarm.kind, ("", ""))
    return AlarmLine(
        alarm=alarm,
        is_critical=alarm.kind in STOPPED,
        headline=HEADLINES[alarm.kind].format(alarm.subject or "A pipeline"),
        url=url.format(quote(alarm.subject, safe="")),
        action=action,
    )


def tell_headline(alarms: Sequence[AlarmLine], *, needing: str) -> str:
    """Return whether the belt moves, in one line: what stops it first.

    Parameters
    ----------
    needing
        How many Studies need a person, in words; empty where none does.
    """
    if not alarms:
        return f"The belt moves. {needing or 'Nothing needs a person.'}"
    first, *others = alarms
    lead = "The belt stands in one place." if first.is_critical else "The belt moves."
    more = f" {len(others)} more below." if others else ""
    return f"{lead} {first.headline}{more}"


def tell_needing(count: int, *, many: int) -> str:
    """Return how many Studies need a person; above `many` they are not counted. Empty for none."""
    if count > many:
        return f"More than {many:,} Studies need a person."
    return f"{count} Stud{'ies need' if count > 1 else 'y needs'} a person." if count else ""


def share_of(seconds: Sequence[float], share: float) -> float | None:
    """Return the value that so large a share of sorted values does not exceed (nearest rank); None of none."""
    return seconds[max(0, -int(-len(seconds) * share // 1) - 1)] if seconds else None


def _kind(station: Station, alarms: Sequence[AlarmLine]) -> str:
    here = [line for line in alarms if PLACES.get(line.alarm.kind) is station]
    if not here:
        return "ok"
    return "critical" if any(line.is_critical for line in here) else "warning"


def _note(station: Station, queue: Queue) -> str:
    if station is Station.INTAKE:
        return "in the last hour" if queue.oldest_at is not None else "nothing came yet"
    return "" if queue.count else "nothing waits"
