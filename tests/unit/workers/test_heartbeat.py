"""A worker gives signs of life, and ends when its Job hangs."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from node.domain.job import JobState
from node.errors import LeaseLost
from node.ledger.jobs import RetryPolicy
from tests.ledgers import NOON, Books, at, copy_ledger
from tests.peers import wait_until
from workers.heartbeat import EXIT_AFTER_HANG, Heartbeat, LeaseTerms

TERMS = LeaseTerms(
    lease_s=60.0, heartbeat_s=0.01, retry=RetryPolicy(max_attempts=3, pause_s=5.0), alarm=lambda seconds: None
)
LIMIT_S = 20.0


class Clock:
    """Says what a test wants."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def elapsed_s(self) -> float:
        return (self.now - NOON).total_seconds()


class Exit:
    """Stands for the end of the process."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.called = threading.Event()

    def __call__(self, code: int) -> None:
        self.code = code
        self.called.set()


def beat(books: Books, clock: Clock, *, elapsed_s: Callable[[], float] | None = None) -> tuple[Heartbeat, Exit]:
    heart, ended = (
        Heartbeat(
            books.jobs,
            books.claim(books.add_job()),
            terms=TERMS,
            time_limit_s=100.0,
            clock=clock,
            elapsed_s=elapsed_s or clock.elapsed_s,
        ),
        Exit(),
    )
    heart.exit_process = ended
    return heart, ended


def test_the_lease_is_renewed_while_the_work_goes_on(books: Books) -> None:
    clock = Clock()
    heart, ended = beat(books, clock)
    with heart:
        clock.now = at(50)
        wait_until(lambda: books.only_job().lease_expires_at == at(110), what="a renewed lease", limit_s=LIMIT_S)
    assert ended.code is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("heartbeat-")]


def test_a_job_over_its_time_limit_fails_and_the_process_ends(books: Books) -> None:
    clock = Clock()
    heart, ended = beat(books, clock)
    with heart:
        clock.now = at(100)
        assert ended.called.wait(LIMIT_S)
    job = books.only_job()
    assert ended.code == EXIT_AFTER_HANG
    assert (job.state, job.reason_code, job.not_before) == (JobState.SCHEDULED, "time-limit", at(105))
    assert "100 s" in (job.reason_text or "")


def test_a_clock_that_is_set_neither_ends_a_job_nor_gives_it_more_time(books: Books) -> None:
    clock, elapsed_s = Clock(), [0.0]
    heart, ended = beat(books, clock, elapsed_s=lambda: elapsed_s[0])
    with heart:
        clock.now = at(3600)
        wait_until(lambda: books.only_job().lease_expires_at == at(3660), what="a renewed lease", limit_s=LIMIT_S)
        assert ended.code is None
        clock.now = at(-3600)
        elapsed_s[0] = 100.0
        assert ended.called.wait(LIMIT_S)


def test_a_hung_job_that_a_person_canceled_does_not_hold_its_worker_forever(books: Books) -> None:
    clock = Clock()
    heart, ended = beat(books, clock)
    with heart:
        books.interventions.cancel_job(books.only_job().job_id, ordered_by="a reader", now=at(1))
        clock.now = at(10)
        clock.now = at(100)
        assert ended.called.wait(LIMIT_S)
    assert (ended.code, books.only_job().reason_code) == (EXIT_AFTER_HANG, "canceled-by-hand")


def test_a_worker_that_lost_its_lease_renews_it_no_more(books: Books) -> None:
    clock = Clock()
    heart, ended = beat(books, clock)
    with heart:
        books.jobs.reap_expired(at(60), TERMS.retry)
        other = books.claim(books.only_job(), now=at(65), owner="other")
        clock.now = at(70)
    assert books.only_job() == other
    assert ended.code is None


def test_the_kernel_is_asked_to_end_what_no_thread_can(books: Books) -> None:
    """It is called off when the work is done, or it would end the next Job."""
    asked: list[float] = []
    job = books.claim(books.add_job())
    terms = replace(TERMS, heartbeat_s=5.0, alarm=asked.append)
    with Heartbeat(books.jobs, job, terms=terms, time_limit_s=100.0, clock=Clock()):
        assert asked == [110.0]
    assert asked == [110.0, 0.0]


def test_a_job_that_waits_for_others_uses_up_no_time_of_its_own(books: Books) -> None:
    asked: list[float] = []
    clock = Clock()
    job = books.claim(books.add_job())
    terms = replace(TERMS, heartbeat_s=5.0, alarm=asked.append)
    with Heartbeat(books.jobs, job, terms=terms, time_limit_s=100.0, clock=clock, elapsed_s=clock.elapsed_s) as heart:
        clock.now = at(40)
        with heart.paused():
            clock.now = at(1040)
        assert asked == [110.0, 0.0, 70.0]
    assert books.only_job().state is JobState.IN_PROGRESS


def test_a_job_that_waited_still_ends_at_its_time_limit(books: Books) -> None:
    clock = Clock()
    heart, ended = beat(books, clock)
    with heart:
        clock.now = at(40)
        with heart.paused():
            clock.now = at(1040)
        clock.now = at(1101)
        assert ended.called.wait(LIMIT_S)
    assert books.only_job().reason_code == "time-limit"


def test_work_whose_lease_is_lost_stops_at_its_next_stage(books: Books) -> None:
    heart, _ended = beat(books, Clock())
    with heart:
        heart.require_lease()
        books.interventions.cancel_job(books.only_job().job_id, ordered_by="a reader", now=at(1))
        wait_until(lambda: has_lost(heart), what="a beat that finds the Job taken", limit_s=LIMIT_S)


def has_lost(heart: Heartbeat) -> bool:
    try:
        heart.require_lease()
    except LeaseLost:
        return True
    return False


def test_a_locked_ledger_costs_a_beat_and_not_the_job(tmp_path: Path) -> None:
    url = copy_ledger(tmp_path)
    books, hurried = Books(url), Books(url, busy_timeout_s=0.01)
    clock = Clock()
    job = books.claim(books.add_job())
    heart = Heartbeat(hurried.jobs, job, terms=TERMS, time_limit_s=100.0, clock=clock)
    clock.now = at(20)
    with books.jobs.writing():
        heart.__enter__()
        thread = next(t for t in threading.enumerate() if t.name == f"heartbeat-{job.job_id}")
    wait_until(lambda: books.only_job().lease_expires_at == at(80), what="a beat after the lock", limit_s=LIMIT_S)
    heart.__exit__(None, None, None)
    assert not thread.is_alive()
    books.close()
    hurried.close()
