"""Answers that rules ask for: heard once, and what follows from them done once."""

from dataclasses import replace

from node.domain.finding import Presence
from node.domain.job import Job, JobState, Priority
from node.domain.result import DeliveryState
from node.domain.steering import Steering
from node.domain.study import SeriesState
from tests.ledgers import STUDY, Books, at, make_facts, make_order, make_outcome, make_result

URGENT = Steering(rule="large", pipeline="lung_nodules", priority=Priority.STAT, deliver_to=("desk",))
ASKED_OF = frozenset({"lung_nodules"})


def answer(books: Books) -> Job:
    job = books.claim(books.add_job())
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    return job


def deliveries(books: Books) -> list[str]:
    found = books.view.list_deliveries(destination=None, state=DeliveryState.PENDING, limit=10)
    return sorted(delivery.destination for delivery in found)


def route_again(books: Books, *steerings: Steering, now: int = 3) -> None:
    facts = books.studies.study_facts(STUDY)
    assert books.studies.record_routing(facts, decisions=(), orders=(), forwards=(), steerings=steerings, now=at(now))


def test_an_answer_that_rules_ask_for_lets_them_be_asked_again_once(books: Books) -> None:
    job = answer(books)
    before = books.studies.study_facts(STUDY).revision
    assert books.studies.hear_answers(ASKED_OF, now=at(2)) == 1
    study = books.studies.study_facts(STUDY)
    assert (study.state, study.revision) == (SeriesState.SETTLED, before + 1)
    assert [(one.job_id, one.pipeline) for one in study.answered] == [(job.job_id, "lung_nodules")]
    assert [(one.label, one.presence) for one in study.answered[0].findings] == [("Nodule 1", Presence.PRESENT)]
    route_again(books)
    assert books.studies.hear_answers(ASKED_OF, now=at(4)) == 0
    assert books.kinds().count("answer-heard") == 1


def test_an_answer_that_no_rule_asks_for_stirs_nothing_and_is_no_news_later(books: Books) -> None:
    answer(books)
    assert books.studies.hear_answers(frozenset(), now=at(2)) == 0
    assert books.studies.hear_answers(ASKED_OF, now=at(3)) == 0
    assert books.studies.study_facts(STUDY).state is SeriesState.ROUTED


def test_what_is_in_shadow_steers_nothing(books: Books) -> None:
    books.instances.record_instance(make_facts())
    books.route(replace(make_order(), is_shadow=True))
    job = books.claim(books.only_job())
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    assert books.studies.hear_answers(ASKED_OF, now=at(2)) == 0
    assert books.studies.study_facts(STUDY).answered == ()


def test_an_answer_about_what_the_study_held_before_does_not_count(books: Books) -> None:
    answer(books)
    assert len(books.studies.study_facts(STUDY).answered) == 1
    books.instances.record_instance(make_facts(2, received_at=at(2)))
    assert books.studies.study_facts(STUDY).answered == ()


def test_steering_raises_the_study_and_sends_its_results_once_to_a_further_destination(books: Books) -> None:
    job = answer(books)
    other = make_order(pipeline="brain_tumour", deliver_to=("pacs",))
    books.studies.hear_answers(ASKED_OF, now=at(2))
    facts = books.studies.study_facts(STUDY)
    books.studies.record_routing(facts, decisions=(), orders=[other], forwards=(), steerings=[URGENT], now=at(3))
    assert deliveries(books) == ["desk", "pacs"]
    by_state = {one.state: one.order for one in books.view.study_story(STUDY).jobs}
    assert by_state[JobState.COMPLETED].deliver_to == ("pacs", "desk")
    assert {one.priority for one in by_state.values()} == {Priority.STAT}
    books.interventions.reprocess(STUDY, ordered_by="reader", now=at(4))
    route_again(books, URGENT, now=5)
    assert deliveries(books) == ["desk", "pacs"]
    assert books.kinds().count("study-steered") == 1
    assert books.find(job).order.deliver_to == ("pacs", "desk")


def test_a_waiting_job_that_became_urgent_is_rung_again(books: Books) -> None:
    answer(books)
    books.studies.hear_answers(ASKED_OF, now=at(2))
    other = make_order(pipeline="brain_tumour", deliver_to=("pacs",))
    facts = books.studies.study_facts(STUDY)
    books.studies.record_routing(facts, decisions=(), orders=[other], forwards=(), now=at(3))
    (bell,) = books.jobs.bells_to_ring(at(3), rung_before=at(3))
    books.jobs.record_rung([bell.job_id], at(3))
    books.interventions.reprocess(STUDY, ordered_by="reader", now=at(4))
    route_again(books, URGENT, now=5)
    (again,) = books.jobs.bells_to_ring(at(5), rung_before=at(3))
    assert (again.job_id, again.priority) == (bell.job_id, Priority.STAT)
    assert again.rung_at is not None
    assert again.rung_at < again.accepted_at
