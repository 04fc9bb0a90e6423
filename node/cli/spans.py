"""Spans of time as people write them: ``30d``, ``12h``, ``30m``."""

import re
from datetime import timedelta

SPAN = re.compile(r"(\d+)([dhm])")
UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def parse_span(text: str) -> timedelta | None:
    """Return the span that `text` says, or None when it says none, or one longer than a calendar holds."""
    found = SPAN.fullmatch(text)
    if found is None:
        return None
    try:
        return timedelta(**{UNITS[found[2]]: int(found[1])})
    except OverflowError:
        return None
