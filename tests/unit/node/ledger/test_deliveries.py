"""What delivery commits: what is due, what was sent or refused, and when to try again."""

import pytest

from node.delivery.strays import Strays
from node.domain.result import Delivery, DeliveryState, ResultKind
from node.ledger.orders import add_delivery
from tests.ledgers import NOON, STUDY, Books, at, make_outcome, make_result


def order(books: Books, number: int = 1, *, destination: str = "pacs", study: str = STUDY) -> None:
    values = {
        "destination": destination,
        "study_instance_uid": study,
        "sop_instance_uid": f"2.25.{number}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "path": f"results/{number}.dcm",
        "job_id": None,
        "state": DeliveryState.PENDING.value,
    }
    with books.deliveries.writing() as connection:
        add_delivery(connection, values, now=NOON)


def due(books: Books, second: float = 0, destination: str = "pacs") -> list[str]:
    return [d.sop_instance_uid for d in books.deliveries.due_deliveries(destination, at(second), 100)]


def only(books: Books) -> Delivery:
    (delivery,) = books.view.list_deliveries(destination=None, state=None, limit=9)
    return delivery


def retry(books: Books, delivery: Delivery, second: float) -> None:
    books.deliveries.record_retry(delivery, now=NOON, not_before=at(second), reason=("destination-down", "no answer"))


def test_the_same_order_twice_is_one(books: Books) -> None:
    order(books, 1)
    order(books, 1)
    order(books, 1, destination="archive")
    assert (due(books), due(books, destination="archive")) == (["2.25.1"], ["2.25.1"])


def test_fewest_attempts_come_first_then_the_oldest_and_whole_studies_together(books: Books) -> None:
    for number, study in ((1, "1.9"), (2, "1.5"), (3, "1.9"), (4, "1.5")):
        order(books, number, study=study)
    first = books.deliveries.due_deliveries("pacs", NOON, 100)[0]
    assert due(books) == ["2.25.1", "2.25.3", "2.25.2", "2.25.4"]
    retry(books, first, 0)
    assert due(books) == ["2.25.3", "2.25.2", "2.25.4", "2.25.1"]
    assert len(books.deliveries.due_deliveries("pacs", NOON, 3)) == 3


def test_a_failed_attempt_waits_until_its_time(books: Books) -> None:
    order(books)
    retry(books, only(books), 30)
    assert (due(books, 29), due(books, 30)) == ([], ["2.25.1"])
    assert books.deliveries.next_delivery_at("pacs") == at(30)
    assert (only(books).attempts, only(books).reason_code) == (1, "destination-down")


def test_a_sent_delivery_is_never_due_again(books: Books) -> None:
    order(books)
    books.deliveries.record_sent(only(books), now=at(1), reason_code="b000", reason_text="coerced")
    retry(books, only(books), 0)
    assert (only(books).state, only(books).attempts, only(books).reason_text) == (DeliveryState.SENT, 1, "coerced")
    assert (due(books, 99), books.deliveries.next_delivery_at("pacs")) == ([], None)


def test_a_refused_delivery_waits_for_a_person(books: Books) -> None:
    order(books)
    books.deliveries.record_refused(only(books), now=at(1), reason_code="c000", reason_text="no SEG")
    assert (only(books).state, due(books, 99)) == (DeliveryState.REFUSED, [])
    assert books.deliveries.retry_deliveries(destination="archive", ordered_by="kim", now=at(2)) == 0
    assert books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=at(2)) == 1
    assert due(books, 2) == ["2.25.1"]
    assert books.deliveries.delivery_age_start(only(books).delivery_id) == at(2)


def test_doubts_are_counted_beside_attempts_and_begin_anew_by_hand(books: Books) -> None:
    order(books)
    for is_doubtful in (False, True, True):
        books.deliveries.record_retry(
            only(books), now=NOON, not_before=NOON, reason=("code", "text"), is_doubtful=is_doubtful
        )
    assert (only(books).attempts, only(books).doubts) == (3, 2)
    books.deliveries.record_refused(only(books), now=at(1), reason_code="code", reason_text="text")
    books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=at(2))
    assert (only(books).attempts, only(books).doubts) == (0, 0)


@pytest.mark.parametrize("meanwhile", ["tried elsewhere", "refused and retried", "retried"])
def test_an_answer_that_is_written_late_changes_nothing_that_came_after_it(books: Books, meanwhile: str) -> None:
    order(books)
    as_it_was = only(books)
    if meanwhile == "tried elsewhere":
        retry(books, only(books), 3)
    elif meanwhile == "refused and retried":
        books.deliveries.record_refused(only(books), now=at(2), reason_code="c000", reason_text="no")
    if meanwhile.endswith("retried"):
        books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=at(5))
    known = only(books)
    books.deliveries.record_sent(as_it_was, now=at(1), reason_code=None, reason_text=None)
    assert not books.deliveries.record_refused(as_it_was, now=at(1), reason_code="c000", reason_text="no")
    books.deliveries.record_retry(as_it_was, now=at(1), not_before=at(9), reason=("code", "text"))
    assert only(books) == known


