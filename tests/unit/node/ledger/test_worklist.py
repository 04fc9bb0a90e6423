"""The worklist: its rows follow whatever happens to Studies, and its pages hold what is asked, in order."""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import delete, select

from node.domain.decision import Outcome
from node.domain.forward import Forward
from node.domain.job import Job, JobID, JobState, Priority
from node.domain.result import Delivery, DeliveryState
from node.domain.retention import KeepUntil, Proof, PurgeOrder
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.switch import Mode, Switch
from node.domain.uids import SeriesUID, StudyUID
from node.errors import NodeError
from node.ledger.cards import job_card, read_card
from node.ledger.commitments import CommitmentLedger
from node.ledger.engine import Desk, migrate
from node.ledger.jobs import JobOutcome, RetryPolicy
from node.ledger.placement import begin_placing, derive_places, has_unplaced, place_some, words_of
from node.ledger.restoration import Evidence, RestorationLedger
from node.ledger.retention import RetentionLedger
from node.ledger.retractions import RetractionLedger
from node.ledger.schema import studies, worklist, worklist_words
from node.ledger.switches import SwitchLedger
from node.ledger.worklist import Limits, Listing, Mark, Show, Wanted, WorklistLedger
from tests.ledgers import Books, at, make_decision, make_facts, make_order, make_outcome, make_result

STEPS = 150
NAMES = ("Smith^John", "Smythe^Anna", "Müller^Jörg", "", "山田^太郎", "O'Neil^Pat")
Step = Callable[["Walk"], None]


def derived(books: Books) -> Mapping[str, dict[str, Any]]:
    """Return what the worklist should hold, from scratch."""
    with Desk(books.engine).reading() as connection:
        return derive_places(connection, connection.execute(select(studies.c.study_instance_uid)).scalars().all())


def kept(books: Books) -> tuple[Mapping[str, dict[str, Any]], set[tuple[str, str]]]:
    """Return what the worklist holds, and its words with the Study of each."""
    with Desk(books.engine).reading() as connection:
        rows = [dict(row) for row in connection.execute(select(worklist)).mappings()]
        uids = {row.pop("place_id"): row["study_instance_uid"] for row in rows}
        words = connection.execute(select(worklist_words.c.word, worklist_words.c.place_id)).all()
        # A word of a Study that is gone would have no UID here.
        return {row["study_instance_uid"]: row for row in rows}, {(word, uids[place]) for word, place in words}


def require_right(books: Books) -> None:
    """Fail unless every row is what is derived from scratch."""
    expected = derived(books)
    rows, words = kept(books)
    assert rows == expected
    assert words == {(word, uid) for uid, row in expected.items() for word in row["words"].split()}


