"""An Instance that an answer was made from comes again with other content: it is told, and read again if wished."""

from dataclasses import replace
from typing import Any

from node.domain.decision import Outcome
from node.domain.job import Job, JobState
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.study import Comparison
from node.domain.switch import Mode, Switch
from node.ledger.closeups import CloseupLedger
from node.ledger.fates import tell_job
from node.ledger.placement import derive_places
from node.ledger.retractions import RetractionLedger
from node.ledger.standings import StandingLedger
from node.ledger.switches import SwitchLedger
from node.ledger.views import Event
from node.ledger.worklist import Mark, Place
from node.rules.evaluate import evaluate
from node.web.console.telling import tell_state
from tests.ledgers import STUDY, Books, at, make_facts, make_order, make_outcome, make_result
from tests.shipped import shipped_rules

OUTDATED = "answer-outdated"


def finish(books: Books, job: Job, *, number: int = 1, now: float = 1) -> Job:
    books.jobs.finish_job(job, make_outcome(make_result(job, number=number)), now=at(now))
    return books.find(job)


def answer(books: Books) -> Job:
    return finish(books, books.claim(books.add_job()))


def come_again(books: Books, digest: str, *, now: float, number: int = 1, series: int = 1) -> None:
    facts = make_facts(number, series=series, digest=digest, received_at=at(now), association=digest)
    books.instances.record_instance(facts)


def come_recoded(books: Books, digest: str, *, says: str, now: float) -> None:
    """Let the Instance come in other bytes that say what the version `says` said."""
    facts = make_facts(digest=digest, received_at=at(now), association=digest)
    books.instances.record_instance(replace(facts, comparison=Comparison(says=says)))


def route_again(books: Books, *, now: float) -> None:
    """Let the rules ask what they asked before."""
    books.route(make_order(), now=at(now))


def reprocess(books: Books, *, now: float) -> None:
    books.interventions.reprocess(STUDY, ordered_by="a reader", now=at(now))
    route_again(books, now=now)


def alarms(books: Books) -> list[Event]:
    return [event for event in books.view.study_story(STUDY).events if event.kind == OUTDATED]


def needs_person(books: Books) -> bool:
    with books.engine.connect() as connection:
        return bool(derive_places(connection, [STUDY])[STUDY]["needs_person"])


def newest(books: Books) -> Job:
    return max(books.view.study_story(STUDY).jobs, key=lambda job: job.accepted_at)


def test_an_answer_is_marked_whose_instance_came_again_with_other_content(books: Books) -> None:
    job = answer(books)
    come_again(books, "second", now=5)
    (alarm,) = alarms(books)
    assert (alarm.is_alarm, alarm.job_id) == (True, job.job_id)
    assert f"Instance {STUDY}.1.1 of Series {STUDY}.1" in alarm.text
    assert f"radnode studies reprocess {STUDY}" in alarm.text
    assert books.find(job).outdated_at == at(5)
    assert tell_job(books.find(job)) == (
        "answered, findings: 1; an Instance that it was made from came again with other content on 2025-01-14, and "
        "this is of the earlier one"
    )
    route_again(books, now=6)
    assert needs_person(books)
    # Nothing is read again by itself.
    assert books.only_job().job_id == job.job_id


def test_of_many_instances_and_of_the_same_bytes_no_more_is_told(books: Books) -> None:
    for number in (1, 2):
        books.instances.record_instance(make_facts(number))
    books.route(make_order(numbers=(1, 2)))
    finish(books, books.claim(books.only_job()))
    books.instances.record_instance(make_facts(received_at=at(4)))
    assert alarms(books) == []
    for number in (1, 2):
        come_again(books, f"second {number}", now=5, number=number)
    assert len(alarms(books)) == 1
    changed = [event.text for event in books.view.study_story(STUDY).events if event.kind == "instance-changed"]
    assert changed == [
        f"Instance {STUDY}.1.{number} of Series {STUDY}.1 came again with other content; the later version counts"
        for number in (1, 2)
    ]


def test_the_same_bytes_in_another_place_of_the_store_mark_nothing(books: Books) -> None:
    job = answer(books)
    facts = make_facts(received_at=at(5), association="again")
    books.instances.record_instance(replace(facts, path=f"{facts.path}.other"))
    assert alarms(books) == []
    assert books.find(job).outdated_at is None


