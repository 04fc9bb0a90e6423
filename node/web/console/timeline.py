"""The time line of a Study: seconds by stage from the first Instance until a Destination holds the answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from node.domain.decision import Outcome
from node.domain.job import Job, JobState
from node.domain.result import Delivery
from node.ledger.closeups import Arrival
from node.ledger.commitments import COMMITTED_EVENT
from node.ledger.prior_marks import REPROCESSED
from node.ledger.views import Event, StudyStory
from node.wording import seconds_words

# Of the bar, units of its drawing.
WIDTH = 1000.0
OPENED = ("study-opened", "study-reopened")
SETTLED, ROUTED, STARTED, SENT = "study-settled", "study-routed", "job-started", "delivery-sent"
# Name of a stage, when it ended, what says so, and whether nobody worked.
Step = tuple[str, datetime, str, bool]
# Of the parts of a stage; less is no tenth of a second.
LEAST_TOLD_S = 0.05
WORDS = {"prepare": "Prepare", "infer": "Infer", "encode": "Encode"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One stage.

    Attributes
    ----------
    evidence
        What says so.
    is_wait
        Whether nobody worked then.
    x, width
        Its place in a bar of 1000 units.
    """

    name: str
    seconds: float
    evidence: str
    is_wait: bool
    x: float = 0.0
    width: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLine:
    """What a Study's time was spent on.

    Attributes
    ----------
    headline
        How long it took from the last slice to the result, or how far it has come.
    start
        What began it, in words.
    began_at, ended_at
        Of all stages.
    ended_as
        State that the last stage led to, as a chip shows it.
    """

    headline: str
    start: str
    spans: tuple[Span, ...]
    began_at: datetime
    ended_at: datetime
    ended_as: str

    @property
    def seconds(self) -> float:
        """From begin to end."""
        return max((self.ended_at - self.began_at).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How far the answer came at the Destination that had it first."""

    destination: str
    sent_at: datetime
    committed_at: datetime | None


def draw_time_line(story: StudyStory, arrival: Arrival, job: Job | None, *, now: datetime) -> TimeLine:
    """Return the time line of a Study, by the stamps of its ledger.

    Parameters
    ----------
    arrival
        Of the Instances that were there when it settled.
    job
        The Job whose way is shown; None where none was ordered, or in shadow only.
    """
    begin = _begin_of(story, job)
    is_anew = begin.kind == REPROCESSED
    spans, at = [], begin.at
    for name, until, evidence, is_wait in _stages(story, arrival, job, begin):
        spans.append(
            Span(name=name, seconds=max((until - at).total_seconds(), 0.0), evidence=evidence, is_wait=is_wait)
        )
        at = max(at, until)
    way = _first_way(story, job)
    result_at = way.sent_at if way is not None else job.finished_at if job is not None else None
    since = begin.at if is_anew or arrival.last_at is None else max(begin.at, arrival.last_at)
    return TimeLine(
        headline=_tell_idle(story)
        if job is None
        else _headline(job, since, result_at, now=now, start="reprocessing" if is_anew else "last slice"),
        start="reprocessing" if is_anew else "first Instance",
        spans=_placed(spans),
        began_at=begin.at,
        ended_at=at,
        ended_as=_end(story, job, way),
    )


def settled_before(story: StudyStory, job: Job | None) -> datetime | None:
    """Return when the Study was complete for the last time before a Job was ordered, or at all."""
    found = _last(story, (SETTLED,), before=job)
    return None if found is None else found.at


def _stages(story: StudyStory, arrival: Arrival, job: Job | None, begin: Event) -> Iterator[Step]:
    settled = next((event for event in _after(story, begin) if event.kind == SETTLED), None)
    if begin.kind != REPROCESSED and arrival.last_at is not None:
        yield "Receive", arrival.last_at, _tell_arrival(arrival), False
        if settled is not None:
            yield "Settle", settled.at, settled.text, True
    routed = next((event for event in _after(story, begin) if event.kind == ROUTED), None)
    if routed is not None:
        yield "Route", routed.at, _tell_rules(story), False
    started = [event for event in story.events if job is not None and _is_of(event, job, STARTED)]
    if job is None or not started:
        return
    yield "Queue", started[-1].at, f"priority {job.order.priority.word}", True
    yield from _work(story, job, started[-1].at)
    way = _first_way(story, job)
    if way is not None:
        yield "Send", way.sent_at, f"first complete at {way.destination}", False
        if way.committed_at is not None:
            yield "Commit", way.committed_at, f"{way.destination} says that it holds it", True


def _work(story: StudyStory, job: Job, started_at: datetime) -> Iterator[Step]:
    if job.state is not JobState.COMPLETED or job.finished_at is None:
        return
    told = dict(job.seconds)
    rest_s = (job.finished_at - started_at).total_seconds() - sum(told.values())
    at = started_at
    at += timedelta(seconds=max(rest_s, 0.0))
    yield "Load, record", at, "the rest of the worker's time", False
    kinds = ", ".join(sorted({one.kind.value for one in story.results if one.job_id == job.job_id}))
    evidence = {"infer": f"{job.order.pipeline} {job.order.model_version}, attempt {job.attempts}", "encode": kinds}
    for stage, seconds in told.items():
        at += timedelta(seconds=seconds)
        said = "; ".join(filter(None, (evidence.get(stage), _tell_parts(job, stage))))
        yield WORDS.get(stage, stage.capitalize()), at, said or "by the worker's clock", False


def _tell_parts(job: Job, stage: str) -> str:
    parts = job.stages.get(stage, {}).items()
    return ", ".join(f"{part} {seconds_words(seconds)}" for part, seconds in parts if seconds >= LEAST_TOLD_S)


def _tell_idle(story: StudyStory) -> str:
    return "Run in shadow only" if story.jobs else "Nothing was run"


def _headline(job: Job, since: datetime, result_at: datetime | None, *, now: datetime, start: str) -> str:
    if job.state is JobState.COMPLETED and result_at is not None:
        if result_at < since:
            return f"Answered on {result_at:%Y-%m-%d}, before these Instances came"
        return f"{seconds_words((result_at - since).total_seconds())} from {start} to result"
    if job.state is JobState.CANCELED:
        return "Canceled without a result"
    return f"No result yet, {seconds_words((now - since).total_seconds())} after {start}"


def _begin_of(story: StudyStory, job: Job | None) -> Event:
    """Return what began the round that led to a Job, or the last round."""
    begin = _last(story, (*OPENED, REPROCESSED), before=job)
    if begin is not None:
        return begin
    at, uid = story.first_instance_at, story.study_instance_uid
    return Event(at=at, kind=OPENED[0], text="", study_instance_uid=uid, job_id=None, is_alarm=False)


def _last(story: StudyStory, kinds: Sequence[str], *, before: Job | None) -> Event | None:
    until = next((n for n, event in enumerate(story.events) if before and event.job_id == before.job_id), None)
    found = [event for event in story.events[:until] if event.kind in kinds]
    return found[-1] if found else None


def _after(story: StudyStory, begin: Event) -> Sequence[Event]:
    return story.events[story.events.index(begin) + 1 :] if begin in story.events else story.events


def _first_way(story: StudyStory, job: Job | None) -> _Way | None:
    """Return the Destination that had everything of a Job first; None where none has."""
    if job is None:
        return None
    ordered: dict[str, list[Delivery]] = {}
    for delivery in story.deliveries:
        if delivery.job_id == job.job_id:
            ordered.setdefault(delivery.destination, []).append(delivery)
    complete = [_way(story, name, of) for name, of in ordered.items() if all(one.state.has_arrived for one in of)]
    return min((way for way in complete if way is not None), key=lambda way: way.sent_at, default=None)


def _way(story: StudyStory, destination: str, deliveries: Sequence[Delivery]) -> _Way | None:
    sent = [_stamp(story, SENT, delivery) for delivery in deliveries]
    held = [_stamp(story, COMMITTED_EVENT, delivery) for delivery in deliveries]
    known, proven = [at for at in sent if at], [at for at in held if at]
    if len(known) < len(sent):
        return None
    is_proven = len(proven) == len(held)
    return _Way(destination=destination, sent_at=max(known), committed_at=max(proven) if is_proven else None)


def _stamp(story: StudyStory, kind: str, delivery: Delivery) -> datetime | None:
    words = f"{delivery.sop_instance_uid} to {delivery.destination}"
    return next((event.at for event in reversed(story.events) if event.kind == kind and words in event.text), None)


def _end(story: StudyStory, job: Job | None, way: _Way | None) -> str:
    if way is not None:
        return "committed" if way.committed_at is not None else "sent"
    if job is None:
        return "no-match" if story.state == "ROUTED" else "open"
    return job.state.value.lower().replace(" ", "-")


def _placed(spans: Sequence[Span]) -> tuple[Span, ...]:
    total = sum(span.seconds for span in spans) or 1.0
    placed, x = [], 0.0
    for span in spans:
        width = span.seconds / total * WIDTH
        placed.append(replace(span, x=round(x, 1), width=round(width, 1)))
        x += width
    return tuple(placed)


def _tell_arrival(arrival: Arrival) -> str:
    return (
        f"{arrival.instances} Instance{'s' * (arrival.instances != 1)}, "
        f"{arrival.associations} Association{'s' * (arrival.associations != 1)}"
    )


def _tell_rules(story: StudyStory) -> str:
    matched = sum(decision.outcome is Outcome.MATCH for decision in story.decisions)
    return f"{matched} of {len(story.decisions)} rules match"


def _is_of(event: Event, job: Job, kind: str) -> bool:
    return event.kind == kind and event.job_id == job.job_id
