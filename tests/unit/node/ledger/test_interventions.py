"""Jobs that a person cancels or tries again, and those whose model was replaced."""

import pytest

from node.domain.job import Job, JobState
from node.domain.model_version import ModelVersion
from node.errors import LeaseLost, NotFound, WrongState
from node.ledger.jobs import RetryPolicy
from tests.ledgers import NOON, Books, at, make_facts, make_order, make_outcome, unknown_job

POLICY = RetryPolicy(max_attempts=3, pause_s=5.0)
OLD, NEW = ModelVersion(name="model", version="1.0.0"), ModelVersion(name="model", version="2.0.0")
READER = "a reader"


def model_of(job: Job) -> ModelVersion:
    return ModelVersion(name=job.order.model, version=job.order.model_version)


def last_text(books: Books, job: Job) -> str:
    return books.view.study_story(job.order.study_instance_uid).events[-1].text


def complete(books: Books) -> Job:
    job = books.claim(books.add_job())
    books.jobs.finish_job(job, make_outcome(), now=at(1))
    return books.find(job)


def test_a_person_cancels_a_running_job_and_its_study_tells_who_and_why(books: Books) -> None:
    job = books.claim(books.add_job())
    books.interventions.cancel_job(job.job_id, ordered_by=READER, reason="sent by mistake", now=at(1))
    end = books.find(job)
    assert (end.state, end.reason_code, end.finished_at) == (JobState.CANCELED, "canceled-by-hand", at(1))
    assert end.reason_text == "canceled by a reader: sent by mistake"
    with pytest.raises(LeaseLost):
        books.jobs.finish_job(job, make_outcome(), now=at(2))
    assert books.kinds()[-1] == "job-canceled"
    assert last_text(books, job) == "canceled-by-hand: canceled by a reader: sent by mistake"


def test_a_waiting_job_is_canceled_and_not_to_be_had(books: Books) -> None:
    job = books.add_job()
    books.interventions.cancel_job(job.job_id, ordered_by=READER, now=at(1))
    assert books.find(job).reason_text == "canceled by a reader"
    assert books.jobs.claim_job(job.job_id, owner="w", lease_s=60.0, now=at(2)) is None


def test_a_job_that_has_ended_is_not_canceled(books: Books) -> None:
    job = complete(books)
    with pytest.raises(WrongState, match=r"COMPLETED.*retract"):
        books.interventions.cancel_job(job.job_id, ordered_by=READER, now=at(3))
    assert books.find(job) == job


def test_an_unknown_job_is_neither_canceled_nor_tried_again(books: Books) -> None:
    with pytest.raises(NotFound):
        books.interventions.cancel_job(unknown_job(), ordered_by=READER, now=NOON)
    with pytest.raises(NotFound):
        books.interventions.retry_job(unknown_job(), ordered_by=READER, now=NOON)


