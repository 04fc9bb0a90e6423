"""Traces of Studies, from a real ledger to a receiver of OTLP: true times, each told once, nothing of a patient."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from node.domain.forward import Forward
from node.domain.uids import StudyUID
from node.errors import CollectorFailed
from node.ledger.jobs import RetryPolicy
from node.ledger.spans import hash_uid
from node.ledger.traces import KEPT, READ_AT_ONCE, TraceLedger
from node.tracing import PAUSE, PERIOD, Collector, Tracer
from tests.ledgers import STUDY, Books, at, make_facts, make_order, make_outcome, make_result
from tests.trace_receiver import TraceReceiver, at_of, facts_of, serve_traces

CANARY = "Quetzalcoatlus"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[TraceReceiver]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    told = TraceReceiver()
    server = serve_traces(told)
    yield told
    server.shutdown()
    server.server_close()


def make_tracer(books: Books, receiver: TraceReceiver) -> Tracer:
    """Return the station of a node that just started."""
    identity = {"service.name": "radnode", "service.instance.id": "RADNODE"}
    return Tracer(TraceLedger(books.engine), Collector(receiver.endpoint, node=identity, limit_s=30.0).export)


@pytest.fixture
def tracer(books: Books, receiver: TraceReceiver) -> Tracer:
    """Return a station that has begun to look."""
    made = make_tracer(books, receiver)
    made.tick(at(-60))
    return made


def live(books: Books, study: StudyUID = STUDY) -> None:
    """Bring one Study from its first Instance to the PACS, which says that it holds the Result."""
    books.instances.record_instance(make_facts(study=study, PatientName=CANARY))
    books.instances.record_instance(make_facts(2, study=study, PatientName=CANARY, received_at=at(3)))
    books.settle(study=study, now=at(4))
    facts = books.studies.study_facts(study)
    books.studies.record_routing(facts, decisions=(), orders=[make_order(study=study)], forwards=(), now=at(5))
    job = books.claim(books.only_job(study=study), now=at(25))
    books.jobs.finish_job(job, make_outcome(make_result(job, number=int(study[-1]))), now=at(28))
    for delivery in books.deliveries.due_deliveries("pacs", at(99), 9):
        books.deliveries.record_sent(delivery, now=at(34), reason_code=None, reason_text=None)


def times(spans: Sequence[Span]) -> dict[str, tuple[datetime, datetime]]:
    """Return name to when it began and ended."""
    return {span.name: (at_of(span.start_time_unix_nano), at_of(span.end_time_unix_nano)) for span in spans}


def ids(receiver: TraceReceiver) -> list[tuple[bytes, bytes]]:
    return [(span.trace_id, span.span_id) for span in receiver.spans]


def test_every_stage_is_a_span_with_its_true_times(books: Books, receiver: TraceReceiver, tracer: Tracer) -> None:
    live(books)
    tracer.tick(at(40))
    assert times(receiver.spans) == {
        "study": (at(0), at(5)),
        "receive": (at(0), at(3)),
        "settle": (at(3), at(4)),
        "route": (at(4), at(5)),
        "job": (at(5), at(28)),
        "queue": (at(5), at(25)),
        "prepare": (at(25), at(25.1)),
        "infer": (at(25.1), at(25.3)),
        "encode": (at(25.3), at(25.6)),
        "record": (at(25.6), at(28)),
        "send": (at(28), at(34)),
    }


def test_the_parts_of_a_stage_are_spans_within_it(books: Books, receiver: TraceReceiver, tracer: Tracer) -> None:
    job = books.claim(books.add_job(), now=at(25))
    spent = {"infer": 0.5, "infer.network": 1.0, "infer.outline": 0.5, "encode": 0.25}
    books.jobs.finish_job(job, replace(make_outcome(), seconds=spent), now=at(28))
    tracer.tick(at(40))
    told = times(receiver.spans)
    assert told["infer"] == (at(25), at(27))
    assert told["network"] == (at(25), at(26))
    assert told["outline"] == (at(26), at(26.5))
    assert told["other"] == (at(26.5), at(27))
    assert told["encode"] == (at(27), at(27.25))
    names = {span.span_id: span.name for span in receiver.spans}
    parents = {span.name: names.get(span.parent_span_id) for span in receiver.spans}
    assert {name: parents[name] for name in ("network", "outline", "other", "infer")} == {
        "network": "infer",
        "outline": "infer",
        "other": "infer",
        "infer": "job",
    }


def test_spans_make_one_tree_and_say_what_and_where(books: Books, receiver: TraceReceiver, tracer: Tracer) -> None:
    live(books)
    tracer.tick(at(40))
    assert len({span.trace_id for span in receiver.spans}) == 1
    names = {span.span_id: span.name for span in receiver.spans}
    parents = {span.name: names.get(span.parent_span_id) for span in receiver.spans}
    of_job = dict.fromkeys(("queue", "prepare", "infer", "encode", "record", "send"), "job")
    assert parents == {"study": None, **dict.fromkeys(("receive", "settle", "route", "job"), "study"), **of_job}
    facts = {span.name: facts_of(span) for span in receiver.spans}
    assert facts["study"] == {"radnode.study": hash_uid(STUDY), "radnode.opened_by": "study-opened"}
    assert facts["job"] == {
        "radnode.job": books.only_job().job_id,
        "radnode.pipeline": "lung_nodules",
        "radnode.model": "model",
        "radnode.model_version": "1.0.0",
        "radnode.attempts": 1,
    }
    assert (facts["send"]["radnode.destination"], facts["send"]["radnode.attempts"]) == ("pacs", 1)
    (resource,) = receiver.requests[0].resource_spans
    assert {entry.key: entry.value.string_value for entry in resource.resource.attributes} == {
        "service.name": "radnode",
        "service.instance.id": "RADNODE",
    }


def test_nothing_of_a_patient_and_no_uid_of_a_study_is_told(
    books: Books, receiver: TraceReceiver, tracer: Tracer
) -> None:
    study = StudyUID("1.2.840.99999.8815162342.4")
    live(books, study)
    tracer.tick(at(40))
    body = b"".join(receiver.bodies)
    assert b"lung_nodules" in body
    assert CANARY.encode() not in body
    assert study.encode() not in body


def test_a_restart_tells_nothing_twice_and_loses_nothing(books: Books, receiver: TraceReceiver, tracer: Tracer) -> None:
    live(books)
    tracer.tick(at(40))
    told = ids(receiver)
    live(books, StudyUID("1.2.4"))
    make_tracer(books, receiver).tick(at(41))
    assert ids(receiver)[: len(told)] == told
    assert len(ids(receiver)) == len(set(ids(receiver))) == 2 * len(told)


def test_what_was_taken_and_not_noted_comes_again_under_the_same_ids(
    books: Books, receiver: TraceReceiver, tracer: Tracer
) -> None:
    live(books)
    harvest = TraceLedger(books.engine).next_harvest(at(40))
    Collector(receiver.endpoint, node={}).export(harvest.spans)
    told = ids(receiver)
    tracer.tick(at(41))
    assert ids(receiver) == told + told


def test_a_collector_that_is_away_is_told_later_and_asked_seldom(
    books: Books, receiver: TraceReceiver, tracer: Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receiver.status = 400
    live(books)
    assert tracer.tick(at(40)) == at(40) + PAUSE
    assert tracer.tick(at(45)) == at(40) + PAUSE
    assert (receiver.asked, receiver.spans) == (1, [])
    tracer.tick(at(80))
    receiver.status = 200
    assert tracer.tick(at(120)) == at(120) + PERIOD
    assert len(receiver.spans) == 11
    assert [line for line in caplog.messages if line.startswith("traces")] == ["traces not taken", "traces taken again"]


def test_a_collector_that_nobody_can_reach_is_an_error_of_ours(receiver: TraceReceiver) -> None:
    receiver.status = 400
    with pytest.raises(CollectorFailed):
        Collector(receiver.endpoint, node={}).export(())


def test_what_was_before_is_not_told_and_what_is_too_old_no_more(books: Books, receiver: TraceReceiver) -> None:
    live(books)
    tracer = make_tracer(books, receiver)
    tracer.tick(at(40))
    tracer.tick(at(50))
    assert receiver.asked == 0
    live(books, StudyUID("1.2.4"))
    tracer.tick(at(60) + KEPT)
    assert receiver.asked == 0
    assert TraceLedger(books.engine).next_harvest(at(60)).read_to is None


def test_a_late_instance_begins_another_trace(books: Books, receiver: TraceReceiver, tracer: Tracer) -> None:
    live(books)
    books.instances.record_instance(make_facts(3, received_at=at(50)))
    books.route(now=at(52))
    tracer.tick(at(60))
    roots = [span for span in receiver.spans if span.name == "study"]
    assert [facts_of(root)["radnode.opened_by"] for root in roots] == ["study-opened", "study-reopened"]
    assert len({root.trace_id for root in roots}) == 2


def test_a_job_that_failed_says_why(books: Books, receiver: TraceReceiver, tracer: Tracer) -> None:
    policy = RetryPolicy(max_attempts=2, pause_s=1.0)
    for second in (10, 20):
        job = books.claim(books.add_job() if second == 10 else books.only_job(), now=at(second))
        books.jobs.fail_attempt(job, policy, reason=("worker-lost", "died"), now=at(second + 5))
    tracer.tick(at(40))
    failed = {span.name: span for span in receiver.spans if span.status.code == Status.STATUS_CODE_ERROR}
    assert set(failed) == {"attempt", "job"}
    assert {facts_of(span)["error.type"] for span in failed.values()} == {"worker-lost"}
    assert times(list(failed.values()))["attempt"] == (at(10), at(15))


def test_a_forwarded_series_is_a_span_of_its_study(books: Books, receiver: TraceReceiver, tracer: Tracer) -> None:
    books.instances.record_instance(make_facts())
    books.settle(now=at(1))
    forward = Forward(destination="pacs", series_instance_uids=(make_facts().series_instance_uid,))
    facts = books.studies.study_facts(STUDY)
    books.studies.record_routing(facts, decisions=(), orders=(), forwards=(forward,), now=at(2))
    (delivery,) = books.deliveries.due_deliveries("pacs", at(99), 9)
    books.deliveries.record_sent(delivery, now=at(9), reason_code=None, reason_text=None)
    tracer.tick(at(40))
    (sent,) = [span for span in receiver.spans if span.name == "send"]
    (root,) = [span for span in receiver.spans if span.name == "study"]
    assert sent.parent_span_id == root.span_id
    assert times([sent])["send"] == (at(2), at(9))


def test_many_events_are_told_without_a_pause(books: Books, receiver: TraceReceiver, tracer: Tracer) -> None:
    for number in range(READ_AT_ONCE):
        books.instances.record_event(at=at(0), kind="file-passed-over", text=str(number))
    live(books)
    assert tracer.tick(at(40)) == at(40)
    assert tracer.tick(at(40)) == at(40) + PERIOD
    assert len(receiver.spans) == 11


def test_a_clock_that_is_set_back_keeps_nobody_waiting(books: Books, receiver: TraceReceiver, tracer: Tracer) -> None:
    live(books)
    assert tracer.tick(at(-60) - timedelta(hours=1)) == at(-60) - timedelta(hours=1) + PERIOD
    assert len(receiver.spans) == 11


def test_a_job_that_is_ordered_anew_after_its_end_is_a_span_of_its_own(
    books: Books, receiver: TraceReceiver, tracer: Tracer
) -> None:
    job = books.add_job()
    books.interventions.cancel_job(job.job_id, ordered_by="kim", now=at(5))
    books.interventions.retry_job(job.job_id, ordered_by="kim", now=at(9))
    claimed = books.claim(job, now=at(10))
    books.jobs.finish_job(claimed, make_outcome(make_result(claimed)), now=at(12))
    tracer.tick(at(20))
    ended = [span for span in receiver.spans if span.name == "job"]
    assert [(at_of(one.start_time_unix_nano), at_of(one.end_time_unix_nano)) for one in ended] == [
        (at(0), at(5)),
        (at(9), at(12)),
    ]
    assert len(ids(receiver)) == len(set(ids(receiver)))
    (queue,) = [span for span in receiver.spans if span.name == "queue"]
    assert queue.parent_span_id == ended[1].span_id


def test_the_mark_never_goes_back_to_what_another_node_told_before(books: Books, tracer: Tracer) -> None:
    live(books)
    ledger = TraceLedger(books.engine)
    harvest = ledger.next_harvest(at(40))
    assert harvest.read_to is not None
    ledger.record_told(harvest.read_to, now=at(41))
    ledger.record_told(harvest.read_to - 3, now=at(42))
    assert ledger.next_harvest(at(43)).read_to is None
