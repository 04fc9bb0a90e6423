"""A Destination that wants no SEG or SR gets the picture instead: once, in the same transaction, and says so."""

from dataclasses import replace

import pytest

from node.domain.result import Delivery, DeliveryState, Result, ResultKind
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.uids import InstanceUID
from node.ledger.retractions import RetractionLedger
from node.ledger.views import Event
from tests.ledgers import NOON, STUDY, Books, at, make_outcome, make_result

UNSUPPORTED = "sop-class-not-supported"
GOES_INSTEAD = "no SEG; the summary picture goes instead"
KINDS = {kind: number for number, kind in enumerate(ResultKind, start=1)}


def finish(books: Books, *kinds: ResultKind, is_wished: bool = False, deliver_to: tuple[str, ...] = ("pacs",)) -> None:
    """Finish a Job that wrote these kinds of Result."""
    job = books.claim(books.add_job(deliver_to=deliver_to))
    written: list[Result] = []
    for kind in kinds:
        result = make_result(job, kind=kind, number=KINDS[kind])
        written.append(replace(result, is_substitute=kind is ResultKind.SC and not is_wished))
    books.jobs.finish_job(job, make_outcome(*written), now=NOON)


def find(books: Books, kind: ResultKind, *, destination: str = "pacs") -> Delivery | None:
    deliveries = books.view.list_deliveries(destination=destination, state=None, limit=99)
    found = [d for d in deliveries if d.sop_instance_uid == f"2.25.{KINDS[kind]}"]
    assert len(found) <= 1
    return found[0] if found else None


def refuse(books: Books, kind: ResultKind, *, destination: str = "pacs", code: str = UNSUPPORTED) -> bool:
    """Let the Destination refuse; returns whether a person must act."""
    delivery = find(books, kind, destination=destination)
    assert delivery is not None
    return books.deliveries.record_refused(delivery, now=at(5), reason_code=code, reason_text=f"no {kind.value}")


def state(books: Books, kind: ResultKind, *, destination: str = "pacs") -> str | None:
    delivery = find(books, kind, destination=destination)
    return None if delivery is None else delivery.state.value


def last_event(books: Books) -> Event:
    return books.view.study_story(STUDY).events[-1]


@pytest.mark.parametrize("kind", [ResultKind.SEG, ResultKind.SR])
@pytest.mark.parametrize("code", [UNSUPPORTED, "destination-refused"])
def test_picture_goes_where_seg_or_sr_is_refused(books: Books, kind: ResultKind, code: str) -> None:
    finish(books, ResultKind.SEG, ResultKind.SR, ResultKind.SC)
    assert find(books, ResultKind.SC) is None
    assert refuse(books, kind, code=code) is False
    assert state(books, ResultKind.SC) == "PENDING"
    refused = find(books, kind)
    assert refused is not None
    assert (refused.state, refused.reason_code) == (DeliveryState.REFUSED, code)
    assert refused.reason_text == f"no {kind.value}; the summary picture goes instead"
    assert last_event(books).text.endswith(f"to pacs: {refused.reason_text}")
    assert not last_event(books).is_alarm


def test_picture_goes_once_where_both_are_refused(books: Books) -> None:
    finish(books, ResultKind.SEG, ResultKind.SR, ResultKind.SC)
    assert [refuse(books, kind) for kind in (ResultKind.SEG, ResultKind.SR)] == [False, False]
    due = [d.sop_instance_uid for d in books.deliveries.due_deliveries("pacs", at(9), 99)]
    assert due == [f"2.25.{KINDS[ResultKind.SC]}"]


def test_picture_that_was_sent_already_is_not_sent_again(books: Books) -> None:
    finish(books, ResultKind.SEG, ResultKind.SR, ResultKind.SC, is_wished=True)
    picture = find(books, ResultKind.SC)
    assert picture is not None
    books.deliveries.record_sent(picture, now=at(1), reason_code=None, reason_text=None)
    assert refuse(books, ResultKind.SEG) is False
    assert state(books, ResultKind.SC) == "SENT"
    assert books.view.study_story(STUDY).deliveries[0].reason_text == GOES_INSTEAD


def test_retry_by_hand_tries_the_original_again_and_sends_no_second_picture(books: Books) -> None:
    finish(books, ResultKind.SEG, ResultKind.SR, ResultKind.SC)
    refuse(books, ResultKind.SEG)
    picture = find(books, ResultKind.SC)
    assert picture is not None
    books.deliveries.record_sent(picture, now=at(6), reason_code=None, reason_text=None)
    books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=at(7))
    assert (state(books, ResultKind.SEG), state(books, ResultKind.SC)) == ("PENDING", "SENT")
    refuse(books, ResultKind.SEG)
    assert state(books, ResultKind.SC) == "SENT"


