"""A file that is being received: written in pieces, then given its name in the store, or forgotten."""

import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from node.store.durability import Sync
from node.store.volume import volume_error, volume_errors
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
    sync
        Makes the file of a descriptor durable.
    check_space
        Raises when so many bytes more would eat into the reserve.
    """

    root: Path
    locate: Callable[[str], str]
    sync: Sync
    check_space: Callable[[int], None]


class FileSpool:
    """A temporary file of the store, locked as long as it is open.

    `keep` makes the bytes durable, then gives them their name with link(), which never replaces, then drops the
    temporary name. Until the name is durable too, the temporary one is, so the start-up scan finds the bytes under one
    of them (docs/durability.md).
    """

    def __init__(self, temporary: str, surroundings: Surroundings, *, is_new: bool = True) -> None:
        self._temporary = temporary
        self._surroundings = surroundings
        self._needs_sync = True
        self._failure: OSError | None = None
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if is_new else 0)
        with volume_errors(surroundings.root):
            self._descriptor = os.open(temporary, flags, 0o666)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.size_bytes = 0 if is_new else os.fstat(self._descriptor).st_size
            except OSError:
                os.close(self._descriptor)
                raise
        self._next_check = CHECK_EVERY_BYTES

    def write(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Append `buffers`, at most 1,024 of them."""
        expected = sum(map(len, buffers))
        try:
            written = os.writev(self._descriptor, buffers)
            if written < expected:
                self._write_rest(b"".join(buffers)[written:])
        except OSError as exc:
            raise volume_error(exc, self._surroundings.root) from exc
        self.size_bytes += expected
        if self.size_bytes >= self._next_check:
            self._surroundings.check_space(0)
            self._next_check = self.size_bytes + CHECK_EVERY_BYTES

    def view(self) -> AbstractContextManager[FileWindow]:
        """Give what was written, without holding it in memory."""
        return nullcontext(FileWindow(self._descriptor, self.size_bytes))

    def keep(self, relative_path: str) -> bool:
        """Return True after the file is durable at `relative_path`, False when the path was taken."""
        target = self._surroundings.locate(relative_path)
        try:
            self._sync()
            self._link(target)
        except FileExistsError:
            return False
        except OSError as exc:
            raise volume_error(exc, self._surroundings.root) from exc
        self.discard()
        return True

    def discard(self) -> None:
        """Drop the temporary file; nothing happens the second time."""
        if self._descriptor < 0:
            return
        # What cannot be removed the next sweep removes.
        with suppress(OSError):
            os.unlink(self._temporary)  # noqa: PTH108 once for each Instance; a Path takes longer than the call
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _sync(self) -> None:
        if self._failure is not None:
            # Asking the kernel again would prove nothing: it may have dropped what it could not write.
            raise self._failure
        if not self._needs_sync:
            return
        try:
            self._surroundings.sync(self._descriptor)
        except OSError as exc:
            self._failure = exc
            raise
        self._needs_sync = False

    def _write_rest(self, rest: bytes) -> None:
        view = memoryview(rest)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _link(self, target: str) -> None:
        try:
            os.link(self._temporary, target)
        except FileNotFoundError:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            os.link(self._temporary, target)
