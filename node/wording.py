"""Words and figures as people read them, in the terminal and in the console."""

import re
from datetime import UTC, date, datetime

WHOLE_UID = 16
# Two components are a number as well.
UID = re.compile(r"\b\d+(?:\.\d+){2,}\b")
# Age String (AS): three digits and one of these (PS3.5 6.2); a year is written as in ``68 y``.
AGE_DIGITS = 3
AGE_UNITS = {"Y": "y", "M": "month", "W": "week", "D": "day"}
DAYS_OF_YEAR = 365.2425


def short_uid(uid: str) -> str:
    """Return a UID shortened in the middle, for tables."""
    return uid if len(uid) <= WHOLE_UID else f"{uid[:8]}…{uid[-6:]}"


def age(at: datetime) -> str:
    """Return how long ago `at` was, in the unit people would use."""
    return span((datetime.now(UTC) - at).total_seconds())


def span(seconds: float) -> str:
    """Return how long that is, in the unit people would use."""
    for size, unit in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return _counted(round(seconds / size), unit)
    return f"{seconds:.0f} s"


def seconds_words(seconds: float) -> str:
    """Return a duration with tenths of a second where they tell something."""
    return f"{seconds:.1f} s" if seconds < 600 else span(seconds)


def person_name(name: str) -> str:
    """Return a Person Name as people write it: ``Family, Given``; "none" where there is none (PS3.5 6.2.1)."""
    family, given, middle, prefix, suffix = [*name.partition("=")[0].split("^"), "", "", "", "", ""][:5]
    first = " ".join(part.strip() for part in (prefix, given, middle, suffix) if part.strip())
    return ", ".join(part for part in (family.strip(), first) if part) or "none"


def calendar_date(date: str) -> str:
    """Return a date of DICOM (DA) as ``2031-04-09``; what is no date stays as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def patient_age(sent: str, *, birth: str = "", study: str = "") -> str:
    """Return Patient's Age (0010,1010) in words, else as it follows from two dates; empty where neither tells it.

    Parameters
    ----------
    sent
        An Age String such as ``063Y``; an image may hold anything instead.
    birth, study
        Patient's Birth Date and Study Date (DA).

    References
    ----------
    DICOM PS3.5 6.2
    """
    count, unit = sent[:-1], sent[-1:]
    if count.isascii() and count.isdecimal() and len(count) <= AGE_DIGITS and unit in AGE_UNITS:
        return _counted(int(count), AGE_UNITS[unit])
    born, read = _day(birth), _day(study)
    if born is None or read is None or read < born:
        return ""
    return f"{int((read - born).days / DAYS_OF_YEAR)} y"


def size_words(size_bytes: int) -> str:
    """Return a size in the unit people would use."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= size:
            return f"{size_bytes / size:.1f} {unit}" if size_bytes < 10 * size else f"{size_bytes / size:.0f} {unit}"
    return f"{size_bytes} bytes"


def sentence(text: str) -> str:
    """Return `text` with a capital at its begin, and its UIDs shortened in the middle."""
    return brief(text[:1].upper() + text[1:])


def brief(text: str) -> str:
    """Return `text` with its UIDs shortened in the middle."""
    return UID.sub(lambda found: short_uid(found[0]), text)


def _counted(count: int, unit: str) -> str:
    """Return a number with its unit; units that are words have a plural."""
    is_word = unit in ("day", "week", "month")
    return f"{count} {unit}{'s' * (is_word and count != 1)}"


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
