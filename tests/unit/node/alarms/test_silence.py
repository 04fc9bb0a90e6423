"""Silence: what is expected when, and from whom."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from node.alarms.reading import Verdict
from node.alarms.silence import Expectation, PipelineWatch, SourceWatch
from tests.ledgers import NOON

TWO_HOURS = timedelta(hours=2)
# Noon is a Tuesday.
CLINIC = Expectation(name="CT1", within=TWO_HOURS, hours=(7, 18), days=frozenset({1, 2, 3, 4, 5}))
ALWAYS = Expectation(name="CT1", within=TWO_HOURS)
LONG_AGO = NOON - timedelta(days=30)


def look(expected: Expectation, now: datetime, last: datetime | None) -> Verdict:
    received = {} if last is None else {expected.name: last}
    watch = SourceWatch([expected], lambda: received, since=LONG_AGO, zone=UTC)
    (reading,) = watch(now)
    assert (reading.subject, bool(reading.text)) == ("CT1", reading.verdict is Verdict.WRONG)
    return reading.verdict


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


@pytest.mark.parametrize("expected", [ALWAYS, CLINIC])
def test_a_source_that_sent_in_time_is_well_and_one_that_did_not_is_wrong(expected: Expectation) -> None:
    assert look(expected, NOON, NOON - hours(1.9)) is Verdict.WELL
    assert look(expected, NOON, NOON - hours(2)) is Verdict.WRONG
    assert look(expected, NOON, None) is Verdict.WRONG


def test_silence_before_the_node_began_to_listen_does_not_count() -> None:
    watch = SourceWatch([ALWAYS], lambda: {"CT1": LONG_AGO}, since=NOON, zone=UTC)
    verdicts = [next(iter(watch(NOON + hours(count)))).verdict for count in (0, 1.9, 2)]
    # An alarm from before the node was away stands.
    assert verdicts == [Verdict.BETWEEN, Verdict.BETWEEN, Verdict.WRONG]


def test_a_night_is_no_silence_where_nothing_is_expected_then() -> None:
    midnight, morning = NOON + hours(12), NOON + hours(19)
    assert look(CLINIC, midnight, NOON) is Verdict.BETWEEN
    assert look(ALWAYS, midnight, NOON) is Verdict.WRONG
    # Seven o'clock, and the silence of the night does not count.
    assert look(CLINIC, morning + hours(1.9), NOON) is Verdict.BETWEEN
    assert look(CLINIC, morning + hours(2), NOON) is Verdict.WRONG


def test_a_weekend_is_no_silence_where_nothing_is_expected_then() -> None:
    saturday = NOON + timedelta(days=4)
    assert look(CLINIC, saturday, NOON) is Verdict.BETWEEN
    assert look(CLINIC, saturday, saturday - hours(1)) is Verdict.WELL


def test_what_is_expected_by_day_and_by_night_is_one_thing() -> None:
    night = replace(CLINIC, within=hours(8), hours=(18, 24))

    def verdicts(now: datetime, last: datetime) -> list[Verdict]:
        watch = SourceWatch([CLINIC, night], lambda: {"CT1": last}, since=LONG_AGO, zone=UTC)
        return [reading.verdict for reading in watch(now)]

    assert verdicts(NOON, NOON - hours(1)) == [Verdict.WELL]
    assert verdicts(NOON, NOON - hours(3)) == [Verdict.WRONG]
    assert verdicts(NOON + hours(10), NOON + hours(5)) == [Verdict.WELL]
    # All night is as long as it may be silent; nobody waits for more before morning.
    assert verdicts(NOON + hours(11), NOON - hours(3)) == [Verdict.BETWEEN]


def test_hours_are_those_of_the_place() -> None:
    tokyo = timezone(timedelta(hours=9))
    watch = SourceWatch([CLINIC], lambda: {"CT1": LONG_AGO}, since=LONG_AGO, zone=tokyo)
    assert [reading.verdict for reading in watch(NOON)] == [Verdict.BETWEEN]
    assert [reading.verdict for reading in watch(NOON - hours(6))] == [Verdict.WRONG]


class Book:
    """A ledger that says what a test says."""

    def __init__(self, last: datetime | None, routed: int) -> None:
        self.last = last
        self.routed = routed

    def last_job_at(self, pipeline: str) -> datetime | None:
        return self.last

    def count_routed_since(self, since: datetime, *, limit: int) -> int:
        return min(limit, self.routed)


def look_at_pipeline(book: Book, *expected: Expectation, limit: int = 500) -> list[Verdict]:
    watch = PipelineWatch(["lung_nodules"], expected, book, unmatched_studies=limit, since=LONG_AGO, zone=UTC)
    return [reading.verdict for reading in watch(NOON)]


def test_a_pipeline_that_had_jobs_and_gets_none_of_many_studies_is_silent() -> None:
    assert look_at_pipeline(Book(LONG_AGO, 499)) == [Verdict.WELL]
    assert look_at_pipeline(Book(LONG_AGO, 500)) == [Verdict.WRONG]
    assert look_at_pipeline(Book(None, 500)) == [Verdict.WELL]
    assert look_at_pipeline(Book(LONG_AGO, 500), limit=0) == []


def test_a_pipeline_that_is_expected_to_match_is_silent_by_time_too() -> None:
    expected = Expectation(name="lung_nodules", within=TWO_HOURS)
    assert look_at_pipeline(Book(NOON - hours(1), 3), expected) == [Verdict.WELL]
    assert look_at_pipeline(Book(NOON - hours(3), 3), expected) == [Verdict.WRONG]
    assert look_at_pipeline(Book(None, 3), expected, limit=0) == [Verdict.WRONG]
    # One verdict for one thing: two would raise and heal in turn.
    assert look_at_pipeline(Book(NOON - hours(1), 500), expected) == [Verdict.WRONG]
