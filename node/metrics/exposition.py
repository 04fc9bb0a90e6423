"""Metrics as text: the figures under their names, as Prometheus reads them."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from node.domain.alarm import AlarmKind
from node.domain.job import JobState
from node.domain.result import DeliveryState
from node.domain.study import SeriesState
from node.ledger.engine import Engine
from node.ledger.stages import BEYOND, BOUNDS_S, Histogram
from node.metrics.figures import Figures, Known, known_names, read_figures
from node.settings.whole import Settings

CONTENT_TYPE = CONTENT_TYPE_LATEST
# An AE title is whatever a sender pleases to say; those that nobody expects share one line.
OTHER_SOURCES = "other"
# Values of labels to the number under them.
Points = Mapping[tuple[str, ...], float]


def render_metrics(settings: Settings, engine: Engine) -> bytes:
    """Return the metrics of the node to which this ledger belongs, in the text format of Prometheus.

    Raises
    ------
    LedgerBusy, LedgerUnusable
        If the ledger does not answer.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_LedgerCollector(read_figures(settings, engine), known_names(settings)))
    return generate_latest(registry)


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
        text, labels = "What workers spent on Jobs that ended well.", ("pipeline", "stage", "part")
        yield _counter("radnode_work_seconds", text, labels, self._figures.work)
        yield _tell_room(self._figures)
        memory: Points = {(kind,): float(size) for kind, size in self._figures.memory_bytes.items()}
        yield _gauge("radnode_memory_bytes", "Memory of the node's processes.", ("process",), memory)


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


def _tell_room(figures: Figures) -> Metric:
    room = figures.store
    held: Points = {} if room is None else {("free",): room.free_bytes, ("reserve",): room.reserve_bytes}
    return _gauge("radnode_store_bytes", "Free space of the store's volume, and the reserve.", ("what",), held)


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
