"""The queue of what is fetched: what is urgent first, nothing twice, nothing lost with the process that fetched it."""

from datetime import timedelta

import pytest

from node.domain.fetch import Ending, Fetched, FetchOrder, FetchReason, FetchState
from node.domain.uids import StudyUID
from node.errors import WrongState
from node.ledger.fetches import STALE, FetchFilter, FetchLedger
from node.ledger.pages import PageAsked
from tests.ledgers import NOON, STUDY, Books, at, make_facts

EVERY = tuple(FetchReason)


@pytest.fixture
def queue(books: Books) -> FetchLedger:
    return FetchLedger(books.engine)


def order(
    number: int = 1, *, reason: FetchReason = FetchReason.PULL, behalf: str = "order", instances: int | None = None
) -> FetchOrder:
    uid = StudyUID(f"{STUDY}.{number}")
    return FetchOrder(source="pacs", study_instance_uid=uid, reason=reason, on_behalf=behalf, instances=instances)


def test_what_a_job_waits_for_comes_first_and_what_is_new_last(queue: FetchLedger) -> None:
    reasons = (FetchReason.POLL, FetchReason.PULL, FetchReason.PRIOR)
    for number, reason in enumerate(reasons):
        queue.enqueue([order(number, reason=reason)], now=at(number))
    claimed = [queue.claim("pacs", reasons=reasons, now=at(9)) for _ in range(4)]
    assert [fetch and fetch.order.reason for fetch in claimed] == [*reversed(reasons), None]
    assert queue.claim("other", reasons=reasons, now=at(9)) is None


def test_only_what_may_come_at_this_time_is_begun(queue: FetchLedger) -> None:
    queue.enqueue([order()], now=NOON)
    assert queue.claim("pacs", reasons=[FetchReason.PRIOR], now=NOON) is None
    assert queue.next_due("pacs", reasons=[FetchReason.PRIOR]) is None
    assert queue.next_due("pacs", reasons=EVERY) == NOON


def test_the_same_order_is_one_fetch_and_another_purpose_is_another(queue: FetchLedger) -> None:
    first, again = queue.enqueue([order(), order()], now=NOON)
    assert first == again
    (other,) = queue.enqueue([order(behalf="another")], now=NOON)
    assert other.fetch_id != first.fetch_id
    assert queue.fetches_for(FetchReason.PULL, "order") == (first,)


def test_a_poll_fetches_again_only_what_has_grown(queue: FetchLedger) -> None:
    polled = order(reason=FetchReason.POLL, behalf="", instances=10)
    assert queue.note_polled("pacs", [polled], now=at(0)) == 1
    assert queue.note_polled("pacs", [polled], now=at(1)) == 0
    fetch = queue.claim("pacs", reasons=EVERY, now=at(2))
    assert fetch is not None
    assert queue.end(fetch, Ending(state=FetchState.COMPLETED, fetched=Fetched(expected=10, done=10)), now=at(3))
    assert queue.note_polled("pacs", [polled], now=at(4)) == 0
    grown = order(reason=FetchReason.POLL, behalf="", instances=12)
    assert queue.note_polled("pacs", [grown], now=at(5)) == 1
    assert queue.read_sources()["pacs"].polled_at == at(5)


def test_a_fetch_whose_process_is_gone_is_begun_again_and_the_old_one_writes_nothing(queue: FetchLedger) -> None:
    queue.enqueue([order()], now=NOON)
    lost = queue.claim("pacs", reasons=EVERY, now=NOON)
    assert lost is not None
    assert queue.claim("pacs", reasons=EVERY, now=NOON + STALE / 2) is None
    assert queue.note_progress(lost, Fetched(done=1), now=NOON + STALE / 2)
    assert queue.claim("pacs", reasons=EVERY, now=NOON + STALE) is None
    again = queue.claim("pacs", reasons=EVERY, now=NOON + 2 * STALE)
    assert again is not None
    assert again.attempts == 2
    assert not queue.note_progress(lost, Fetched(done=5), now=NOON + 2 * STALE)
    assert not queue.end(lost, Ending(state=FetchState.COMPLETED, fetched=Fetched(done=5)), now=NOON + 2 * STALE)
    assert queue.release("pacs", now=NOON + 2 * STALE) == 1


def test_who_cancels_an_order_ends_what_is_under_way(queue: FetchLedger) -> None:
    queue.enqueue([order(1), order(2)], now=NOON)
    fetch = queue.claim("pacs", reasons=EVERY, now=NOON)
    assert fetch is not None
    asked = FetchFilter(reason=FetchReason.PULL, on_behalf="order")
    assert queue.cancel(asked, by="eve", now=NOON) == 2
    assert not queue.note_progress(fetch, Fetched(done=1), now=NOON)
    assert {(one.state, one.reason_code) for one in queue.fetches_for(FetchReason.PULL, "order")} == {
        (FetchState.CANCELED, "canceled-by-hand")
    }


def test_nothing_is_begun_with_a_source_that_is_paused(queue: FetchLedger) -> None:
    queue.enqueue([order()], now=NOON)
    queue.pause("pacs", by="eve", reason="backup", now=NOON)
    with pytest.raises(WrongState):
        queue.pause("pacs", by="eve", now=NOON)
    assert queue.claim("pacs", reasons=EVERY, now=NOON) is None
    assert queue.read_sources()["pacs"].paused_by == "eve"
    queue.resume("pacs")
    with pytest.raises(WrongState):
        queue.resume("pacs")
    assert queue.claim("pacs", reasons=EVERY, now=NOON) is not None


def test_how_it_ended_stands_on_the_time_line_of_the_study(queue: FetchLedger, books: Books) -> None:
    books.instances.record_instance(make_facts())
    queue.enqueue([FetchOrder(source="pacs", study_instance_uid=STUDY, reason=FetchReason.PULL)], now=NOON)
    fetch = queue.claim("pacs", reasons=EVERY, now=NOON)
    assert fetch is not None
    failed = Ending(state=FetchState.CANCELED, fetched=Fetched(done=1, failed=2), reason_code="a", reason_text="b")
    assert queue.end(fetch, failed, now=NOON)
    assert books.kinds()[-1] == "study-not-fetched"


def test_listings_are_read_page_by_page(queue: FetchLedger) -> None:
    queue.enqueue([order(number) for number in range(5)], now=NOON)
    first = queue.list_fetches(FetchFilter(source="pacs"), PageAsked(limit=3))
    second = queue.list_fetches(FetchFilter(source="pacs"), PageAsked(limit=3, behind=first.rest))
    numbers = [fetch.fetch_id for fetch in (*first.rows, *second.rows)]
    assert numbers == sorted(numbers, reverse=True)
    assert (len(first.rows), len(second.rows), second.rest) == (3, 2, None)
    assert queue.count_states() == {"pacs": {FetchState.SCHEDULED: 5}}


def test_what_ended_long_ago_is_forgotten_unless_the_study_is_here(queue: FetchLedger, books: Books) -> None:
    books.instances.record_instance(make_facts(study=f"{STUDY}.1"))
    queue.enqueue([order(1), order(2), order(3)], now=NOON)
    for _ in range(2):
        fetch = queue.claim("pacs", reasons=EVERY, now=NOON)
        assert fetch is not None
        queue.end(fetch, Ending(state=FetchState.COMPLETED, fetched=Fetched()), now=NOON)
    assert queue.forget(NOON + timedelta(days=1)) == 1
    assert {one.order.study_instance_uid for one in queue.fetches_for(FetchReason.PULL, "order")} == {
        f"{STUDY}.1", f"{STUDY}.3",
    }  # fmt: skip