@dataclass
class Walk:
    """A ledger to which things happen at random."""

    books: Books
    chance: random.Random
    minute: int = 0

    @property
    def now(self) -> datetime:
        """Later each time."""
        self.minute += 1
        return at(60 * self.minute)

    @property
    def uid(self) -> StudyUID:
        """One of a few Studies."""
        return StudyUID(f"1.2.{self.chance.randrange(4)}")

    def receive(self) -> None:
        attributes = {"PatientName": self.chance.choice(NAMES), "PatientID": f"P-{self.chance.randrange(3)}"}
        facts = make_facts(
            self.chance.randrange(3),
            study=self.uid,
            series=self.chance.randrange(1, 3),
            Modality=self.chance.choice(("CT", "PT", "SR")),
            digest=str(self.chance.randrange(3)),
            received_at=self.now,
            **attributes,
        )
        self.books.instances.record_instance(facts)

    def settle(self) -> None:
        self.books.settle(study=self.uid, now=self.now)

    def route(self) -> None:
        uid = self.uid
        facts = self.books.studies.study_facts(uid)
        orders = [
            make_order(
                study=uid,
                pipeline=self.chance.choice(("lung", "brain")),
                numbers=(self.chance.randrange(3),),
                priority=self.chance.choice(list(Priority)),
            )
            for _ in range(self.chance.randrange(3))
        ]
        if self.chance.random() < 0.3:
            orders = [replace(one, is_shadow=True) for one in orders]
        decision = replace(make_decision(outcome=self.chance.choice(list(Outcome))), study_instance_uid=uid)
        forwards = [Forward(destination="archive", series_instance_uids=(SeriesUID(f"{uid}.1"),))]
        self.books.studies.record_routing(
            facts,
            decisions=[decision],
            orders=orders,
            forwards=forwards[: self.chance.randrange(2)],
            now=self.now,
        )

    def _job(self, *states: JobState) -> Job:
        found = [job for job in self.books.view.list_jobs(state=None, limit=100) if job.state in states]
        return self.chance.choice(found)

    def claim(self) -> None:
        self.books.jobs.claim_job(self._job(JobState.SCHEDULED).job_id, owner="me", lease_s=60.0, now=self.now)

    def finish(self) -> None:
        job = self._job(JobState.IN_PROGRESS)
        number = self.minute
        outcome = make_outcome(*(make_result(job, number=10 * number + extra) for extra in range(2)))
        if self.chance.random() < 0.4:
            none = JobOutcome(findings=[], seconds={}, model_sha256="w", results=outcome.results)
            outcome = none
        self.books.jobs.finish_job(job, outcome, now=self.now)

    def fail(self) -> None:
        policy = RetryPolicy(max_attempts=2, pause_s=0.0)
        self.books.jobs.fail_attempt(self._job(JobState.IN_PROGRESS), policy, reason=("broken", "why"), now=self.now)

    def refuse_job(self) -> None:
        job = self._job(JobState.IN_PROGRESS)
        self.books.jobs.refuse_job(job, reason_code="slice-missing", reason_text="why", now=self.now)

    def cancel(self) -> None:
        self.books.interventions.cancel_job(self._job(*JobState).job_id, ordered_by="me", now=self.now)

    def retry_job(self) -> None:
        self.books.interventions.retry_job(self._job(*JobState).job_id, ordered_by="me", now=self.now)

    def give_back(self) -> None:
        self.books.jobs.give_back(self._job(JobState.IN_PROGRESS), reason=("model-changed", "why"), now=self.now)

    def reap(self) -> None:
        self.books.jobs.reap_expired(at(60 * self.minute + 61), RetryPolicy(max_attempts=2, pause_s=0.0))

    def reprocess(self) -> None:
        self.books.interventions.reprocess(self.uid, ordered_by="me", now=self.now)

    def switch(self) -> None:
        name, mode = self.chance.choice(("lung", "brain")), self.chance.choice(list(Mode))
        wanted = Switch(pipeline=name, mode=mode, changed_by="me", changed_at=self.now, reason="")
        SwitchLedger(self.books.engine).switch_pipeline(wanted)

    def restore(self) -> None:
        """Let a card tell of a Job that the ledger does not know."""
        known = self._job(*JobState)
        order = replace(known.order, content=f"restored {self.minute}")
        job = replace(known, job_id=JobID(str(uuid4())), order=order, supersedes=None)
        card = read_card(job_card(job, make_outcome(make_result(job, number=10 * self.minute + 5)), now=self.now))
        RestorationLedger(self.books.engine).restore_answers([card], Evidence({}), now=self.now)

    def _delivery(self, state: DeliveryState | None = DeliveryState.PENDING) -> Delivery:
        return self.chance.choice(self.books.view.list_deliveries(destination=None, state=state, limit=50))

    def answer_late(self) -> None:
        """Let a Destination have taken what was given up, or lost, meanwhile."""
        state = self.chance.choice((DeliveryState.REFUSED, DeliveryState.LOST))
        self.books.deliveries.record_sent(self._delivery(state), now=self.now, reason_code=None, reason_text=None)

    def lose(self) -> None:
        lost = self._delivery(DeliveryState.SENT)
        CommitmentLedger(self.books.engine).record_missing([lost.delivery_id], by="C-FIND", now=self.now)

    def follow_losses(self) -> None:
        for name in ("pacs", "archive"):
            tries = self.chance.randrange(2)
            CommitmentLedger(self.books.engine).follow_losses(name, tries=tries, now=self.now)

    def send(self) -> None:
        self.books.deliveries.record_sent(self._delivery(), now=self.now, reason_code=None, reason_text=None)

    def refuse(self) -> None:
        code = self.chance.choice(("destination-refused", "gave-up"))
        self.books.deliveries.record_refused(self._delivery(), now=self.now, reason_code=code, reason_text="why")

    def retry_deliveries(self) -> None:
        self.books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=self.now)

    def dismiss(self) -> None:
        self.books.deliveries.dismiss_deliveries(destination=None, study=self.uid, ordered_by="me", now=self.now)

    def retract(self) -> None:
        line = self.chance.choice(self.books.view.list_results(study=None, limit=50))
        struck = self.chance.choice(((), ("Nodule 1",)))
        order = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=struck, ordered_by="me")
        RetractionLedger(self.books.engine).order_retraction(line.result.sop_instance_uid, order, now=self.now)

    def purge(self) -> None:
        ledger = RetentionLedger(self.books.engine)
        order = PurgeOrder(
            study_instance_uid=self.uid, with_results=self.chance.random() < 0.5, reason="r", ordered_by="me",
            is_forced=True,
        )  # fmt: skip
        purge = ledger.begin_purge(order, Proof(keep_until=KeepUntil.FINISHED, confirming=frozenset()), now=self.now)
        (ledger.finish_purge if self.chance.random() < 0.7 else ledger.undo_purge)(purge, now=self.now)


