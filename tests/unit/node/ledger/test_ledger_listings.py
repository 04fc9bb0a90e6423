"""Listings page by page: nothing told twice, nothing left out, whatever comes in meanwhile; whichever way is taken."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from node.domain.alarm import AlarmKind
from node.domain.job import JobState
from node.domain.result import DeliveryState
from node.domain.study import SeriesState
from node.domain.uids import StudyUID
from node.ledger.alarms import AlarmLedger
from node.ledger.listings import DeliveryFilter, EventFilter, JobFilter, Listings, StudyFilter
from node.ledger.matching import Condition
from node.ledger.pages import PageAsked, PageFound, Reach
from tests.ledgers import Books, at, make_facts, make_outcome, make_result
from tests.populated import populate

Row = TypeVar("Row")
COUNT = 7


@pytest.fixture
def listings(books: Books) -> Listings:
    return Listings(books.engine)


# What is found is taken for few and sorted, or for too many, and looked for in windows of three rows.
either_way = pytest.mark.parametrize("reach", [Reach(), Reach(few=-1, window=3)], ids=["few", "many"])


def walk(read: Callable[[PageAsked], PageFound[Row]], *, limit: int = 2) -> list[Row]:
    """Return every row, page by page; no page is longer than it may be, and the walk ends."""
    rows: list[Row] = []
    asked: PageAsked | None = PageAsked(limit=limit)
    for _ in range(100):
        if asked is None:
            return rows
        found = read(asked)
        assert len(found.rows) <= limit
        rows += found.rows
        asked = None if found.rest is None else PageAsked(limit=limit, behind=found.rest)
    raise AssertionError("the walk does not end")


def arrive(books: Books, *, count: int = COUNT) -> list[str]:
    studies = [f"1.{number}" for number in range(1, count + 1)]
    for second, study in enumerate(studies):
        # Pairs that came at the same time: only the UID tells them apart.
        facts = make_facts(study=study, received_at=at(second // 2), PatientID=f"P{second % 2}", PatientName="A^B")
        books.instances.record_instance(facts)
    return studies


def test_pages_together_are_the_whole_list(books: Books, listings: Listings) -> None:
    studies = arrive(books)
    found = walk(lambda asked: listings.studies(StudyFilter(), asked))
    assert [line.study_instance_uid for line in found] == studies[::-1]


def test_what_comes_in_between_is_neither_told_nor_moves_the_rest(books: Books, listings: Listings) -> None:
    studies = arrive(books)
    first = listings.studies(StudyFilter(), PageAsked(limit=3))
    books.instances.record_instance(make_facts(study="9.9", received_at=at(99)))
    second = listings.studies(StudyFilter(), PageAsked(limit=99, behind=first.rest))
    told = [line.study_instance_uid for line in (*first.rows, *second.rows)]
    assert told == studies[::-1]


def test_the_last_page_says_that_it_is_the_last(books: Books, listings: Listings) -> None:
    arrive(books, count=4)
    assert listings.studies(StudyFilter(), PageAsked(limit=4)).rest is None
    assert listings.studies(StudyFilter(), PageAsked(limit=3)).rest is not None


@either_way
def test_studies_are_chosen_by_what_is_asked(books: Books, reach: Reach) -> None:
    listings = Listings(books.engine, reach=reach)
    has = populate(books)
    first, *_ = has.studies

    def uids(wanted: StudyFilter) -> set[str]:
        return {line.study_instance_uid for line in walk(lambda asked: listings.studies(wanted, asked))}

    assert uids(StudyFilter(state=SeriesState.ROUTED)) == set(has.studies[:3])
    assert uids(StudyFilter(state=SeriesState.OPEN)) == {has.studies[4]}
    assert uids(StudyFilter(pipeline="lung_nodules")) == set(has.studies[:3])
    assert uids(StudyFilter(pipeline="none")) == set()
    assert uids(StudyFilter(modality="CT")) == set(has.studies)
    assert uids(StudyFilter(modality="MR")) == set()
    assert uids(StudyFilter(patient=ask(PatientID="P0"))) == {first}
    assert uids(StudyFilter(patient=ask(PatientName="muller*"))) == {has.studies[1], has.studies[4]}
    assert uids(StudyFilter(patient=ask(PatientName="canary*"), state=SeriesState.ROUTED)) == {first}
    assert uids(StudyFilter(patient=ask(AccessionNumber="A3"), pipeline="lung_nodules")) == set()


def ask(**values: str) -> dict[str, Condition]:
    return {keyword: Condition(keyword=keyword, values=(value,)) for keyword, value in values.items()}


def test_since_is_included_and_until_is_not(books: Books, listings: Listings) -> None:
    arrive(books)
    wanted = StudyFilter(since=at(1), until=at(3))
    found = walk(lambda asked: listings.studies(wanted, asked))
    assert [line.study_instance_uid for line in found] == ["1.6", "1.5", "1.4", "1.3"]


def test_a_study_in_short_tells_what_became_of_it(books: Books, listings: Listings) -> None:
    has = populate(books)
    lines = {line.study_instance_uid: line for line in listings.studies(StudyFilter(), PageAsked(limit=99)).rows}
    line = lines[StudyUID(has.studies[0])]
    assert (line.modalities, line.instances, line.attributes["PatientID"]) == (("CT", "SEG", "SR"), 1, "P0")
    assert [job.state for job in line.jobs] == [JobState.COMPLETED]
    assert line.deliveries == {DeliveryState.SENT: 1, DeliveryState.REFUSED: 1, DeliveryState.PENDING: 2}


@either_way
def test_jobs_are_chosen_by_what_is_asked(books: Books, reach: Reach) -> None:
    listings = Listings(books.engine, reach=reach)
    has = populate(books)

    def ids(wanted: JobFilter) -> list[str]:
        return [job.job_id for job in walk(lambda asked: listings.jobs(wanted, asked))]

    assert ids(JobFilter()) == [has.waiting.job_id, has.canceled.job_id, has.completed.job_id]
    assert ids(JobFilter(state=JobState.CANCELED)) == [has.canceled.job_id]
    assert ids(JobFilter(state=JobState.SCHEDULED, pipeline="lung_nodules")) == [has.waiting.job_id]
    assert ids(JobFilter(study=StudyUID(has.studies[0]))) == [has.completed.job_id]
    assert ids(JobFilter(since=at(11), until=at(12))) == [has.canceled.job_id]
    assert ids(JobFilter(pipeline="none")) == []


@either_way
def test_results_deliveries_events_and_alarms_are_walked_too(books: Books, reach: Reach) -> None:
    listings = Listings(books.engine, reach=reach)
    has = populate(books)
    study = StudyUID(has.studies[0])
    results = walk(lambda asked: listings.results(study=study, asked=asked), limit=1)
    assert {line.result.sop_instance_uid for line in results} == {"2.25.1", "2.25.2"}
    assert [one.destination for one in results[0].deliveries] == ["pacs", "archive"]
    refused = DeliveryFilter(state=DeliveryState.REFUSED)
    assert len(walk(lambda asked: listings.deliveries(refused, asked), limit=1)) == 1
    archive = DeliveryFilter(destination="archive", study=study)
    numbers = [one.delivery_id for one in walk(lambda asked: listings.deliveries(archive, asked), limit=1)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 2
    everything = listings.events(EventFilter(), PageAsked(limit=999)).rows
    assert walk(lambda asked: listings.events(EventFilter(), asked)) == list(everything)
    of_study = walk(lambda asked: listings.events(EventFilter(study=study, kind="job-completed"), asked))
    assert [event.kind for event in of_study] == ["job-completed"]
    assert all(event.is_alarm for event in walk(lambda asked: listings.events(EventFilter(only_alarms=True), asked)))
    alarms = AlarmLedger(books.engine)
    assert [alarm.kind for alarm in walk(alarms.page_alarms, limit=1)] == [
        AlarmKind.SOURCE_SILENT,
        AlarmKind.NO_WORKER,
    ]


def test_a_page_that_finds_nothing_in_its_window_says_where_to_go_on(
    books: Books,
) -> None:
    listings = Listings(books.engine, reach=Reach(few=-1, window=2))
    studies = arrive(books)
    wanted = StudyFilter(patient=ask(PatientID="none"))
    found = listings.studies(wanted, PageAsked(limit=9))
    assert found.rows == ()
    assert found.rest is not None
    oldest = StudyFilter(since=at(0), until=at(1))
    assert {line.study_instance_uid for line in walk(lambda asked: listings.studies(oldest, asked))} == set(studies[:2])


def test_results_of_two_jobs_with_one_file_name_keep_their_deliveries_apart(books: Books, listings: Listings) -> None:
    job = books.claim(books.add_job(study="1.5"))
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    (line,) = listings.results(study=None, asked=PageAsked(limit=9)).rows
    assert [one.study_instance_uid for one in line.deliveries] == ["1.5"]
