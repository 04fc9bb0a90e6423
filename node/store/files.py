"""A store in a folder: temporary file, write, fsync, a name; the folder's own fsync for what the node writes itself."""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic
from uuid import uuid4

from node.domain.durability import Durability
from node.errors import BadIdentifier, StoreFull
from node.store.durability import open_sync
from node.store.port import Content, View
from node.store.spool import FileSpool, Surroundings
from node.store.volume import sync_folder, volume_errors
from node.store.window import FileWindow

INCOMING = ".incoming"
SET_ASIDE = ".set-aside"
# Temporary names of received Instances; those of Results have none, and are never adopted.
SPOOL_SUFFIX = ".received"
# So long a volume that had room counts as having it; nobody fills a reserve in that time.
ROOMY_S = 0.1
SAFE_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Free space that the node leaves alone; the smaller of the two counts.

    Attributes
    ----------
    reserve_bytes
        Bytes, >= 0.
    reserve_percent
        Percent of the volume, 0-90.
    """

    reserve_bytes: int
    reserve_percent: float

    def of_volume(self, total_bytes: int) -> int:
        """Return the reserve of a volume of `total_bytes`, in bytes."""
        return min(self.reserve_bytes, int(total_bytes * self.reserve_percent / 100))


def require_room(folder: Path, reserve: Reserve, size_bytes: int = 0) -> None:
    """Raise StoreFull when `size_bytes` more on the volume of `folder` would eat into the reserve."""
    with volume_errors(folder):
        volume = os.statvfs(folder)
    free = volume.f_bavail * volume.f_frsize
    if free - size_bytes < (kept := reserve.of_volume(volume.f_blocks * volume.f_frsize)):
        raise StoreFull(
            f"store has {free} bytes free and keeps {kept} in reserve; free space, or lower store.reserve_bytes"
        )


class FileStore:
    """Whole files below one folder.

    What `add` and `put` have returned for survives ``kill -9`` and loss of power: the bytes are fsynced before the file
    gets its name, and the folder that holds the name is fsynced before the method returns, a new folder into its parent
    likewise. A spool waits for its bytes as `durability` says, and needs no fsync of the folder (docs/durability.md).

    Parameters
    ----------
    root
        Folder of the store, created when absent. Temporary files lie in it, so that a rename never crosses volumes.
    reserve
        Free space below which nothing more is taken.
    durability
        What `spool` waits for; `add` and `put` always wait for everything.
    """

    def __init__(self, root: Path, reserve: Reserve, durability: Durability = Durability.FSYNC) -> None:
        self._root = root.absolute()
        self._reserve = reserve
        self._incoming = self._root / INCOMING
        with volume_errors(self._root):
            self._incoming.mkdir(parents=True, exist_ok=True)
            sync = open_sync(durability, self._root)
        self._surroundings = Surroundings(root=self._root, locate=self._locate, sync=sync, check_space=self.check_space)
        # Together a name of its own for each spool, whoever else writes here.
        self._token, self._numbers = uuid4().hex, count()
        self._roomy_until_s = 0.0

    def spool(self) -> FileSpool:
        """Begin a file that is written in pieces and gets its name when it is whole.

        Raises
        ------
        StoreFull
            If the volume is below its reserve, or full.
        Transient
            If the volume failed in another way.
        """
        self.check_space()
        return FileSpool(f"{self._incoming}/{self._token}-{next(self._numbers)}{SPOOL_SUFFIX}", self._surroundings)

    def leftovers(self, *, min_age_s: float = 0.0) -> Iterator[FileSpool]:
        """Yield every spool whose writer died; one whose writer lives is locked and left alone.

        Parameters
        ----------
        min_age_s
            As that of `sweep`.
        """
        for path in sorted(self._incoming.glob(f"*{SPOOL_SUFFIX}")):
            # Another node on this store finishes and renames its own meanwhile.
            with suppress(FileNotFoundError):
                if _is_of_age(path, min_age_s) and not _is_locked(path):
                    yield FileSpool(str(path), self._surroundings, is_new=False)

    def add(self, relative_path: str, content: Content) -> bool:
        """Return True after `content` is durable at `relative_path`, False when the path was taken.

        Raises
        ------
        BadIdentifier
            If the path would leave the store.
        StoreFull
            If the volume is below its reserve, or became full; nothing is left behind.
        Transient
            If the volume failed in another way.
        """
        target = self.path(relative_path)
        with self._written(content) as temporary:
            try:
                # Unlike rename, link never replaces: of two writers of one path exactly one wins.
                _into_folder(target, lambda: os.link(temporary, target))
            except FileExistsError:
                return False
        return True

    def put(self, relative_path: str, content: Content) -> None:
        """Return after `content` is durable at `relative_path`; a former file is replaced in one step.

        Raises
        ------
        BadIdentifier
            If the path would leave the store.
        StoreFull
            If the volume is below its reserve, or became full; the former file stays.
        Transient
            If the volume failed in another way.
        """
        target = self.path(relative_path)
        with self._written(content) as temporary:
            _into_folder(target, lambda: temporary.replace(target))

    def path(self, relative_path: str) -> Path:
        """Return where `relative_path` lies.

        Raises
        ------
        BadIdentifier
            If a component is empty, begins with a dot, or holds other than letters, digits, dot, dash, underscore.
        """
        return Path(self._locate(relative_path))

    def exists(self, relative_path: str) -> bool:
        """Return whether a file lies at `relative_path`."""
        return os.path.isfile(self._locate(relative_path))  # noqa: PTH113 asked for each Instance

    def read(self, relative_path: str) -> bytes:
        """Return the whole file at `relative_path`.

        Raises
        ------
        Transient
            If the file is not there or cannot be read.
        """
        with volume_errors(self._root):
            return self.path(relative_path).read_bytes()

    @contextmanager
    def view(self, relative_path: str) -> Iterator[View]:
        """Give the file at `relative_path`, without holding it in memory.

        Raises
        ------
        Transient
            If the file is not there or cannot be read.
        """
        with volume_errors(self._root), self.path(relative_path).open("rb") as file:
            yield FileWindow(file.fileno(), os.fstat(file.fileno()).st_size)

    def delete(self, relative_path: str) -> None:
        """Remove the file at `relative_path`; nothing happens when it is gone already."""
        with volume_errors(self._root):
            self.path(relative_path).unlink(missing_ok=True)

    def renew(self, relative_path: str) -> None:
        """Return after the file at `relative_path` has the time of now, as durably as what `spool` keeps."""
        with volume_errors(self._root), self.path(relative_path).open("rb") as file:
            # The kernel's own would be some milliseconds coarse.
            now_ns = time.time_ns()
            os.utime(file.fileno(), ns=(now_ns, now_ns))
            self._surroundings.sync(file.fileno())

    def set_aside(self, relative_path: str) -> None:
        """Move the file at `relative_path` to ``.set-aside`` of the root, keeping its path below it."""
        source = self.path(relative_path)
        target = self._root / SET_ASIDE / relative_path
        with volume_errors(self._root):
            _into_folder(target, lambda: source.replace(target))

    def list_paths(self, folder: str, *, depth: int | None = None) -> Iterator[str]:
        """Yield the relative path of every file below `folder`, in no order; as the port says."""
        top = self.path(folder)
        for base, folders, names in os.walk(top):
            if depth is not None and len(Path(base).relative_to(top).parts) >= depth:
                folders.clear()
            for name in names:
                yield (Path(base) / name).relative_to(self._root).as_posix()

    def sweep(self, *, min_age_s: float = 0.0) -> int:
        """Remove temporary files whose writer is gone, and return how many there were.

        Every writer holds a lock on its temporary file; the kernel lets go of it when the writer dies. So a sweep
        at start-up never takes the file of a worker that is alive.

        Parameters
        ----------
        min_age_s
            Since the last write, seconds; where others are at work, more than 0: a lock comes after its file.
        """
        removed = 0
        with volume_errors(self._root):
            for leftover in self._incoming.iterdir():
                # Those who are at work finish and rename theirs meanwhile.
                with suppress(FileNotFoundError):
                    if _is_of_age(leftover, min_age_s):
                        removed += _remove_unlocked(leftover)
        return removed

    def check_space(self, size_bytes: int = 0) -> None:
        """Raise StoreFull when `size_bytes` more would eat into the reserve."""
        now = monotonic()
        if not size_bytes and now < self._roomy_until_s:
            return
        require_room(self._root, self._reserve, size_bytes)
        self._roomy_until_s = now + ROOMY_S

    def _locate(self, relative_path: str) -> str:
        if SAFE_PATH.match(relative_path) is None:
            shown = relative_path[:80].encode("ascii", "backslashreplace").decode()
            raise BadIdentifier(f"{shown!r} is no path inside the store; name it by UIDs")
        return f"{self._root}/{relative_path}"

    @contextmanager
    def _written(self, content: Content) -> Iterator[Path]:
        chunks = (content,) if isinstance(content, bytes) else content
        self.check_space(sum(map(len, chunks)))
        temporary = self._incoming / uuid4().hex
        try:
            with volume_errors(self._root), temporary.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
                yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _into_folder(target: Path, give_name: Callable[[], object]) -> None:
    try:
        give_name()
    except FileNotFoundError:
        _make_folder(target.parent)
        give_name()
    sync_folder(target.parent)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def _remove_unlocked(leftover: Path) -> bool:
    if _is_locked(leftover):
        return False
    leftover.unlink(missing_ok=True)
    return True


def _is_of_age(leftover: Path, min_age_s: float) -> bool:
    # One of tomorrow is from before the clock was set back.
    return abs(time.time() - leftover.stat().st_mtime) >= min_age_s


def _is_locked(leftover: Path) -> bool:
    with leftover.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