def test_what_is_made_due_by_hand_on_its_way_has_its_answer(books: Books) -> None:
    order(books)
    retry(books, only(books), 0)
    on_its_way = only(books)
    books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=at(5))
    books.deliveries.record_sent(on_its_way, now=at(6), reason_code=None, reason_text=None)
    assert only(books).state is DeliveryState.SENT


def test_an_answer_counts_though_the_clock_was_set_back(books: Books) -> None:
    order(books)
    books.deliveries.record_sent(only(books), now=at(-3600), reason_code=None, reason_text=None)
    assert only(books).state is DeliveryState.SENT


def test_an_outage_is_written_when_it_is_news_and_into_what_arrives_meanwhile(books: Books) -> None:
    order(books, 1)
    books.deliveries.defer_deliveries("pacs", now=NOON, not_before=at(2), reason=("destination-down", "no answer"))
    order(books, 2)
    for second in (4, 10):
        books.deliveries.defer_deliveries(
            "pacs", now=at(1), not_before=at(second), reason=("destination-down", "still none"), is_news=False
        )
    found = books.deliveries.due_deliveries("pacs", at(99), 9)
    assert [(d.not_before, d.reason_text) for d in found] == [(at(2), "no answer"), (at(4), "still none")]


def test_what_waits_for_too_long_is_found_by_its_age(books: Books) -> None:
    order(books, 1)
    order(books, 1, destination="archive")
    assert books.deliveries.overdue_deliveries("pacs", at(-1)) == ()
    (overdue,) = books.deliveries.overdue_deliveries("pacs", NOON)
    assert (overdue.destination, overdue.sop_instance_uid) == ("pacs", "2.25.1")
    books.deliveries.record_sent(overdue, now=at(1), reason_code=None, reason_text=None)
    assert books.deliveries.overdue_deliveries("pacs", at(9)) == ()


def test_a_delivery_knows_the_length_of_its_file(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    order(books, 2)
    found = books.deliveries.due_deliveries("pacs", at(1), 9)
    assert [delivery.size_bytes for delivery in found] == [make_result(job).size_bytes, None]


def test_a_sent_delivery_is_not_retried_by_hand(books: Books) -> None:
    order(books)
    books.deliveries.record_sent(only(books), now=at(1), reason_code=None, reason_text=None)
    assert books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=at(2)) == 0


def test_a_destination_that_is_down_defers_all_of_its_deliveries_and_no_other(books: Books) -> None:
    for number in (1, 2):
        order(books, number)
    order(books, 1, destination="archive")
    reason = ("destination-down", "no answer")
    books.deliveries.defer_deliveries("pacs", now=NOON, not_before=at(60), reason=reason)
    assert (due(books, 59), len(due(books, 60)), due(books, destination="archive")) == ([], 2, ["2.25.1"])
    books.deliveries.defer_deliveries("pacs", now=NOON, not_before=at(30), reason=reason)
    assert books.deliveries.next_delivery_at("pacs") == at(60)


def test_an_unknown_delivery_has_no_age(books: Books) -> None:
    assert books.deliveries.delivery_age_start(99) is None


def test_the_story_of_a_study_ends_with_its_deliveries(books: Books) -> None:
    job = books.claim(books.add_job())
    results = (make_result(job, number=1), make_result(job, kind=ResultKind.SR, number=2))
    books.jobs.finish_job(job, make_outcome(*results), now=at(1))
    story = books.view.study_story(STUDY)
    assert not story.is_finished
    seg, sr = story.deliveries
    books.deliveries.record_sent(seg, now=at(2), reason_code=None, reason_text=None)
    books.deliveries.record_refused(sr, now=at(3), reason_code="c000", reason_text="no SR")
    after = books.view.study_story(STUDY)
    assert after.is_finished
    assert [event.kind for event in after.events][-2:] == ["delivery-sent", "delivery-refused"]
    assert after.events[-1].job_id == job.job_id


def test_what_waits_for_nobody_is_refused_in_the_end(books: Books) -> None:
    order(books, 1)
    order(books, 2, destination="gone")
    station = Strays(["pacs"], books.deliveries, give_up_days=1.0)
    assert books.deliveries.waiting_destinations() == {"pacs", "gone"}
    assert station.tick(at(86399)) == at(86399 + 3600)
    assert {delivery.state.value for delivery in listed(books)} == {"PENDING"}
    station.tick(at(86400))
    found = {delivery.destination: (delivery.state.value, delivery.reason_code) for delivery in listed(books)}
    assert found == {"pacs": ("PENDING", None), "gone": ("REFUSED", "no-destination")}
    assert books.deliveries.waiting_destinations() == {"pacs"}


def listed(books: Books) -> tuple[Delivery, ...]:
    return books.view.list_deliveries(destination=None, state=None, limit=9)


def test_who_makes_everything_due_stands_in_the_time_line_of_each_study(books: Books) -> None:
    order(books)
    books.deliveries.record_refused(only(books), now=at(1), reason_code="c000", reason_text="no SEG")
    books.deliveries.retry_deliveries(destination="pacs", ordered_by="kim", now=at(2))
    (told,) = [event for event in books.view.list_events(9) if event.kind == "delivery-retried"]
    assert told.study_instance_uid == only(books).study_instance_uid
    assert told.text == "1 Deliveries to pacs are due again, by kim"
