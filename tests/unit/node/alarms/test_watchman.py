"""Raised once, healed once, and never coming and going; and whoever is told, is told of each."""

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from node.alarms.messenger import FIRST_PAUSE_S, LONGEST_PAUSE_S, Messenger
from node.alarms.reading import Reading, Verdict
from node.alarms.watchman import ALARM_HEALED, ALARM_RAISED, FORGET, PERIOD_S, WATCH_BROKEN, WATCH_WAITS, Watchman
from node.domain.alarm import AlarmKind, News
from node.errors import LedgerBusy, WebhookFailed
from node.ledger.alarms import AlarmLedger
from tests.ledgers import Books, at, copy_ledger

WRONG, BETWEEN, WELL = Verdict.WRONG, Verdict.BETWEEN, Verdict.WELL
CALM_S = 60.0


class Scene:
    """A watchman whose clock and readings are a test's."""

    def __init__(self, folder: Path, *, after_s: float = 0.0) -> None:
        self.books = Books(copy_ledger(folder))
        self.ledger = AlarmLedger(self.books.engine)
        self.after_s = after_s
        self.verdict: Verdict | None = WELL
        self.second = 0.0
        self.looks = self.told = 0
        self.restart()

    def restart(self) -> None:
        self.watchman = Watchman([self.read], self.ledger, calm_s=CALM_S, tell=self.hear, elapsed_s=lambda: self.second)

    def read(self, _now: datetime) -> Iterable[Reading]:
        self.looks += 1
        if self.verdict is not None:
            yield Reading(
                kind=AlarmKind.DESTINATION_DOWN,
                subject="pacs",
                verdict=self.verdict,
                text="pacs is down",
                after_s=self.after_s,
            )

    def hear(self) -> None:
        self.told += 1

    def look(self, verdict: Verdict | None, *, after_s: float = PERIOD_S) -> int:
        """Let so much time pass, look, and return how many alarms stand."""
        self.verdict = verdict
        self.second += after_s
        self.watchman.tick(at(self.second))
        return len(self.ledger.standing_alarms())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    opened = Scene(tmp_path)
    yield opened
    opened.books.close()


def test_it_is_raised_once_and_healed_once_and_both_are_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert [scene.look(verdict) for verdict in (WELL, WRONG, WRONG, WRONG)] == [0, 1, 1, 1]
        assert [scene.look(WELL) for _ in range(6)] == [1, 1, 1, 1, 0, 0]
    assert len(scene.ledger.list_alarms(9)) == 1
    assert scene.told == 2
    told = [(line.getMessage(), vars(line)["alarm"], vars(line)["subject"]) for line in caplog.records]
    assert told == [(ALARM_RAISED, "destination-down", "pacs"), (ALARM_HEALED, "destination-down", "pacs")]


def test_what_is_well_for_a_moment_only_is_not_healed(scene: Scene) -> None:
    scene.look(WRONG)
    for _ in range(20):
        assert scene.look(WELL) == scene.look(WELL) == scene.look(WRONG) == 1
        assert scene.look(WELL) == scene.look(BETWEEN) == scene.look(WELL) == 1
    assert len(scene.ledger.list_alarms(9)) == 1
    assert scene.told == 1


def test_what_is_between_changes_nothing(scene: Scene) -> None:
    assert [scene.look(BETWEEN) for _ in range(9)] == [0] * 9
    scene.look(WRONG)
    assert [scene.look(BETWEEN) for _ in range(9)] == [1] * 9


def test_it_must_be_wrong_for_as_long_as_its_reading_says(tmp_path: Path) -> None:
    scene = Scene(tmp_path, after_s=2 * PERIOD_S)
    assert [scene.look(verdict) for verdict in (WRONG, WRONG, WELL, WRONG, WRONG, WRONG)] == [0, 0, 0, 0, 0, 1]
    scene.books.close()


def test_a_node_that_starts_again_raises_nothing_twice(scene: Scene) -> None:
    scene.look(WRONG)
    scene.restart()
    assert scene.look(WRONG) == 1
    assert (len(scene.ledger.list_alarms(9)), scene.told) == (1, 1)


def test_what_nobody_watches_any_more_is_healed_after_an_hour(scene: Scene) -> None:
    scene.look(WRONG)
    assert scene.look(None, after_s=FORGET.total_seconds() - 1) == 1
    assert scene.look(WRONG) == 1
    assert scene.look(None, after_s=FORGET.total_seconds() - 1) == 1
    assert scene.look(None) == 0


