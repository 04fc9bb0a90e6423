"""One node to a data folder: a second one would take the first one's files for leftovers of a crash."""

import fcntl
import os
from pathlib import Path

from node.errors import DataDirInUse

LOCK_FILE = "node.lock"


class FolderLock:
    """An exclusive hold on a folder that ends with this process, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_FILE
        self._descriptor: int | None = None

    def hold(self) -> None:
        """Take the folder.

        Raises
        ------
        DataDirInUse
            If another process holds it.
        """
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise DataDirInUse(
                f"{self._path.parent} belongs to a running node; stop that one, or set node.data_dir to another folder"
            ) from exc
        self._descriptor = descriptor

    def let_go(self) -> None:
        """Give the folder back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None
