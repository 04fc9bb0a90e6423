"""What the parent of the pool makes of what the pool says, and what it does in the ledger."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from node.clock import utc_now
from node.domain.job import Job, JobState
from node.settings.loading import load_settings
from node.settings.whole import Settings
from tests.ledgers import Books, copy_ledger
from workers.foreman import Foreman, name_death
from workers.post import make_post

KILLED = "Worker exited prematurely: signal 9 (SIGKILL) Job: 4."


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    shipped = load_settings(None, {})
    ledger = shipped.ledger.model_copy(update={"url": SecretStr(copy_ledger(tmp_path)), "busy_timeout_s": 0.05})
    return shipped.model_copy(update={"ledger": ledger})


def claim(books: Books, owner: str) -> Job:
    return books.claim(books.add_job(), now=utc_now(), owner=owner)


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (KILLED, "worker-lost", "signal 9 (SIGKILL)"),
        ("Worker exited prematurely: exitcode 1 Job: 0.", "worker-lost", "exitcode 1"),
        ("Worker exited prematurely: signal 14 (SIGALRM) Job: 2.", "time-limit", "time limit"),
        ("Could not start worker processes", "worker-lost", "died"),
    ],
)
def test_a_death_is_named(said: str, code: str, words: str) -> None:
    found, text = name_death(said)
    assert found == code
    assert words in text


def test_no_two_workers_share_a_name_and_a_process_is_found_by_it() -> None:
    one, other = make_post("cpu"), make_post("cpu")
    assert one.crew != other.crew
    assert one.find_pid(one.name_process(17)) == 17


def test_a_dead_process_fails_its_attempt_at_once(books: Books, settings: Settings) -> None:
    post = make_post("cpu")
    job = claim(books, post.name_process(17))
    Foreman(settings, post).mourn(job.job_id, KILLED)
    after = books.find(job)
    assert (after.state, after.attempts, after.reason_code) == (JobState.SCHEDULED, 1, "worker-lost")
    assert after.not_before > utc_now()


def test_a_job_that_another_worker_has_by_now_is_left_to_it(books: Books, settings: Settings) -> None:
    job = claim(books, "another:1")
    Foreman(settings, make_post("cpu")).mourn(job.job_id, KILLED)
    assert books.find(job) == job


def test_a_message_whose_process_died_before_it_had_the_job_is_rung_again(books: Books, settings: Settings) -> None:
    job = books.add_job()
    books.jobs.record_rung([job.job_id], utc_now())
    Foreman(settings, make_post("cpu")).mourn(job.job_id, KILLED)
    assert len(books.jobs.bells_to_ring(utc_now(), rung_before=job.accepted_at)) == 1


def test_a_ledger_that_is_busy_leaves_the_job_to_its_lease(books: Books, settings: Settings) -> None:
    post = make_post("cpu")
    job = claim(books, post.name_process(17))
    with books.jobs.writing():
        Foreman(settings, post).mourn(job.job_id, KILLED)
    assert books.find(job) == job
