"""Whoever waits or works notices nothing when the clock is set."""

from datetime import datetime, timedelta

import pytest

from node.domain.completeness import Evidence, Terms
from node.domain.job import JobState
from node.ledger.jobs import RetryPolicy
from node.ledger.leaps import LeapLedger
from tests.ledgers import NOON, Books, assemble, at, make_facts

QUIET = Terms(
    heeded=frozenset({Evidence.ASSOCIATION_END, Evidence.QUIET_TIME}), after_association_s=3.0, while_open_s=60.0
)
LEASE_S = 60.0
RETRY = RetryPolicy(max_attempts=3, pause_s=5.0)
HOUR_S = 3600.0
leaps = pytest.mark.parametrize("leap_s", [HOUR_S, -HOUR_S])


def follow(books: Books, leap_s: float, now: datetime) -> None:
    LeapLedger(books.engine).follow_clock(timedelta(seconds=leap_s), now=now, lease_s=LEASE_S)


def settled(books: Books, now: datetime) -> bool:
    assemble(books, QUIET).tick(now)
    return not books.studies.open_series()


@leaps
@pytest.mark.parametrize(("has_ended", "quiet_s"), [(False, 60.0), (True, 3.0)])
def test_a_series_settles_after_its_quiet_time(books: Books, leap_s: float, has_ended: bool, quiet_s: float) -> None:
    books.instances.record_instance(make_facts())
    if has_ended:
        books.instances.end_association("a1", NOON)
    follow(books, leap_s, at(leap_s + 1.0))
    assert not settled(books, at(leap_s + quiet_s - 0.5))
    # A leap back lets the quiet time begin anew.
    assert settled(books, at(leap_s + quiet_s + 1.0))


@leaps
def test_a_series_that_grew_by_the_new_clock_settles_after_its_quiet_time(books: Books, leap_s: float) -> None:
    books.instances.record_instance(make_facts(received_at=at(leap_s + 0.5)))
    follow(books, leap_s, at(leap_s + 1.0))
    assert not settled(books, at(leap_s + 60.0))
    assert settled(books, at(leap_s + 61.0))


@leaps
def test_a_worker_keeps_its_lease_and_a_dead_one_loses_it(books: Books, leap_s: float) -> None:
    job = books.claim(books.add_job())
    follow(books, leap_s, at(leap_s + 10.0))
    assert not books.jobs.reap_expired(at(leap_s + 59.0), RETRY)
    books.jobs.renew_lease(job, lease_s=LEASE_S, now=at(leap_s + 59.0))
    assert not books.jobs.reap_expired(at(leap_s + 118.0), RETRY)
    assert books.jobs.reap_expired(at(leap_s + 119.0), RETRY) == (job.job_id,)


@leaps
def test_a_lease_that_was_renewed_by_the_new_clock_is_as_long_as_any(books: Books, leap_s: float) -> None:
    job = books.claim(books.add_job())
    books.jobs.renew_lease(job, lease_s=LEASE_S, now=at(leap_s))
    follow(books, leap_s, at(leap_s + 1.0))
    assert not books.jobs.reap_expired(at(leap_s + 59.0), RETRY)
    assert books.jobs.reap_expired(at(leap_s + 61.0), RETRY) == (job.job_id,)


@leaps
def test_who_waits_for_another_attempt_waits_no_longer(books: Books, leap_s: float) -> None:
    job = books.claim(books.add_job())
    books.jobs.fail_attempt(job, RETRY, reason=("test", "a test"), now=NOON)
    follow(books, leap_s, at(leap_s + 1.0))
    assert books.find(job).state is JobState.SCHEDULED
    assert [bell.job_id for bell in books.jobs.bells_to_ring(at(leap_s + 6.0), rung_before=NOON)] == [job.job_id]


@leaps
def test_what_was_rung_is_rung_again_when_the_broker_forgets_it(books: Books, leap_s: float) -> None:
    job = books.add_job()
    books.jobs.record_rung([job.job_id], NOON)
    now = at(leap_s + 1.0)
    follow(books, leap_s, now)
    assert not books.jobs.bells_to_ring(now, rung_before=now - timedelta(seconds=600))
    later = at(leap_s + 2.0)
    assert [bell.job_id for bell in books.jobs.bells_to_ring(later, rung_before=later)] == [job.job_id]
