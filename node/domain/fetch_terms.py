"""When and how much is fetched from one peer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from node.domain.fetch import Retrieve

HOURS_PATTERN = r"^(?:([01][0-9]|2[0-3]):[0-5][0-9]\.\.([01][0-9]|2[0-3]):[0-5][0-9])?$"
SPAN_PATTERN = r"^[1-9][0-9]{0,3}[mhd]$"
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """A part of each day, by the clock of this machine; one that ends before it begins goes over midnight."""

    begin: time
    end: time

    def is_open(self, now: datetime) -> bool:
        """Return whether it is such a time now."""
        at = now.astimezone().time()
        if self.begin <= self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end

    def opens_at(self, now: datetime) -> datetime:
        """Return when it is such a time next; `now` where it is."""
        if self.is_open(now):
            return now
        local = now.astimezone()
        today = local.replace(hour=self.begin.hour, minute=self.begin.minute, second=0, microsecond=0)
        return today if today > local else today + DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """How a peer is asked for new Studies by itself.

    Attributes
    ----------
    query
        Which ones, by keyword.
    every
        How often.
    since
        How long ago a new Study may have begun (Study Date and Time).
    """

    query: Mapping[str, str]
    every: timedelta
    since: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchTerms:
    """How Studies are fetched from one peer.

    Attributes
    ----------
    hours
        When; None: always. A prior that a Job waits for comes at any time.
    per_minute
        Studies that are begun a minute at most; 0 sets no limit.
    poll
        None: it is not asked by itself.
    """

    retrieve: Retrieve = Retrieve.AUTO
    hours: Hours | None = None
    per_minute: int = 0
    poll: Poll | None = None


def read_hours(text: str) -> Hours | None:
    """Return what ``19:00..06:00`` says, which fits `HOURS_PATTERN`; None where it is empty."""
    begin, _, end = text.partition("..")
    return Hours(begin=time.fromisoformat(begin), end=time.fromisoformat(end)) if text else None


def read_span(text: str) -> timedelta:
    """Return what ``30m``, ``2h`` or ``7d`` says, which fits `SPAN_PATTERN`."""
    number, unit = re.split(r"(?<=[0-9])(?=[mhd])", text)
    return int(number) * UNITS[unit]
