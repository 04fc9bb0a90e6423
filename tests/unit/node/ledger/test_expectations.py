"""What is known of how much should come: kept by who said it, compared with what he said before, and given up."""

from datetime import timedelta

import pytest

from node.domain.completeness import WHOLE_STUDY, Census, OpenSeries, Statement, Told
from node.domain.retention import KeepUntil, Proof, PurgeOrder
from node.domain.uids import SeriesUID, StudyUID
from node.errors import NoticeFinal, NoticeKnown, NoticeUnknown
from node.ledger.notices import COMPLETED, IN_PROGRESS, STRANGERS_KEPT, Notice, NoticeLedger
from node.ledger.pauses import ENOUGH, PauseLedger
from node.ledger.retention import RetentionLedger
from tests.ledgers import STUDY, Books, at, make_facts, make_outcome, make_result

SERIES = SeriesUID(f"{STUDY}.1")


def answer(books: Books, total: int, by_series: dict[SeriesUID, int], *, second: float = 0.0) -> None:
    census = Census(total=total, by_series=by_series)
    books.expectations.record_census(STUDY, census, told=Told.FIND, source="pacs", now=at(second))


def said(books: Books) -> dict[str, Statement]:
    return {one.series_instance_uid: one for one in books.view.study_story(STUDY).statements}


def notice(uid: str = "1.9", *, study: str = STUDY, state: str = IN_PROGRESS, count: int | None = None) -> Notice:
    return Notice(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.3.1.2.3.3",
        study_instance_uid=StudyUID(study),
        told=Told.PROCEDURE_STEP,
        source="CT1",
        state=state,
        counts=None if count is None else {SERIES: count},
    )


def test_since_when_a_number_is_said_and_how_often_it_was_another(books: Books) -> None:
    books.instances.record_instance(make_facts())
    answer(books, 60, {SERIES: 60}, second=1)
    books.instances.record_instance(make_facts(2))
    answer(books, 60, {SERIES: 60}, second=2)
    one = said(books)[SERIES]
    assert (one.expected, one.held, one.held_first, one.changes, one.since, one.seen_at) == (60, 2, 1, 0, at(1), at(2))
    answer(books, 120, {SERIES: 120}, second=3)
    one = said(books)[SERIES]
    assert (one.expected, one.held_first, one.changes, one.since, one.seen_at) == (120, 2, 1, at(3), at(3))
    told = [event.text for event in books.view.study_story(STUDY).events if event.kind == "expectation"]
    assert told == ["held 1 of 60 by C-FIND at pacs", "held 2 of 120 by C-FIND at pacs"]


def test_a_series_that_is_no_longer_named_is_forgotten(books: Books) -> None:
    books.instances.record_instance(make_facts())
    answer(books, 3, {SERIES: 1, SeriesUID("1.7"): 2})
    answer(books, 1, {SERIES: 1})
    assert set(said(books)) == {WHOLE_STUDY, SERIES}


def test_a_question_in_vain_leaves_what_is_known(books: Books) -> None:
    books.instances.record_instance(make_facts())
    answer(books, 60, {SERIES: 60}, second=1)
    books.expectations.record_failure(STUDY, told=Told.FIND, source="pacs", failure="destination-down", now=at(2))
    one = said(books)[WHOLE_STUDY]
    assert (one.expected, one.failure, one.seen_at) == (60, "destination-down", at(2))
    answer(books, 60, {SERIES: 60}, second=3)
    assert said(books)[WHOLE_STUDY].failure == ""


def test_our_own_results_are_no_part_of_what_is_sent(books: Books) -> None:
    job = books.claim(books.add_job())
    result = make_result(job)
    books.jobs.finish_job(job, make_outcome(result), now=at(1))
    answer(books, 4, {SERIES: 1, result.series_instance_uid: 3})
    assert {uid: one.expected for uid, one in said(books).items()} == {WHOLE_STUDY: 1, SERIES: 1}


def test_an_open_study_is_told_with_all_that_is_here(books: Books) -> None:
    books.instances.record_instance(make_facts(1))
    books.instances.record_instance(make_facts(2))
    books.instances.record_instance(make_facts(1, series=2, association="a2", received_at=at(1)))
    books.instances.end_association("a2", at(2))
    answer(books, 3, {SERIES: 2})
    (one,) = books.expectations.open_studies()
    assert dict(one.held) == {SERIES: 2, f"{STUDY}.2": 1}
    assert [(s.source, s.held, s.open_associations) for s in one.series] == [("MODALITY", 2, 1), ("MODALITY", 1, 0)]
    assert (len(one.statements), one.has_open_association, one.quiet_since) == (2, True, at(2))
    books.settle()
    assert books.expectations.open_studies() == ()


