"""Supervision: what watches the node, and tells of it; built here for the node and for the command line."""

import random
import socket
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from node.alarms.backlog import DeliveryWatch, JobWatch, Limits
from node.alarms.messenger import Messenger
from node.alarms.premises import AuditWatch, BrokerWatch, Room, StoreWatch
from node.alarms.reading import Watch
from node.alarms.silence import Expectation, PipelineWatch, SourceWatch
from node.alarms.watchman import PERIOD_S, Watchman
from node.alarms.webhook import Webhook
from node.clock import utc_now
from node.errors import Misconfigured
from node.ledger.alarms import AlarmLedger
from node.ledger.engine import Engine
from node.ledger.signs import SignLedger
from node.ledger.stages import READ_AT_ONCE, StageLedger
from node.ledger.tallies import TallyLedger, TallyName
from node.ledger.traces import TraceLedger
from node.metrics.exposition import render_metrics
from node.metrics.figures import measure_room
from node.metrics.server import MetricsServer
from node.scheduler import Belt, Sharing
from node.settings.watching import ExpectationSettings
from node.settings.whole import Settings
from node.tls import TlsTrust, client_context
from node.version import product_version


class Supervision:
    """Alarms, their messenger, metrics and traces of one node; none of it keeps a station waiting.

    Parameters
    ----------
    sharing
        Of the ledger: only the node that leads raises alarms.
    """

    def __init__(self, settings: Settings, engine: Engine, *, sharing: Sharing) -> None:
        self._stages = StageLedger(engine)
        self._next_count_at: datetime | None = None
        webhook = build_webhook(settings)
        self._messages = None if webhook is None else _build_messages(webhook, engine, sharing)
        watchman = Watchman(
            build_watches(settings, engine, since=utc_now()),
            AlarmLedger(engine),
            calm_s=settings.alarms.calm_seconds,
            tell=lambda: None if self._messages is None else self._messages.wake(),
        )
        self._watch = Belt("alarms", {"stages": self._count_stages, "alarms": watchman.tick}, utc_now, sharing=sharing)
        traces = _build_traces(settings, engine, sharing) if settings.tracing.endpoint else None
        self._belts = tuple(belt for belt in (self._watch, self._messages, traces) if belt is not None)
        port = settings.metrics.port
        self._metrics = MetricsServer(lambda: render_metrics(settings, engine), port=port) if port else None

    def start(self) -> None:
        """Begin to watch.

        Raises
        ------
        PortInUse
            If another process has metrics.port.
        """
        if self._metrics is not None:
            self._metrics.start()
        for belt in self._belts:
            belt.start()

    def expect_end(self) -> None:
        """Begin to watch and to tell nothing more; returns at once."""
        for belt in self._belts:
            belt.expect_end()

    def stop(self) -> None:
        """Watch no more; what nobody was told of waits in the ledger."""
        self.expect_end()
        for belt in self._belts:
            belt.stop()
        if self._metrics is not None:
            self._metrics.stop()

    def _count_stages(self, now: datetime) -> datetime | None:
        is_early = self._next_count_at is not None and now < self._next_count_at <= now + timedelta(seconds=PERIOD_S)
        if not is_early:
            is_more = self._stages.count_stages(now) == READ_AT_ONCE
            self._next_count_at = now if is_more else now + timedelta(seconds=PERIOD_S)
        return self._next_count_at


def build_watches(settings: Settings, engine: Engine, *, since: datetime) -> tuple[Watch, ...]:
    """Return everything that is watched.

    Parameters
    ----------
    since
        From when silence counts where nothing ever came.
    """
    alarms, signs, tallies = settings.alarms, SignLedger(engine), TallyLedger(engine)
    limits = Limits(
        job_wait=timedelta(minutes=alarms.job_wait_minutes),
        no_worker=timedelta(minutes=alarms.no_worker_minutes),
        given_up=timedelta(hours=alarms.given_up_hours),
        delivery_wait=timedelta(minutes=alarms.delivery_wait_minutes),
        destination_down=timedelta(minutes=alarms.destination_down_minutes),
    )
    broker = BrokerWatch(signs.told_broker_fault)
    return (
        broker,
        StoreWatch(lambda: look_at_store(settings), margin_percent=alarms.store_margin_percent),
        AuditWatch(signs.last_event_at),
        SourceWatch(
            [_expectation(entry.aet, entry) for entry in alarms.sources],
            lambda: {aet: tally.counted_at for aet, tally in tallies.read_tallies(TallyName.INSTANCES).items()},
            since=since,
        ),
        PipelineWatch(
            settings.pipelines,
            [_expectation(entry.pipeline, entry) for entry in alarms.pipelines],
            signs,
            unmatched_studies=alarms.unmatched_studies,
            since=since,
        ),
        JobWatch(settings.pipelines, signs, limits, is_broker_away=broker.is_away),
        DeliveryWatch(settings.destinations, signs, limits),
    )


def build_webhook(settings: Settings) -> Webhook | None:
    """Return who is told of alarms; None: nobody.

    Raises
    ------
    SettingsInvalid
        If alarms.webhook_ca cannot be used.
    """
    alarms = settings.alarms
    url = alarms.webhook.get_secret_value()
    if not url:
        return None
    trust = TlsTrust(ca=Path(alarms.webhook_ca) if alarms.webhook_ca else None, where="alarms.webhook")
    return Webhook(
        url,
        node=f"{settings.node.aet}@{socket.gethostname()}",
        tls=client_context(trust) if urlsplit(url).scheme == "https" else None,
        limit_s=alarms.webhook_timeout_s,
    )


def look_at_store(settings: Settings) -> Room:
    """Return how much room the store has, as it is watched."""
    found = measure_room(settings)
    return Room(free_bytes=found.free_bytes, reserve_bytes=found.reserve_bytes)


def _build_messages(webhook: Webhook, engine: Engine, sharing: Sharing) -> Belt:
    messenger = Messenger(AlarmLedger(engine), webhook.post, chance=random.random)
    return Belt("messages", {"messages": messenger.tick}, utc_now, sharing=sharing)


def _build_traces(settings: Settings, engine: Engine, sharing: Sharing) -> Belt:
    try:
        # Here: few nodes have a collector, and the library is large.
        from node.tracing import Collector, Tracer
    except ImportError as exc:
        raise Misconfigured("tracing.endpoint needs the extra otel: pip install 'radnode[otel]'") from exc
    identity = {
        "service.name": "radnode",
        "service.version": product_version(),
        "service.instance.id": settings.node.aet,
    }
    collector = Collector(settings.tracing.endpoint, node=identity)
    tracer = Tracer(TraceLedger(engine), collector.export)
    return Belt("traces", {"traces": tracer.tick}, utc_now, sharing=sharing)


def _expectation(name: str, entry: ExpectationSettings) -> Expectation:
    within = timedelta(minutes=entry.minutes)
    return Expectation(name=name, within=within, hours=entry.hours, days=frozenset(entry.days))