STEPS_BY_WEIGHT: Sequence[tuple[Step, int]] = (
    (Walk.receive, 6), (Walk.settle, 6), (Walk.route, 8), (Walk.claim, 5), (Walk.finish, 5), (Walk.fail, 2),
    (Walk.refuse_job, 1), (Walk.cancel, 1), (Walk.retry_job, 2), (Walk.send, 4), (Walk.refuse, 4),
    (Walk.retry_deliveries, 3), (Walk.dismiss, 1), (Walk.retract, 2), (Walk.purge, 2), (Walk.give_back, 1),
    (Walk.reap, 1), (Walk.reprocess, 2), (Walk.switch, 2), (Walk.restore, 1), (Walk.answer_late, 3), (Walk.lose, 3),
    (Walk.follow_losses, 2),
)  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_are_what_is_derived_from_scratch_whatever_happens(books: Books, seed: int) -> None:
    walk = Walk(books=books, chance=random.Random(seed))
    steps, weights = zip(*STEPS_BY_WEIGHT, strict=True)
    done = 0
    for _ in range(STEPS):
        # Much is asked that cannot be, such as to finish a Job when none runs.
        with suppress(NodeError, IndexError):
            walk.chance.choices(steps, weights)[0](walk)
            done += 1
        require_right(books)
    assert done > STEPS // 4


def add(books: Books, number: int, *, modality: str = "CT", minutes: float = 0.0, **attributes: Any) -> str:
    """Take in a Study ``1.2.<number>``, so many minutes ago; return its UID."""
    uid = f"1.2.{number}"
    moment = at(-60 * minutes)
    books.instances.record_instance(make_facts(study=uid, received_at=moment, Modality=modality, **attributes))
    return uid


def page(
    books: Books, wanted: Wanted, *, after: Mark | None = None, limit: int = 100, limits: Limits | None = None
) -> Listing:
    """Return a page."""
    return WorklistLedger(books.engine, limits=limits).read_sheet(wanted, after=after, limit=limit).listing


def uids(listing: Listing) -> list[str]:
    """Return the Studies of a page."""
    return [place.study_instance_uid for place in listing.places]


def order(books: Books, uid: str, priority: Priority) -> Job:
    """Order a Job on a Study."""
    books.route(make_order(study=uid, priority=priority), study=StudyUID(uid))
    return books.only_job(study=StudyUID(uid))


def test_urgent_studies_come_first_and_young_ones_before_old_ones(books: Books) -> None:
    for number, (modality, minutes) in enumerate((("CT", 1), ("MR", 9), ("CT", 5), ("MR", 3))):
        add(books, number, modality=modality, minutes=minutes)
    order(books, "1.2.1", Priority.STAT)
    order(books, "1.2.3", Priority.HIGH)
    order(books, "1.2.0", Priority.LOW)
    assert uids(page(books, Wanted())) == ["1.2.1", "1.2.3", "1.2.2", "1.2.0"]


