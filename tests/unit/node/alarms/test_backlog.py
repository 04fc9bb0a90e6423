"""What waits too long, was given up, or is running out: judged on a real ledger."""

from dataclasses import replace
from datetime import timedelta

import pytest

from node.alarms.backlog import DeliveryWatch, JobWatch, Limits, given_up_codes
from node.alarms.premises import AuditWatch, BrokerWatch, Room, StoreWatch
from node.alarms.reading import Reading, Verdict, Watch
from node.audit.witness import AUDIT_LOST
from node.domain.alarm import AlarmKind
from node.errors import StoreFull
from node.ledger.jobs import RetryPolicy
from node.ledger.signs import SignLedger
from tests.ledgers import Books, at, make_outcome, make_result

LIMITS = Limits(
    job_wait=timedelta(minutes=30),
    no_worker=timedelta(minutes=5),
    given_up=timedelta(hours=24),
    delivery_wait=timedelta(hours=1),
    destination_down=timedelta(minutes=10),
)
MINUTE = 60.0


def read(watch: Watch, kind: AlarmKind, second: float, subject: str = "") -> Reading:
    (found,) = [one for one in watch(at(second)) if (one.kind, one.subject) == (kind, subject)]
    return found


def watch_jobs(books: Books, limits: Limits = LIMITS, *, is_broker_away: bool = False) -> JobWatch:
    return JobWatch(["lung_nodules"], SignLedger(books.engine), limits, is_broker_away=lambda: is_broker_away)


def watch_deliveries(books: Books, limits: Limits = LIMITS) -> DeliveryWatch:
    return DeliveryWatch(["pacs"], SignLedger(books.engine), limits)


def test_a_job_that_waits_too_long_is_wrong_and_half_of_it_is_well(books: Books) -> None:
    watch, job = watch_jobs(books), books.add_job()
    verdicts = [read(watch, AlarmKind.JOBS_WAITING, m * MINUTE).verdict for m in (14, 15, 29, 30)]
    assert verdicts == [Verdict.WELL, Verdict.BETWEEN, Verdict.BETWEEN, Verdict.WRONG]
    assert job.job_id in read(watch, AlarmKind.JOBS_WAITING, 30 * MINUTE).text
    books.claim(job, now=at(31 * MINUTE))
    assert read(watch, AlarmKind.JOBS_WAITING, 32 * MINUTE).verdict is Verdict.WELL


def test_jobs_that_no_worker_takes_are_told_unless_the_broker_is_away(books: Books) -> None:
    job = books.add_job()
    kind, late = AlarmKind.NO_WORKER, 5 * MINUTE + 1
    assert read(watch_jobs(books), kind, 5 * MINUTE).verdict is Verdict.WELL
    assert read(watch_jobs(books), kind, late).verdict is Verdict.WRONG
    assert read(watch_jobs(books), kind, late).after_s > 0
    assert read(watch_jobs(books, is_broker_away=True), kind, late).verdict is Verdict.BETWEEN
    books.add_job(study="1.2.4")
    books.claim(job, now=at(late))
    assert read(watch_jobs(books), kind, late + 1).verdict is Verdict.WELL


def test_jobs_that_were_given_up_are_told_for_a_day_or_until_a_person_sees_to_them(books: Books) -> None:
    kind, watch = AlarmKind.JOBS_QUARANTINED, watch_jobs(books)
    job = books.claim(books.add_job())
    policy = RetryPolicy(max_attempts=1, pause_s=1.0)
    books.jobs.fail_attempt(job, policy, reason=("worker-lost", "died"), now=at(0))
    assert read(watch, kind, 23 * 60 * MINUTE, "lung_nodules").verdict is Verdict.WRONG
    assert read(watch, kind, 24 * 60 * MINUTE, "lung_nodules").verdict is Verdict.WELL
    books.interventions.retry_job(job.job_id, ordered_by="reader", now=at(9))
    assert read(watch, kind, 10, "lung_nodules").verdict is Verdict.WELL


def test_only_what_has_nothing_to_do_with_the_images_was_given_up() -> None:
    codes = given_up_codes()
    assert {"worker-lost", "time-limit", "out-of-memory", "model-invalid", "broken"} <= codes
    assert not {"slice-missing", "pixels-undecodable", "canceled-by-hand", "superseded"} & codes


