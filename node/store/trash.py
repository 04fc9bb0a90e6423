"""The trash of a store: whole folders that are given up, out of everybody's way until nobody wants them back."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from node.store.volume import sync_folder, volume_errors

TRASH = ".trash"


class Trash:
    """Folders of a store that are going; each batch has a name of its own.

    A folder goes into the trash in one step, with all that is written into it at that moment. What comes later begins
    a new folder, and no writer notices. Each step may be repeated: after ``kill -9`` the same calls go on.

    Parameters
    ----------
    root
        Folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._trash = self._root / TRASH

    def throw(self, batch: str, folder: str) -> None:
        """Move `folder`, a path relative to the store, into `batch`; nothing happens when it is not there, or is in.

        Raises
        ------
        StoreFull, Transient
            If the volume does not do it.
        """
        target = self._trash / batch / folder
        with volume_errors(self._root):
            if target.exists():
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                (self._root / folder).rename(target)
                sync_folder(target.parent)

    def youngest_at(self, batch: str, folder: str) -> float | None:
        """Return when the youngest file of `folder` in `batch` was written, seconds since 1970; None: there is none."""
        return _youngest_at(self._trash / batch / folder)

    def written_at(self, folder: str) -> float | None:
        """Return when the youngest file of `folder`, which is in place, was written; None: there is none."""
        return _youngest_at(self._root / folder)

    def restore(self, batch: str) -> tuple[str, ...]:
        """Put everything in `batch` back where nothing else has come, and return its paths, oldest first.

        The files stay in the batch as well, until `empty`.

        Raises
        ------
        StoreFull, Transient
            If the volume does not do it.
        """
        with volume_errors(self._root):
            files = sorted(_files(self._trash / batch), key=lambda path: path.stat().st_mtime_ns)
            paths = [path.relative_to(self._trash / batch).as_posix() for path in files]
            for path, relative in zip(files, paths, strict=True):
                target = self._root / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    os.link(path, target)
                    sync_folder(target.parent)
        return tuple(paths)

    def empty(self, batch: str) -> None:
        """Remove `batch` for good; nothing happens when it is not there."""
        with volume_errors(self._root), suppress(FileNotFoundError):
            shutil.rmtree(self._trash / batch)
            sync_folder(self._trash)

    def batches(self) -> tuple[str, ...]:
        """Return the names of all batches."""
        if not self._trash.is_dir():
            return ()
        return tuple(sorted(path.name for path in self._trash.iterdir()))

    def use_of_volume(self) -> tuple[int, int]:
        """Return the bytes of the volume and how many of them are free."""
        with volume_errors(self._root):
            volume = os.statvfs(self._root)
        return volume.f_blocks * volume.f_frsize, volume.f_bavail * volume.f_frsize


def _files(folder: Path) -> Iterator[Path]:
    for base, _, names in os.walk(folder):
        for name in names:
            yield Path(base) / name


def _youngest_at(folder: Path) -> float | None:
    return max((path.stat().st_mtime for path in _files(folder)), default=None)
