"""How an answer stands, whatever became of it since."""

import pytest

from node.domain.answer import Answer, AnswerState
from node.domain.imaging_order import OrderState
from node.domain.job import Priority
from node.domain.retraction import RejectionReason
from node.errors import NotFound
from node.ledger.answers import AnswerLedger
from tests.answers import NODULE_1, NODULE_2, ORDER, answer, correct, take_back, take_order, urge
from tests.ledgers import Books, at, make_facts

SEG_UID, SR_UID, NOTE_UID = "2.25.10", "2.25.11", "2.25.90"


def read(books: Books, uid: str = SR_UID) -> Answer:
    found = AnswerLedger(books.engine).read_answer(uid)
    assert found is not None
    return found


def labels(found: Answer) -> tuple[list[str], list[str]]:
    return [one.finding.label for one in found.findings], [one.finding.label for one in found.withdrawn]


def test_only_the_report_and_the_note_stand_for_an_answer(books: Books) -> None:
    answer(books, NODULE_1)
    assert AnswerLedger(books.engine).read_answer(SEG_UID) is None
    assert AnswerLedger(books.engine).read_answer("1.2.3.1.1") is None
    found = read(books)
    assert (found.state, labels(found)) == (AnswerState.FIRST, (["Nodule 1"], []))
    assert {one.sop_instance_uid for one in found.results} == {SEG_UID, SR_UID}
    assert (found.key, found.since) == (("1.2.3", "lung_nodules"), at(1))


def test_of_findings_that_were_given_up_nobody_is_told_that_there_are_none(books: Books) -> None:
    answer(books, NODULE_1)
    books.give_up(now=at(30))
    books.instances.record_instance(make_facts(received_at=at(31)))
    with pytest.raises(NotFound, match="findings were given up"):
        AnswerLedger(books.engine).read_answer(SR_UID)


def test_it_waits_until_the_rules_were_asked_what_follows(books: Books) -> None:
    answer(books, NODULE_1, is_heard=False)
    assert not read(books).is_heard
    books.studies.hear_answers(frozenset({"lung_nodules"}), now=at(2))
    assert not read(books).is_heard
    facts = books.studies.study_facts(read(books).study.study_instance_uid)
    books.studies.record_routing(facts, decisions=(), orders=(), forwards=(), now=at(3))
    assert read(books).is_heard


def test_what_a_rule_raised_because_of_it_is_told(books: Books) -> None:
    answer(books, NODULE_1, is_heard=False)
    assert (read(books).is_urged, read(books).priority) == (False, Priority.ROUTINE)
    urge(books)
    assert (read(books).is_urged, read(books).priority) == (True, Priority.STAT)


def test_what_was_taken_back_stands_no_more_until_it_is_corrected(books: Books) -> None:
    answer(books, NODULE_1, NODULE_2)
    retraction = take_back(books, SR_UID, "Nodule 1")
    for uid in (SR_UID, NOTE_UID):
        found = read(books, uid)
        assert (found.state, labels(found)) == (AnswerState.TAKEN_BACK, ([], ["Nodule 1", "Nodule 2"]))
    correct(books, retraction)
    for uid in (SR_UID, NOTE_UID, "2.25.91"):
        found = read(books, uid)
        assert (found.state, labels(found)) == (AnswerState.CORRECTED, (["Nodule 2"], ["Nodule 1"]))
        assert ([one.place for one in found.findings], found.since) == ([2], at(25))


def test_what_is_of_another_patient_is_said_to_be(books: Books) -> None:
    answer(books, NODULE_1)
    take_back(books, SR_UID, reason=RejectionReason.WRONG_WORKLIST_ENTRY)
    assert read(books, NOTE_UID).state is AnswerState.MISPLACED


def test_a_newer_answer_takes_the_place_of_the_one_before(books: Books) -> None:
    answer(books, NODULE_1, NODULE_2)
    newer = answer(books, NODULE_1, numbers=(1, 2))
    for uid in (SR_UID, "2.25.21"):
        found = read(books, uid)
        assert found.job.job_id == newer.job_id
        assert (found.state, labels(found)) == (AnswerState.CORRECTED, (["Nodule 1"], ["Nodule 2"]))


def test_the_numbers_are_those_of_an_order_that_stands(books: Books) -> None:
    take_order(books)
    answer(books, NODULE_1)
    found = read(books).order
    assert found is not None
    assert (found.placer_order_number, found.state) == (ORDER.placer_order_number, OrderState.ORDERED)
    assert read(books).accession_number == "A&1"
