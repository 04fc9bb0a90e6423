"""What may go, as the ledger proves it, and what is left of it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from node.domain.job import Job
from node.domain.result import DeliveryState, ResultKind
from node.domain.retention import KeepUntil, Proof, PurgeOrder
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.uids import InstanceUID
from node.errors import NotFound, WrongState
from node.ledger.retention import RetentionLedger
from node.ledger.retractions import RetractionLedger
from tests.ledgers import NOON, STUDY, Books, at, make_facts, make_order, make_outcome, make_result

SENT = Proof(keep_until=KeepUntil.SENT)
FINISHED = Proof(keep_until=KeepUntil.FINISHED)
COMMITTED = Proof(keep_until=KeepUntil.COMMITTED, confirming=frozenset({"pacs"}))
ORDER = PurgeOrder(study_instance_uid=STUDY, ordered_by="keeper", reason="asked for")
LATER = at(1000)


@pytest.fixture
def retention(books: Books) -> RetentionLedger:
    return RetentionLedger(books.engine)


def answer(books: Books, **order: object) -> Job:
    """Take in an Instance, and answer the one Job on it with a SEG."""
    job = books.claim(books.add_job(**order))
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    return job


def send_all(books: Books) -> None:
    for delivery in books.view.list_deliveries(destination=None, state=DeliveryState.PENDING, limit=99):
        books.deliveries.record_sent(delivery, now=at(2), reason_code=None, reason_text=None)


def refuse_all(books: Books) -> None:
    for delivery in books.view.list_deliveries(destination=None, state=DeliveryState.PENDING, limit=99):
        books.deliveries.record_refused(delivery, now=at(2), reason_code="destination-refused", reason_text="no")


def finished(books: Books) -> None:
    answer(books)
    send_all(books)


def confirmed(books: Books) -> None:
    finished(books)
    with books.deliveries.writing() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET state = 'COMMITTED'")


def without_rule(books: Books) -> None:
    books.instances.record_instance(make_facts())
    books.route()


def open_series(books: Books) -> None:
    books.instances.record_instance(make_facts())


def waiting(books: Books) -> None:
    books.add_job()


def running(books: Books) -> None:
    books.claim(books.add_job())


def on_its_way(books: Books) -> None:
    answer(books)


def refused(books: Books) -> None:
    answer(books)
    refuse_all(books)


def refused_and_seen(books: Books) -> None:
    refused(books)
    books.deliveries.dismiss_deliveries(destination="pacs", study=None, ordered_by="keeper", now=at(3))


def replaced_by_a_picture(books: Books) -> None:
    job = books.claim(books.add_job())
    picture = replace(make_result(job, kind=ResultKind.SC, number=2), is_substitute=True)
    books.jobs.finish_job(job, make_outcome(make_result(job), picture), now=at(1))
    (delivery,) = books.view.list_deliveries(destination=None, state=None, limit=9)
    books.deliveries.record_refused(delivery, now=at(2), reason_code="sop-class-not-supported", reason_text="no")
    send_all(books)


def nowhere_else(books: Books) -> None:
    answer(books, deliver_to=())


def half_retracted(books: Books) -> None:
    finished(books)
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="reader")
    RetractionLedger(books.engine).order_retraction(InstanceUID("2.25.1"), order, now=at(3))


def canceled(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.refuse_job(job, reason_code="slice-missing", reason_text="a gap", now=at(1))


FATES: list[tuple[Callable[[Books], None], dict[str, str]]] = [
    (finished, {"sent": "", "finished": "", "committed": "confirmed"}),
    (confirmed, {"sent": "", "finished": "", "committed": ""}),
    (without_rule, {"sent": "", "finished": "", "committed": ""}),
    (canceled, {"sent": "", "finished": "", "committed": ""}),
    (open_series, {"sent": "not routed", "finished": "not routed", "committed": "not routed"}),
    (waiting, {"sent": "waits or runs", "finished": "waits or runs", "committed": "waits or runs"}),
    (running, {"sent": "waits or runs", "finished": "waits or runs", "committed": "waits or runs"}),
    (on_its_way, {"sent": "on its way", "finished": "on its way", "committed": "on its way"}),
    (refused, {"sent": "was refused", "finished": "", "committed": "was refused"}),
    (refused_and_seen, {"sent": "", "finished": "", "committed": ""}),
    (replaced_by_a_picture, {"sent": "", "finished": "", "committed": "confirmed"}),
    (nowhere_else, {"sent": "nobody else", "finished": "", "committed": "nobody else"}),
    (half_retracted, {"sent": "taken back", "finished": "taken back", "committed": "taken back"}),
]


@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate[0].__name__)
@pytest.mark.parametrize("proof", [SENT, FINISHED, COMMITTED], ids=lambda proof: proof.keep_until.value)
def test_a_study_goes_only_when_nothing_needs_it(
    books: Books, retention: RetentionLedger, fate: tuple[Callable[[Books], None], dict[str, str]], proof: Proof
) -> None:
    """What the command says, what the station finds and what the transaction allows is the same."""
    prepare, expected = fate
    prepare(books)
    keeps = expected[proof.keep_until]
    said = retention.obstacles(STUDY, proof)
    found = retention.candidates(proof, before=LATER, results_before=LATER, limit=9)
    if not keeps:
        assert said == ()
        assert [candidate.study_instance_uid for candidate in found] == [STUDY]
        assert retention.begin_purge(ORDER, proof, now=LATER).study_instance_uid == STUDY
        return
    assert any(keeps in line for line in said), said
    assert found == ()
    assert set(said) <= set(retention.count_obstacles(proof))
    with pytest.raises(WrongState, match=keeps):
        retention.begin_purge(ORDER, proof, now=LATER)
    assert retention.pending_purges() == ()
    assert books.view.study_story(STUDY).state != "PURGED"


@pytest.mark.parametrize("fate", [waiting, running, open_series])
def test_nobody_can_force_a_study_out_under_a_job(
    books: Books, retention: RetentionLedger, fate: Callable[[Books], None]
) -> None:
    fate(books)
    with pytest.raises(WrongState, match="is kept"):
        retention.begin_purge(replace(ORDER, is_forced=True), FINISHED, now=LATER)


def test_a_person_may_force_out_what_nobody_else_has(books: Books, retention: RetentionLedger) -> None:
    answer(books)
    assert retention.obstacles(STUDY, SENT, is_forced=True) == ()
    retention.begin_purge(replace(ORDER, is_forced=True), SENT, now=LATER)
    (delivery,) = books.view.study_story(STUDY).deliveries
    assert (delivery.state, delivery.reason_code) == (DeliveryState.REFUSED, "purged")
    assert books.deliveries.due_deliveries("pacs", LATER, 9) == ()
    assert books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=LATER) == 0


def test_an_unknown_study_is_told(retention: RetentionLedger) -> None:
    with pytest.raises(NotFound, match="studies list"):
        retention.begin_purge(ORDER, SENT, now=NOON)
    with pytest.raises(NotFound):
        retention.obstacles(STUDY, SENT)


def test_age_counts_from_the_last_thing_that_happened(books: Books, retention: RetentionLedger) -> None:
    finished(books)
    for moment, is_found in ((at(1), False), (at(2), True)):
        found = retention.candidates(SENT, before=moment, results_before=moment, limit=9)
        assert bool(found) is is_found, moment


def test_the_oldest_come_first_and_are_weighed(books: Books, retention: RetentionLedger) -> None:
    for number, seconds in ((1, 30.0), (2, 10.0), (3, 20.0)):
        study = f"1.2.{number}"
        books.instances.record_instance(make_facts(study=study, received_at=at(seconds)))
        books.route(study=study, now=at(seconds))  # type: ignore[arg-type]  # a StudyUID is a str
    found = retention.candidates(SENT, before=LATER, results_before=LATER, limit=2)
    assert [candidate.study_instance_uid for candidate in found] == ["1.2.2", "1.2.3"]
    assert [candidate.size_bytes for candidate in found] == [1000, 1000]


def test_results_stay_longer_where_they_should(books: Books, retention: RetentionLedger) -> None:
    finished(books)
    (candidate,) = retention.candidates(SENT, before=LATER, results_before=NOON, limit=9)
    assert (candidate.with_results, candidate.size_bytes) == (False, 1000)
    purge = retention.begin_purge(replace(ORDER, with_results=False), SENT, now=LATER)
    assert (purge.size_bytes, dict(purge.sop_classes)) == (1000, {"1.2.840.10008.5.1.4.1.1.2": 1})
    retention.finish_purge(purge, now=LATER)
    assert [result.purged_at for result in books.view.study_story(STUDY).results] == [None]
    assert retention.candidates(SENT, before=LATER, results_before=NOON, limit=9) == ()
    (left,) = retention.candidates(SENT, before=LATER, results_before=LATER, limit=9)
    assert (left.with_results, left.size_bytes) == (True, 10)
    retention.finish_purge(retention.begin_purge(ORDER, SENT, now=LATER), now=LATER)
    assert retention.candidates(SENT, before=LATER, results_before=LATER, limit=9) == ()
    with pytest.raises(WrongState, match="nothing is left"):
        retention.begin_purge(ORDER, SENT, now=LATER)


def test_what_stays_tells_the_story_and_nothing_of_the_patient(books: Books, retention: RetentionLedger) -> None:
    finished(books)
    purge = retention.begin_purge(ORDER, SENT, now=LATER)
    assert retention.pending_purges() == (purge,)
    assert not retention.has_instances(STUDY)
    retention.finish_purge(purge, now=LATER)
    story = books.view.study_story(STUDY)
    assert (story.state, story.reason, story.series, story.decisions) == ("PURGED", "asked for", (), ())
    assert story.is_finished
    assert [(job.state.value, job.findings) for job in story.jobs] == [("COMPLETED", ())]
    assert [delivery.state.value for delivery in story.deliveries] == ["SENT"]
    assert [event.kind for event in story.events][-2:] == ["purge-ordered", "study-purged"]
    with pytest.raises(NotFound, match="send it again"):
        books.studies.study_facts(STUDY)


def test_a_study_sent_again_is_a_story_of_its_own_and_is_not_asked_twice(
    books: Books, retention: RetentionLedger
) -> None:
    finished(books)
    retention.finish_purge(retention.begin_purge(ORDER, SENT, now=LATER), now=LATER)
    books.instances.record_instance(make_facts(received_at=at(2000)))
    story = books.view.study_story(STUDY)
    assert (story.state, story.first_instance_at) == ("OPEN", at(2000))
    books.route(make_order(), now=at(2001))
    story = books.view.study_story(STUDY)
    assert [job.state.value for job in story.jobs] == ["COMPLETED"]
    assert {"study-opened", "job-known"} <= {event.kind for event in story.events if event.at >= at(2000)}
    assert books.deliveries.due_deliveries("pacs", at(3000), 9) == ()


def test_a_study_that_was_refused_is_asked_again(books: Books, retention: RetentionLedger) -> None:
    """Nothing was ever sent of it, so nothing can come twice."""
    canceled(books)
    retention.finish_purge(retention.begin_purge(ORDER, SENT, now=LATER), now=LATER)
    assert books.view.study_story(STUDY).jobs == ()
    books.instances.record_instance(make_facts(received_at=at(2000)))
    books.route(make_order(), now=at(2001))
    assert books.only_job().state.value == "SCHEDULED"


def test_a_late_slice_after_the_purge_names_the_answer_that_went(books: Books, retention: RetentionLedger) -> None:
    job = answer(books)
    send_all(books)
    retention.finish_purge(retention.begin_purge(ORDER, SENT, now=LATER), now=LATER)
    books.instances.record_instance(make_facts(2, received_at=at(2000)))
    books.route(make_order(numbers=(2,)), now=at(2001))
    new = next(one for one in books.view.study_story(STUDY).jobs if one.state.value == "SCHEDULED")
    assert new.supersedes == job.job_id
    outcome = replace(make_outcome(make_result(new, number=7)), rejects_predecessor=True)
    books.jobs.finish_job(books.claim(new, now=at(2002)), outcome, now=at(2003))
    assert RetractionLedger(books.engine).pending_retractions() == ()


def test_results_that_are_gone_are_not_retracted(books: Books, retention: RetentionLedger) -> None:
    finished(books)
    retention.finish_purge(retention.begin_purge(ORDER, SENT, now=LATER), now=LATER)
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="reader")
    with pytest.raises(NotFound, match="was purged"):
        RetractionLedger(books.engine).order_retraction(InstanceUID("2.25.1"), order, now=at(2000))


def test_a_purge_that_is_undone_leaves_everything(books: Books, retention: RetentionLedger) -> None:
    finished(books)
    purge = retention.begin_purge(ORDER, SENT, now=LATER)
    books.instances.record_instance(make_facts(received_at=at(1001)))
    assert retention.has_instances(STUDY)
    retention.undo_purge(purge, now=at(1002))
    story = books.view.study_story(STUDY)
    assert (story.state, [result.purged_at for result in story.results]) == ("OPEN", [None])
    assert len(story.jobs[0].findings) == 1
    retention.finish_purge(purge, now=at(1003))
    assert "study-purged" not in books.kinds()


def test_each_dismissal_is_told_once(books: Books) -> None:
    refused(books)
    dismiss = books.deliveries.dismiss_deliveries
    assert dismiss(destination="other", study=None, ordered_by="keeper", now=at(3)) == 0
    assert dismiss(destination=None, study=STUDY, ordered_by="keeper", now=at(3)) == 1
    assert dismiss(destination=None, study=STUDY, ordered_by="keeper", now=at(4)) == 0
    assert books.kinds().count("delivery-dismissed") == 1


def test_an_answer_in_shadow_keeps_no_study(books: Books, retention: RetentionLedger) -> None:
    books.instances.record_instance(make_facts())
    books.route(replace(make_order(), is_shadow=True))
    job = books.claim(books.only_job())
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    assert books.view.study_story(STUDY).deliveries == ()
    for proof in (FINISHED, SENT, COMMITTED):
        assert retention.obstacles(STUDY, proof) == ()
