"""Traces: stages of Studies that ended, sent to a collector by OTLP/HTTP; the one door to OpenTelemetry.

Stations share the ledger and no context, so that spans are made of what it tells, after the fact, with their true
times. Who waits for the collector is this station alone.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from node.domain.span import Span
from node.errors import CollectorFailed
from node.ledger.schema import EPOCH
from node.ledger.traces import TraceLedger

logger = logging.getLogger(__name__)

PERIOD = timedelta(seconds=5)
# A collector that is away is tried again so soon.
PAUSE = timedelta(seconds=30)
EXPORT_S = 5.0
TRACE_BYTES, SPAN_BYTES = 16, 8  # W3C Trace Context 3.2.2
SAMPLED = TraceFlags(TraceFlags.SAMPLED)

Export = Callable[[Sequence[Span]], None]


class Collector:
    """A collector of traces behind a URL.

    Parameters
    ----------
    endpoint
        Of OTLP/HTTP, with its path.
    node
        AE title and version of the node, as the traces name it.
    limit_s
        Within which it must have taken what it is sent.
    """

    def __init__(self, endpoint: str, *, node: Mapping[str, str], limit_s: float = EXPORT_S) -> None:
        # Its own words quote URLs; ours say what matters.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=limit_s)
        self._ids = _Ids()
        self._ended = _Ended()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource(node), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(self._ended)

    def export(self, spans: Sequence[Span]) -> None:
        """Return when the collector has taken the spans.

        Raises
        ------
        CollectorFailed
            If it did not.
        """
        for span in spans:
            self._make(span)
        if self._exporter.export(self._ended.take()) is not SpanExportResult.SUCCESS:
            raise CollectorFailed("the collector of tracing.endpoint did not take traces; they are sent again")

    def _make(self, span: Span) -> None:
        self._ids.next_ids = _trace_id(span), _span_id(span, span.key)
        context = Context()
        if span.parent_key is not None:
            parent = SpanContext(_trace_id(span), _span_id(span, span.parent_key), is_remote=False, trace_flags=SAMPLED)
            context = set_span_in_context(NonRecordingSpan(parent), context)
        made = self._provider.get_tracer("radnode").start_span(
            span.name, context=context, attributes=dict(span.facts), start_time=_nanoseconds(span.begun_at)
        )
        if span.failure:
            made.set_attribute("error.type", span.failure)
            made.set_status(Status(StatusCode.ERROR, span.failure))
        made.end(_nanoseconds(span.ended_at))


class Tracer:
    """The station: reads what ended, has it exported, and commits that it was told."""

    def __init__(self, ledger: TraceLedger, export: Export) -> None:
        self._ledger = ledger
        self._export = export
        self._is_taken = True
        self._next_at: datetime | None = None

    def tick(self, now: datetime) -> datetime:
        """Tell what is new; returns when to look again.

        What a collector took and the ledger did not note, because the process died in between, is told again under the
        same trace and span IDs.
        """
        # A belt ticks oftener than it is asked to; a clock that was set back keeps nobody waiting.
        is_early = self._next_at is not None and now < self._next_at <= now + PAUSE
        if self._next_at is None or not is_early:
            self._next_at = now + self._tell(now)
        return self._next_at

    def _tell(self, now: datetime) -> timedelta:
        """Tell what is new; returns how long to wait before the next time."""
        harvest = self._ledger.next_harvest(now)
        if harvest.read_to is None:
            return PERIOD
        if harvest.spans and not self._is_exported(harvest.spans):
            return PAUSE
        self._ledger.record_told(harvest.read_to, now=now)
        return timedelta() if harvest.is_full else PERIOD

    def _is_exported(self, spans: Sequence[Span]) -> bool:
        try:
            self._export(spans)
        except CollectorFailed as exc:
            if self._is_taken:
                logger.warning("traces not taken", extra={"reason_code": exc.code})
            self._is_taken = False
        else:
            if not self._is_taken:
                logger.info("traces taken again")
            self._is_taken = True
        return self._is_taken


class _Ids(IdGenerator):
    """Gives the IDs that were laid out, so that the same span has the same ones."""

    def __init__(self) -> None:
        self.next_ids = (0, 0)

    def generate_trace_id(self) -> int:
        return self.next_ids[0]

    def generate_span_id(self) -> int:
        return self.next_ids[1]


class _Ended(SpanProcessor):
    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def take(self) -> Sequence[ReadableSpan]:
        taken, self._spans = self._spans, []
        return taken


def _trace_id(span: Span) -> int:
    return _digest(span.trace_key, size=TRACE_BYTES)


def _span_id(span: Span, key: str) -> int:
    return _digest(f"{span.trace_key} {key}", size=SPAN_BYTES)


def _digest(text: str, *, size: int) -> int:
    # An ID of zero is none.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size]) or 1


def _nanoseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1) * 1000