def test_it_looks_every_15_seconds_however_often_it_is_called(scene: Scene) -> None:
    for _ in range(PERIOD_S.__trunc__()):
        scene.look(WELL, after_s=1.0)
    assert scene.looks == 1
    # Somebody sets the clock; nobody waits longer for that.
    assert scene.watchman.tick(at(-1e6)) == at(-1e6) + timedelta(seconds=1.0)
    scene.look(WELL, after_s=1.0)
    assert scene.looks == 2


@pytest.mark.parametrize(
    ("error", "event"), [(ValueError("Canary^Patient"), WATCH_BROKEN), (LedgerBusy("locked"), WATCH_WAITS)]
)
def test_a_watch_that_breaks_is_told_once_and_silences_no_other(
    scene: Scene, caplog: pytest.LogCaptureFixture, error: Exception, event: str
) -> None:
    is_broken = True

    def read(_now: datetime) -> Iterable[Reading]:
        yield Reading(kind=AlarmKind.STORE_LOW, subject="", verdict=WRONG, text="full")
        if is_broken:
            raise error
        yield Reading(kind=AlarmKind.AUDIT_LOST, subject="", verdict=WRONG, text="lost")

    def standing() -> list[str]:
        return [alarm.kind.value for alarm in scene.ledger.standing_alarms()]

    scene.watchman = Watchman([read, scene.read], scene.ledger, calm_s=CALM_S, elapsed_s=lambda: scene.second)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            scene.look(WRONG)
        assert standing() == ["store-low", "destination-down"]
        is_broken = False
        scene.look(WRONG)
        assert standing() == ["store-low", "destination-down", "audit-lost"]
        is_broken = True
        scene.look(WRONG)
        # What it no longer says is not well for that.
        scene.look(WRONG, after_s=2 * FORGET.total_seconds())
        assert standing() == ["store-low", "destination-down", "audit-lost"]
    assert [line.getMessage() for line in caplog.records if "watch" in line.getMessage()] == [event] * 2


class Outside:
    """Somebody who takes note, or not."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.is_deaf = False

    def post(self, news: News) -> None:
        if self.is_deaf:
            raise WebhookFailed("answered 500")
        self.heard.append((news.alarm.subject, news.word))


def test_everybody_is_told_of_everything_once(scene: Scene) -> None:
    outside = Outside()
    messenger = Messenger(scene.ledger, outside.post, chance=lambda: 0.0)
    scene.look(WRONG)
    assert [messenger.tick(at(20)), messenger.tick(at(20))] == [at(20), None]
    for _ in range(5):
        scene.look(WELL)
    assert [messenger.tick(at(200)), messenger.tick(at(200))] == [at(200), None]
    assert outside.heard == [("pacs", "raised"), ("pacs", "healed")]


def test_what_was_not_heard_is_told_later_with_growing_pauses_and_in_its_order(scene: Scene) -> None:
    outside = Outside()
    messenger = Messenger(scene.ledger, outside.post, chance=lambda: 0.0)
    scene.look(WRONG)
    outside.is_deaf = True
    now, pauses = at(100), []
    for _ in range(9):
        again = messenger.tick(now)
        assert again is not None
        assert messenger.tick(again - timedelta(seconds=1)) == again
        pauses.append((again - now).total_seconds())
        now = again
    assert pauses == [FIRST_PAUSE_S * 2**n for n in range(6)] + [LONGEST_PAUSE_S] * 3
    for _ in range(5):
        scene.look(WELL)
    outside.is_deaf = False
    # Another node, or this one after a restart, does what is left.
    other = Messenger(scene.ledger, outside.post, chance=lambda: 0.0)
    assert [other.tick(at(200)) for _ in range(3)] == [at(200), at(200), None]
    assert outside.heard == [("pacs", "raised"), ("pacs", "healed")]
    assert messenger.tick(now) is None


def test_a_clock_that_was_set_back_keeps_no_news(scene: Scene) -> None:
    outside = Outside()
    messenger = Messenger(scene.ledger, outside.post, chance=lambda: 0.0)
    scene.look(WRONG)
    outside.is_deaf = True
    messenger.tick(at(100_000))
    outside.is_deaf = False
    messenger.tick(at(100))
    assert outside.heard == [("pacs", "raised")]
