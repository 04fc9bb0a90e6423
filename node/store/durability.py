"""How the bytes of a received Instance become durable: one by one, many at once, or when the kernel likes."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from threading import Condition

from node.domain.durability import Durability

# The C library's own syncfs(); Python has os.sync(), which waits for every volume of the machine.
_LIBC = ctypes.CDLL(None, use_errno=True)


Sync = Callable[[int], None]


def open_sync(durability: Durability, folder: Path) -> Sync:
    """Return what makes the file of an open descriptor durable, as `durability` says.

    Parameters
    ----------
    folder
        On the volume that holds the files.
    """
    if durability is Durability.NONE:
        return _no_sync
    return os.fsync if durability is Durability.FSYNC else GroupCommit(folder).wait


def sync_folder(folder: Path) -> None:
    """Return after the names in a folder are durable, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_sync(_descriptor: int) -> None:
    """Return at once: the bytes are the kernel's, and survive the end of this process, not the end of power."""


class GroupCommit:
    """Makes everything durable that waits, with one call for all: who comes while one runs shares the next.

    The first who finds nobody at work does the work for all who wait, so it needs no thread of its own.
    """

    def __init__(self, folder: Path) -> None:
        # Kept open: the kernel reports a failed write to each descriptor that was open when it failed.
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._changed = Condition()
        self._begun = 0
        self._done = 0
        self._is_running = False
        # Whether any round ever failed: from then on nobody trusts a round alone.
        self._has_failed = False

    def wait(self, descriptor: int) -> None:
        """Return after everything that was written before this call is durable.

        Raises
        ------
        OSError
            If the volume could not write something of the round; nobody in it is told Success.
        """
        with self._changed:
            # A round that has begun may have missed our bytes.
            mine = self._begun + 1
            while self._done < mine:
                if self._is_running:
                    self._changed.wait()
                else:
                    self._run_round()
            has_failed = self._has_failed
        if has_failed:
            # The kernel tells the failure of a round once; what it has to say of this file it tells this file.
            os.fsync(descriptor)

    def _run_round(self) -> None:
        self._is_running = True
        self._begun += 1
        mine = self._begun
        self._changed.release()
        failed = True
        try:
            failed = _syncfs(self._descriptor)
        finally:
            self._changed.acquire()
            self._is_running = False
            self._done = mine
            self._changed.notify_all()
            self._has_failed |= failed


def _syncfs(descriptor: int) -> bool:
    """Return whether the volume could not write something."""
    return bool(_LIBC.syncfs(descriptor))