def test_a_destination_that_is_down_or_stuck_is_told(books: Books) -> None:
    watch, job = watch_deliveries(books), books.claim(books.add_job())
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(0))
    reason = ("destination-down", "no connection")
    books.deliveries.defer_deliveries("pacs", now=at(1), not_before=at(7), reason=reason)
    down = read(watch, AlarmKind.DESTINATION_DOWN, 60 * MINUTE, "pacs")
    assert (down.verdict, down.after_s) == (Verdict.WRONG, 10 * MINUTE)
    stuck = [read(watch, AlarmKind.DELIVERIES_STUCK, m * MINUTE, "pacs").verdict for m in (29, 59, 60)]
    assert stuck == [Verdict.WELL, Verdict.BETWEEN, Verdict.WRONG]
    (delivery,) = books.deliveries.due_deliveries("pacs", at(99), 9)
    books.deliveries.record_sent(delivery, now=at(100), reason_code=None, reason_text=None)
    assert {one.verdict for one in watch(at(60 * MINUTE))} == {Verdict.WELL}


def test_a_destination_that_left_the_settings_is_told(books: Books) -> None:
    watch, job = DeliveryWatch(["other"], SignLedger(books.engine), LIMITS), books.claim(books.add_job())
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(0))
    stray = read(watch, AlarmKind.DELIVERIES_STUCK, 1, "pacs")
    assert (stray.verdict, stray.text.partition(":")[0]) == (Verdict.WRONG, "no such Destination in the settings")
    (delivery,) = books.deliveries.due_deliveries("pacs", at(99), 9)
    books.deliveries.record_refused(delivery, now=at(100), reason_code="no-destination", reason_text="gone")
    assert read(watch, AlarmKind.DELIVERIES_STUCK, 101, "pacs").verdict is Verdict.WELL


def test_what_is_set_to_zero_is_not_watched(books: Books) -> None:
    never = Limits(**{name: timedelta(0) for name in LIMITS.__slots__})
    assert list(watch_jobs(books, never)(at(0))) == list(watch_deliveries(books, never)(at(0))) == []
    only = replace(never, job_wait=timedelta(minutes=1))
    assert [one.kind for one in watch_jobs(books, only)(at(0))] == [AlarmKind.JOBS_WAITING]


@pytest.mark.parametrize(
    ("free_bytes", "verdict"),
    [(124, Verdict.WRONG), (125, Verdict.WRONG), (126, Verdict.BETWEEN), (137, Verdict.BETWEEN), (138, Verdict.WELL)],
)
def test_a_store_near_its_reserve_is_wrong_and_well_at_a_tenth_more(free_bytes: int, verdict: Verdict) -> None:
    watch = StoreWatch(lambda: Room(free_bytes=free_bytes, reserve_bytes=100), margin_percent=25.0)
    assert [one.verdict for one in watch(at(0))] == [verdict]


def test_a_store_without_a_reserve_is_well() -> None:
    watch = StoreWatch(lambda: Room(free_bytes=0, reserve_bytes=0), margin_percent=25.0)
    assert [one.verdict for one in watch(at(0))] == [Verdict.WELL]


def test_a_volume_that_cannot_be_looked_at_is_wrong() -> None:
    def look() -> Room:
        raise StoreFull("store /gone: ENOENT")

    (reading,) = StoreWatch(look, margin_percent=25.0)(at(0))
    assert (reading.verdict, reading.text) == (Verdict.WRONG, "store /gone: ENOENT")


def test_broker_and_audit_trail_are_as_was_told_of_them(books: Books) -> None:
    fault: list[str | None] = ["broker-unreachable"]
    watch = BrokerWatch(lambda: fault[0])
    assert watch.is_away()
    (away,) = watch(at(0))
    assert (away.verdict, away.text.partition(":")[0]) == (Verdict.WRONG, "broker-unreachable")
    fault[0] = None
    assert [one.verdict for one in watch(at(0))] == [Verdict.WELL]

    audit = AuditWatch(SignLedger(books.engine).last_event_at)
    assert [one.verdict for one in audit(at(0))] == [Verdict.WELL]
    books.instances.record_event(at=at(0), kind=AUDIT_LOST, text="x")
    # Whoever still loses records says so every 5 minutes.
    assert [one.verdict for second in (599, 600) for one in audit(at(second))] == [Verdict.WRONG, Verdict.WELL]
