"""What assembly and routing commit: settled Series, Decisions, and one Job a question."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import insert

from node.domain.forward import Forward
from node.domain.job import JobState, Priority
from node.domain.study import SeriesState
from node.domain.uids import SeriesUID, StudyUID
from node.errors import LeaseLost, NotFound
from node.ledger.schema import studies
from tests.ledgers import (
    NOON,
    STUDY,
    Books,
    at,
    copy_ledger,
    make_decision,
    make_facts,
    make_order,
    make_outcome,
    make_result,
)


def states(books: Books) -> list[tuple[str, str | None]]:
    return [(job.state.value, job.reason_code) for job in books.view.study_story(STUDY).jobs]


@pytest.mark.parametrize(
    ("reason", "words"),
    [("asked for", "it was purged, and came again"), ("restored", "it was answered before the ledger was lost")],
)
def test_a_study_that_nobody_purged_is_not_said_to_have_been(books: Books, reason: str, words: str) -> None:
    with books.studies.writing() as connection:
        values = {"state": SeriesState.PURGED.value, "reason": reason, "revision": 1}
        times = {"first_instance_at": at(0), "changed_at": at(0)}
        connection.execute(insert(studies).values(study_instance_uid=STUDY, **values, **times))
    books.instances.record_instance(make_facts(received_at=at(1)))
    assert books.view.study_story(STUDY).events[0].text.startswith(words)


def test_evidence_counts_open_associations_and_the_last_end(books: Books) -> None:
    for number, association in enumerate(("a1", "a2", "a3"), start=1):
        books.instances.record_instance(make_facts(number, association=association, received_at=at(number)))
    books.instances.end_association("a1", at(5))
    books.instances.end_association("a3", at(4))
    (series,) = books.studies.open_series()
    assert (series.open_associations, series.last_association_end) == (1, at(5))
    assert series.last_instance_at == at(3)


def test_a_series_that_grew_since_it_was_seen_does_not_settle(books: Books) -> None:
    books.instances.record_instance(make_facts(1))
    (seen,) = books.studies.open_series()
    books.instances.record_instance(make_facts(2, received_at=at(1)))
    assert books.studies.settle_series(seen, reason="quiet", now=at(9)) is False
    assert len(books.studies.open_series()) == 1


def test_a_study_settles_with_its_last_series(books: Books) -> None:
    books.instances.record_instance(make_facts(1, series=1))
    books.instances.record_instance(make_facts(1, series=2))
    first, second = books.studies.open_series()
    assert books.studies.settle_series(first, reason="quiet", now=at(1)) is False
    assert books.studies.settled_studies(9) == ()
    assert books.studies.settle_series(second, reason="quiet", now=at(2)) is True
    assert books.studies.settled_studies(9) == (STUDY,)
    story = books.view.study_story(STUDY)
    assert (story.reason, [line.reason for line in story.series]) == ("quiet", ["quiet", "quiet"])


def test_the_study_that_waits_longest_is_routed_first(books: Books) -> None:
    for study, second in (("1.5", 2), ("1.4", 1), ("1.6", 3)):
        books.instances.record_instance(make_facts(study=study))
        books.settle(study=StudyUID(study), now=at(second))
    assert books.studies.settled_studies(2) == ("1.4", "1.5")


def test_an_unknown_study_is_not_found(books: Books) -> None:
    with pytest.raises(NotFound, match=r"9\.9"):
        books.studies.study_facts(StudyUID("9.9"))


def test_routing_commits_decisions_jobs_and_state_together(books: Books) -> None:
    books.instances.record_instance(make_facts())
    books.settle()
    study = books.studies.study_facts(STUDY)
    decision = make_decision()
    books.studies.record_routing(study, decisions=[decision], orders=[make_order()], forwards=(), now=at(1))
    story = books.view.study_story(STUDY)
    assert story.state == "ROUTED"
    assert story.decisions == (decision,)
    assert [job.order for job in story.jobs] == [make_order()]
    assert (story.jobs[0].accepted_at, story.jobs[0].attempts, story.jobs[0].fence) == (at(1), 0, 0)
    assert books.kinds()[-2:] == ["job-scheduled", "study-routed"]


@pytest.mark.parametrize("settled_again", [False, True])
def test_routing_writes_nothing_when_the_study_was_reopened_meanwhile(books: Books, settled_again: bool) -> None:
    books.instances.record_instance(make_facts(1))
    books.settle()
    study = books.studies.study_facts(STUDY)
    books.instances.record_instance(make_facts(2, received_at=at(1)))
    if settled_again:
        books.settle()
    books.studies.record_routing(study, decisions=[make_decision()], orders=[make_order()], forwards=(), now=at(2))
    story = books.view.study_story(STUDY)
    assert (story.jobs, story.decisions) == ((), ())
    assert story.state == ("SETTLED" if settled_again else "OPEN")


def test_the_same_question_asked_again_stays_one_job(books: Books) -> None:
    job = books.add_job()
    books.instances.record_instance(make_facts(1, series=2))
    books.route(make_order(priority=Priority.STAT))
    assert books.view.study_story(STUDY).jobs == (job,)


def test_two_nodes_that_route_at_once_order_one_job(tmp_path: Path) -> None:
    url = copy_ledger(tmp_path)
    two = [Books(url), Books(url)]
    two[0].instances.record_instance(make_facts())
    two[0].settle()
    study = two[0].studies.study_facts(STUDY)
    together = threading.Barrier(2)

    def route(books: Books) -> None:
        together.wait()
        books.studies.record_routing(study, decisions=[make_decision()], orders=[make_order()], forwards=(), now=NOON)

    threads = [threading.Thread(target=route, args=(books,)) for books in two]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(two[0].view.study_story(STUDY).jobs) == 1
    assert len(two[0].view.study_story(STUDY).decisions) == 1
    for books in two:
        books.close()


def test_another_model_version_is_another_question(books: Books) -> None:
    books.add_job()
    books.instances.record_instance(make_facts(1, series=2))
    books.route(make_order(version="2.0.0"))
    assert states(books) == [("CANCELED", "superseded"), ("SCHEDULED", None)]


def test_another_pipeline_supersedes_nothing(books: Books) -> None:
    books.add_job()
    books.instances.record_instance(make_facts(1, series=2))
    books.route(make_order(), make_order(pipeline="brain_tumour"))
    assert {state for state, _ in states(books)} == {"SCHEDULED"}


def test_new_content_takes_a_running_job_from_its_worker(books: Books) -> None:
    running = books.claim(books.add_job())
    books.instances.record_instance(make_facts(2, received_at=at(1)))
    books.route(make_order(numbers=(1, 2)), now=at(2))
    assert states(books) == [("CANCELED", "superseded"), ("SCHEDULED", None)]
    with pytest.raises(LeaseLost):
        books.jobs.finish_job(running, make_outcome(make_result(running)), now=at(3))
    assert books.view.study_story(STUDY).results == ()


def test_new_content_supersedes_a_waiting_job(books: Books) -> None:
    earlier = books.add_job()
    books.instances.record_instance(make_facts(2, received_at=at(1)))
    books.route(make_order(numbers=(1, 2)), now=at(2))
    assert states(books) == [("CANCELED", "superseded"), ("SCHEDULED", None)]
    assert books.find(earlier).finished_at == at(2)
    assert books.view.study_story(STUDY).jobs[1].supersedes is None


def test_new_content_supersedes_a_running_job_whose_worker_may_no_longer_write(books: Books) -> None:
    running = books.claim(books.add_job())
    books.instances.record_instance(make_facts(2, received_at=at(1)))
    books.route(make_order(numbers=(1, 2)))
    with pytest.raises(LeaseLost):
        books.jobs.finish_job(running, make_outcome(make_result(running)), now=at(3))
    with pytest.raises(LeaseLost):
        books.jobs.renew_lease(running, lease_s=60.0, now=at(3))
    assert books.find(running).state is JobState.CANCELED
    assert books.view.study_story(STUDY).results == ()


def test_a_completed_job_on_earlier_content_is_named_as_predecessor(books: Books) -> None:
    earlier = books.claim(books.add_job())
    books.jobs.finish_job(earlier, make_outcome(make_result(earlier)), now=at(1))
    books.instances.record_instance(make_facts(2, received_at=at(2)))
    books.route(make_order(numbers=(1, 2)), now=at(3))
    first, second = books.view.study_story(STUDY).jobs
    assert (first.state, second.supersedes) == (JobState.COMPLETED, earlier.job_id)
    assert books.jobs.results_of(earlier.job_id) == (make_result(earlier),)


def test_the_last_completed_job_is_the_predecessor(books: Books) -> None:
    numbers: tuple[int, ...] = ()
    for number in (1, 2, 3):
        numbers = (*numbers, number)
        books.instances.record_instance(make_facts(number, received_at=at(number)))
        books.route(make_order(numbers=numbers), now=at(number))
        *_, job = books.view.study_story(STUDY).jobs
        claimed = books.claim(job, now=at(number))
        books.jobs.finish_job(claimed, make_outcome(make_result(claimed, number=number)), now=at(number))
    first, second, third = books.view.study_story(STUDY).jobs
    assert (second.supersedes, third.supersedes) == (first.job_id, second.job_id)


def test_forwarded_series_become_deliveries_of_their_instances(books: Books) -> None:
    for number, series in ((1, 1), (2, 1), (1, 2)):
        books.instances.record_instance(make_facts(number, series=series))
    books.settle()
    study = books.studies.study_facts(STUDY)
    forward = Forward(destination="archive", series_instance_uids=(SeriesUID(f"{STUDY}.1"),))
    books.studies.record_routing(study, decisions=(), orders=(), forwards=[forward], now=at(1))
    found = books.deliveries.due_deliveries("archive", at(1), 10)
    assert [d.sop_instance_uid for d in found] == [f"{STUDY}.1.1", f"{STUDY}.1.2"]
    assert {d.job_id for d in found} == {None}


def test_an_instance_is_forwarded_once_however_often_its_study_is_routed(books: Books) -> None:
    forward = Forward(destination="archive", series_instance_uids=(SeriesUID(f"{STUDY}.1"),))
    for number in (1, 2):
        books.instances.record_instance(make_facts(number, received_at=at(number)))
        books.settle()
        study = books.studies.study_facts(STUDY)
        books.studies.record_routing(study, decisions=(), orders=(), forwards=[forward], now=at(number))
    assert len(books.deliveries.due_deliveries("archive", at(9), 10)) == 2


def test_facts_of_a_study_tell_series_states_apart(books: Books) -> None:
    books.instances.record_instance(make_facts(1, series=1))
    books.route()
    books.instances.record_instance(make_facts(1, series=2))
    study = books.studies.study_facts(STUDY)
    assert [one.state for one in study.series] == [SeriesState.ROUTED, SeriesState.OPEN]
