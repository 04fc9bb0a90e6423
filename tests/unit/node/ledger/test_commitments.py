"""What the ledger knows of Deliveries that are still to be proven: no answer counts twice, and no loss is forgotten."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from node.domain.confirmation import CommitmentReport, ConfirmBy
from node.domain.result import DeliveryState, ResultKind
from node.domain.retention import KeepUntil, Proof, PurgeOrder
from node.domain.retraction import RejectionReason, RetractionOrder
from node.ledger.leaps import LeapLedger
from node.ledger.orders import add_delivery
from node.ledger.results import delivery_values
from node.ledger.retention import RetentionLedger
from node.ledger.retractions import RetractionLedger
from tests.ledgers import STUDY, Books, at, make_facts, make_outcome, make_result
from tests.proofs import DESTINATION, TRIES, Proving

TRANSACTION = "2.25.99"
COMMITTED = Proof(keep_until=KeepUntil.COMMITTED, confirming=frozenset({DESTINATION}))


def mute(_: object) -> Iterator[None]:
    raise AssertionError("these tests ask nobody")


@pytest.fixture
def proving(tmp_path: Path) -> Iterator[Proving]:
    """Return three Instances of one Study that the Destination took at noon."""
    opened = Proving(tmp_path, mute, confirm=ConfirmBy.AUTO)  # type: ignore[arg-type]  # never called
    for number in (1, 2, 3):
        facts = make_facts(number)
        opened.books.instances.record_instance(facts)
        opened.order(facts)
    opened.note_sent()
    yield opened
    opened.close()


def due(proving: Proving, second: float, *, after_s: float = 10.0) -> list[int]:
    sent_before = at(second) - timedelta(seconds=after_s)
    found = proving.ledger.due_proofs(DESTINATION, now=at(second), sent_before=sent_before, limit=10)
    return [one.delivery_id for one in found]


def ids(proving: Proving) -> list[int]:
    return [delivery.delivery_id for delivery in proving.deliveries]


def report(held: tuple[int, ...] = (), *, transaction: str = TRANSACTION, **failed: int) -> CommitmentReport:
    return CommitmentReport(
        transaction_uid=transaction,
        held=frozenset(f"{STUDY}.1.{number}" for number in held),
        failed={f"{STUDY}.1.{number[1:]}": reason for number, reason in failed.items()},
    )


def begin(proving: Proving) -> None:
    proving.ledger.begin_commitment(ids(proving), TRANSACTION, ask_at=at(600))


def lose_all(proving: Proving, second: float) -> None:
    proving.ledger.record_missing(ids(proving), by="C-FIND", now=at(second))


def test_what_was_sent_is_asked_about_a_while_later(proving: Proving) -> None:
    assert (due(proving, 9.0), due(proving, 10.0)) == ([], ids(proving))
    assert proving.ledger.next_proof_at(DESTINATION, after=timedelta(seconds=10)) == at(10)
    assert proving.ledger.due_proofs("other", now=at(99), sent_before=at(99), limit=9) == ()


def test_what_was_asked_about_is_asked_again_when_the_report_is_late(proving: Proving) -> None:
    begin(proving)
    assert (due(proving, 599.0), due(proving, 600.0)) == ([], ids(proving))
    assert proving.ledger.next_proof_at(DESTINATION, after=timedelta(seconds=10)) == at(600)
    assert proving.ledger.waiting_proofs(ids(proving)) == dict.fromkeys(ids(proving), (1, at(600)))


def test_a_report_says_of_each_object_what_became_of_it(proving: Proving) -> None:
    begin(proving)
    assert proving.ledger.record_report(report((1,), n2=0x0112, n3=0x0110), now=at(20)) == 3
    assert proving.states == ["COMMITTED", "LOST", "SENT"]
    assert proving.deliveries[1].reason_code == "not-held"
    # The third leaves it open: it is asked about once more, in another transaction.
    assert (due(proving, 600.0), proving.transactions) == ([ids(proving)[2]], [None, None])
    assert sorted(proving.events(study=STUDY))[:2] == [("delivery-committed", False), ("delivery-lost", False)]


def test_a_report_that_comes_twice_counts_once(proving: Proving) -> None:
    begin(proving)
    assert proving.ledger.record_report(report((1, 2, 3)), now=at(20)) == 3
    assert proving.ledger.record_report(report(n1=0x0112), now=at(21)) == 0
    assert proving.states == ["COMMITTED"] * 3


def test_a_report_of_another_transaction_changes_nothing(proving: Proving) -> None:
    begin(proving)
    assert proving.ledger.record_report(report((1, 2, 3), transaction="2.25.1"), now=at(20)) == 0
    assert proving.states == ["SENT"] * 3


def test_a_transaction_is_awaited_until_all_its_objects_are_answered(proving: Proving) -> None:
    begin(proving)
    proving.ledger.record_report(report((1, 2)), now=at(20))
    assert proving.ledger.is_awaited([TRANSACTION])
    proving.ledger.record_report(report((3,)), now=at(21))
    assert not proving.ledger.is_awaited([TRANSACTION])


def test_what_was_lost_is_sent_again_so_often_and_then_a_person_is_told(proving: Proving) -> None:
    for loss in range(1, TRIES + 1):
        lose_all(proving, loss * 100)
        after = proving.ledger.follow_losses(DESTINATION, tries=TRIES, now=at(loss * 100))
        assert (after.resent, after.given_up, proving.states) == (3, 0, ["PENDING"] * 3)
        assert f"{loss} of {TRIES}" in (proving.deliveries[0].reason_text or "")
        proving.note_sent(loss * 100 + 10)
    lose_all(proving, 900)
    after = proving.ledger.follow_losses(DESTINATION, tries=TRIES, now=at(900))
    assert (after.resent, after.given_up, proving.states) == (0, 3, ["LOST"] * 3)
    # One for all objects of the Study.
    assert [event for event in proving.events(study=STUDY) if event[1]] == [("delivery-lost", True)]
    # Once.
    assert proving.ledger.follow_losses(DESTINATION, tries=TRIES, now=at(901)).given_up == 0


def test_what_a_person_retries_has_all_its_tries_again(proving: Proving) -> None:
    for second in (100, 200, 300):
        lose_all(proving, second)
        proving.ledger.follow_losses(DESTINATION, tries=TRIES, now=at(second))
        if second < 300:
            proving.note_sent(second + 10)
    assert proving.states == ["LOST"] * 3
    assert proving.books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=at(400)) == 3
    assert (proving.questions, {delivery.attempts for delivery in proving.deliveries}) == ([], {0})
    proving.note_sent(410)
    lose_all(proving, 500)
    assert proving.ledger.follow_losses(DESTINATION, tries=TRIES, now=at(500)).resent == 3


def test_what_a_way_found_is_told_by_kind_and_destination(proving: Proving) -> None:
    first, *_ = proving.deliveries
    kind = first.sop_class_uid
    assert not proving.ledger.has_found(DESTINATION, kind, by="C-FIND")
    proving.ledger.record_held([first.delivery_id], by="C-FIND", now=at(20))
    asked = [(DESTINATION, kind, "C-FIND"), (DESTINATION, kind, "QIDO-RS"), (DESTINATION, "1.2", "C-FIND")]
    assert [proving.ledger.has_found(name, uid, by=by) for name, uid, by in asked] == [True, False, False]
    assert not proving.ledger.has_found("other", kind, by="C-FIND")


def test_what_was_lost_after_it_was_proven_missing_once_begins_anew(proving: Proving) -> None:
    proving.ledger.put_off(ids(proving), ask_at=at(30), is_missed=True)
    lose_all(proving, 40)
    proving.ledger.follow_losses(DESTINATION, tries=TRIES, now=at(40))
    proving.note_sent(50)
    assert (proving.questions, proving.deliveries[0].attempts) == ([(0, 0, 1)] * 3, 1)


def test_what_the_node_does_not_hold_any_more_is_not_sent_again(tmp_path: Path) -> None:
    proving = Proving(tmp_path, mute)  # type: ignore[arg-type]  # never called
    answer(proving.books)
    proving.note_sent()
    order = PurgeOrder(study_instance_uid=STUDY, ordered_by="a person", reason="test")
    retention = RetentionLedger(proving.books.engine)
    retention.finish_purge(retention.begin_purge(order, Proof(keep_until=KeepUntil.SENT), now=at(60)), now=at(61))
    lose_all(proving, 90)
    after = proving.ledger.follow_losses(DESTINATION, tries=TRIES, now=at(90))
    assert (after.resent, after.given_up, proving.states) == (0, 1, ["LOST"])
    assert "does not hold it any more" in (proving.deliveries[0].reason_text or "")
    assert proving.books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=at(91)) == 0
    proving.close()


def answer(books: Books, *, kind: ResultKind = ResultKind.SEG) -> None:
    job = books.claim(books.add_job())
    books.jobs.finish_job(job, make_outcome(make_result(job, kind=kind)), now=at(1))


def test_what_was_taken_back_is_not_missed(tmp_path: Path) -> None:
    proving = Proving(tmp_path, mute)  # type: ignore[arg-type]  # never called
    answer(proving.books)
    proving.note_sent()
    lost, taken_back = proving.deliveries[0], RetractionLedger(proving.books.engine)
    lose_all(proving, 20)
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="reader")
    taken_back.order_retraction(lost.sop_instance_uid, order, now=at(30))
    proving.ledger.follow_losses(DESTINATION, tries=TRIES, now=at(31))
    assert (proving.states, proving.deliveries[0].reason_code) == (["REFUSED"], "retracted")
    proving.close()


def test_what_was_taken_back_is_not_asked_about(tmp_path: Path) -> None:
    proving = Proving(tmp_path, mute)  # type: ignore[arg-type]  # never called
    answer(proving.books)
    proving.note_sent()
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="reader")
    RetractionLedger(proving.books.engine).order_retraction(proving.deliveries[0].sop_instance_uid, order, now=at(30))
    assert due(proving, 60.0) == []
    proving.ledger.forget_retracted(DESTINATION)
    assert (proving.questions, proving.states) == ([], ["SENT"])
    proving.close()


def test_a_rejection_note_is_not_asked_about(tmp_path: Path) -> None:
    proving = Proving(tmp_path, mute)  # type: ignore[arg-type]  # never called
    answer(proving.books, kind=ResultKind.REJECTION_NOTE)
    with proving.ledger.writing() as connection:
        (result,) = proving.books.jobs.results_of(proving.books.only_job().job_id)
        add_delivery(connection, delivery_values(result, DESTINATION), now=at(2))
    proving.note_sent()
    assert (proving.states, proving.questions) == (["SENT"], [])
    proving.close()


def test_a_destination_that_confirms_nothing_keeps_no_questions(proving: Proving) -> None:
    proving.ledger.forgo(DESTINATION, ids(proving)[:1])
    assert len(proving.questions) == 2
    proving.ledger.forgo(DESTINATION)
    assert (proving.questions, proving.states, due(proving, 99)) == ([], ["SENT"] * 3, [])


def test_what_nobody_answers_is_told_to_a_person_and_keeps_its_study(proving: Proving) -> None:
    proving.books.route()
    retention = RetentionLedger(proving.books.engine)
    proving.ledger.give_up(ids(proving), now=at(700))
    assert (due(proving, 9999), proving.states) == ([], ["SENT"] * 3)
    assert {delivery.reason_code for delivery in proving.deliveries} == {"unconfirmed"}
    told = [is_alarm for kind, is_alarm in proving.events(study=STUDY) if kind == "delivery-unconfirmed"]
    assert told == [True, False, False]
    assert retention.obstacles(STUDY, COMMITTED) == ("a Destination has not confirmed yet what it holds",)
    dismissed = proving.books.deliveries.dismiss_deliveries(
        destination=None, study=STUDY, ordered_by="a person", now=at(800)
    )
    assert (dismissed, retention.obstacles(STUDY, COMMITTED)) == (3, ())


def test_what_is_lost_keeps_its_study_until_a_person_takes_note(proving: Proving) -> None:
    proving.books.route()
    retention = RetentionLedger(proving.books.engine)
    lose_all(proving, 20)
    assert ["lost what it took" in words for words in retention.obstacles(STUDY, COMMITTED)] == [True]
    proving.ledger.follow_losses(DESTINATION, tries=0, now=at(20))
    assert proving.states == ["LOST"] * 3
    proving.books.deliveries.dismiss_deliveries(destination=None, study=STUDY, ordered_by="a person", now=at(30))
    assert retention.obstacles(STUDY, COMMITTED) == ()


def test_a_study_goes_once_all_of_it_is_confirmed_or_is_asked_about_no_more(proving: Proving) -> None:
    proving.books.route()
    retention = RetentionLedger(proving.books.engine)
    proving.ledger.record_held(ids(proving)[:2], by="C-FIND", now=at(20))
    assert retention.obstacles(STUDY, COMMITTED) == ("a Destination has not confirmed yet what it holds",)
    proving.ledger.forgo(DESTINATION)
    assert retention.obstacles(STUDY, COMMITTED) == ()


def test_lost_deliveries_are_due_again_by_hand(proving: Proving) -> None:
    lose_all(proving, 20)
    proving.ledger.follow_losses(DESTINATION, tries=0, now=at(20))
    assert proving.books.deliveries.retry_deliveries(destination=DESTINATION, ordered_by="kim", now=at(30)) == 3
    assert proving.states == ["PENDING"] * 3


def test_questions_go_with_their_deliveries(proving: Proving) -> None:
    proving.books.route()
    retention = RetentionLedger(proving.books.engine)
    order = PurgeOrder(study_instance_uid=STUDY, ordered_by="a person", reason="test")
    purge = retention.begin_purge(order, Proof(keep_until=KeepUntil.SENT), now=at(60))
    retention.finish_purge(purge, now=at(61))
    assert (proving.questions, proving.deliveries) == ([], ())


def test_all_objects_of_a_series_that_a_destination_took_are_counted(proving: Proving) -> None:
    assert proving.ledger.count_sent(DESTINATION, f"{STUDY}.1") == 3
    assert proving.ledger.count_sent("other", f"{STUDY}.1") == 0
    lose_all(proving, 20)
    assert proving.ledger.count_sent(DESTINATION, f"{STUDY}.1") == 0


def test_a_clock_that_is_set_back_delays_no_question(proving: Proving) -> None:
    LeapLedger(proving.books.engine).follow_clock(timedelta(hours=-1), now=at(-3600), lease_s=60.0)
    assert due(proving, -3590.0) == ids(proving)


def test_arrival_is_sent_or_committed() -> None:
    assert [state for state in DeliveryState if state.has_arrived] == [DeliveryState.SENT, DeliveryState.COMMITTED]
