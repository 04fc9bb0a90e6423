"""When a Series counts as complete, and why."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.assembly import Assembly, QuietTime, judge_series
from node.domain.uids import SeriesUID
from node.ledger.studies import OpenSeries
from tests.ledgers import STUDY, Books, at, copy_ledger, make_facts

QUIET = QuietTime(after_association_s=3.0, while_open_s=60.0)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = Books(copy_ledger(tmp_path))
    yield opened
    opened.close()


def seen(*, last: float, open_associations: int = 0, ended: float | None = None) -> OpenSeries:
    return OpenSeries(
        study_instance_uid=STUDY,
        series_instance_uid=SeriesUID(f"{STUDY}.1"),
        last_instance_at=at(last),
        open_associations=open_associations,
        last_association_end=None if ended is None else at(ended),
    )


def test_after_every_association_ended_a_short_silence_is_enough() -> None:
    due, reason = judge_series(seen(last=10, ended=12), QUIET)
    assert due == at(15)
    assert reason == "every Association ended, then quiet for 3 s"


def test_while_one_is_open_only_long_silence_counts() -> None:
    due, reason = judge_series(seen(last=10, open_associations=1, ended=12), QUIET)
    assert due == at(70)
    assert "while 1 Association" in reason


def test_an_instance_after_the_last_end_starts_the_silence_anew() -> None:
    assert judge_series(seen(last=20, ended=12), QUIET)[0] == at(23)


def test_a_series_settles_only_when_the_last_of_its_associations_has_ended(books: Books) -> None:
    assembly = Assembly(books.studies, QUIET)
    books.instances.record_instance(make_facts(1, association="a1"))
    books.instances.record_instance(make_facts(2, association="a2", received_at=at(1)))
    books.instances.end_association("a1", at(2))
    assert assembly.tick(at(30)) == at(61)
    books.instances.end_association("a2", at(31))
    assert assembly.tick(at(33.9)) == at(34)
    assert books.view.study_story(STUDY).state == "OPEN"
    assert assembly.tick(at(34)) is None
    assert books.view.study_story(STUDY).state == "SETTLED"


def test_a_sender_that_never_ends_settles_after_the_idle_time(books: Books) -> None:
    assembly = Assembly(books.studies, QUIET)
    books.instances.record_instance(make_facts())
    assert assembly.tick(at(59)) == at(60)
    assert assembly.tick(at(60)) is None
    story = books.view.study_story(STUDY)
    assert story.state == "SETTLED"
    assert story.reason == "quiet for 60 s while 1 Associations were open"


def test_the_next_look_is_at_the_series_that_is_due_first(books: Books) -> None:
    for series, second in ((1, 9), (2, 4)):
        books.instances.record_instance(make_facts(series=series, association=f"a{series}", received_at=at(second)))
        books.instances.end_association(f"a{series}", at(second))
    assert Assembly(books.studies, QUIET).tick(at(5)) == at(7)


def test_a_late_instance_reopens_and_settles_again(books: Books) -> None:
    assembly = Assembly(books.studies, QUIET)
    books.instances.record_instance(make_facts(1))
    books.instances.end_association("a1", at(1))
    assembly.tick(at(4))
    books.route()
    books.instances.record_instance(make_facts(2, association="a2", received_at=at(100)))
    assert assembly.tick(at(101)) == at(160)
    books.instances.end_association("a2", at(102))
    assembly.tick(at(105))
    assert books.view.study_story(STUDY).state == "SETTLED"


def test_nothing_open_is_nothing_to_do(books: Books) -> None:
    assert Assembly(books.studies, QUIET).tick(at(0)) is None
