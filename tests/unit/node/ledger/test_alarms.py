"""Alarms in the ledger: each stands once, heals once, and is told outside once for either."""

import pytest

from node.domain.alarm import Alarm, AlarmKind, News
from node.ledger.alarms import AlarmLedger
from tests.ledgers import Books, at


@pytest.fixture
def ledger(books: Books) -> AlarmLedger:
    return AlarmLedger(books.engine)


def raise_pacs(ledger: AlarmLedger, subject: str = "pacs", *, second: float = 0) -> bool:
    return ledger.raise_alarm(AlarmKind.DESTINATION_DOWN, subject, f"{subject} is down", now=at(second))


def only(ledger: AlarmLedger) -> Alarm:
    (alarm,) = ledger.standing_alarms()
    return alarm


def words(news: tuple[News, ...]) -> list[tuple[str, str]]:
    return [(one.alarm.subject, one.word) for one in news]


def test_what_stands_is_not_raised_again_whoever_looks(books: Books, ledger: AlarmLedger) -> None:
    assert raise_pacs(ledger)
    assert not raise_pacs(AlarmLedger(books.engine), second=9)
    assert raise_pacs(ledger, "archive")
    assert [alarm.subject for alarm in ledger.standing_alarms()] == ["pacs", "archive"]
    assert ledger.standing_alarms()[0].raised_at == at(0)


def test_it_heals_once_and_may_be_raised_anew(ledger: AlarmLedger) -> None:
    raise_pacs(ledger)
    first = only(ledger)
    assert ledger.heal_alarm(first.alarm_id, now=at(60))
    assert not ledger.heal_alarm(first.alarm_id, now=at(70))
    assert ledger.standing_alarms() == ()
    assert raise_pacs(ledger, second=90)
    assert [(alarm.raised_at, alarm.healed_at) for alarm in ledger.list_alarms(9)] == [(at(90), None), (at(0), at(60))]
    assert len(ledger.list_alarms(1)) == 1


def test_a_confirmation_says_when_it_was_last_seen(ledger: AlarmLedger) -> None:
    raise_pacs(ledger)
    ledger.confirm_alarms([only(ledger).alarm_id], now=at(600))
    assert only(ledger).seen_at == at(600)


def test_news_is_told_once_and_in_its_order(ledger: AlarmLedger) -> None:
    raise_pacs(ledger)
    raise_pacs(ledger, "archive")
    ledger.heal_alarm(ledger.standing_alarms()[0].alarm_id, now=at(60))
    news = ledger.untold_news(healed_since=at(0), limit=9)
    assert words(news) == [("pacs", "raised"), ("pacs", "healed"), ("archive", "raised")]
    assert [one.at for one in news] == [at(0), at(60), at(0)]
    ledger.record_told(news[0], now=at(61))
    assert words(ledger.untold_news(healed_since=at(0), limit=9)) == [("pacs", "healed"), ("archive", "raised")]
    for one in news:
        ledger.record_told(one, now=at(62))
    assert ledger.untold_news(healed_since=at(0), limit=9) == ()


def test_what_has_long_been_well_is_no_news_and_what_stands_always_is(ledger: AlarmLedger) -> None:
    raise_pacs(ledger)
    ledger.heal_alarm(only(ledger).alarm_id, now=at(60))
    raise_pacs(ledger, "archive")
    assert words(ledger.untold_news(healed_since=at(61), limit=9)) == [("archive", "raised")]
