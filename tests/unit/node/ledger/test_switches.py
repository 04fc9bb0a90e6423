"""Switches of Pipelines: what is asked, what goes out, and what an answer in shadow never does."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from node.domain.job import Job, JobOrder, JobState, Priority
from node.domain.result import ResultKind
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.switch import Mode, Switch
from node.errors import LeaseLost, NotFound, WrongState
from node.ledger.cards import job_card, read_card
from node.ledger.holdings import HoldingLedger
from node.ledger.jobs import JobOutcome
from node.ledger.restoration import Evidence, RestorationLedger
from node.ledger.retractions import RetractionLedger
from node.ledger.signs import SignLedger
from node.ledger.studies import StudyLedger
from node.ledger.switches import SwitchLedger
from tests.ledgers import STUDY, Books, at, copy_ledger, make_facts, make_order, make_outcome, make_result


def switch(books: Books, mode: Mode, *, now: datetime, reason: str = "") -> int:
    wanted = Switch(pipeline="lung_nodules", mode=mode, changed_by="kim", changed_at=now, reason=reason)
    return SwitchLedger(books.engine).switch_pipeline(wanted)


def in_shadow(**changes: object) -> JobOrder:
    return replace(make_order(**changes), is_shadow=True, priority=Priority.LOW)  # type: ignore[arg-type]  # handed on


def add_shadow(books: Books) -> Job:
    books.instances.record_instance(make_facts())
    books.route(in_shadow())
    return books.only_job()


def finish(books: Books, job: Job, *, now: datetime) -> None:
    claimed = books.claim(job, now=now)
    books.jobs.finish_job(claimed, make_outcome(make_result(claimed)), now=now)


def route_again(books: Books, order: JobOrder, *, number: int) -> None:
    """Route the Study once more, because a Series came of which `order` does not speak."""
    books.instances.record_instance(make_facts(number, series=number, association=f"a{number}", received_at=at(number)))
    books.route(order, now=at(number))


def held(books: Books) -> list[str]:
    try:
        return [one.path for one in HoldingLedger(books.engine).holdings(STUDY) if one.path.startswith("results/")]
    except NotFound:
        return []


def test_a_pipeline_that_was_never_switched_is_absent_and_on(books: Books) -> None:
    assert SwitchLedger(books.engine).read_switches() == {}
    finish(books, books.add_job(), now=at(1))
    assert len(books.view.study_story(STUDY).deliveries) == 1
    with pytest.raises(WrongState, match="is on already"):
        switch(books, Mode.ON, now=at(2))


def test_a_switch_is_told_with_who_and_why_and_every_node_reads_it(books: Books) -> None:
    switch(books, Mode.SHADOW, now=at(1), reason="new scanner")
    switch(books, Mode.OFF, now=at(2))
    (only,) = SwitchLedger(books.engine).read_switches().values()
    assert (only.mode, only.changed_by, only.changed_at, only.reason) == (Mode.OFF, "kim", at(2), "")
    assert SignLedger(books.engine).read_switches() == {"lung_nodules": only}
    told = [event.text for event in books.view.list_events(10) if event.kind == "pipeline-switched"]
    assert told == [
        "lung_nodules was shadow and is off, by kim",
        "lung_nodules was on and is shadow, by kim: new scanner",
    ]


def test_an_answer_in_shadow_is_kept_and_goes_nowhere(books: Books) -> None:
    finish(books, add_shadow(books), now=at(1))
    story = books.view.study_story(STUDY)
    assert [(job.state, job.order.is_shadow, len(job.findings)) for job in story.jobs] == [
        (JobState.COMPLETED, True, 1)
    ]
    assert (len(story.results), story.deliveries) == (1, ())
    # Neither is it handed out to whoever asks by DICOMweb.
    assert held(books) == []
    assert "in shadow: they are not delivered" in story.events[-1].text


def test_what_is_switched_while_a_job_runs_counts_at_its_end(books: Books) -> None:
    job = books.claim(books.add_job())
    assert switch(books, Mode.SHADOW, now=at(1)) == 0
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(2))
    story = books.view.study_story(STUDY)
    assert (story.jobs[0].order.is_shadow, story.deliveries) == (True, ())


def test_a_job_ordered_in_shadow_stays_there_when_its_pipeline_is_switched_on(books: Books) -> None:
    switch(books, Mode.SHADOW, now=at(0))
    job = add_shadow(books)
    switch(books, Mode.ON, now=at(1))
    finish(books, job, now=at(2))
    assert books.view.study_story(STUDY).deliveries == ()


def test_an_answer_in_shadow_goes_out_once_where_the_same_is_asked_anew(books: Books) -> None:
    finish(books, add_shadow(books), now=at(1))
    route_again(books, in_shadow(), number=2)
    assert books.view.study_story(STUDY).deliveries == ()
    route_again(books, make_order(), number=3)
    route_again(books, make_order(), number=4)
    story = books.view.study_story(STUDY)
    assert [(one.destination, one.state.value) for one in story.deliveries] == [("pacs", "PENDING")]
    assert [(job.order.is_shadow, job.order.priority) for job in story.jobs] == [(False, Priority.ROUTINE)]
    assert len(held(books)) == 1
    assert books.kinds().count("job-published") == 1


def test_a_shadow_job_that_runs_while_the_same_is_asked_anew_delivers_at_its_end(books: Books) -> None:
    claimed = books.claim(add_shadow(books))
    route_again(books, make_order(deliver_to=("archive",)), number=2)
    books.jobs.finish_job(claimed, make_outcome(make_result(claimed)), now=at(3))
    assert [one.destination for one in books.view.study_story(STUDY).deliveries] == ["archive"]


def test_whoever_is_on_is_not_put_into_shadow_by_being_asked_anew(books: Books) -> None:
    finish(books, books.add_job(), now=at(1))
    route_again(books, in_shadow(), number=2)
    story = books.view.study_story(STUDY)
    assert (len(story.jobs), story.jobs[0].order.is_shadow, len(story.deliveries)) == (1, False, 1)


def test_switching_off_ends_what_waits_and_what_runs(books: Books) -> None:
    waiting = books.add_job()
    running = books.claim(books.add_job(study="1.2.4"))
    assert switch(books, Mode.OFF, now=at(1)) == 2
    for job in (waiting, running):
        found = books.find(job)
        assert (found.state, found.reason_code) == (JobState.CANCELED, "switched-off")
        assert "lung_nodules was switched off by kim" in (found.reason_text or "")
    with pytest.raises(LeaseLost):
        books.jobs.finish_job(running, make_outcome(make_result(running)), now=at(2))
    with pytest.raises(WrongState, match="is switched off"):
        books.interventions.retry_job(waiting.job_id, ordered_by="kim", now=at(3))
    switch(books, Mode.ON, now=at(4))
    books.interventions.retry_job(waiting.job_id, ordered_by="kim", now=at(5))
    assert books.find(waiting).state is JobState.SCHEDULED


def test_what_was_ended_by_the_switch_is_asked_when_the_study_is_routed_again(books: Books) -> None:
    job = books.add_job()
    switch(books, Mode.OFF, now=at(1))
    switch(books, Mode.ON, now=at(2))
    assert books.find(job).state is JobState.CANCELED
    route_again(books, make_order(), number=3)
    assert books.find(job).state is JobState.SCHEDULED
    finish(books, job, now=at(4))
    assert len(books.view.study_story(STUDY).deliveries) == 1


def test_what_was_answered_before_the_switch_goes_out(books: Books) -> None:
    finish(books, books.add_job(), now=at(1))
    switch(books, Mode.OFF, now=at(2))
    assert [one.state.value for one in books.view.study_story(STUDY).deliveries] == ["PENDING"]


def test_an_answer_in_shadow_takes_nothing_back_that_was_delivered(books: Books) -> None:
    finish(books, books.add_job(), now=at(1))
    books.instances.record_instance(make_facts(2, association="a2", received_at=at(2)))
    books.route(in_shadow(numbers=(1, 2)), now=at(3))
    newest = max(books.view.study_story(STUDY).jobs, key=lambda job: job.accepted_at)
    claimed = books.claim(newest, now=at(3))
    outcome = make_outcome(make_result(claimed, number=2))
    books.jobs.finish_job(claimed, replace(outcome, rejects_predecessor=True), now=at(4))
    assert [one.retracted_at for one in books.view.study_story(STUDY).results] == [None, None]
    assert RetractionLedger(books.engine).pending_retractions() == ()


def test_an_answer_that_goes_out_replaces_none_that_was_in_shadow(books: Books) -> None:
    finish(books, add_shadow(books), now=at(1))
    books.instances.record_instance(make_facts(2, association="a2", received_at=at(2)))
    books.route(make_order(numbers=(1, 2)), now=at(3))
    newest = max(books.view.study_story(STUDY).jobs, key=lambda job: job.accepted_at)
    assert newest.supersedes is None


def test_taking_back_what_is_in_shadow_tells_no_destination(books: Books) -> None:
    finish(books, add_shadow(books), now=at(1))
    ledger, job = RetractionLedger(books.engine), books.only_job()
    (result,) = books.jobs.results_of(job.job_id)
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="kim")
    ledger.order_retraction(result.sop_instance_uid, order, now=at(2))
    (pending,) = ledger.pending_retractions()
    ledger.record_note(pending, make_result(job, number=9), now=at(3))
    ledger.finish_retraction(pending, [make_result(job, number=10)], now=at(4))
    assert books.view.study_story(STUDY).deliveries == ()


def shadow_beside_an_answer(books: Books) -> Job:
    """Return a Job in shadow that answered of more Instances than the one before, whose answer went out."""
    finish(books, books.add_job(), now=at(1))
    books.instances.record_instance(make_facts(2, association="a2", received_at=at(2)))
    books.route(in_shadow(numbers=(1, 2)), now=at(3))
    newest = max(books.view.study_story(STUDY).jobs, key=lambda job: job.accepted_at)
    claimed = books.claim(newest, now=at(4))
    books.jobs.finish_job(claimed, make_outcome(make_result(claimed, number=2)), now=at(5))
    return newest


@pytest.mark.parametrize("rejects", [True, False])
def test_an_answer_that_leaves_the_shadow_takes_the_place_of_the_last_that_went_out(
    books: Books, rejects: bool
) -> None:
    shadow = shadow_beside_an_answer(books)
    first = next(job for job in books.view.study_story(STUDY).jobs if job.job_id != shadow.job_id)
    studies = StudyLedger(books.engine, rejects_superseded=rejects)
    books.instances.record_instance(make_facts(3, series=3, association="a3", received_at=at(6)))
    books.settle(now=at(7))
    orders = [make_order(numbers=(1, 2))]
    assert studies.record_routing(studies.study_facts(STUDY), decisions=(), orders=orders, forwards=(), now=at(8))
    assert books.find(shadow).supersedes == first.job_id
    pending = RetractionLedger(books.engine).pending_retractions()
    assert [one.job_id for one in pending] == [first.job_id] * rejects


def test_what_was_taken_back_in_shadow_goes_nowhere_when_the_pipeline_is_on_again(books: Books) -> None:
    finish(books, add_shadow(books), now=at(1))
    ledger, job = RetractionLedger(books.engine), books.only_job()
    (result,) = books.jobs.results_of(job.job_id)
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="kim")
    retraction = ledger.order_retraction(result.sop_instance_uid, order, now=at(2))
    ledger.record_note(retraction, make_result(job, kind=ResultKind.REJECTION_NOTE, number=9), now=at(3))
    ledger.finish_retraction(retraction, (), now=at(4))
    route_again(books, make_order(), number=5)
    assert books.view.study_story(STUDY).deliveries == ()
    assert "0 Results go out" in next(e.text for e in books.view.list_events(9) if e.kind == "job-published")


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.SHADOW])
def test_nothing_is_ordered_of_a_pipeline_that_is_switched_while_its_study_is_routed(books: Books, mode: Mode) -> None:
    books.instances.record_instance(make_facts())
    books.settle()
    switch(books, mode, now=at(1))
    facts = books.studies.study_facts(STUDY)
    asked = {"decisions": (), "forwards": (), "now": at(2)}
    assert not books.studies.record_routing(facts, orders=[make_order()], **asked)  # type: ignore[arg-type]
    assert (books.view.study_story(STUDY).state, books.view.study_story(STUDY).jobs) == ("SETTLED", ())


def test_a_job_of_a_pipeline_that_is_off_is_ended_by_who_claims_it(books: Books) -> None:
    job = books.add_job()
    switch(books, Mode.OFF, now=at(1))
    with books.jobs.writing() as connection:
        connection.exec_driver_sql("UPDATE jobs SET state = 'SCHEDULED', not_before = accepted_at")
    assert books.jobs.claim_job(job.job_id, owner="worker", lease_s=60.0, now=at(2)) is None
    assert (books.find(job).state, books.find(job).reason_code) == (JobState.CANCELED, "switched-off")


def test_a_job_tried_again_is_in_shadow_where_its_pipeline_is(books: Books) -> None:
    job = add_shadow(books)
    for mode in (Mode.SHADOW, Mode.ON):
        if mode is Mode.SHADOW:
            switch(books, mode, now=at(1))
        else:
            switch(books, mode, now=at(3))
        books.interventions.retry_job(job.job_id, ordered_by="kim", now=at(4))
        text = books.view.study_story(STUDY).events[-1].text
        assert (books.find(job).order.is_shadow, text.endswith("in shadow")) == (mode is Mode.SHADOW,) * 2


def test_who_is_revived_is_not_told_to_be_as_it_was(books: Books) -> None:
    job = books.add_job()
    switch(books, Mode.OFF, now=at(1))
    switch(books, Mode.ON, now=at(2))
    books.interventions.reprocess(STUDY, ordered_by="kim", now=at(3))
    facts = books.studies.study_facts(STUDY)
    assert books.studies.record_routing(facts, decisions=(), orders=[make_order()], forwards=(), now=at(4))
    assert books.find(job).state is JobState.SCHEDULED
    assert "job-known" not in books.kinds()


def test_what_is_shelved_says_how_the_pipeline_stands_at_the_end(books: Books) -> None:
    job = books.claim(books.add_job())
    switch(books, Mode.SHADOW, now=at(1))
    shelved: list[bool] = []
    outcome = make_outcome(make_result(job))
    books.jobs.finish_job(job, outcome, now=at(2), shelve=lambda order: shelved.append(order.is_shadow))
    assert shelved == [True]
    with pytest.raises(LeaseLost):
        books.jobs.finish_job(job, outcome, now=at(3), shelve=lambda order: shelved.append(order.is_shadow))
    assert shelved == [True]


def test_a_ledger_that_is_made_anew_from_cards_delivers_nothing_of_the_shadow(books: Books, tmp_path: Path) -> None:
    claimed = books.claim(add_shadow(books))
    outcome: JobOutcome = make_outcome(make_result(claimed))
    card = read_card(job_card(claimed, outcome, now=at(1)))
    (tmp_path / "anew").mkdir()
    anew = Books(copy_ledger(tmp_path / "anew"))
    RestorationLedger(anew.engine).restore_answers([card], Evidence({}), now=at(2))
    story = anew.view.study_story(STUDY)
    assert [(job.order.is_shadow, len(story.results), story.deliveries) for job in story.jobs] == [(True, 1, ())]
    anew.close()
