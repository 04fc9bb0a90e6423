"""What becomes of Results that are taken back."""

from dataclasses import replace

import pytest

from node.domain.job import Job
from node.domain.result import Delivery, DeliveryState, Result, ResultKind
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.uids import InstanceUID
from node.errors import NotFound
from node.ledger.retractions import RetractionLedger
from tests.ledgers import Books, at, make_facts, make_order, make_outcome, make_result

SEG, SR, PICTURE, NOTE = InstanceUID("2.25.1"), InstanceUID("2.25.2"), InstanceUID("2.25.3"), InstanceUID("2.25.4")


def answered(books: Books) -> Job:
    """A completed Job: the SEG was sent, the SR waits, the picture stands in for nothing."""
    job = books.claim(books.add_job())
    picture = replace(make_result(job, kind=ResultKind.SC, number=3), is_substitute=True)
    results = (make_result(job), make_result(job, kind=ResultKind.SR, number=2), picture)
    books.jobs.finish_job(job, make_outcome(*results), now=at(1))
    sent = next(d for d in deliveries(books) if d.sop_instance_uid == SEG)
    books.deliveries.record_sent(sent, now=at(2), reason_code=None, reason_text=None)
    return job


def deliveries(books: Books) -> tuple[Delivery, ...]:
    return books.view.list_deliveries(destination=None, state=None, limit=100)


def states(books: Books) -> dict[str, tuple[DeliveryState, str | None]]:
    return {d.sop_instance_uid: (d.state, d.reason_code) for d in deliveries(books)}


def take_back(*struck: str) -> RetractionOrder:
    return RetractionOrder(reason=RejectionReason.QUALITY, comment="seen twice", struck=struck, ordered_by="reader")


def note(job: Job) -> Result:
    return make_result(job, kind=ResultKind.REJECTION_NOTE, number=4)


def test_a_retracted_result_never_leaves_and_what_left_is_named(books: Books) -> None:
    job = answered(books)
    ledger = RetractionLedger(books.engine)
    retraction = ledger.order_retraction(SR, take_back(), now=at(3))
    assert states(books) == {SEG: (DeliveryState.SENT, None), SR: (DeliveryState.REFUSED, "retracted")}
    assert ledger.pending_retractions() == (retraction,)
    assert {result.sop_instance_uid for result in ledger.retracted_results(retraction)} == {SEG, SR}
    assert ledger.find_job(retraction).job_id == job.job_id


def test_what_is_taken_back_is_pending_no_more_for_a_courier_that_was_about_to_send_it(books: Books) -> None:
    answered(books)
    due = {d.delivery_id for d in books.deliveries.due_deliveries("pacs", at(2), 9)}
    assert books.deliveries.still_pending(due) == due != set()
    RetractionLedger(books.engine).order_retraction(SR, take_back(), now=at(3))
    assert books.deliveries.still_pending(due) == frozenset()


def test_retry_by_hand_does_not_bring_a_retracted_result_back(books: Books) -> None:
    answered(books)
    RetractionLedger(books.engine).order_retraction(SEG, take_back(), now=at(3))
    books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=at(4))
    assert states(books)[SR] == (DeliveryState.REFUSED, "retracted")


def test_what_a_worker_hands_in_is_delivered_once(books: Books) -> None:
    job = answered(books)
    ledger = RetractionLedger(books.engine)
    retraction = ledger.order_retraction(SEG, take_back("Nodule 1"), now=at(3))
    for _ in range(2):
        ledger.finish_retraction(retraction, [note(job)], now=at(4))
    assert states(books)[NOTE] == (DeliveryState.PENDING, None)
    assert ledger.pending_retractions() == ()
    assert books.kinds().count("retraction-done") == 1
    told = next(e for e in books.view.study_story(job.order.study_instance_uid).events if e.kind == "results-retracted")
    assert told.text == "3 Results by reader, reason quality; struck: Nodule 1"


def test_a_second_retraction_leaves_the_rejection_note_alone(books: Books) -> None:
    job = answered(books)
    ledger = RetractionLedger(books.engine)
    first = ledger.order_retraction(SEG, take_back("Nodule 1"), now=at(3))
    corrected = make_result(job, kind=ResultKind.SR, number=5)
    ledger.finish_retraction(first, [note(job), corrected], now=at(4))
    second = ledger.order_retraction(corrected.sop_instance_uid, take_back(), now=at(5))
    assert [result.sop_instance_uid for result in ledger.retracted_results(second)] == [corrected.sop_instance_uid]
    assert states(books)[NOTE] == (DeliveryState.PENDING, None)


@pytest.mark.parametrize(
    ("uid", "struck", "told"),
    [
        ("2.25.99", (), "result 2.25.99 is not in the ledger"),
        (SEG, ("Nodule 7",), "has no finding Nodule 7; its findings: Nodule 1"),
    ],
)
def test_what_cannot_be_retracted_is_named(books: Books, uid: str, struck: tuple[str, ...], told: str) -> None:
    answered(books)
    with pytest.raises(NotFound, match=told):
        RetractionLedger(books.engine).order_retraction(InstanceUID(uid), take_back(*struck), now=at(3))
    assert states(books)[SEG] == (DeliveryState.SENT, None)


