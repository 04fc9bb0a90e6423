"""The file of a ledger in SQLite, with the two that belong to it."""

from datetime import datetime
from pathlib import Path

from sqlalchemy.engine import make_url

# What SQLite keeps beside the file in WAL mode; the file alone is not the ledger.
COMPANIONS = ("", "-wal", "-shm")


def ledger_file(url: str) -> Path | None:
    """Return where the ledger of `url` lies; None when it is no file."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)


def set_ledger_aside(path: Path, now: datetime) -> Path | None:
    """Rename the ledger at `path` with its companions; return its new name, None when there was none.

    Nobody may have it open.
    """
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S}")
    if not path.exists():
        return None
    # The file itself last: as long as it is there, a repetition finds everything.
    for companion in reversed(COMPANIONS):
        source = path.with_name(path.name + companion)
        if source.exists():
            source.rename(aside.with_name(aside.name + companion))
    return aside
