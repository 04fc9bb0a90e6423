"""A ledger that is lost, or older than the store: what cards, files and trail say, and what nobody can know."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select

from node.audit.events import Movement, Remote, StudySubject, transfer_ended
from node.audit.inspection import read_records
from node.domain.job import Job, JobID, JobState
from node.domain.result import DeliveryState, Result, ResultKind
from node.domain.retraction import RejectionReason, Retraction, RetractionOrder
from node.errors import NotDicom
from node.ledger.candidates import Search
from node.ledger.cards import CardName, job_card, read_card, read_name, retraction_card
from node.ledger.jobs import JobOutcome
from node.ledger.restoration import RestorationLedger, Tally
from node.ledger.retractions import RetractionLedger
from node.ledger.schema import events
from node.ledger.search import SearchLedger
from node.restoration import MARK, Remains, Restored, catch_up, prepare, restore
from node.store.files import FileStore, Reserve
from node.store.paths import card_path
from node.store.trash import Trash
from tests.ledgers import NOON, STUDY, Books, at, copy_ledger, make_facts, make_order, make_outcome, make_result
from tests.trails import make_trail

SR_STORAGE = "1.2.840.10008.5.1.4.1.1.88.34"


class Bench:
    """The ledger that will be lost, what lies beside it, and the new one."""

    def __init__(self, folder: Path) -> None:
        (folder / "old").mkdir()
        (folder / "new").mkdir()
        self.folder = folder
        self.old = Books(copy_ledger(folder / "old"))
        self.new = Books(copy_ledger(folder / "new"))
        self.store = FileStore(folder / "store", Reserve(reserve_bytes=0, reserve_percent=90))
        self.trail = make_trail(folder / "audit")

    def answer(self, *, fence: int | None = None, **order: object) -> tuple[Job, tuple[Result, ...]]:
        """Answer a Job with SEG, SR and a picture that nobody wished for, as a worker does."""
        job = self.old.claim(self.old.add_job(**order))
        if fence is not None:
            job = replace(job, fence=fence)
        results = (
            make_result(job, number=1),
            replace(make_result(job, kind=ResultKind.SR, number=2), sop_class_uid=SR_STORAGE),
            replace(
                make_result(job, kind=ResultKind.SC, number=3),
                sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
                is_substitute=True,
            ),
        )
        for result in results:
            self.store.put(result.path, b"bytes")
        self.file_card(job, make_outcome(*results))
        return job, results

    def file_card(self, job: Job, outcome: JobOutcome) -> None:
        self.store.put(card_path(STUDY, job.job_id, name=str(job.fence)), job_card(job, outcome, now=at(9)))

    def tell_sent(self, **sop_classes: int) -> None:
        """Add to the trail what a courier would."""
        subject = StudySubject(study_instance_uid=STUDY, patient_id="P1")
        movement = Movement(subject=subject, remote=Remote(name="pacs"), is_incoming=False)
        self.trail.append(transfer_ended(movement, sop_classes))

    def restore(self, *, instances: int = 0) -> Restored:
        def adopt() -> int:
            for number in range(1, instances + 1):
                self.new.instances.record_instance(make_facts(number))
            return instances

        return restore(RestorationLedger(self.new.engine), self.remains(adopt), self.folder / "new", now=at(100))

    def remains(self, adopt: Callable[[], int]) -> Remains:
        return Remains(
            store=self.store,
            trash=Trash(self.folder / "store"),
            records=read_records(self.folder / "audit"),
            destinations={"pacs": "pacs"},
            adopt=adopt,
        )

    def catch_up(self, books: Books) -> Tally:
        """Start a node on a ledger that is not lost."""
        return catch_up(RestorationLedger(books.engine), self.remains(lambda: 0), now=at(100)).answers

    def take_back(self, job: Job, *, ordered_at: datetime) -> Retraction:
        """File the card of a retraction."""
        order = RetractionOrder(reason=RejectionReason.PATIENT_SAFETY, comment="", struck=(), ordered_by="reader")
        retraction = Retraction(retraction_id=str(uuid4()), job_id=job.job_id, order=order, ordered_at=ordered_at)
        note = make_result(job, kind=ResultKind.REJECTION_NOTE, number=8)
        self.store.put(note.path, b"note")
        card = retraction_card(retraction, [note], now=ordered_at)
        self.store.put(card_path(STUDY, job.job_id, name=retraction.retraction_id), card)
        return retraction

    def deliveries(self) -> dict[str, tuple[DeliveryState, str | None]]:
        found = self.new.view.study_story(STUDY).deliveries
        return {one.sop_instance_uid: (one.state, one.reason_code) for one in found}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.old.close()
    made.new.close()


def test_an_answer_is_known_again_to_the_letter(bench: Bench) -> None:
    job, results = bench.answer()
    bench.restore(instances=1)
    found = bench.new.find(job)
    assert found.order == job.order
    assert (found.state.value, found.accepted_at, found.finished_at) == ("COMPLETED", job.accepted_at, at(9))
    assert found.findings == tuple(make_outcome().findings)
    assert {r.sop_instance_uid: r for r in bench.new.jobs.results_of(job.job_id)} == {
        r.sop_instance_uid: r for r in results
    }


def test_the_question_is_not_asked_again(bench: Bench) -> None:
    bench.answer()
    bench.restore(instances=1)
    bench.new.route(make_order())
    assert bench.new.only_job().state.value == "COMPLETED"


def test_what_the_trail_proves_is_sent_and_the_rest_goes_again(bench: Bench) -> None:
    _, (seg, sr, picture) = bench.answer()
    bench.tell_sent(**{seg.sop_class_uid: 1})
    restored = bench.restore()
    assert bench.deliveries() == {
        seg.sop_instance_uid: (DeliveryState.SENT, "restored"),
        sr.sop_instance_uid: (DeliveryState.PENDING, "restored"),
    }
    assert (restored.answers.sent, restored.answers.pending, restored.answers.results) == (1, 1, 3)
    assert picture.sop_instance_uid not in bench.deliveries()


def test_a_picture_that_went_instead_is_known(bench: Bench) -> None:
    _, (_, _, picture) = bench.answer()
    bench.tell_sent(**{picture.sop_class_uid: 1})
    bench.restore()
    assert bench.deliveries()[picture.sop_instance_uid] == (DeliveryState.SENT, "restored")


def test_what_was_taken_back_stays_back(bench: Bench) -> None:
    job, (seg, sr, picture) = bench.answer()
    bench.old.jobs.finish_job(job, make_outcome(seg, sr, picture), now=at(9))
    order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="reader")
    retraction = RetractionLedger(bench.old.engine).order_retraction(seg.sop_instance_uid, order, now=at(20))
    note = make_result(job, kind=ResultKind.REJECTION_NOTE, number=8)
    bench.store.put(note.path, b"note")
    card = retraction_card(retraction, [note], now=at(21))
    bench.store.put(card_path(STUDY, job.job_id, name=retraction.retraction_id), card)
    bench.restore()
    assert bench.deliveries() == {
        seg.sop_instance_uid: (DeliveryState.REFUSED, "retracted"),
        sr.sop_instance_uid: (DeliveryState.REFUSED, "retracted"),
        picture.sop_instance_uid: (DeliveryState.REFUSED, "retracted"),
        note.sop_instance_uid: (DeliveryState.PENDING, "restored"),
    }
    assert RetractionLedger(bench.new.engine).pending_retractions() == ()
    assert {r.retracted_at for r in bench.new.jobs.results_of(job.job_id)} == {at(20), None}
    (found,) = SearchLedger(bench.new.engine).find_studies(Search()).found
    assert (found.modalities, found.series) == (("KO",), 1)


def test_forwards_count_only_where_all_of_a_kind_went(bench: Bench) -> None:
    bench.tell_sent(**{make_facts().sop_class_uid: 2})
    assert bench.restore(instances=2).answers.forwarded == 2
    assert {state for state, _ in bench.deliveries().values()} == {DeliveryState.SENT}


def test_forwards_that_were_cut_short_go_again(bench: Bench) -> None:
    bench.tell_sent(**{make_facts().sop_class_uid: 2})
    assert bench.restore(instances=3).answers.forwarded == 0
    assert bench.deliveries() == {}


def test_of_two_workers_with_one_job_the_later_counts(bench: Bench) -> None:
    job, results = bench.answer(fence=2)
    late = replace(job, fence=1)
    bench.file_card(late, make_outcome(make_result(late, number=77)))
    bench.store.put("results/2.25.77.dcm", b"bytes")
    bench.restore()
    assert {r.sop_instance_uid for r in bench.new.jobs.results_of(job.job_id)} == {r.sop_instance_uid for r in results}


def test_an_attempt_that_was_cut_is_no_answer(bench: Bench) -> None:
    """Its Results did not all reach the store, so it was never COMPLETED either."""
    _, (_, sr, _) = bench.answer()
    bench.store.delete(sr.path)
    assert bench.restore(instances=1).answers.jobs == 0


def test_restoring_twice_is_restoring_once(bench: Bench) -> None:
    bench.answer()
    first = bench.restore(instances=1)
    again = bench.restore(instances=1)
    assert (first.answers.jobs, again.answers.jobs, again.answers.pending) == (1, 0, 0)
    assert len(bench.deliveries()) == 2


def test_trash_that_nobody_knows_comes_back(bench: Bench, tmp_path: Path) -> None:
    bench.store.put("instances/1.2/1.3/1.4.dcm", b"bytes")
    Trash(tmp_path / "store").throw("one", "instances/1.2")
    bench.restore()
    assert bench.store.exists("instances/1.2/1.3/1.4.dcm")
    assert Trash(tmp_path / "store").batches() == ()


def test_what_was_begun_is_begun_again_after_a_kill(bench: Bench, tmp_path: Path) -> None:
    ledger, folder = RestorationLedger(bench.new.engine), tmp_path / "new"
    assert prepare(ledger, folder)
    bench.new.instances.record_instance(make_facts())
    assert prepare(ledger, folder)
    bench.restore()
    assert not (folder / MARK).exists()
    assert not prepare(ledger, folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": 2}',
        b'{"format": 1, "job": [], "retraction": 1}',
        b'{"format": 1, "job": {"job_id": "job"}, "retraction": {}, "results": []}',
        b"\xff",
    ],
)
def test_a_file_that_is_no_card_is_told_and_left(bench: Bench, content: bytes) -> None:
    with pytest.raises(NotDicom):
        read_card(content)
    bench.store.put(card_path(STUDY, "job", name="1"), content)
    assert bench.restore().answers.jobs == 0


def test_a_study_whose_instances_are_gone_waits_for_them(bench: Bench) -> None:
    bench.answer()
    bench.restore()
    story = bench.new.view.study_story(STUDY)
    assert (story.state, story.first_instance_at) == ("PURGED", NOON)
    # Its Results can be retrieved, and so they are found.
    (found,) = SearchLedger(bench.new.engine).find_studies(Search(modalities=("SEG",))).found
    assert found.study_instance_uid == STUDY


def test_an_older_ledger_learns_of_an_answer_and_asks_it_no_second_time(bench: Bench) -> None:
    job, _ = bench.answer()
    bench.new.instances.record_instance(make_facts())
    tally = bench.catch_up(bench.new)
    assert (tally.jobs, tally.results, tally.pending) == (1, 3, 2)
    bench.new.route(make_order())
    assert bench.new.only_job().job_id == job.job_id
    assert {"job-restored", "ledger-was-older"} <= told(bench.new)
    assert bench.catch_up(bench.new) == Tally()


def test_a_ledger_that_knows_everything_reads_no_card(bench: Bench) -> None:
    job, results = bench.answer()
    bench.old.jobs.finish_job(job, make_outcome(*results), now=at(9))
    bench.store.put(card_path(STUDY, job.job_id, name=str(job.fence)), b"no card")
    assert bench.catch_up(bench.old) == Tally()
    assert "ledger-was-older" not in told(bench.old)


@pytest.mark.parametrize(("fence", "is_told"), [(1, False), (2, True)])
def test_a_job_that_had_answered_when_its_ledger_was_put_back_runs_no_second_time(
    bench: Bench, *, fence: int, is_told: bool
) -> None:
    """The copy was made while it ran, or before it ran again."""
    job, results = bench.answer(fence=fence)
    assert bench.catch_up(bench.old).jobs == 1
    assert bench.old.find(job).state is JobState.COMPLETED
    assert {r.sop_instance_uid for r in bench.old.jobs.results_of(job.job_id)} == {r.sop_instance_uid for r in results}
    assert bench.old.jobs.claim_job(job.job_id, owner="worker", lease_s=60, now=at(101)) is None
    assert ("ledger-was-older" in told(bench.old)) is is_told


def test_an_attempt_that_failed_is_no_answer_of_a_later_ledger(bench: Bench) -> None:
    job, _ = bench.answer()
    bench.old.jobs.give_back(job, reason=("stopped", "the worker was stopped"), now=at(10))
    assert bench.catch_up(bench.old) == Tally()
    assert bench.old.find(job).state is JobState.SCHEDULED


def test_a_retraction_that_an_older_ledger_does_not_know_takes_back_what_stands_there(bench: Bench) -> None:
    job, results = bench.answer()
    bench.old.jobs.finish_job(job, make_outcome(*results), now=at(9))
    bench.take_back(job, ordered_at=at(20))
    assert bench.catch_up(bench.old).retractions == 1
    found = {one.sop_instance_uid: one.state for one in bench.old.view.study_story(STUDY).deliveries}
    assert [found.pop(result.sop_instance_uid) for result in results[:2]] == [DeliveryState.REFUSED] * 2
    assert {r.retracted_at for r in bench.old.jobs.results_of(job.job_id)} == {at(20), None}
    assert RetractionLedger(bench.old.engine).pending_retractions() == ()
    assert {"retraction-restored", "ledger-was-older"} <= told(bench.old)
    assert bench.catch_up(bench.old) == Tally()


def test_what_is_known_to_be_sent_proves_nothing_of_another_answer(bench: Bench) -> None:
    """The trail counts objects of a kind: one that the older ledger sent itself is not one that came later."""
    job, results = bench.answer()
    bench.old.jobs.finish_job(job, make_outcome(*results), now=at(9))
    bench.tell_sent(**{results[0].sop_class_uid: 1})
    later = replace(job, job_id=JobID(str(uuid4())), order=replace(job.order, model_version="9"))
    newer = replace(make_result(later, number=21), sop_class_uid=results[0].sop_class_uid)
    bench.store.put(newer.path, b"bytes")
    bench.file_card(later, make_outcome(newer))
    assert bench.catch_up(bench.old).sent == 0
    found = {one.sop_instance_uid: one.state for one in bench.old.view.study_story(STUDY).deliveries}
    assert found[newer.sop_instance_uid] is DeliveryState.PENDING


def test_of_two_answers_to_one_question_the_one_heard_of_last_counts(bench: Bench) -> None:
    """So it is after an older copy was put back under a radnode that did not look at the cards."""
    job, results = bench.answer()
    first = replace(job, job_id=JobID(str(uuid4())))
    bench.take_back(first, ordered_at=at(5))
    bench.store.put(card_path(STUDY, first.job_id, name="1"), job_card(first, make_outcome(*results), now=at(4)))
    tally = bench.restore(instances=1).answers
    assert (tally.jobs, tally.set_aside) == (1, [first.job_id])
    assert bench.new.only_job().job_id == job.job_id
    assert {r.retracted_at for r in bench.new.jobs.results_of(job.job_id)} == {None}
    assert "answered-twice" in told(bench.new)
    assert bench.catch_up(bench.new) == Tally()


def test_an_answer_taken_back_after_another_one_counts_as_heard_of_last(bench: Bench) -> None:
    job, results = bench.answer()
    other = replace(job, job_id=JobID(str(uuid4())))
    bench.store.put(card_path(STUDY, other.job_id, name="1"), job_card(other, make_outcome(*results), now=at(12)))
    bench.take_back(job, ordered_at=at(20))
    assert bench.restore(instances=1).answers.set_aside == [other.job_id]
    assert {r.retracted_at for r in bench.new.jobs.results_of(job.job_id)} == {at(20), None}


def test_an_answer_that_the_ledger_knows_stays_beside_another_one(bench: Bench) -> None:
    job, results = bench.answer()
    bench.old.jobs.finish_job(job, make_outcome(*results), now=at(9))
    other = replace(job, job_id=JobID(str(uuid4())))
    bench.store.put(card_path(STUDY, other.job_id, name="1"), job_card(other, make_outcome(*results), now=at(12)))
    assert bench.catch_up(bench.old).set_aside == [other.job_id]
    assert bench.old.only_job().job_id == job.job_id
    assert bench.catch_up(bench.old) == Tally()


def test_a_question_that_waits_and_was_answered_under_another_job_is_answered(bench: Bench) -> None:
    job, _ = bench.answer()
    waiting = bench.new.add_job()
    assert bench.catch_up(bench.new).jobs == 1
    assert (bench.new.only_job().job_id, bench.new.only_job().state) == (job.job_id, JobState.COMPLETED)
    assert bench.new.jobs.claim_job(waiting.job_id, owner="worker", lease_s=60, now=at(101)) is None


def test_the_name_of_a_card_tells_what_it_is_about() -> None:
    job_id, retraction_id = "6b0f2a4e-0000-4000-8000-123456789012", "0a1b2c3d-0000-4000-8000-00000000000f"
    assert read_name(f"{job_id}-12") == CardName(job_id=job_id, fence=12, retraction_id="")
    found = CardName(job_id=job_id, fence=None, retraction_id=retraction_id)
    assert read_name(f"{job_id}-{retraction_id}") == found
    assert read_name(job_id) is None


def told(books: Books) -> set[str]:
    """Return the kinds of all Events, of Studies and of the node."""
    with books.engine.connect() as connection:
        return set(connection.execute(select(events.c.kind)).scalars())
