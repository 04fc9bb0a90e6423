"""From the lines of a time line to spans: which stage ended with a line, and where it began."""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import RowMapping

from node.domain.span import Span
from node.domain.work import list_parts, sum_stages
from node.ledger.prior_marks import REPROCESSED
from node.ledger.schema import EPOCH

OPENINGS = ("study-opened", "study-reopened", REPROCESSED)
WAITS = ("job-scheduled", "job-attempt-failed", "job-given-back")
ROOT = "study"
UID_DIGITS = 16
_ENDS_OF_DELIVERY = ("delivery-sent", "delivery-refused", "delivery-lost", "delivery-committed")


class TimeLine:
    """Everything of one Study that its spans are made of.

    Each line is read once, and then found by what it tells of: a Study of 10,000 Deliveries has 20,000 lines.

    Parameters
    ----------
    events
        In their order.
    last_received
        Event ID of each settling to when the last Instance before it came; absent where Instances were purged since.
    """

    def __init__(
        self,
        study_instance_uid: str,
        *,
        events: Sequence[RowMapping],
        jobs: Sequence[RowMapping],
        deliveries: Sequence[RowMapping],
        last_received: Mapping[int, datetime],
    ) -> None:
        self.study_instance_uid = study_instance_uid
        self.last_received = last_received
        self._jobs = {row["job_id"]: row for row in jobs}
        self._deliveries = {f"{row['sop_instance_uid']} to {row['destination']}": row for row in reversed(deliveries)}
        self._of_kind: dict[str, list[RowMapping]] = {}
        self._of_job: dict[tuple[str, str], list[RowMapping]] = {}
        self._of_delivery: dict[str, list[RowMapping]] = {}
        for event in events:
            self._of_kind.setdefault(event["kind"], []).append(event)
            if event["job_id"] is not None:
                self._of_job.setdefault((event["kind"], event["job_id"]), []).append(event)
            if event["kind"] in _ENDS_OF_DELIVERY:
                self._of_delivery.setdefault(_way_of(event), []).append(event)

    def last(self, kinds: Iterable[str], before: RowMapping, *, job_id: str | None = None) -> RowMapping | None:
        """Return the last line of one of `kinds` before another one, of one Job only where one is named."""
        told = (
            self._of_kind.get(kind, ()) if job_id is None else self._of_job.get((kind, job_id), ()) for kind in kinds
        )
        found = (_last_before(lines, before) for lines in told)
        return max((line for line in found if line is not None), key=_number, default=None)

    def last_of_delivery(self, before: RowMapping) -> RowMapping | None:
        """Return the last line that told before how the same Delivery ended, if only for a while."""
        return _last_before(self._of_delivery.get(_way_of(before), ()), before)

    def opening(self, event: RowMapping) -> RowMapping | None:
        """Return the line that began the trace of another one; a Job stays in the trace that ordered it."""
        ordered = self._of_job.get((WAITS[0], event["job_id"]), ())
        return self.last(OPENINGS, ordered[0] if ordered else event)

    def ordered(self, event: RowMapping) -> RowMapping | None:
        """Return the line that ordered the Job of another one; each time that it is ordered anew, another."""
        job_id = event["job_id"]
        return None if job_id is None else self.last(WAITS[:1], event, job_id=job_id)

    def job(self, event: RowMapping) -> RowMapping | None:
        """Return the Job of which a line tells."""
        return self._jobs.get(event["job_id"])

    def delivery(self, event: RowMapping) -> RowMapping | None:
        """Return the Delivery of which a line tells."""
        return self._deliveries.get(_way_of(event))


def _last_before(lines: Sequence[RowMapping], before: RowMapping) -> RowMapping | None:
    place = bisect_left(lines, before["event_id"], key=_number)
    return lines[place - 1] if place else None


def _number(event: RowMapping) -> int:
    return int(event["event_id"])