def test_the_same_result_is_retracted_once(books: Books) -> None:
    answered(books)
    ledger = RetractionLedger(books.engine)
    ledger.order_retraction(SEG, take_back(), now=at(3))
    with pytest.raises(NotFound, match="was retracted at 2025-01-14 12:00 UTC already"):
        ledger.order_retraction(SR, take_back(), now=at(4))


def test_a_rejection_note_is_no_way_to_what_is_gone_already(books: Books) -> None:
    job = answered(books)
    ledger = RetractionLedger(books.engine)
    ledger.finish_retraction(ledger.order_retraction(SEG, take_back(), now=at(3)), [note(job)], now=at(4))
    with pytest.raises(NotFound, match=r"2\.25\.4 is a rejection note"):
        ledger.order_retraction(NOTE, take_back(), now=at(5))
    assert ledger.pending_retractions() == ()


def test_a_newer_answer_asks_for_nothing_where_a_person_was_first(books: Books) -> None:
    job = answered(books)
    ledger = RetractionLedger(books.engine)
    ledger.finish_retraction(ledger.order_retraction(SEG, take_back(), now=at(3)), [note(job)], now=at(4))
    books.instances.record_instance(make_facts(2, received_at=at(4)))
    books.route(make_order(numbers=(1, 2)), now=at(5))
    later = next(one for one in books.view.list_jobs(state=None, limit=9) if one.supersedes is not None)
    claimed = books.claim(later, now=at(6))
    outcome = replace(make_outcome(make_result(claimed, number=6)), rejects_predecessor=True)
    books.jobs.finish_job(claimed, outcome, now=at(7))
    assert ledger.pending_retractions() == ()


@pytest.mark.parametrize("rejects", [True, False])
def test_a_newer_answer_takes_the_older_back_only_where_the_settings_say_so(books: Books, rejects: bool) -> None:
    answered(books)
    books.instances.record_instance(make_facts(2, received_at=at(4)))
    books.route(make_order(numbers=(1, 2)), now=at(5))
    later = next(job for job in books.view.list_jobs(state=None, limit=9) if job.supersedes is not None)
    claimed = books.claim(later, now=at(6))
    outcome = replace(make_outcome(make_result(claimed, number=6)), rejects_predecessor=rejects)
    books.jobs.finish_job(claimed, outcome, now=at(7))
    pending = RetractionLedger(books.engine).pending_retractions()
    assert [(one.job_id == later.supersedes, one.order.ordered_by) for one in pending] == [(True, "radnode")] * rejects
    assert states(books)["2.25.6"] == (DeliveryState.PENDING, None)


def test_a_finding_is_struck_once_and_later_corrections_know_of_it(books: Books) -> None:
    job = answered(books)
    ledger = RetractionLedger(books.engine)
    first = ledger.order_retraction(SEG, take_back("Nodule 1"), now=at(3))
    corrected = make_result(job, kind=ResultKind.SR, number=5)
    ledger.finish_retraction(first, [corrected], now=at(4))
    with pytest.raises(NotFound, match="has no finding Nodule 1; its findings: none"):
        ledger.order_retraction(corrected.sop_instance_uid, take_back("Nodule 1"), now=at(5))
    second = ledger.order_retraction(corrected.sop_instance_uid, take_back(), now=at(6))
    assert ledger.labels_struck_before(first) == ()
    assert ledger.labels_struck_before(second) == ("Nodule 1",)


def test_a_correction_that_a_newer_answer_has_overtaken_is_left(books: Books) -> None:
    job = answered(books)
    ledger = RetractionLedger(books.engine)
    retraction = ledger.order_retraction(SEG, take_back("Nodule 1"), now=at(3))
    books.instances.record_instance(make_facts(2, received_at=at(4)))
    books.route(make_order(numbers=(1, 2)), now=at(5))
    later = next(one for one in books.view.list_jobs(state=None, limit=9) if one.supersedes is not None)
    claimed = books.claim(later, now=at(6))
    books.jobs.finish_job(claimed, make_outcome(make_result(claimed, number=6)), now=at(7))
    ledger.finish_retraction(retraction, [make_result(job, kind=ResultKind.SR, number=5)], now=at(8))
    assert "2.25.5" not in states(books)
    assert ledger.pending_retractions() == ()


def test_a_correction_stands_though_a_newer_answer_came_in_shadow(books: Books) -> None:
    job = answered(books)
    ledger = RetractionLedger(books.engine)
    retraction = ledger.order_retraction(SEG, take_back("Nodule 1"), now=at(3))
    books.instances.record_instance(make_facts(2, received_at=at(4)))
    books.route(replace(make_order(numbers=(1, 2)), is_shadow=True), now=at(5))
    shadow = next(one for one in books.view.list_jobs(state=None, limit=9) if one.order.is_shadow)
    claimed = books.claim(shadow, now=at(6))
    books.jobs.finish_job(claimed, make_outcome(make_result(claimed, number=6)), now=at(7))
    ledger.finish_retraction(retraction, [make_result(job, kind=ResultKind.SR, number=5)], now=at(8))
    assert states(books)["2.25.5"] == (DeliveryState.PENDING, None)
