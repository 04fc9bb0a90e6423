"""Metrics: what the ledger holds and has counted, in the text format of Prometheus; served on the loopback address."""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from node.domain.alarm import Alarm, AlarmKind
from node.domain.job import JobState
from node.domain.result import DeliveryState
from node.domain.study import SeriesState
from node.errors import NodeError, PortInUse
from node.ledger.gauges import Holdings
from node.ledger.signs import WaitingJob
from node.ledger.stages import BEYOND, BOUNDS_S, Histogram
from node.ledger.tallies import Tally

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
PATH = "/metrics"
# A client that says nothing, or takes nothing.
CLIENT_TIMEOUT_S = 10.0
REFUSALS = ("association-refused", "connection-refused", "instance-refused")
# An AE title is whatever a sender pleases to say; those that nobody expects share one line.
OTHER_SOURCES = "other"
# Values of labels to the number under them.
Points = Mapping[tuple[str, ...], float]


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
    store_bytes
        ``free`` and ``reserve``; nothing where the volume cannot be looked at.
    """

    now: datetime
    holdings: Holdings
    oldest_job: WaitingJob | None
    alarms: tuple[Alarm, ...]
    instances: Mapping[str, Tally]
    received_bytes: Mapping[str, Tally]
    refusals: Mapping[tuple[str, str], Tally]
    stages: Mapping[str, Histogram]
    store_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Names that have a line of their own even where nothing has happened yet."""

    version: str
    aet: str
    pipelines: tuple[str, ...]
    destinations: tuple[str, ...]
    sources: tuple[str, ...]


class _LedgerCollector(Collector):
    def __init__(self, figures: Figures, known: Known) -> None:
        self._figures = figures
        self._known = known

    def collect(self) -> Iterable[Metric]:
        this: Points = {(self._known.version, self._known.aet): 1.0}
        yield _gauge("radnode_info", "Which radnode this is.", ("version", "aet"), this)
        yield from _tell_holdings(self._figures, self._known)
        yield from _tell_received(self._figures, self._known)
        yield from _tell_alarms(self._figures)
        yield _tell_stages(self._figures.stages)
        store: Points = {(what,): float(size) for what, size in self._figures.store_bytes.items()}
        yield _gauge("radnode_store_bytes", "Free space of the store's volume, and the reserve.", ("what",), store)


def render(figures: Figures, known: Known) -> bytes:
    """Return the text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_LedgerCollector(figures, known))
    return generate_latest(registry)


class MetricsServer:
    """Answers GET of `PATH` on the loopback address.

    Parameters
    ----------
    read
        Returns the text; a NodeError is answered 503.
    """

    def __init__(self, read: Callable[[], bytes], *, port: int) -> None:
        self._read = read
        self._port = port
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> int:
        """Begin to answer; returns the port.

        Raises
        ------
        PortInUse
            If another process has it.
        """
        try:
            self._server = _Server((LOOPBACK, self._port), _handler_of(self._read))
        except OSError as exc:
            raise PortInUse(
                f"{LOOPBACK}:{self._port} is taken ({exc.strerror}); end who listens there, or change metrics.port"
            ) from exc
        Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_peer: object) -> None:
        # The library's own words go to standard error, as no JSON.
        error = sys.exception()
        if isinstance(error, ConnectionError | TimeoutError):
            logger.debug("metrics not taken")
        else:
            logger.error("metrics broken", exc_info=error)


def _handler_of(read: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != PATH:
                self._answer(HTTPStatus.NOT_FOUND, b"metrics are at /metrics\n", "text/plain")
                return
            try:
                self._answer(HTTPStatus.OK, read(), CONTENT_TYPE_LATEST)
            except NodeError as exc:
                logger.warning("metrics not read", extra={"reason_code": exc.code})
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{exc.code}\n".encode(), "text/plain")

        def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: it is asked every few seconds."""

    return Handler


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Points) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], values: Points) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _tell_holdings(figures: Figures, known: Known) -> Iterable[Metric]:
    held = figures.holdings
    studies: Points = {(state.value,): 0.0 for state in SeriesState}
    yield _gauge("radnode_studies", "Studies in the ledger.", ("state",), {**studies, **_floats(held.studies)})
    jobs: Points = {(name, state.value): 0.0 for name in known.pipelines for state in JobState}
    yield _gauge("radnode_jobs", "Jobs in the ledger.", ("pipeline", "state"), {**jobs, **_floats(held.jobs)})
    deliveries: Points = {(name, state.value): 0.0 for name in known.destinations for state in DeliveryState}
    yield _gauge(
        "radnode_deliveries",
        "Deliveries in the ledger.",
        ("destination", "state"),
        {**deliveries, **_floats(held.deliveries)},
    )
    waits_s = 0.0 if figures.oldest_job is None else _age_s(figures, figures.oldest_job.since)
    yield _gauge("radnode_oldest_waiting_job_seconds", "Age of the oldest waiting Job.", (), {(): waits_s})
    pending: dict[tuple[str, ...], float] = {(name,): 0.0 for name in known.destinations}
    pending |= {(name,): _age_s(figures, at) for name, at in held.pending_since.items()}
    yield _gauge(
        "radnode_oldest_pending_delivery_seconds", "Age of the oldest pending Delivery.", ("destination",), pending
    )


def _tell_received(figures: Figures, known: Known) -> Iterable[Metric]:
    for name, text, tallies in (
        ("radnode_received_instances", "Instances that came.", figures.instances),
        ("radnode_received_bytes", "Bytes of them.", figures.received_bytes),
    ):
        counted: dict[tuple[str, ...], float] = {(source,): 0.0 for source in (*known.sources, OTHER_SOURCES)}
        for aet, tally in tallies.items():
            counted[(aet if aet in known.sources else OTHER_SOURCES,)] += tally.value
        yield _counter(name, text, ("source",), counted)
    heard: Points = {
        (aet,): _epoch(tally.counted_at) for aet, tally in figures.instances.items() if aet in known.sources
    }
    yield _gauge("radnode_last_instance_timestamp_seconds", "When a source last sent something.", ("source",), heard)
    refused: Points = {key: float(tally.value) for key, tally in figures.refusals.items()}
    yield _counter("radnode_refusals", "What was refused, and why.", ("kind", "reason"), refused)


def _tell_alarms(figures: Figures) -> Iterable[Metric]:
    standing: dict[tuple[str, ...], float] = {(kind.value,): 0.0 for kind in AlarmKind}
    for alarm in figures.alarms:
        standing[(alarm.kind.value,)] += 1
    yield _gauge("radnode_alarms", "Alarms that stand.", ("kind",), standing)
    raised: Points = {(alarm.kind.value, alarm.subject): _epoch(alarm.raised_at) for alarm in figures.alarms}
    yield _gauge("radnode_alarm_raised_timestamp_seconds", "Since when an alarm stands.", ("kind", "subject"), raised)


def _tell_stages(stages: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily("radnode_stage_seconds", "How long each stage took.", labels=("stage",))
    for name, histogram in stages.items():
        buckets = list(zip((*map(str, BOUNDS_S), BEYOND), histogram.counts, strict=True))
        family.add_metric((name,), buckets, histogram.seconds)
    return family


def _floats(counts: Mapping[tuple[str, ...], int]) -> dict[tuple[str, ...], float]:
    return {key: float(count) for key, count in counts.items()}


def _age_s(figures: Figures, at: datetime) -> float:
    return max(0.0, (figures.now - at).total_seconds())


def _epoch(at: datetime) -> float:
    return at.timestamp()
