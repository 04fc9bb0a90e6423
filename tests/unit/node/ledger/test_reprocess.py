"""A person lets the rules of a Study be asked again, or its Deliveries be sent again."""

from functools import partial
from typing import Any

import pytest

from node.domain.job import Job, JobState
from node.domain.result import DeliveryState, ResultKind
from node.errors import NotFound, PixelsUndecodable, WrongState
from node.ledger.closeups import CloseupLedger
from node.ledger.stages import StageLedger
from node.web.console.slices import stack_under
from tests.ledgers import NOON, STUDY, Books, at, make_facts, make_order, make_outcome, make_result

READER = "a reader"


def answer(books: Books) -> Job:
    job = books.claim(books.add_job())
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    return books.find(job)


def route_again(books: Books, *, version: str, now: float) -> None:
    facts = books.studies.study_facts(STUDY)
    order = make_order(version=version)
    books.studies.record_routing(facts, decisions=(), orders=(order,), forwards=(), now=at(now))


def test_another_version_answers_anew_and_takes_the_place_of_the_old_answer(books: Books) -> None:
    old = answer(books)
    books.interventions.reprocess(STUDY, ordered_by=READER, now=at(5))
    assert books.studies.settled_studies(10) == (STUDY,)
    assert books.view.study_story(STUDY).events[-1].text == "a reader lets the rules be asked again"
    route_again(books, version="2.0.0", now=6)
    first, second = books.view.study_story(STUDY).jobs
    assert (first, second.state, second.supersedes) == (old, JobState.SCHEDULED, old.job_id)
    assert books.view.study_story(STUDY).state == "ROUTED"


def test_the_same_version_is_not_asked_again_and_the_study_tells_so(books: Books) -> None:
    job = answer(books)
    books.interventions.reprocess(STUDY, ordered_by=READER, now=at(5))
    route_again(books, version="1.0.0", now=6)
    assert books.only_job() == job
    known = next(event for event in books.view.study_story(STUDY).events if event.kind == "job-known")
    assert known.text == "lung_nodules answered this before with the same model; the answer stands"
    assert known.job_id == job.job_id


def test_a_late_instance_of_another_series_tells_nothing_of_questions_that_were_put(books: Books) -> None:
    answer(books)
    books.instances.record_instance(make_facts(series=2, received_at=at(5)))
    books.settle(now=at(6))
    route_again(books, version="1.0.0", now=7)
    assert "job-known" not in books.kinds()


def test_a_study_whose_rules_were_not_asked_yet_is_not_reprocessed(books: Books) -> None:
    books.instances.record_instance(make_facts())
    with pytest.raises(WrongState, match="when it is complete"):
        books.interventions.reprocess(STUDY, ordered_by=READER, now=NOON)
    books.settle()
    with pytest.raises(WrongState, match="in a moment"):
        books.interventions.reprocess(STUDY, ordered_by=READER, now=NOON)
    with pytest.raises(NotFound):
        books.interventions.reprocess(make_order(study="9.9").study_instance_uid, ordered_by=READER, now=NOON)


def test_stages_of_a_reprocessed_study_begin_with_the_order(books: Books) -> None:
    answer(books)
    books.interventions.reprocess(STUDY, ordered_by=READER, now=at(5000))
    route_again(books, version="2.0.0", now=5002)
    stages = StageLedger(books.engine)
    while stages.count_stages(at(5003)):
        pass
    assert stages.read_stages()["route"].seconds == 2.0


def test_what_did_not_arrive_is_sent_again_all_of_a_study_or_one(books: Books) -> None:
    job = books.claim(books.add_job(deliver_to=("archive", "pacs")))
    results = make_result(job), make_result(job, kind=ResultKind.SR, number=2)
    books.jobs.finish_job(job, make_outcome(*results), now=at(1))
    sent, *others = books.view.study_story(STUDY).deliveries
    books.deliveries.record_sent(sent, now=at(2), reason_code=None, reason_text=None)
    for one in others:
        books.deliveries.record_refused(one, now=at(2), reason_code="destination-refused", reason_text="no")
    again = partial(books.deliveries.retry_of_study, STUDY, ordered_by=READER, now=at(3))
    assert again(delivery_id=others[0].delivery_id) == 1
    states = [one.state for one in books.view.study_story(STUDY).deliveries]
    assert states == [DeliveryState.SENT, DeliveryState.PENDING, DeliveryState.REFUSED, DeliveryState.REFUSED]
    assert again() == 3
    assert again(delivery_id=sent.delivery_id) == 0
    assert books.view.study_story(STUDY).deliveries[0].state is DeliveryState.SENT
    assert books.view.study_story(STUDY).events[-1].text.endswith("is due again, by a reader")
    assert books.kinds().count("delivery-retried") == 4


def test_slices_are_told_along_their_normal_and_the_study_until_it_settled(books: Books) -> None:
    places: dict[str, Any] = {"ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "Rows": 4, "Columns": 5}
    for number, height in ((1, 4.0), (2, 0.0), (3, 2.0)):
        facts = make_facts(number, received_at=at(number), ImagePositionPatient=[0.0, 0.0, height], **places)
        books.instances.record_instance(facts)
    closeups = CloseupLedger(books.engine)
    slices = closeups.slices_of(STUDY, make_facts().series_instance_uid)
    assert [(one.number, one.rows, one.columns) for one in slices] == [(2, 4, 5), (3, 4, 5), (1, 4, 5)]
    order = make_order(numbers=(1, 2, 3))
    books.settle(now=at(9))
    books.studies.record_routing(
        books.studies.study_facts(STUDY), decisions=(), orders=(order,), forwards=(), now=at(9)
    )
    frame = {"sop_instance_uid": slices[1].sop_instance_uid, "frame": 1}
    assert stack_under(closeups, books.only_job(), {"frames": [frame]}).slices == slices
    for other in ({"sop_instance_uid": "9.9", "frame": 1}, {**frame, "frame": 2}):
        with pytest.raises(PixelsUndecodable, match="nothing is drawn"):
            stack_under(closeups, books.only_job(), {"frames": [frame, other]})
    arrival = closeups.arrival_of(STUDY, before=at(2))
    assert (arrival.last_at, arrival.instances, arrival.associations) == (at(2), 2, 1)