def test_an_instance_that_says_the_same_in_other_bytes_marks_nothing(books: Books) -> None:
    job = answer(books)
    come_recoded(books, "recoded", says=make_facts().digest, now=5)
    assert (alarms(books), books.find(job).outdated_at) == ([], None)
    (changed,) = [event.text for event in books.view.study_story(STUDY).events if event.kind == "instance-changed"]
    assert changed.endswith("came again and says the same in other bytes; the later version counts")
    route_again(books, now=6)
    (given,) = books.studies.study_facts(STUDY).answered
    assert given.job_id == job.job_id
    # The same bytes from another place of the store, which nobody compares.
    books.instances.record_instance(replace(make_facts(digest="recoded", received_at=at(7)), path="elsewhere.dcm"))
    assert books.find(job).outdated_at is None
    come_again(books, "third", now=8)
    assert books.find(job).outdated_at == at(8)


def test_the_alarm_says_how_the_later_version_differs(books: Books) -> None:
    answer(books)
    facts = make_facts(digest="second", received_at=at(5), association="second")
    comparison = Comparison(says="second", difference="differs from it in PatientID")
    books.instances.record_instance(replace(facts, comparison=comparison))
    (alarm,) = alarms(books)
    assert "what came again under its UID differs from it in PatientID, and the answer is of the earlier" in alarm.text


def test_an_answer_to_a_later_version_stands_when_that_comes_in_other_bytes(books: Books) -> None:
    answer(books)
    come_again(books, "second", now=5)
    route_again(books, now=6)
    reprocess(books, now=7)
    second = finish(books, books.claim(newest(books), now=at(8)), number=2, now=9)
    come_recoded(books, "recoded", says="second", now=10)
    route_again(books, now=11)
    assert books.find(second).outdated_at is None
    (given,) = books.studies.study_facts(STUDY).answered
    assert given.job_id == second.job_id
    reprocess(books, now=12)
    assert newest(books).job_id == second.job_id


def test_an_answer_to_the_versions_that_count_again_is_not_outdated(books: Books) -> None:
    answer(books)
    come_again(books, "second", now=5)
    route_again(books, now=6)
    reprocess(books, now=6)
    second = finish(books, books.claim(newest(books), now=at(7)), number=2, now=8)
    come_again(books, "third", now=9)
    assert books.find(second).outdated_at == at(9)
    come_again(books, "second", now=10)
    route_again(books, now=11)
    reprocess(books, now=11)
    assert newest(books).job_id == second.job_id
    assert books.find(second).outdated_at is None


def test_what_the_answer_has_not_read_marks_nothing(books: Books) -> None:
    books.instances.record_instance(make_facts(series=2))
    answer(books)
    come_again(books, "second", now=5, series=2)
    assert alarms(books) == []


def test_a_job_that_has_not_begun_reads_what_came_last(books: Books) -> None:
    job = books.add_job()
    come_again(books, "second", now=5)
    assert alarms(books) == []
    assert finish(books, books.claim(job, now=at(6))).outdated_at is None


def test_a_job_that_runs_may_have_read_the_earlier_version(books: Books) -> None:
    job = books.claim(books.add_job())
    come_again(books, "second", now=5)
    assert "may have read" in alarms(books)[0].text
    route_again(books, now=6)
    # It is not read again by itself.
    assert finish(books, job).outdated_at == at(5)
    assert needs_person(books)


def test_a_job_that_begins_again_reads_what_came_last(books: Books) -> None:
    job = books.claim(books.add_job())
    come_again(books, "second", now=5)
    books.jobs.give_back(job, reason=("worker-stopped", "it stopped"), now=at(6))
    assert finish(books, books.claim(job, now=at(7))).outdated_at is None


def test_a_person_lets_the_later_version_be_read_and_its_answer_takes_the_place(books: Books) -> None:
    old = answer(books)
    come_again(books, "second", now=5)
    route_again(books, now=6)
    reprocess(books, now=7)
    new = newest(books)
    assert (new.state, new.supersedes) == (JobState.SCHEDULED, old.job_id)
    assert new.order.content != old.order.content
    assert replace(new.order, content="") == replace(old.order, content="")
    finish(books, books.claim(new, now=at(8)), number=2, now=9)
    assert not needs_person(books)
    (given,) = books.studies.study_facts(STUDY).answered
    assert given.job_id == new.job_id


def test_no_rule_hears_an_answer_of_an_earlier_version(books: Books) -> None:
    answer(books)
    come_again(books, "second", now=5)
    assert books.studies.study_facts(STUDY).answered == ()


