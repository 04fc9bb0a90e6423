"""The data folder of a node: made at its first start, and open to the user of its service alone."""

import os
from pathlib import Path

from node.errors import SettingsInvalid

REMEDY = "run radnode as the user of the service, or correct node.data_dir"


def make_data_folder(folder: Path) -> None:
    """Return after the folder is there, and whoever asks may work in it.

    Raises
    ------
    SettingsInvalid
        If it cannot be made, or is not open to this user.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsInvalid(f"data folder {folder.absolute()} cannot be made ({exc.strerror}); {REMEDY}") from exc
    _require_open(folder)


def has_data_folder(folder: Path, *, writes: bool = True) -> bool:
    """Return whether the folder is there; nothing is made.

    Parameters
    ----------
    writes
        Whoever asks may have to write there, as all that asks a ledger on SQLite.

    Raises
    ------
    SettingsInvalid
        If it is not open to this user.
    """
    try:
        is_there = folder.is_dir()
    except PermissionError as exc:
        raise _closed(folder) from exc
    if is_there:
        _require_open(folder, writes=writes)
    return is_there


def _require_open(folder: Path, *, writes: bool = True) -> None:
    if not os.access(folder, os.R_OK | os.X_OK | (os.W_OK if writes else 0)):
        raise _closed(folder)


def _closed(folder: Path) -> SettingsInvalid:
    return SettingsInvalid(f"data folder {folder.absolute()} is not open to this user; {REMEDY}")
