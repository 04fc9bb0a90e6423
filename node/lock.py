"""One node to a data folder: a second one would take the first one's files for leftovers of a crash."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from node.errors import DataDirInUse

LOCK_FILE = "node.lock"
NAME_DIGITS = 12


class FolderLock:
    """An exclusive hold on a folder that ends with this process, however it ends.

    Parameters
    ----------
    name
        Of the file that is locked: who holds it under one name does not keep others from holding it under another.
    """

    def __init__(self, folder: Path, *, name: str = LOCK_FILE) -> None:
        self._path = folder / name
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is held by this object."""
        return self._descriptor is not None

    def hold(self, *, waits: bool = False) -> None:
        """Take the folder.

        Parameters
        ----------
        waits
            Until whoever holds it lets go, however long that takes.

        Raises
        ------
        DataDirInUse
            If another process holds it.
        """
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise DataDirInUse(
                f"{self._path.parent} belongs to a running node; stop that one, or set node.data_dir to another folder"
            ) from exc
        self._descriptor = descriptor

    def read_name(self) -> str:
        """Return what tells this folder from every other one, made when it is asked for the first time.

        Only who holds it may ask.
        """
        name = self._path.read_text(encoding="ascii")
        if not name:
            name = uuid4().hex[:NAME_DIGITS]
            # On a volume without room it is of this life only.
            with suppress(OSError):
                self._path.write_text(name, encoding="ascii")
        return name

    def let_go(self) -> None:
        """Give the folder back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None
