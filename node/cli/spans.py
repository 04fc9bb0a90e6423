"""Spans of time as people write them: ``30d``, ``12h``, ``30m``."""

import re
from datetime import UTC, datetime, timedelta

from node.errors import SettingsInvalid

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


def parse_since(text: str, now: datetime) -> datetime:
    """Return the moment that ``--since`` names: a span before `now`, or a date and time.

    Raises
    ------
    SettingsInvalid
        If `text` is neither.
    """
    span = parse_span(text)
    try:
        if span is not None:
            return now - span
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as exc:
        raise SettingsInvalid(f"--since {text!r} is neither 7d, 12h or 30m nor a date such as 2025-01-14") from exc
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