def test_one_version_has_one_answer_however_often_it_is_asked_for(books: Books) -> None:
    answer(books)
    come_again(books, "second", now=5)
    route_again(books, now=6)
    reprocess(books, now=7)
    finish(books, books.claim(newest(books), now=at(8)), number=2, now=9)
    reprocess(books, now=10)
    # A Series that nobody asks about.
    come_again(books, "late", now=11, series=2)
    route_again(books, now=12)
    assert len(books.view.study_story(STUDY).jobs) == 2
    known = [event.text for event in books.view.study_story(STUDY).events if event.kind == "job-known"]
    assert known == ["lung_nodules answered this before with the same model; the answer stands"]


def test_a_third_version_is_read_in_place_of_the_second(books: Books) -> None:
    answer(books)
    come_again(books, "second", now=5)
    route_again(books, now=6)
    reprocess(books, now=7)
    second = newest(books)
    come_again(books, "third", now=8)
    route_again(books, now=9)
    assert books.find(second).reason_code == "superseded"
    third = newest(books)
    assert len({job.order.content for job in books.view.study_story(STUDY).jobs}) == 3
    finish(books, books.claim(third, now=at(10)), number=2, now=11)
    come_again(books, "fourth", now=12)
    route_again(books, now=13)
    assert needs_person(books)
    reprocess(books, now=14)
    assert newest(books).supersedes == third.job_id


def test_an_outdated_answer_in_shadow_does_not_go_out_when_the_pipeline_is_on(books: Books) -> None:
    switches = SwitchLedger(books.engine)
    order = replace(make_order(), is_shadow=True)
    switch = Switch(pipeline=order.pipeline, mode=Mode.SHADOW, changed_by="a person", changed_at=at(0), reason="")
    switches.switch_pipeline(switch)
    books.instances.record_instance(make_facts())
    books.route(order)
    job = finish(books, books.claim(books.only_job()))
    come_again(books, "second", now=5)
    switches.switch_pipeline(replace(switch, mode=Mode.ON, changed_at=at(6)))
    route_again(books, now=7)
    assert books.find(job).order.is_shadow
    assert books.view.study_story(STUDY).deliveries == ()
    reprocess(books, now=8)
    assert not newest(books).order.is_shadow


def test_a_person_who_took_the_answer_back_is_asked_for_nothing(books: Books) -> None:
    job = answer(books)
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="a reader")
    (result,) = books.view.study_story(STUDY).results
    RetractionLedger(books.engine).order_retraction(result.sop_instance_uid, order, now=at(3))
    come_again(books, "second", now=5)
    route_again(books, now=6)
    assert (alarms(books), needs_person(books)) == ([], False)
    assert books.find(job).outdated_at == at(5)


def test_the_worklist_says_that_an_answer_is_of_an_earlier_version(books: Books) -> None:
    answer(books)
    come_again(books, "second", now=5)
    route_again(books, now=6)
    place = Place(mark=Mark(priority=0, opened_at=at(0), place_id=1), study_instance_uid=STUDY, modalities=("CT",))
    (standing,) = StandingLedger(books.engine).describe([place])
    chip = tell_state(standing)
    assert (chip.words, chip.why) == ("Outdated", "lung_nodules: of an earlier version of the images")


def test_one_of_many_instances_with_another_patient_does_not_rename_the_study(books: Books) -> None:
    for number in (1, 2, 3):
        books.instances.record_instance(make_facts(number, PatientID="K0", PatientName="Right^Patient"))
    other: dict[str, Any] = {"PatientID": "K1", "PatientName": "Wrong^Patient"}
    books.instances.record_instance(make_facts(2, digest="second", received_at=at(5), **other))
    closeups = CloseupLedger(books.engine)
    assert closeups.attributes_of(STUDY) == {"PatientID": "K0", "PatientName": "Right^Patient"}
    decision = evaluate(shipped_rules()["lung_nodules"], books.studies.study_facts(STUDY))
    assert (decision.outcome, decision.found) == (Outcome.UNDETERMINED, "2 different Patient IDs")
    for number in (1, 3):
        books.instances.record_instance(make_facts(number, digest=f"second {number}", received_at=at(6), **other))
    assert closeups.attributes_of(STUDY) == other
    decision = evaluate(shipped_rules()["lung_nodules"], books.studies.study_facts(STUDY))
    assert decision.found != "2 different Patient IDs"