def test_pages_put_together_are_the_list_also_of_studies_of_one_moment(books: Books) -> None:
    chance = random.Random(7)
    for number in range(40):
        add(books, number, modality=chance.choice(("CT", "MR", "US")), minutes=chance.randrange(4), PatientName="A^B")
    for number in range(0, 40, 3):
        order(books, f"1.2.{number}", chance.choice(list(Priority)))
    for words in ("", "b"):
        wanted = Wanted(words=words)
        whole, found, after = uids(page(books, wanted)), [], None
        while True:
            listing = page(books, wanted, after=after, limit=7)
            found += uids(listing)
            if not listing.has_more:
                break
            after = listing.places[-1].mark
        assert (len(whole), found) == (40, whole)


def test_filters_leave_what_they_say(books: Books) -> None:
    for number, modality in enumerate(("CT", "MR", "CT", "CT")):
        add(books, number, modality=modality, minutes=number)
    add(books, 1, modality="PT", series=2, minutes=1)
    seen = books.claim(order(books, "1.2.0", Priority.ROUTINE))
    books.jobs.finish_job(seen, make_outcome(make_result(seen)), now=at(1))
    failed = books.claim(order(books, "1.2.1", Priority.ROUTINE))
    books.jobs.refuse_job(failed, reason_code="slice-missing", reason_text="why", now=at(1))
    books.route(study=StudyUID("1.2.2"))
    shown = {show: uids(page(books, Wanted(show=show))) for show in Show}
    assert shown == {
        Show.ALL: ["1.2.0", "1.2.1", "1.2.2", "1.2.3"],
        Show.FINDINGS: ["1.2.0"],
        Show.PERSON: ["1.2.1"],
        Show.UNMATCHED: ["1.2.2"],
    }
    assert uids(page(books, Wanted(modalities=("PT",)))) == ["1.2.1"]
    assert uids(page(books, Wanted(modalities=("CT",), since=at(-125)))) == ["1.2.0", "1.2.2"]
    sheet = WorklistLedger(books.engine).read_sheet(Wanted(modalities=("CT",)), after=None, limit=1)
    assert sheet.counts == {Show.ALL: 3, Show.FINDINGS: 1, Show.PERSON: 0, Show.UNMATCHED: 1}
    assert (sheet.tallies[Priority.ROUTINE].count, sheet.tallies[Priority.ROUTINE].oldest_pending_at) == (3, at(-180))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("smi", ["1.2.0"]),
        ("JOHN Smith", ["1.2.0"]),
        ("Smith, John", ["1.2.0"]),
        ("muller", ["1.2.1"]),
        ("MÜL jör", ["1.2.1"]),
        ("ohn", []),
        ("p-77", ["1.2.1"]),
        ("A100", ["1.2.0", "1.2.1"]),
        ("a100 smith", ["1.2.0"]),
        ("1.2.1", ["1.2.1"]),
        ("1.2.0.1", ["1.2.0"]),
        ("%", []),
        ("smith nobody", []),
    ],
)
def test_each_word_begins_a_word_of_name_id_or_accession_number(books: Books, words: str, found: list[str]) -> None:
    add(books, 0, PatientName="Smith^John", PatientID="P-1", AccessionNumber="A1001")
    add(books, 1, minutes=1, PatientName="Müller^Jörg", PatientID="P-77", AccessionNumber="A1002")
    assert uids(page(books, Wanted(words=words))) == found
    assert uids(page(books, Wanted(words=words, since=at(-61), modalities=("CT",)))) == found
    assert not uids(page(books, Wanted(words=words, since=at(1))))
    assert not uids(page(books, Wanted(words=words, show=Show.FINDINGS)))


def test_common_words_are_found_by_a_walk_in_the_same_order(books: Books) -> None:
    for number in range(30):
        add(books, number, minutes=number, PatientName=f"Smith^{'John' if number % 3 else 'Anna'}")
    wanted = Wanted(words="smith anna")
    few = uids(page(books, wanted))
    walked = page(books, wanted, limits=Limits(few=5))
    assert uids(walked) == few == [f"1.2.{number}" for number in range(0, 30, 3)]
    bounded = page(books, wanted, limits=Limits(few=5, passed_over=4))
    assert (bounded.is_bounded, uids(bounded)) == (True, few[:2])


