"""What several commands need: the options they share, and the ledger they look into."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.audit.message import AuditEvent
from node.errors import NotFound
from node.settings.loading import FILE_NAME, load_settings
from node.settings.whole import Settings
from node.volumes import open_trail

if TYPE_CHECKING:
    from node.ledger.views import LedgerView

SettingsOption = Annotated[
    Path | None,
    typer.Option("--settings", help="Settings file; ./settings.toml when it is there, else the defaults."),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def read_settings(path: Path | None) -> Settings:
    """Return the settings of the file given, or of ``./settings.toml`` when it exists.

    Raises
    ------
    SettingsInvalid
        If the file cannot be read or holds a mistake.
    """
    here = Path(FILE_NAME)
    return load_settings(path if path is not None else here if here.is_file() else None)


def make_folder(out: Path) -> None:
    """Return after the folder that ``--out`` names is there.

    Raises
    ------
    NotFound
        If it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise NotFound(f"--out {out} cannot be made ({exc.strerror}); name a folder that can be written") from exc


def look_into_ledger(path: Path | None) -> "LedgerView":
    """Return the ledger of the node that these settings describe, for reading."""
    # Keeps SQLAlchemy out of commands that ask no ledger, above all of those that become another process.
    from node.ledger.opening import open_view

    return open_view(read_settings(path))


def record_audit(settings: Settings, event: AuditEvent) -> None:
    """Return after what a person did is in the audit trail, and on disk.

    Raises
    ------
    AuditFull, AuditUnwritable
        If it cannot be written.
    """
    with closing(open_trail(settings)) as trail:
        trail.append(event)
        trail.sync()