def _way_of(event: RowMapping) -> str:
    """Return of which object, to which Destination, a line tells: ``SEG 1.2.3 to pacs: why`` of ``1.2.3 to pacs``."""
    thing, _, destination = event["text"].partition(":")[0].partition(" to ")
    return f"{thing.rpartition(' ')[2]} to {destination}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """Makes the spans that one line ends."""

    line: TimeLine
    opening: RowMapping
    event: RowMapping

    @property
    def trace_key(self) -> str:
        return f"{self.line.study_instance_uid} {(self.opening['at'] - EPOCH) // timedelta(microseconds=1)}"

    def span(
        self,
        name: str,
        begun_at: datetime,
        *,
        ended_at: datetime | None = None,
        key: str = "",
        facts: Mapping[str, str | int] | None = None,
        failure: str = "",
    ) -> Span:
        """Return a span that ends with the line, unless another time is given."""
        ends_at = self.event["at"] if ended_at is None else ended_at
        return Span(
            name=name,
            trace_key=self.trace_key,
            key=key or f"{name} {self.event['event_id']}",
            parent_key=self._parent_of(name),
            # A clock that was set back in between says nothing.
            begun_at=min(begun_at, ends_at),
            ended_at=ends_at,
            facts=facts or {},
            failure=failure,
        )

    def job_key(self) -> str | None:
        """Return the key of the span of the Job, which is another each time that the Job is ordered anew."""
        ordered = self.line.ordered(self.event)
        return None if ordered is None else f"job {self.event['job_id']} {ordered['event_id']}"

    def _parent_of(self, name: str) -> str | None:
        if name == ROOT:
            return None
        return ROOT if name == "job" else self.job_key() or ROOT


def make_spans(line: TimeLine, event: RowMapping) -> Iterable[Span]:
    """Return the spans that end with `event`, a line of the time line; none where its beginning is not known."""
    make, opening = _MAKERS.get(event["kind"]), line.opening(event)
    return () if make is None or opening is None else make(_Made(line=line, opening=opening, event=event))


def hash_uid(uid: str) -> str:
    """Return what stands for a UID where it must not be told (PS3.15 E.1.1), the same everywhere."""
    return hashlib.sha256(uid.encode("ascii", "replace")).hexdigest()[:UID_DIGITS]


def _settled(made: _Made) -> Iterable[Span]:
    opened_at, settled_at = made.opening["at"], made.event["at"]
    last_at = made.line.last_received.get(made.event["event_id"], settled_at)
    yield made.span("receive", opened_at, ended_at=last_at)
    yield made.span("settle", last_at)


def _routed(made: _Made) -> Iterable[Span]:
    settled = made.line.last(("study-settled", REPROCESSED), made.event)
    if settled is not None:
        yield made.span("route", settled["at"])
    facts = {"radnode.study": hash_uid(made.line.study_instance_uid), "radnode.opened_by": made.opening["kind"]}
    yield made.span(ROOT, made.opening["at"], key=ROOT, facts=facts)


def _started(made: _Made) -> Iterable[Span]:
    waited = made.line.last(WAITS, made.event, job_id=made.event["job_id"])
    if waited is not None:
        yield made.span("queue", waited["at"])


def _ended(made: _Made) -> Iterable[Span]:
    job_id = made.event["job_id"]
    ordered, job = made.line.ordered(made.event), made.line.job(made.event)
    if ordered is None or job is None:
        return
    failure = (job["reason_code"] or "canceled") if made.event["kind"] == "job-canceled" else ""
    if not failure:
        yield from _work(made, job)
    facts = {
        "radnode.job": job_id,
        "radnode.pipeline": job["pipeline"],
        "radnode.model": job["model"],
        "radnode.model_version": job["model_version"],
        "radnode.attempts": job["attempts"],
    }
    yield made.span("job", ordered["at"], key=made.job_key() or "", facts=facts, failure=failure)


def _work(made: _Made, job: RowMapping) -> Iterable[Span]:
    """Yield the stages of the work one after the other, each with its parts, and what is left until all is recorded."""
    started = made.line.last(("job-started",), made.event, job_id=made.event["job_id"])
    if started is None:
        return
    at, ends_at = started["at"], made.event["at"]
    parts = list_parts(job["seconds"])
    for name, seconds in sum_stages(job["seconds"]).items():
        over_at = min(at + timedelta(seconds=seconds), ends_at)
        stage = made.span(name, at, ended_at=over_at)
        yield stage
        yield from _parts(made, stage, parts.get(name, {}))
        at = over_at
    yield made.span("record", at)


def _parts(made: _Made, stage: Span, parts: Mapping[str, float]) -> Iterable[Span]:
    at = stage.begun_at
    for name, seconds in parts.items():
        over_at = min(at + timedelta(seconds=seconds), stage.ended_at)
        part = made.span(name, at, ended_at=over_at, key=f"{name} of {stage.key}")
        yield replace(part, parent_key=stage.key)
        at = over_at


def _failed(made: _Made) -> Iterable[Span]:
    started = made.line.last(("job-started",), made.event, job_id=made.event["job_id"])
    if started is not None:
        yield made.span("attempt", started["at"], failure=_code_of(made.event["text"]))


def _sent(made: _Made) -> Iterable[Span]:
    delivery = made.line.delivery(made.event)
    if delivery is not None:
        before = made.line.last_of_delivery(made.event)
        begun_at = delivery["created_at"] if before is None else before["at"]
        failure = (delivery["reason_code"] or "refused") if made.event["kind"] == "delivery-refused" else ""
        yield made.span("send", begun_at, facts=_facts_of(delivery), failure=failure)


def _committed(made: _Made) -> Iterable[Span]:
    delivery, before = made.line.delivery(made.event), made.line.last_of_delivery(made.event)
    if delivery is not None and before is not None:
        failure = "lost" if made.event["kind"] == "delivery-lost" else ""
        yield made.span("commit", before["at"], facts=_facts_of(delivery), failure=failure)


def _facts_of(delivery: RowMapping) -> Mapping[str, str | int]:
    return {
        "radnode.destination": delivery["destination"],
        "radnode.sop_class": delivery["sop_class_uid"],
        "radnode.attempts": delivery["attempts"],
    }


def _code_of(text: str) -> str:
    return text.partition(":")[0]


_MAKERS: Mapping[str, Callable[[_Made], Iterable[Span]]] = {
    "study-settled": _settled,
    "study-routed": _routed,
    "job-started": _started,
    "job-completed": _ended,
    "job-canceled": _ended,
    "job-attempt-failed": _failed,
    "job-given-back": _failed,
    "delivery-sent": _sent,
    "delivery-refused": _sent,
    "delivery-committed": _committed,
    "delivery-lost": _committed,
}
# Lines of any other kind end nothing.
ENDINGS = frozenset(_MAKERS)