def test_only_the_destination_that_refuses_gets_the_picture(books: Books) -> None:
    finish(books, ResultKind.SEG, ResultKind.SR, ResultKind.SC, deliver_to=("pacs", "archive"))
    refuse(books, ResultKind.SEG, destination="archive")
    assert state(books, ResultKind.SC) is None
    assert state(books, ResultKind.SC, destination="archive") == "PENDING"


def test_picture_that_is_refused_as_well_is_an_alarm(books: Books) -> None:
    finish(books, ResultKind.SEG, ResultKind.SR, ResultKind.SC)
    refuse(books, ResultKind.SEG)
    assert refuse(books, ResultKind.SC) is True
    assert last_event(books).is_alarm
    assert refuse(books, ResultKind.SR) is True
    sr = find(books, ResultKind.SR)
    assert sr is not None
    assert sr.reason_text == "no SR; the summary picture was refused as well"


def test_wished_picture_that_is_refused_beside_a_seg_that_is_taken_alarms_nobody(books: Books) -> None:
    finish(books, ResultKind.SEG, ResultKind.SR, ResultKind.SC, is_wished=True)
    assert refuse(books, ResultKind.SC) is False
    assert not last_event(books).is_alarm
    assert refuse(books, ResultKind.SEG) is True


def test_job_without_a_picture_is_an_alarm(books: Books) -> None:
    finish(books, ResultKind.SEG, ResultKind.SR)
    assert refuse(books, ResultKind.SEG) is True
    assert last_event(books).is_alarm
    assert "there is no picture" in last_event(books).text


def test_picture_that_was_taken_back_does_not_go(books: Books) -> None:
    finish(books, ResultKind.SR, ResultKind.SC)
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="person")
    report = InstanceUID(f"2.25.{KINDS[ResultKind.SR]}")
    RetractionLedger(books.engine).order_retraction(report, order, now=at(1))
    assert refuse(books, ResultKind.SR) is True
    assert find(books, ResultKind.SC) is None


def test_an_answer_that_was_taken_back_is_not_missed_beside_the_corrected_one(books: Books) -> None:
    finish(books, ResultKind.SR, ResultKind.SC, is_wished=True)
    ledger = RetractionLedger(books.engine)
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=("Nodule 1",), ordered_by="person")
    retraction = ledger.order_retraction(InstanceUID(f"2.25.{KINDS[ResultKind.SR]}"), order, now=at(1))
    job = ledger.find_job(retraction)
    corrected = (make_result(job, kind=ResultKind.SR, number=50), make_result(job, kind=ResultKind.SC, number=51))
    ledger.finish_retraction(retraction, corrected, now=at(2))
    picture = next(d for d in books.deliveries.due_deliveries("pacs", at(3), 9) if d.sop_instance_uid == "2.25.51")
    assert not books.deliveries.record_refused(picture, now=at(4), reason_code=UNSUPPORTED, reason_text="no SC")


@pytest.mark.parametrize("kind", [ResultKind.KO, ResultKind.PR, ResultKind.DOC])
def test_optional_result_that_is_refused_needs_nothing_in_its_place(books: Books, kind: ResultKind) -> None:
    finish(books, ResultKind.SEG, ResultKind.SR, ResultKind.SC, kind)
    assert refuse(books, kind) is False
    assert find(books, ResultKind.SC) is None
    assert state(books, kind) == "REFUSED"


def test_rejection_note_that_is_refused_is_an_alarm(books: Books) -> None:
    finish(books, ResultKind.SR, ResultKind.SC, ResultKind.REJECTION_NOTE)
    assert refuse(books, ResultKind.REJECTION_NOTE) is True
    assert find(books, ResultKind.SC) is None


@pytest.mark.parametrize("code", ["gave-up", "not-dicom", "uid-mismatch"])
def test_no_picture_goes_where_the_destination_did_not_refuse(books: Books, code: str) -> None:
    finish(books, ResultKind.SEG, ResultKind.SC)
    assert refuse(books, ResultKind.SEG, code=code) is True
    assert find(books, ResultKind.SC) is None
    seg = find(books, ResultKind.SEG)
    assert seg is not None
    assert seg.reason_text == "no SEG"


def test_pictures_of_two_jobs_do_not_stand_in_for_each_other(books: Books) -> None:
    finish(books, ResultKind.SC)
    other = books.claim(books.add_job(study="1.9", pipeline="brain_tumour"))
    books.jobs.finish_job(other, make_outcome(make_result(other, number=50)), now=NOON)
    (delivery,) = books.view.list_deliveries(destination="pacs", state=None, limit=9)
    books.deliveries.record_refused(delivery, now=at(5), reason_code=UNSUPPORTED, reason_text="no SEG")
    assert find(books, ResultKind.SC) is None
