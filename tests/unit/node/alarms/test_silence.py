"""Silence: what is expected when, and from whom."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.alarms.reading import Verdict
from node.alarms.silence import Expectation, PipelineWatch, SourceWatch
from node.domain.switch import Mode, Switch
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
    evening, midnight, morning = NOON + hours(5), NOON + hours(12), NOON + hours(19)
    assert look(CLINIC, midnight, evening) is Verdict.WELL
    assert look(ALWAYS, midnight, evening) is Verdict.WRONG
    # Seven o'clock, and the silence of the night does not count; the hour before it does.
    assert look(CLINIC, morning + hours(0.9), evening) is Verdict.WELL
    assert look(CLINIC, morning + hours(1), evening) is Verdict.WRONG
    # Whoever was silent all afternoon is not well because it is night.
    assert look(CLINIC, midnight, NOON) is Verdict.WRONG


def test_a_weekend_is_no_silence_where_nothing_is_expected_then() -> None:
    friday, saturday, monday = (NOON + timedelta(days=days) for days in (3, 4, 6))
    assert look(CLINIC, saturday, friday + hours(5)) is Verdict.WELL
    assert look(CLINIC, saturday, NOON) is Verdict.WRONG
    assert look(CLINIC, monday - hours(4.1), friday + hours(5)) is Verdict.WELL
    assert look(CLINIC, monday - hours(4), friday + hours(5)) is Verdict.WRONG


@given(
    opening=st.tuples(st.integers(0, 23), st.integers(1, 24)).filter(lambda pair: pair[0] < pair[1]),
    days=st.frozensets(st.integers(1, 7), min_size=1),
    within=st.integers(1, 60),
    began=st.integers(0, 7 * 24 - 1),
)
def test_whatever_is_expected_its_silence_is_told_after_so_many_hours_of_the_kind(
    opening: tuple[int, int], days: frozenset[int], within: int, began: int
) -> None:
    """Also a silence that is longer than a day's hours, or than a week's days."""
    expected = Expectation(name="CT1", within=hours(within), hours=opening, days=days)
    since = told_at = NOON + hours(began)
    left = within
    while left:
        left -= told_at.isoweekday() in days and opening[0] <= told_at.hour < opening[1]
        told_at += hours(1)
    assert not expected.is_missed(since, told_at - timedelta(minutes=1), UTC)
    assert expected.is_missed(since, told_at, UTC)
    assert expected.is_missed(since, told_at + timedelta(days=3), UTC)


def test_the_hour_that_the_clock_skips_or_repeats_is_as_long_as_it_is() -> None:
    berlin, day = ZoneInfo("Europe/Berlin"), replace(ALWAYS, within=hours(24), days=frozenset({7}))
    for midnight, length in ((datetime(2025, 3, 30, tzinfo=berlin), 23), (datetime(2025, 10, 26, tzinfo=berlin), 25)):
        since = midnight.astimezone(UTC)
        assert day.is_missed(since, since + hours(length), berlin) is (length >= 24)
        assert not day.is_missed(since, since + hours(23.9), berlin)


def test_what_is_expected_by_day_and_by_night_is_one_thing() -> None:
    night = replace(CLINIC, within=hours(8), hours=(18, 24))

    def verdicts(now: datetime, last: datetime) -> list[Verdict]:
        watch = SourceWatch([CLINIC, night], lambda: {"CT1": last}, since=LONG_AGO, zone=UTC)
        return [reading.verdict for reading in watch(now)]

    assert verdicts(NOON, NOON - hours(1)) == [Verdict.WELL]
    assert verdicts(NOON, NOON - hours(3)) == [Verdict.WRONG]
    assert verdicts(NOON + hours(10), NOON + hours(5)) == [Verdict.WELL]
    # The evening may be silent to its end, and so may the night; the hours of the day were too many.
    assert verdicts(NOON + hours(11), NOON + hours(4.5)) == [Verdict.WELL]
    assert verdicts(NOON + hours(11), NOON - hours(3)) == [Verdict.WRONG]


def test_hours_are_those_of_the_place() -> None:
    tokyo = timezone(timedelta(hours=9))
    # There the doors close at 9:00 UTC.
    watch = SourceWatch([CLINIC], lambda: {"CT1": NOON - hours(4.9)}, since=LONG_AGO, zone=tokyo)
    assert [reading.verdict for reading in watch(NOON)] == [Verdict.WELL]
    # And open at 22:00 UTC.
    assert [reading.verdict for reading in watch(NOON + hours(10))] == [Verdict.WELL]
    assert [reading.verdict for reading in watch(NOON + hours(10.1))] == [Verdict.WRONG]


class Book:
    """A ledger that says what a test says."""

    def __init__(self, last: datetime | None, routed: int, *switches: Switch) -> None:
        self.last = last
        self.switches = {switch.pipeline: switch for switch in switches}
        self.routed = routed

    def read_switches(self) -> Mapping[str, Switch]:
        return self.switches

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


def switched(mode: Mode, at: datetime) -> Switch:
    return Switch(pipeline="lung_nodules", mode=mode, changed_by="kim", changed_at=at, reason="")


def test_a_pipeline_that_is_switched_off_is_not_silent() -> None:
    expected = Expectation(name="lung_nodules", within=TWO_HOURS)
    off = switched(Mode.OFF, NOON - hours(5))
    assert look_at_pipeline(Book(LONG_AGO, 500, off), expected) == [Verdict.WELL]
    assert look_at_pipeline(Book(LONG_AGO, 500, switched(Mode.SHADOW, LONG_AGO)), expected) == [Verdict.WRONG]


def test_the_silence_of_a_pipeline_that_was_off_begins_when_it_is_on_again() -> None:
    expected = Expectation(name="lung_nodules", within=TWO_HOURS)
    assert look_at_pipeline(Book(LONG_AGO, 3, switched(Mode.ON, NOON - hours(1))), expected) == [Verdict.WELL]
    assert look_at_pipeline(Book(LONG_AGO, 3, switched(Mode.ON, NOON - hours(3))), expected) == [Verdict.WRONG]
    asked_since: list[datetime] = []

    class Counting(Book):
        def count_routed_since(self, since: datetime, *, limit: int) -> int:
            asked_since.append(since)
            return 0

    look_at_pipeline(Counting(LONG_AGO, 0, switched(Mode.ON, NOON - hours(1))))
    assert asked_since == [NOON - hours(1)]
