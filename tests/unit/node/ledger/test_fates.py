"""Nothing is ever unknown: each state of a Study, Job and Delivery has words, with and without a reason."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.domain.codes import PNEUMONIA
from node.domain.decision import Outcome
from node.domain.finding import Finding, Presence
from node.domain.job import JobState
from node.domain.reasons import REASONS
from node.domain.result import DeliveryState
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.study import SeriesState
from node.domain.uids import InstanceUID
from node.ledger.fates import GIVEN_UP, tell_delivery, tell_job, tell_study
from node.ledger.retractions import RetractionLedger
from tests.ledgers import (
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

# Words are the same whatever the database.
pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    opened = Books(copy_ledger(tmp_path))
    job = opened.claim(opened.add_job())
    opened.jobs.finish_job(job, make_outcome(make_result(job)), now=at(5))
    return opened


def test_each_state_has_words_of_its_own_and_a_reason_is_among_them(books: Books) -> None:
    story = books.view.study_story(STUDY)
    (job,), (delivery,) = story.jobs, story.deliveries
    told = {
        *(tell_job(replace(job, state=state)) for state in JobState),
        *(tell_delivery(replace(delivery, state=state)) for state in DeliveryState),
        *(tell_study(replace(story, state=state.value)) for state in SeriesState),
    }
    assert len(told) == len(JobState) + len(DeliveryState) + len(SeriesState)
    assert all(len(words.split()) > 1 for words in told)
    for state in (JobState.SCHEDULED, JobState.CANCELED):
        assert REASONS["worker-lost"] in tell_job(replace(job, state=state, reason_code="worker-lost"))
    for way in DeliveryState:
        assert "no answer" in tell_delivery(replace(delivery, state=way, reason_text="no answer"))
    books.close()


def test_a_study_says_what_its_jobs_and_deliveries_came_to(books: Books) -> None:
    assert tell_study(books.view.study_story(STUDY)) == "lung_nodules completed; 1 pending for pacs"
    books.instances.record_instance(make_facts(2, received_at=at(6)))
    books.route(make_order(numbers=(1, 2)), now=at(9))
    books.interventions.cancel_job(
        next(j.job_id for j in books.view.study_story(STUDY).jobs if j.state is JobState.SCHEDULED),
        ordered_by="reader",
        now=at(10),
    )
    assert "lung_nodules canceled (canceled-by-hand)" in tell_study(books.view.study_story(STUDY))
    books.close()


def judged(presence: Presence) -> dict[str, Any]:
    return Finding(label="Pneumonia", code=PNEUMONIA, presence=presence).as_json()


@pytest.mark.parametrize(
    ("presences", "words", "seen"),
    [
        ((), "answered, no findings", 0),
        ((Presence.ABSENT,), "answered, no findings", 0),
        ((Presence.UNDETERMINED, Presence.ABSENT), "answered, undetermined", 0),
        ((Presence.PRESENT, Presence.ABSENT, Presence.PRESENT), "answered, findings: 2", 2),
    ],
)
def test_only_what_was_seen_counts_as_a_finding(
    books: Books, presences: tuple[Presence, ...], words: str, seen: int
) -> None:
    job = replace(books.only_job(), findings=tuple(map(judged, presences)))
    assert (tell_job(job), job.seen) == (words, seen)
    books.close()


def test_findings_that_were_given_up_are_not_told_to_be_none(books: Books) -> None:
    books.give_up(now=at(9))
    books.instances.record_instance(make_facts(received_at=at(10)))
    books.route(make_order(), now=at(11))
    job = books.only_job()
    assert (tell_job(job), job.seen) == (GIVEN_UP, None)
    assert tell_study(books.view.study_story(STUDY)).startswith("lung_nodules answered before, given up here")
    books.close()


def test_an_answer_that_was_taken_back_is_told_so(books: Books) -> None:
    (delivery,) = books.view.study_story(STUDY).deliveries
    books.deliveries.record_sent(delivery, now=at(6), reason_code=None, reason_text=None)
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="somebody")
    RetractionLedger(books.engine).order_retraction(InstanceUID("2.25.1"), order, now=at(7))
    assert tell_study(books.view.study_story(STUDY)) == "lung_nodules taken back"
    books.close()


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ((), "there was no rule to ask"),
        ((Outcome.NO_MATCH,), "no rule wants this Study"),
        ((Outcome.NO_MATCH, Outcome.UNDETERMINED), "does not say enough"),
        ((Outcome.MATCH,), "a rule matched"),
    ],
)
def test_a_study_that_nothing_follows_from_says_why(books: Books, outcomes: tuple[Outcome, ...], words: str) -> None:
    story = books.view.study_story(STUDY)
    decisions = tuple(make_decision(outcome=outcome) for outcome in outcomes)
    bare = replace(story, jobs=(), results=(), deliveries=(), decisions=decisions)
    assert words in tell_study(bare)
    books.close()


def test_a_job_that_a_newer_one_replaced_ends_on_the_time_line(books: Books) -> None:
    waiting = books.add_job(study="1.2.9")
    books.instances.record_instance(make_facts(2, study="1.2.9", received_at=at(6)))
    books.route(make_order(study="1.2.9", numbers=(1, 2)), study=waiting.order.study_instance_uid, now=at(9))
    (ended,) = [e for e in books.view.study_story(waiting.order.study_instance_uid).events if e.kind == "job-canceled"]
    assert ended.job_id == waiting.job_id
    assert ended.text.startswith("superseded: ")
    assert books.find(waiting).state is JobState.CANCELED
    assert tell_study(books.view.study_story(waiting.order.study_instance_uid)) == "lung_nodules scheduled"
    books.close()
