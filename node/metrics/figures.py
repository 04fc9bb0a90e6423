"""The figures that metrics tell, read from ledger, store and processes; and the names that always have a line."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from node.clock import utc_now
from node.domain.alarm import Alarm
from node.errors import NodeError
from node.ledger.alarms import AlarmLedger
from node.ledger.engine import Engine
from node.ledger.gauges import GaugeLedger, Holdings
from node.ledger.signs import SignLedger, WaitingJob
from node.ledger.stages import Histogram, StageLedger
from node.ledger.tallies import Tally, TallyLedger, TallyName
from node.metrics.memory import measure_memory
from node.settings.whole import Settings
from node.store.files import Reserve
from node.store.trash import Trash
from node.version import product_version

REFUSALS = ("association-refused", "connection-refused", "instance-refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Space of the store's volume."""

    free_bytes: int
    reserve_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that is told, as it was at one moment.

    Attributes
    ----------
    now
        When that was (UTC).
    instances, received_bytes
        AE title to what came from there.
    refusals
        Kind of the refusal and reason to how many there were.
    work
        Pipeline, stage, and part of the stage to the seconds that workers spent on it in all.
    store
        None where the volume cannot be looked at.
    memory_bytes
        Kind of a process of the node to the memory that those of this kind hold.
    """

    now: datetime
    holdings: Holdings
    oldest_job: WaitingJob | None
    alarms: tuple[Alarm, ...]
    instances: Mapping[str, Tally]
    received_bytes: Mapping[str, Tally]
    refusals: Mapping[tuple[str, str], Tally]
    stages: Mapping[str, Histogram]
    work: Mapping[tuple[str, ...], float]
    store: Room | None
    memory_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Names that have a line of their own even where nothing has happened yet."""

    version: str
    aet: str
    pipelines: tuple[str, ...]
    destinations: tuple[str, ...]
    sources: tuple[str, ...]


def read_figures(settings: Settings, engine: Engine) -> Figures:
    """Return the figures of the node to which this ledger belongs, as they are now.

    Raises
    ------
    LedgerBusy, LedgerUnusable
        If the ledger does not answer.
    """
    tallies = TallyLedger(engine)
    return Figures(
        now=utc_now(),
        holdings=GaugeLedger(engine).count_holdings(),
        oldest_job=SignLedger(engine).oldest_waiting_job(),
        alarms=AlarmLedger(engine).standing_alarms(),
        instances=tallies.read_tallies(TallyName.INSTANCES),
        received_bytes=tallies.read_tallies(TallyName.BYTES),
        refusals={(kind, reason): tally for kind in REFUSALS for reason, tally in tallies.read_tallies(kind).items()},
        stages=StageLedger(engine).read_stages(),
        work=StageLedger(engine).read_work(),
        store=_find_room(settings),
        memory_bytes=measure_memory(settings.node.data_dir),
    )


def known_names(settings: Settings) -> Known:
    """Return what has a line of its own whatever happened."""
    return Known(
        version=product_version(),
        aet=settings.node.aet,
        pipelines=tuple(settings.pipelines),
        destinations=tuple(settings.destinations),
        sources=tuple(dict.fromkeys(entry.aet for entry in settings.alarms.sources)),
    )


def measure_room(settings: Settings) -> Room:
    """Return how much room the store has.

    Raises
    ------
    StoreFull
        If its volume cannot be looked at.
    """
    reserve = Reserve(reserve_bytes=settings.store.reserve_bytes, reserve_percent=settings.store.reserve_percent)
    total_bytes, free_bytes = Trash(settings.store_root).use_of_volume()
    return Room(free_bytes=free_bytes, reserve_bytes=reserve.of_volume(total_bytes))


def _find_room(settings: Settings) -> Room | None:
    try:
        return measure_room(settings)
    except NodeError:
        # An alarm tells of it, and a gauge that is absent does.
        return None
