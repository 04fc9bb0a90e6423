"""Radiologists' verdicts: kept with their history, counted for each version, and free of the patient."""

from typing import Any

import pytest

from node.domain.job import Job
from node.domain.retention import KeepUntil, Proof, PurgeOrder
from node.domain.review import Instead, ModelVerdicts, ReviewOrder, Verdict
from node.errors import NotFound, RequestMalformed, WrongState
from node.ledger.retention import RetentionLedger
from node.ledger.reviews import ReviewLedger
from tests.ledgers import STUDY, Books, at, make_outcome, make_result, unknown_job


def answer(books: Books, *, result: int = 1, **changes: Any) -> Job:
    job = books.claim(books.add_job(**changes))
    books.jobs.finish_job(job, make_outcome(make_result(job, number=result)), now=at(1))
    return job


def order(job: Job, verdict: Verdict = Verdict.ACCEPT, **changes: Any) -> ReviewOrder:
    return ReviewOrder(**{"job_id": job.job_id, "number": 1, "verdict": verdict, "reviewer": "rita", **changes})


def test_the_newest_verdict_counts_and_the_others_stay(books: Books) -> None:
    ledger, job = ReviewLedger(books.engine), answer(books)
    ledger.record_review(order(job), now=at(2))
    ledger.record_review(order(job, Verdict.REJECT, reviewer="rob", comment="a vessel"), now=at(3))
    newest, first = ledger.reviews_of([job.job_id])[job.job_id, 1]
    assert (newest.order.verdict, newest.order.reviewer, newest.reviewed_at) == (Verdict.REJECT, "rob", at(3))
    assert (newest.is_current, first.is_current, first.label) == (True, False, "Nodule 1")
    assert [review.review_id for review in ledger.list_reviews()] == [newest.review_id, first.review_id]
    (counts,) = ledger.verdicts_by_model()
    assert (counts.accepted, counts.rejected, counts.corrected) == (0, 1, 0)
    assert books.view.study_story(STUDY).events[-1].text == "rob rejected finding 1 of lung_nodules"


def test_versions_of_a_model_are_counted_apart(books: Books) -> None:
    ledger = ReviewLedger(books.engine)
    old = answer(books)
    new = answer(books, result=2, study="1.2.4", version="2.0.0")
    ledger.record_review(order(old), now=at(2))
    ledger.record_review(order(new, Verdict.CORRECT, long_axis_mm=8.0, short_axis_mm=6.5), now=at(2))
    told = {"pipeline": "lung_nodules", "model": "model"}
    assert ledger.verdicts_by_model() == (
        ModelVerdicts(**told, model_version="1.0.0", accepted=1, rejected=0, corrected=0),
        ModelVerdicts(**told, model_version="2.0.0", accepted=0, rejected=0, corrected=1),
    )


def test_a_correction_keeps_what_is_right_and_another_verdict_no_leftovers_of_its_form(books: Books) -> None:
    ledger, job = ReviewLedger(books.engine), answer(books)
    said = {"long_axis_mm": 8.0, "short_axis_mm": 6.5, "instead": Instead.SCAR, "comment": "old scar"}
    ledger.record_review(order(job, Verdict.CORRECT, **said), now=at(2))
    ledger.record_review(order(job, Verdict.ACCEPT, **said), now=at(3))
    accepted, corrected = ledger.reviews_of([job.job_id])[job.job_id, 1]
    assert {name: getattr(corrected.order, name) for name in said} == said
    assert (accepted.order.long_axis_mm, accepted.order.instead) == (None, Instead.SAME)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"long_axis_mm": 0.0}, "above 0"),
        ({"long_axis_mm": float("nan")}, "above 0"),
        ({"short_axis_mm": 2001.0}, "above 0"),
        ({"long_axis_mm": 5.0, "short_axis_mm": 6.0}, "not longer"),
        ({"comment": "x" * 501}, "at most 500"),
        ({}, "says what is right"),
    ],
)
def test_a_correction_that_cannot_be_kept_is_refused(books: Books, changes: dict[str, Any], words: str) -> None:
    ledger, job = ReviewLedger(books.engine), answer(books)
    with pytest.raises(RequestMalformed, match=words):
        ledger.record_review(order(job, Verdict.CORRECT, **changes), now=at(2))
    assert ledger.list_reviews() == ()


def test_only_a_finding_of_an_answer_is_reviewed(books: Books) -> None:
    ledger, job = ReviewLedger(books.engine), answer(books)
    waiting = books.add_job(study="1.2.5")
    with pytest.raises(NotFound, match="findings 1 to 1"):
        ledger.record_review(order(job, number=2), now=at(2))
    with pytest.raises(WrongState):
        ledger.record_review(order(waiting), now=at(2))
    with pytest.raises(NotFound):
        ledger.record_review(order(job, job_id=unknown_job()), now=at(2))


def test_verdicts_outlive_a_purge_and_their_comments_do_not(books: Books) -> None:
    ledger, job = ReviewLedger(books.engine), answer(books)
    ledger.record_review(order(job, Verdict.REJECT, comment="Mrs Miller's vessel"), now=at(2))
    retention = RetentionLedger(books.engine)
    order_purge = PurgeOrder(study_instance_uid=STUDY, ordered_by="operator", reason="a test", is_forced=True)
    purge = retention.begin_purge(order_purge, Proof(keep_until=KeepUntil.FINISHED), now=at(3))
    retention.finish_purge(purge, now=at(4))
    (kept,) = ledger.list_reviews()
    assert (kept.order.verdict, kept.order.comment, kept.label) == (Verdict.REJECT, "", "Nodule 1")
    assert ledger.verdicts_by_model()[0].rejected == 1
