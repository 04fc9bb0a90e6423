"""Words and figures as people read them, in the terminal and in the console."""

from datetime import UTC, datetime

WHOLE_UID = 16


def short_uid(uid: str) -> str:
    """Return a UID shortened in the middle, for tables."""
    return uid if len(uid) <= WHOLE_UID else f"{uid[:8]}…{uid[-6:]}"


def age(at: datetime) -> str:
    """Return how long ago `at` was, in the unit people would use."""
    return span((datetime.now(UTC) - at).total_seconds())


def span(seconds: float) -> str:
    """Return how long that is, in the unit people would use."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
