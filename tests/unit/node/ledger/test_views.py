"""The ledger as people read it."""

import pytest

from node.domain.job import JobState
from node.domain.result import DeliveryState
from node.domain.uids import StudyUID
from node.errors import NotFound
from node.ledger.pages import Reach
from node.ledger.views import LedgerView
from tests.ledgers import (
    STUDY,
    Books,
    at,
    make_decision,
    make_facts,
    make_order,
    make_outcome,
    make_result,
    unknown_job,
)


def test_an_empty_ledger_lists_nothing(books: Books) -> None:
    assert books.view.list_studies(9) == ()
    assert books.view.list_jobs(state=None, limit=9) == ()
    assert books.view.list_deliveries(destination=None, state=None, limit=9) == ()
    assert books.view.list_events(9) == ()


def test_what_is_unknown_is_not_found_and_says_where_to_look(books: Books) -> None:
    with pytest.raises(NotFound, match=r"9\.9.*studies list"):
        books.view.study_story(StudyUID("9.9"))
    with pytest.raises(NotFound, match="jobs list"):
        books.view.find_job(unknown_job())


def test_studies_are_listed_by_their_last_change(books: Books) -> None:
    for second, study in enumerate(("1.1", "1.2", "1.3")):
        books.instances.record_instance(make_facts(study=study, received_at=at(second)))
    books.settle(study=StudyUID("1.1"), now=at(9))
    assert [story.study_instance_uid for story in books.view.list_studies(2)] == ["1.1", "1.3"]


def test_a_series_line_counts_its_instances_and_names_its_modality(books: Books) -> None:
    for number in (1, 2, 3):
        books.instances.record_instance(make_facts(number, SeriesDescription="Größe 'quoted' \"double\""))
    books.instances.record_instance(make_facts(1, series=2, Modality="SR"))
    first, second = books.view.study_story(STUDY).series
    assert (first.instances, first.modality, first.description) == (3, "CT", "Größe 'quoted' \"double\"")
    assert (second.instances, second.modality, second.description) == (1, "SR", "")


def test_only_decisions_on_the_present_study_are_told(books: Books) -> None:
    books.instances.record_instance(make_facts(1))
    books.settle()
    study = books.studies.study_facts(STUDY)
    books.studies.record_routing(study, decisions=[make_decision()], orders=(), forwards=(), now=at(1))
    assert books.view.study_story(STUDY).decisions == (make_decision(),)
    books.instances.record_instance(make_facts(2, received_at=at(2)))
    assert books.view.study_story(STUDY).decisions == ()


@pytest.mark.parametrize("end", ["COMPLETED", "CANCELED"])
def test_a_study_is_finished_when_nothing_waits(books: Books, end: str) -> None:
    books.instances.record_instance(make_facts())
    assert not books.view.study_story(STUDY).is_finished
    books.route(make_order(deliver_to=()))
    assert not books.view.study_story(STUDY).is_finished
    job = books.claim(books.only_job())
    assert not books.view.study_story(STUDY).is_finished
    if end == "COMPLETED":
        books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    else:
        books.jobs.refuse_job(job, reason_code="slice-missing", reason_text="a gap", now=at(1))
    assert books.view.study_story(STUDY).is_finished


def test_a_study_that_no_rule_matched_is_finished(books: Books) -> None:
    books.instances.record_instance(make_facts())
    books.route()
    assert books.view.study_story(STUDY).is_finished


def test_lists_keep_to_state_and_destination(books: Books) -> None:
    job = books.claim(books.add_job(deliver_to=("pacs", "archive")))
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    assert len(books.view.list_jobs(state=JobState.COMPLETED, limit=9)) == 1
    assert books.view.list_jobs(state=JobState.SCHEDULED, limit=9) == ()
    assert [d.destination for d in books.view.list_deliveries(destination="archive", state=None, limit=9)] == [
        "archive"
    ]
    assert books.view.list_deliveries(destination=None, state=DeliveryState.SENT, limit=9) == ()
    assert len(books.view.list_deliveries(destination=None, state=DeliveryState.PENDING, limit=1)) == 1


def test_events_are_listed_newest_first(books: Books) -> None:
    for second in (1, 2, 3):
        books.instances.record_event(at=at(second), kind=f"kind-{second}", text="x")
    assert [event.kind for event in books.view.list_events(2)] == ["kind-3", "kind-2"]


def test_a_listing_goes_on_until_it_has_what_was_asked_for(books: Books) -> None:
    first = books.claim(books.add_job())
    books.jobs.finish_job(first, make_outcome(*(make_result(first, number=n) for n in range(1, 9))), now=at(1))
    found = books.view.list_deliveries(destination=None, state=None, limit=9)
    books.deliveries.record_refused(found[-1], now=at(2), reason_code="c000", reason_text="no")
    for number in range(4, 12):
        books.add_job(study=f"1.2.{number}")
    view = LedgerView(books.engine, reach=Reach(few=0, window=2))
    refused = view.list_deliveries(destination=None, state=DeliveryState.REFUSED, limit=5)
    assert [one.delivery_id for one in refused] == [found[-1].delivery_id]
    assert [job.job_id for job in view.list_jobs(state=JobState.COMPLETED, limit=5)] == [first.job_id]
    assert len(view.list_jobs(state=JobState.SCHEDULED, limit=5)) == 5