def test_a_person_retries_a_canceled_job_with_all_its_attempts(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.refuse_job(job, reason_code="input-missing", reason_text="gone", now=at(1))
    books.interventions.retry_job(job.job_id, ordered_by=READER, now=at(2))
    again = books.find(job)
    assert (again.state, again.attempts, again.not_before) == (JobState.SCHEDULED, 0, at(2))
    assert (again.reason_code, again.reason_text, again.finished_at) == (None, None, None)
    assert (books.kinds()[-1], last_text(books, job)) == ("job-scheduled", "tried again by a reader")


def test_a_job_in_its_pause_starts_at_once(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.fail_attempt(job, POLICY, reason=("broken", "a fault"), now=at(1))
    books.interventions.retry_job(job.job_id, ordered_by=READER, now=at(2))
    assert [bell.job_id for bell in books.jobs.bells_to_ring(at(2), rung_before=at(2))] == [job.job_id]


def test_a_running_job_is_taken_from_its_worker(books: Books) -> None:
    hung = books.claim(books.add_job(), owner="hung")
    books.interventions.retry_job(hung.job_id, ordered_by=READER, now=at(2))
    other = books.claim(hung, now=at(3), owner="other")
    with pytest.raises(LeaseLost):
        books.jobs.finish_job(hung, make_outcome(), now=at(4))
    assert books.find(hung) == other


def test_a_completed_job_is_not_tried_again(books: Books) -> None:
    job = complete(books)
    with pytest.raises(WrongState, match="its answer stands"):
        books.interventions.retry_job(job.job_id, ordered_by=READER, installed=NEW, now=at(3))
    assert books.find(job) == job


def test_a_superseded_job_is_not_tried_again(books: Books) -> None:
    job = books.add_job()
    books.instances.record_instance(make_facts(2, received_at=at(1)))
    books.route(make_order(numbers=(1, 2)))
    with pytest.raises(WrongState, match="superseded"):
        books.interventions.retry_job(job.job_id, ordered_by=READER, now=at(2))


def test_a_job_that_is_tried_again_is_asked_of_the_model_that_is_installed(books: Books) -> None:
    job = books.add_job()
    books.interventions.cancel_job(job.job_id, ordered_by=READER, now=at(1))
    books.interventions.retry_job(job.job_id, ordered_by=READER, installed=NEW, now=at(2))
    assert model_of(books.find(job)) == NEW
    assert last_text(books, job) == "tried again by a reader, asking model 2.0.0"


def test_what_another_job_asks_already_is_not_asked_twice(books: Books) -> None:
    old = books.add_job()
    books.instances.record_instance(make_facts(digest="changed"))
    books.route(make_order(version="2.0.0"))
    new = next(job for job in books.view.list_jobs(state=None, limit=9) if job.job_id != old.job_id)
    with pytest.raises(WrongState, match="superseded"):
        books.interventions.retry_job(old.job_id, ordered_by=READER, installed=NEW, now=at(2))
    assert (model_of(books.find(new)), books.find(new).state) == (NEW, JobState.SCHEDULED)


def test_waiting_jobs_are_asked_of_the_new_model_and_told_so(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.fail_attempt(job, POLICY, reason=("broken", "a fault of the old one"), now=at(1))
    assert books.interventions.adopt_models({"lung_nodules": NEW}, now=at(2)) == (job.job_id,)
    after = books.find(job)
    assert (model_of(after), after.state, after.attempts, after.reason_code) == (NEW, JobState.SCHEDULED, 0, None)
    assert after.not_before == at(2)
    assert (books.kinds()[-1], last_text(books, job)) == (
        "job-reordered",
        "ordered on model 1.0.0; model 2.0.0 is installed now and will answer",
    )
    assert books.interventions.adopt_models({"lung_nodules": NEW}, now=at(3)) == ()


def test_what_runs_ended_or_belongs_to_another_pipeline_keeps_its_model(books: Books) -> None:
    running = books.claim(books.add_job())
    assert books.interventions.adopt_models({"lung_nodules": NEW}, now=at(2)) == ()
    books.jobs.finish_job(running, make_outcome(), now=at(3))
    other = books.add_job(study="1.2.4", pipeline="chest_xray")
    for installed in ({"lung_nodules": NEW}, {"chest_xray": OLD}, {}):
        assert books.interventions.adopt_models(installed, now=at(4)) == ()
    assert {model_of(books.find(job)) for job in (running, other)} == {OLD}


def test_a_waiting_job_whose_question_the_new_model_has_answered_is_superseded(books: Books) -> None:
    """An upgrade that was taken back: the same content was asked of both versions."""
    new = books.add_job(version="2.0.0")
    books.jobs.finish_job(books.claim(new), make_outcome(), now=at(1))
    books.instances.record_instance(make_facts(digest="changed"))
    books.route(make_order(version="1.0.0"), now=at(2))
    old = next(job for job in books.view.list_jobs(state=JobState.SCHEDULED, limit=9))
    assert books.interventions.adopt_models({"lung_nodules": NEW}, now=at(3)) == (old.job_id,)
    end = books.find(old)
    assert (end.state, end.reason_code) == (JobState.CANCELED, "superseded")
    assert new.job_id in (end.reason_text or "")
