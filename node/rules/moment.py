"""When a Series was acquired, as rules ask it: the time of the day, also over midnight, and the day of the week."""

import re
from dataclasses import dataclass
from datetime import date

from node.domain.decision import Outcome
from node.domain.study import SeriesFacts
from node.errors import RuleInvalid
from node.rules.kleene import decide
from node.rules.operands import Operand, RawOperand, Reading
from node.rules.text import shorten

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# The most exact first; each belongs to the other's name.
SOURCES = ("Acquisition", "Series", "Study")
MINUTES_OF_HOUR, HOURS_OF_DAY = 60, 24
# PS3.5 6.2: TM is HHMMSS.FFFFFF of which what is behind the hour may lack, DA is YYYYMMDD.
TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d)?(?:[0-5]\d|60)?(?:\.\d{1,6})?\Z")
DATE = re.compile(r"(\d{4})(\d{2})(\d{2})\Z")
HOURS = re.compile(r"(?P<begin>\d{1,2}:\d{2})\s*\.\.\s*(?P<end>\d{1,2}:\d{2})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Holds from one minute of the day up to another, which may lie behind midnight.

    Attributes
    ----------
    begin_min, end_min
        Minutes of the day, 0 to 1439; the end does not belong.
    """

    words: str
    begin_min: int
    end_min: int
    symbol: str = ""

    def compare(self, reading: Reading | None) -> Outcome:
        """Return UNDETERMINED without a time."""
        if reading is None or reading.number is None:
            return Outcome.UNDETERMINED
        if self.begin_min < self.end_min:
            return decide(self.begin_min <= reading.number < self.end_min)
        return decide(reading.number >= self.begin_min or reading.number < self.end_min)


def parse_hours(raw: RawOperand) -> Operand:
    """Return the Hours `raw`, such as ``18:00 .. 07:00``.

    Raises
    ------
    RuleInvalid
        If they are none, or never begin.
    """
    match = HOURS.match(str(raw).strip())
    begin, end = (_minutes(match["begin"]), _minutes(match["end"])) if match else (None, None)
    if begin is None or end is None:
        raise RuleInvalid(f"{raw!r} is no time of the day; write '07:00 .. 18:00', or '18:00 .. 07:00' over midnight")
    if begin == end:
        raise RuleInvalid(f"{raw!r} begins when it ends; leave it out to mean the whole day")
    return Hours(words=f"{_show(begin)} .. {_show(end)}", begin_min=begin, end_min=end)


def read_time_of_day(series: SeriesFacts) -> Reading | None:
    """Return Acquisition Time (0008,0032), else Series Time, else Study Time, in minutes of the day."""
    text = _first(series, "Time")
    if text is None:
        return None
    match = TIME.match(text)
    if match is None:
        return Reading(words=f"{shorten(text)} (no time)")
    minute = int(match[1]) * MINUTES_OF_HOUR + int(match[2] or 0)
    return Reading(words=_show(minute), number=minute)


def read_weekday(series: SeriesFacts) -> Reading | None:
    """Return the day of the week of Acquisition Date (0008,0022), else Series Date, else Study Date."""
    text = _first(series, "Date")
    if text is None:
        return None
    match = DATE.match(text)
    try:
        day = date(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        day = None
    if day is None:
        return Reading(words=f"{shorten(text)} (no date)")
    name = DAYS[day.weekday()]
    return Reading(words=name, texts=(name,))


def _first(series: SeriesFacts, what: str) -> str | None:
    found = (series.attributes.get(f"{source}{what}") for source in SOURCES)
    return next((str(value).strip() for value in found if value is not None), None)


def _minutes(text: str) -> int | None:
    hour, minute = (int(part) for part in text.split(":"))
    return hour * MINUTES_OF_HOUR + minute if hour < HOURS_OF_DAY and minute < MINUTES_OF_HOUR else None


def _show(minute: int) -> str:
    return f"{minute // MINUTES_OF_HOUR:02d}:{minute % MINUTES_OF_HOUR:02d}"
