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


def url_at(url: str, path: Path) -> str:
    """Return `url` of a ledger in a file with the file at `path` in its place."""
    return make_url(url).set(database=str(path)).render_as_string(hide_password=False)


def set_ledger_aside(path: Path, now: datetime) -> Path | None:
    """Rename the ledger at `path` with its companions; return its new name, None when there was none.

    Nobody may have it open.
    """
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S}")
    if not path.exists():
        return None
    move_ledger(path, aside)
    return aside


def move_ledger(path: Path, target: Path) -> None:
    """Rename the ledger at `path` with its companions; nobody may have it open."""
    # The file itself last: as long as it is there, a repetition finds everything.
    for companion in reversed(COMPANIONS):
        source = path.with_name(path.name + companion)
        if source.exists():
            source.rename(target.with_name(target.name + companion))