def test_what_an_earlier_version_wrote_is_placed(books: Books) -> None:
    for number in range(5):
        add(books, number, PatientName="Smith^John")
    with books.engine.begin() as connection:
        for table in (worklist, worklist_words):
            connection.execute(delete(table))
        begin_placing(connection)
    migrate(books.engine)
    require_right(books)
    assert len(uids(page(books, Wanted(words="smith")))) == 5


def test_studies_are_placed_in_groups_and_what_is_left_by_whoever_opens_the_ledger_next(books: Books) -> None:
    for number in range(3):
        add(books, number)
    with books.engine.begin() as connection:
        for table in (worklist, worklist_words):
            connection.execute(delete(table))
        begin_placing(connection)
    # A process placed a group and ended; another writes before the rest is placed.
    add(books, 1, series=2, minutes=-1)
    with Desk(books.engine).writing() as connection:
        assert place_some(connection)
        assert has_unplaced(connection)
    migrate(books.engine)
    require_right(books)
    with Desk(books.engine).reading() as connection:
        assert not has_unplaced(connection)


def test_counts_end_where_nobody_reads_on(books: Books) -> None:
    for number in range(4):
        add(books, number)
    sheet = WorklistLedger(books.engine, limits=Limits(counted=2)).read_sheet(Wanted(), after=None, limit=1)
    assert sheet.counts[Show.ALL] == 3


def test_counts_go_over_mixtures_and_priorities(books: Books) -> None:
    for number, modality in enumerate(("CT", "CT", "MR", "US", "MR")):
        add(books, number, modality=modality)
    ledger = WorklistLedger(books.engine, limits=Limits(counted=3))
    counted = [
        ledger.read_sheet(Wanted(modalities=asked), after=None, limit=1).counts[Show.ALL]
        for asked in ((), ("CT",), ("CT", "US"), ("NM",))
    ]
    assert counted == [4, 2, 3, 0]


def test_words_of_a_study_are_few_and_short() -> None:
    keys = {"patient_name": "^" + "x" * 300, "patient_id": " ".join(map(str, range(90))), "accession_number": ""}
    found = words_of(keys)
    assert (len(found), len(found[0])) == (24, 64)


def test_who_sends_again_what_was_refused_is_needed_no_more(books: Books) -> None:
    """No Event tells of it."""
    add(books, 1)
    job = books.claim(order(books, "1.2.1", Priority.ROUTINE))
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    (delivery,) = books.view.list_deliveries(destination=None, state=None, limit=9)
    books.deliveries.record_refused(delivery, now=at(2), reason_code="gave-up", reason_text="why")
    assert uids(page(books, Wanted(show=Show.PERSON))) == ["1.2.1"]
    books.deliveries.retry_deliveries(destination=None, ordered_by="kim", now=at(3))
    assert uids(page(books, Wanted(show=Show.PERSON))) == []


def test_what_is_sent_again_after_a_loss_or_was_taken_after_all_needs_nobody(books: Books) -> None:
    add(books, 1)
    job = books.claim(order(books, "1.2.1", Priority.ROUTINE))
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    commitments = CommitmentLedger(books.engine)
    (delivery,) = books.view.list_deliveries(destination=None, state=None, limit=9)
    books.deliveries.record_sent(delivery, now=at(2), reason_code=None, reason_text=None)
    commitments.record_missing([delivery.delivery_id], by="C-FIND", now=at(3))
    assert uids(page(books, Wanted(show=Show.PERSON))) == ["1.2.1"]
    commitments.follow_losses("pacs", tries=1, now=at(4))
    assert uids(page(books, Wanted(show=Show.PERSON))) == []
    (again,) = books.view.list_deliveries(destination=None, state=DeliveryState.PENDING, limit=9)
    books.deliveries.record_refused(again, now=at(5), reason_code="gave-up", reason_text="why")
    assert uids(page(books, Wanted(show=Show.PERSON))) == ["1.2.1"]
    (refused,) = books.view.list_deliveries(destination=None, state=DeliveryState.REFUSED, limit=9)
    books.deliveries.record_sent(refused, now=at(6), reason_code=None, reason_text=None)
    assert uids(page(books, Wanted(show=Show.PERSON))) == []
