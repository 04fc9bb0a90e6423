"""Signs by which alarms are judged: what waits, for how long, and what happened last."""

from datetime import timedelta

import pytest

from node.domain.job import Priority
from node.errors import BrokerUnreachable
from node.ledger.bell import BellLedger
from node.ledger.commitments import CommitmentLedger
from node.ledger.jobs import RetryPolicy
from node.ledger.signs import SignLedger
from tests.ledgers import NOON, Books, at, make_outcome, make_result

DOWN = ("destination-down",)
POLICY = RetryPolicy(max_attempts=1, pause_s=1.0)


@pytest.fixture
def signs(books: Books) -> SignLedger:
    return SignLedger(books.engine)


def deliver(books: Books, study: str, number: int) -> None:
    job = books.claim(books.add_job(study=study))
    books.jobs.finish_job(job, make_outcome(make_result(job, number=number)), now=at(number))


def defer(books: Books, second: float, code: str = "destination-down") -> None:
    books.deliveries.defer_deliveries("pacs", now=at(second), not_before=at(second + 5), reason=(code, "no answer"))


def send_one(books: Books, second: float) -> None:
    first = books.deliveries.due_deliveries("pacs", at(99), 9)[0]
    books.deliveries.record_sent(first, now=at(second), reason_code=None, reason_text=None)


def test_the_last_job_of_a_pipeline_counts_in_whatever_state(books: Books, signs: SignLedger) -> None:
    assert signs.last_job_at("lung_nodules") is None
    books.interventions.cancel_job(books.add_job().job_id, ordered_by="reader", now=at(5))
    assert signs.last_job_at("lung_nodules") == NOON
    assert signs.last_job_at("chest_xray") is None


def test_studies_routed_since_are_counted_up_to_a_limit(books: Books, signs: SignLedger) -> None:
    for number in range(4):
        books.add_job(study=f"1.2.{number}")
    assert signs.count_routed_since(NOON, limit=9) == 0
    assert signs.count_routed_since(NOON - timedelta(seconds=1), limit=9) == 4
    assert signs.count_routed_since(NOON - timedelta(seconds=1), limit=3) == 3


def test_the_oldest_waiting_job_is_found_over_all_priorities(books: Books, signs: SignLedger) -> None:
    assert signs.oldest_waiting_job() is None
    low = books.add_job(study="1.2.1", priority=Priority.LOW)
    books.route(study=low.order.study_instance_uid)
    assert signs.oldest_waiting_job() is not None
    books.claim(low)
    assert signs.oldest_waiting_job() is None


def test_a_job_that_a_person_tried_again_has_waited_since_then(books: Books, signs: SignLedger) -> None:
    job = books.add_job()
    books.interventions.cancel_job(job.job_id, ordered_by="reader", now=at(5))
    books.interventions.retry_job(job.job_id, ordered_by="reader", now=at(1000))
    oldest = signs.oldest_waiting_job()
    assert oldest is not None
    assert (oldest.job_id, oldest.since) == (job.job_id, at(1000))


def test_jobs_that_are_due_are_told_from_those_in_hands(books: Books, signs: SignLedger) -> None:
    job = books.add_job()
    assert signs.overdue_jobs(at(100), due_before=at(0)) == (0, 0)
    assert signs.overdue_jobs(at(100), due_before=at(1)) == (1, 0)
    books.claim(job, now=at(90))
    assert signs.overdue_jobs(at(100), due_before=at(1)) == (0, 1)
    assert signs.overdue_jobs(at(1000), due_before=at(1)) == (0, 0)


def test_jobs_that_were_given_up_are_told_from_those_that_were_refused(books: Books, signs: SignLedger) -> None:
    dead, refused = books.claim(books.add_job(study="1.2.1")), books.claim(books.add_job(study="1.2.2"))
    books.jobs.fail_attempt(dead, POLICY, reason=("worker-lost", "died"), now=at(10))
    books.jobs.refuse_job(refused, reason_code="slice-missing", reason_text="a gap", now=at(10))
    assert signs.given_up_jobs(at(0), {"worker-lost"}) == {"lung_nodules": 1}
    assert signs.given_up_jobs(at(10), {"worker-lost"}) == {}
    books.interventions.retry_job(dead.job_id, ordered_by="reader", now=at(20))
    assert signs.given_up_jobs(at(0), {"worker-lost"}) == {}


def test_a_destination_is_down_until_it_takes_something(books: Books, signs: SignLedger) -> None:
    deliver(books, "1.2.1", 1)
    deliver(books, "1.2.2", 2)
    assert signs.oldest_pending_at("pacs") == at(1)
    assert not signs.is_obstructed("pacs", DOWN)
    defer(books, 10)
    assert signs.is_obstructed("pacs", DOWN)
    assert not signs.is_obstructed("archive", DOWN)
    send_one(books, 20)
    # The other one still waits for its turn, with the old reason.
    assert not signs.is_obstructed("pacs", DOWN)
    assert signs.oldest_pending_at("pacs") == at(2)
    defer(books, 30)
    assert signs.is_obstructed("pacs", DOWN)
    send_one(books, 40)
    assert signs.oldest_pending_at("pacs") is None
    assert not signs.is_obstructed("pacs", DOWN)


def test_a_late_report_on_what_was_taken_long_ago_is_no_sign_of_life(books: Books, signs: SignLedger) -> None:
    held = CommitmentLedger(books.engine)
    for number in (1, 2, 3):
        deliver(books, f"1.2.{number}", number)
    first, second, _ = books.deliveries.due_deliveries("pacs", at(99), 9)
    for delivery in (first, second):
        books.deliveries.record_sent(delivery, now=at(5), reason_code=None, reason_text=None)
    defer(books, 10)
    held.record_held([first.delivery_id], by="C-FIND", now=at(20))
    assert signs.is_obstructed("pacs", DOWN)
    held.give_up([second.delivery_id], now=at(30))
    assert signs.is_obstructed("pacs", DOWN)


def test_a_destination_that_is_busy_is_not_down(books: Books, signs: SignLedger) -> None:
    deliver(books, "1.2.1", 1)
    defer(books, 10, "destination-busy")
    assert not signs.is_obstructed("pacs", DOWN)


def test_a_fault_of_the_broker_stands_until_its_end_is_told(books: Books, signs: SignLedger) -> None:
    bell = BellLedger(books.engine)
    assert signs.told_broker_fault() is None
    bell.tell_fault(BrokerUnreachable("away"), at(1))
    assert signs.told_broker_fault() == "broker-unreachable" == bell.told_fault()
    bell.tell_healed(at(2))
    assert signs.told_broker_fault() is None


def test_the_last_event_of_a_kind_is_found(books: Books, signs: SignLedger) -> None:
    assert signs.last_event_at("audit-lost") is None
    for second in (1, 7):
        books.instances.record_event(at=at(second), kind="audit-lost", text="x")
    books.instances.record_event(at=at(9), kind="other", text="x")
    assert signs.last_event_at("audit-lost") == at(7)
