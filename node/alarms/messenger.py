"""Tells somebody outside of every alarm: once when it is raised, once when it is healed, however long that takes."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from node.domain.alarm import News
from node.errors import WebhookFailed
from node.peers.patience import Patience

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
# What was well again for longer is no news any more.
NEWS_FOR = timedelta(days=1)


class NewsLedger(Protocol):
    """What the messenger asks of the ledger."""

    def untold_news(self, *, healed_since: datetime, limit: int) -> Sequence[News]:
        """Return what nobody outside was told."""

    def record_told(self, news: News, *, now: datetime) -> None:
        """Commit that somebody outside took note of it."""


class Messenger:
    """Posts news in their order; a failure holds up those behind it, and is tried again with growing pauses.

    Parameters
    ----------
    post
        Tells one piece of news; WebhookFailed if nobody took note.
    chance
        Uniform in [0, 1).
    """

    def __init__(self, ledger: NewsLedger, post: Callable[[News], None], *, chance: Callable[[], float]) -> None:
        self._ledger = ledger
        self._post = post
        self._chance = chance
        self._patience = Patience(first_retry_s=FIRST_PAUSE_S, max_retry_s=LONGEST_PAUSE_S)
        self._failures = 0
        self._closed_until: datetime | None = None

    def tick(self, now: datetime) -> datetime | None:
        """Tell the next piece of news; return when to go on, None when nothing waits."""
        if self._patience.is_lasting(self._closed_until, now=now):
            return self._closed_until
        self._closed_until = None
        # One a tick: whoever stops the node waits for one answer at most.
        found = self._ledger.untold_news(healed_since=now - NEWS_FOR, limit=1)
        if not found:
            return None
        news = found[0]
        try:
            self._post(news)
        except WebhookFailed as exc:
            return self._pause(exc, now)
        self._failures = 0
        self._ledger.record_told(news, now=now)
        logger.info("alarm told", extra={"alarm": news.alarm.kind.value, "outcome": news.word})
        return now

    def _pause(self, error: WebhookFailed, now: datetime) -> datetime:
        self._failures += 1
        self._closed_until = now + self._patience.pause(self._failures, self._chance())
        # The first, second, fourth, eighth … time.
        level = logging.WARNING if self._failures.bit_count() == 1 else logging.DEBUG
        logger.log(level, "alarm not told", extra={"failures": self._failures, "reason_code": error.code})
        return self._closed_until
