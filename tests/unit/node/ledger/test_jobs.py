"""What dispatch and workers commit: claims under a fence, leases, attempts, and exactly one end."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from node.domain.job import Job, JobState, Priority
from node.domain.result import DeliveryState, ResultKind
from node.errors import LeaseLost
from node.ledger.jobs import RetryPolicy
from tests.ledgers import (
    NOON,
    STUDY,
    Books,
    at,
    copy_ledger,
    make_facts,
    make_order,
    make_outcome,
    make_result,
    unknown_job,
)

POLICY = RetryPolicy(max_attempts=3, pause_s=5.0)


def test_a_pause_doubles_and_attempts_end() -> None:
    assert [POLICY.next_start(n, NOON) for n in (1, 2, 3)] == [at(5), at(10), None]


def test_a_claimed_job_is_in_progress_under_a_new_fence(books: Books) -> None:
    job = books.claim(books.add_job(), owner="host:1")
    assert (job.state, job.attempts, job.fence, job.lease_owner) == (JobState.IN_PROGRESS, 1, 1, "host:1")
    assert job.lease_expires_at == at(60)
    assert books.find(job) == job


def test_a_job_in_progress_is_not_to_be_had(books: Books) -> None:
    job = books.claim(books.add_job())
    assert books.jobs.claim_job(job.job_id, owner="other", lease_s=60.0, now=at(999)) is None
    assert books.find(job) == job


def test_an_unknown_job_is_not_to_be_had(books: Books) -> None:
    assert books.jobs.claim_job(unknown_job(), owner="w", lease_s=60.0, now=NOON) is None


def test_of_workers_that_claim_at_once_exactly_one_wins(tmp_path: Path) -> None:
    url = copy_ledger(tmp_path)
    workers = [Books(url) for _ in range(4)]
    job = workers[0].add_job()
    together = threading.Barrier(len(workers))
    claims: list[Job | None] = []

    def claim(number: int, books: Books) -> None:
        together.wait()
        claims.append(books.jobs.claim_job(job.job_id, owner=f"w{number}", lease_s=60.0, now=NOON))

    threads = [threading.Thread(target=claim, args=pair) for pair in enumerate(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [one for one in claims if one is not None]
    assert workers[0].find(job).lease_owner == won.lease_owner
    assert workers[0].find(job).attempts == 1
    for books in workers:
        books.close()


def test_a_renewed_lease_is_not_reaped(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.renew_lease(job, lease_s=60.0, now=at(50))
    assert books.jobs.reap_expired(at(109), POLICY) == ()
    assert books.jobs.reap_expired(at(110), POLICY) == (job.job_id,)


def test_an_expired_lease_schedules_the_job_again_after_a_pause(books: Books) -> None:
    job = books.claim(books.add_job(), owner="host:7")
    books.jobs.reap_expired(at(60), POLICY)
    again = books.find(job)
    assert (again.state, again.not_before, again.reason_code) == (JobState.SCHEDULED, at(65), "worker-lost")
    assert (again.lease_owner, again.lease_expires_at) == (None, None)
    assert "host:7" in (again.reason_text or "")
    assert books.jobs.claim_job(job.job_id, owner="w", lease_s=60.0, now=at(64)) is None
    assert books.claim(job, now=at(65)).attempts == 2


def test_a_job_that_kills_every_worker_is_canceled_after_three_attempts(books: Books) -> None:
    job = books.add_job()
    now = 0.0
    for _ in range(3):
        books.claim(job, now=at(now))
        books.jobs.reap_expired(at(now + 60), POLICY)
        now += 100
    end = books.find(job)
    assert (end.state, end.reason_code, end.attempts) == (JobState.CANCELED, "worker-lost", 3)
    assert "3 attempts are used up" in (end.reason_text or "")
    assert books.jobs.next_job_event_at() is None


def test_a_worker_that_was_fenced_out_writes_nothing(books: Books) -> None:
    slow = books.claim(books.add_job(), owner="slow")
    books.jobs.reap_expired(at(60), POLICY)
    fast = books.claim(slow, now=at(65), owner="fast")
    attempts: tuple[Callable[[], None], ...] = (
        lambda: books.jobs.finish_job(slow, make_outcome(make_result(slow)), now=at(66)),
        lambda: books.jobs.refuse_job(slow, reason_code="slice-missing", reason_text="a gap", now=at(66)),
        lambda: books.jobs.fail_attempt(slow, POLICY, reason=("broken", "x"), now=at(66)),
        lambda: books.jobs.renew_lease(slow, lease_s=60.0, now=at(66)),
    )
    for attempt in attempts:
        with pytest.raises(LeaseLost, match=slow.job_id):
            attempt()
    assert books.find(slow) == fast
    assert books.jobs.results_of(slow.job_id) == ()
    assert books.deliveries.due_deliveries("pacs", at(99), 10) == ()
    books.jobs.finish_job(fast, make_outcome(make_result(fast)), now=at(67))
    assert books.find(fast).state is JobState.COMPLETED


def test_finishing_commits_findings_results_and_deliveries(books: Books) -> None:
    job = books.claim(books.add_job(deliver_to=("pacs", "archive")))
    results = (make_result(job, number=1), make_result(job, kind=ResultKind.SR, number=2))
    books.jobs.finish_job(job, make_outcome(*results), now=at(9))
    end = books.find(job)
    assert (end.state, end.finished_at, end.model_sha256) == (JobState.COMPLETED, at(9), "weights")
    assert (end.findings, end.seconds) == (tuple(make_outcome().findings), make_outcome().seconds)
    assert books.jobs.results_of(job.job_id) == results
    for destination in ("pacs", "archive"):
        due = books.deliveries.due_deliveries(destination, at(9), 10)
        assert [(d.sop_instance_uid, d.state, d.path) for d in due] == [
            (r.sop_instance_uid, DeliveryState.PENDING, r.path) for r in results
        ]
    assert books.kinds()[-1] == "job-completed"


def test_a_finish_that_breaks_half_way_leaves_the_job_in_progress(books: Books) -> None:
    job = books.claim(books.add_job())
    twice = make_result(job)
    with pytest.raises(IntegrityError):
        books.jobs.finish_job(job, make_outcome(twice, twice), now=at(9))
    assert books.find(job) == job
    assert books.jobs.results_of(job.job_id) == ()


def test_a_success_forgets_why_an_earlier_attempt_failed(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.fail_attempt(job, POLICY, reason=("store-full", "the store is full"), now=at(1))
    job = books.claim(job, now=at(6))
    books.jobs.finish_job(job, make_outcome(), now=at(7))
    assert (books.find(job).reason_code, books.find(job).reason_text) == (None, None)


def test_a_refused_job_is_canceled_with_its_code(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.refuse_job(job, reason_code="slice-missing", reason_text="2 gaps of 5.0 mm", now=at(1))
    end = books.find(job)
    assert (end.state, end.reason_code, end.reason_text) == (JobState.CANCELED, "slice-missing", "2 gaps of 5.0 mm")
    assert books.jobs.claim_job(job.job_id, owner="w", lease_s=60.0, now=at(99)) is None


def test_bells_ring_for_the_urgent_then_the_oldest(books: Books) -> None:
    wanted = []
    for number, (priority, second) in enumerate(
        [(Priority.ROUTINE, 1), (Priority.LOW, 0), (Priority.STAT, 3), (Priority.STAT, 2), (Priority.HIGH, 1)]
    ):
        study = f"1.2.{number}"
        books.instances.record_instance(make_facts(study=study))
        order = make_order(study=study, priority=priority)
        books.route(order, study=order.study_instance_uid, now=at(second))
        wanted.append((priority, second, books.only_job(study=order.study_instance_uid).job_id))
    bells = books.jobs.bells_to_ring(at(9), rung_before=at(9))
    assert [bell.job_id for bell in bells] == [job_id for *_, job_id in sorted(wanted)]
    assert books.jobs.next_scheduled(at(9)) == bells[0].job_id


def test_a_job_that_was_rung_is_rung_again_only_when_that_was_long_ago(books: Books) -> None:
    job = books.add_job()
    books.jobs.record_rung([job.job_id], at(1))
    assert books.jobs.bells_to_ring(at(9), rung_before=at(1)) == ()
    assert [bell.job_id for bell in books.jobs.bells_to_ring(at(9), rung_before=at(2))] == [job.job_id]


def test_a_job_in_its_pause_is_not_rung(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.fail_attempt(job, POLICY, reason=("store-full", "full"), now=at(10))
    assert books.jobs.bells_to_ring(at(14), rung_before=at(14)) == ()
    assert books.jobs.next_job_event_at() == at(15)
    assert len(books.jobs.bells_to_ring(at(15), rung_before=at(15))) == 1


def test_a_job_that_failed_while_its_bell_was_noted_is_rung_again(books: Books) -> None:
    """Rung, claimed and failed before the ring was recorded: its message is used up."""
    job = books.claim(books.add_job(), now=at(1))
    books.jobs.fail_attempt(job, POLICY, reason=("store-full", "full"), now=at(2))
    books.jobs.record_rung([job.job_id], at(0))
    assert books.jobs.next_job_event_at() == at(7)
    assert len(books.jobs.bells_to_ring(at(7), rung_before=at(-600))) == 1


def test_a_message_that_came_too_early_is_rung_again(books: Books) -> None:
    """The worker's clock may be a little behind the node's."""
    job = books.add_job()
    books.jobs.record_rung([job.job_id], NOON)
    assert books.jobs.claim_job(job.job_id, owner="w", lease_s=60.0, now=at(-0.02)) is None
    assert len(books.jobs.bells_to_ring(at(1), rung_before=at(-600))) == 1


def test_the_next_event_is_the_first_pause_or_lease_to_end(books: Books) -> None:
    assert books.jobs.next_job_event_at() is None
    job = books.add_job()
    assert books.jobs.next_job_event_at() == NOON
    books.claim(job)
    assert books.jobs.next_job_event_at() == at(60)


def test_inputs_are_those_that_the_ledger_knows_now(books: Books) -> None:
    job = books.add_job()
    books.instances.record_instance(make_facts(2, received_at=at(1)))
    uids = [facts.sop_instance_uid for facts in books.jobs.input_instances(job)["ct"]]
    assert sorted(uids) == [f"{STUDY}.1.1", f"{STUDY}.1.2"]


def test_a_job_that_is_given_back_waits_with_the_attempt_that_it_had(books: Books) -> None:
    job = books.claim(books.add_job())
    books.jobs.give_back(job, reason=("worker-ended", "told to end"), now=at(5), pause_s=7.0)
    end = books.find(job)
    assert (end.state, end.attempts, end.not_before, end.lease_owner) == (JobState.SCHEDULED, 0, at(12), None)
    assert (end.reason_code, books.kinds()[-1]) == ("worker-ended", "job-given-back")
    with pytest.raises(LeaseLost):
        books.jobs.give_back(job, reason=("worker-ended", ""), now=at(6))
    with pytest.raises(LeaseLost):
        books.jobs.finish_job(job, make_outcome(), now=at(6))


def test_what_a_worker_holds_is_found_by_the_beginning_of_its_name(books: Books) -> None:
    job = books.claim(books.add_job(), owner="host:a_%:17")
    assert books.jobs.held_by("host:a_%") == (job,)
    for other in ("host:aXY", "host:b", "ost:a_%"):
        assert books.jobs.held_by(other) == ()
    books.jobs.fail_attempt(job, POLICY, reason=("worker-lost", "died"), now=at(1))
    assert books.jobs.held_by("host:a_%") == ()


def test_a_message_that_was_lost_with_its_worker_is_rung_again(books: Books) -> None:
    job = books.add_job()
    books.jobs.record_rung([job.job_id], NOON)
    books.jobs.forget_rung(job.job_id)
    assert [bell.job_id for bell in books.jobs.bells_to_ring(at(1), rung_before=at(-600))] == [job.job_id]


def test_what_a_job_waited_for_others_makes_its_pipeline_no_longer(books: Books) -> None:
    job = books.claim(books.add_job())
    spent = {"prepare": 1.0, "infer.turn": 50.0, "infer.network": 2.0}
    books.jobs.finish_job(job, replace(make_outcome(make_result(job)), seconds=spent), now=at(1))
    assert books.jobs.usual_seconds([job.order.pipeline, "never"]) == {job.order.pipeline: 3.0}