def test_a_step_may_come_before_the_first_instance(books: Books) -> None:
    ledger = NoticeLedger(books.engine)
    ledger.create(notice(count=5), now=at(0))
    books.instances.record_instance(make_facts(received_at=at(1)))
    (one,) = books.expectations.open_studies()
    assert {s.series_instance_uid: (s.expected, s.is_final) for s in one.statements} == {
        WHOLE_STUDY: (None, False),
        SERIES: (5, False),
    }


def test_a_step_is_created_once_changed_while_it_lasts_and_then_no_more(books: Books) -> None:
    ledger = NoticeLedger(books.engine)
    with pytest.raises(NoticeUnknown):
        ledger.change("1.9", state=COMPLETED, counts=None, now=at(0))
    ledger.create(notice(), now=at(0))
    with pytest.raises(NoticeKnown):
        ledger.create(notice(), now=at(1))
    ledger.change("1.9", state=COMPLETED, counts={SERIES: 5}, now=at(2))
    with pytest.raises(NoticeFinal):
        ledger.change("1.9", state=None, counts={SERIES: 6}, now=at(3))


def test_what_is_told_of_a_study_that_never_comes_is_given_up(books: Books) -> None:
    ledger = NoticeLedger(books.engine)
    books.instances.record_instance(make_facts())
    ledger.create(notice("1.8", study="1.2.99"), now=at(0))
    ledger.create(notice("1.9"), now=at(0))
    later = at(1) + STRANGERS_KEPT
    ledger.create(notice("1.10", study="1.2.98"), now=later)
    books.instances.record_instance(make_facts(study="1.2.99", received_at=later))
    assert books.view.study_story(StudyUID("1.2.99")).statements == ()
    assert len(said(books)) == 1
    ledger.create(notice("1.8", study="1.2.99"), now=later + timedelta(seconds=1))


def test_a_study_that_is_given_up_takes_along_what_was_said_of_it(books: Books) -> None:
    books.instances.record_instance(make_facts())
    answer(books, 1, {SERIES: 1})
    NoticeLedger(books.engine).create(notice(), now=at(1))
    books.route()
    order = PurgeOrder(study_instance_uid=STUDY, ordered_by="test", reason="test", is_forced=True)
    RetentionLedger(books.engine).begin_purge(order, Proof(keep_until=KeepUntil.FINISHED), now=at(2))
    with books.engine.connect() as connection:
        for table in ("expectations", "notices"):
            assert connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").scalar_one() == 0


def settled(books: Books, *, pause_s: float, count: int) -> None:
    """Let so many Series come, each in two Associations with a pause between them."""
    ledger = PauseLedger(books.engine)
    books.instances.record_instance(make_facts(1, association="a"))
    books.instances.record_instance(make_facts(2, association="b", received_at=at(pause_s)))
    books.instances.record_instance(make_facts(3, association="b", received_at=at(pause_s + 1000)))
    (series,) = books.studies.open_series()
    for _ in range(count):
        ledger.note(series)


def test_pauses_between_associations_are_learned_once_enough_is_known(books: Books) -> None:
    ledger = PauseLedger(books.engine)
    settled(books, pause_s=8.0, count=ENOUGH - 1)
    assert ledger.learned_s() == {}
    ledger.note(books.studies.open_series()[0])
    assert ledger.learned_s() == {"MODALITY": pytest.approx(12.0)}


def test_one_long_pause_of_many_was_an_accident(books: Books) -> None:
    ledger = PauseLedger(books.engine)
    settled(books, pause_s=8.0, count=ENOUGH)
    (series,) = books.studies.open_series()
    facts = make_facts(1, study="1.2.4", association="x")
    books.instances.record_instance(facts)
    books.instances.record_instance(make_facts(2, study="1.2.4", association="y", received_at=at(500)))
    other = next(one for one in books.studies.open_series() if one.study_instance_uid == "1.2.4")
    ledger.note(other)
    assert ledger.learned_s() == {"MODALITY": pytest.approx(12.0)}
    ledger.note(other)
    assert ledger.learned_s()["MODALITY"] == pytest.approx(750.0)
    assert isinstance(series, OpenSeries)


def test_what_is_long_ago_is_forgotten(books: Books) -> None:
    settled(books, pause_s=8.0, count=1)
    ledger = PauseLedger(books.engine, remembered=4)
    for _ in range(6):
        ledger.note(books.studies.open_series()[0])
    with books.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM pauses").scalar_one() == 4
