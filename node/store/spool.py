"""A file that is being received: written in pieces, then given its name in the store, or forgotten."""

import fcntl
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from node.store.durability import BeginSync
from node.store.volume import volume_errors
from node.store.window import FileWindow

# How much may come before the free space is looked at again.
CHECK_EVERY_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a spool needs of its store.

    Attributes
    ----------
    root
        Folder of the store, for messages.
    locate
        Returns where a relative path lies.
    begin_sync
        Begins to make the file of a descriptor durable.
    check_space
        Raises when so many bytes more would eat into the reserve.
    """

    root: Path
    locate: Callable[[str], Path]
    begin_sync: BeginSync
    check_space: Callable[[int], None]


class FileSpool:
    """A temporary file of the store, locked as long as it is open.

    `keep` makes the bytes durable, then gives them their name with link(), which never replaces, then drops the
    temporary name. Until the name is durable too, the temporary one is, so the start-up scan finds the bytes under one
    of them (docs/durability.md).
    """

    def __init__(self, temporary: Path, surroundings: Surroundings, *, is_new: bool = True) -> None:
        self._temporary = temporary
        self._surroundings = surroundings
        # A file that was found has all its bytes on the disk, or they are gone.
        self._syncing: Future[None] | None = None
        self._needs_sync = is_new
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if is_new else 0)
        with volume_errors(surroundings.root):
            self._descriptor = os.open(temporary, flags, 0o666)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.size_bytes = os.fstat(self._descriptor).st_size
        self._next_check = CHECK_EVERY_BYTES

    def write(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Append `buffers`, at most 1,024 of them."""
        expected = sum(map(len, buffers))
        with volume_errors(self._surroundings.root):
            written = os.writev(self._descriptor, buffers)
            if written < expected:
                self._write_rest(b"".join(buffers)[written:])
        self.size_bytes += expected
        if self.size_bytes >= self._next_check:
            self._surroundings.check_space(0)
            self._next_check = self.size_bytes + CHECK_EVERY_BYTES

    def view(self) -> AbstractContextManager[FileWindow]:
        """Give what was written, without holding it in memory."""
        return nullcontext(FileWindow(self._descriptor, self.size_bytes))

    def begin_sync(self) -> None:
        """Begin to make what was written durable; `keep` waits for it. Nothing may be written any more."""
        if self._needs_sync and self._syncing is None:
            self._syncing = self._surroundings.begin_sync(self._descriptor)

    def keep(self, relative_path: str) -> bool:
        """Return True after the file is durable at `relative_path`, False when the path was taken."""
        target = self._surroundings.locate(relative_path)
        self.begin_sync()
        with volume_errors(self._surroundings.root):
            if self._syncing is not None:
                # Raises each time when it failed once: asking the kernel again would prove nothing.
                self._syncing.result()
            try:
                self._link(target)
            except FileExistsError:
                return False
        self.discard()
        return True

    def discard(self) -> None:
        """Drop the temporary file; nothing happens the second time."""
        if self._descriptor < 0:
            return
        if self._syncing is not None:
            # The descriptor could be somebody else's by then.
            wait((self._syncing,))
        with suppress(FileNotFoundError):
            self._temporary.unlink()
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _write_rest(self, rest: bytes) -> None:
        view = memoryview(rest)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _link(self, target: Path) -> None:
        try:
            os.link(self._temporary, target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(self._temporary, target)
