"""What a process of the pool answered, until a client has taken it: the small in memory, the large in a file."""

import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from threading import Condition

from node.errors import Broken, DecodersBusy
from node.store.volume import volume_errors

# In memory at most; a client that takes nothing holds so much, and 512 of them 128 MiB.
INLINE_BYTES = 256 * 1024
# All answers together that clients have not taken yet. One alone may be larger, else it could never be had.
MAX_OUTSTANDING_BYTES = 2 * 2**30
CHUNK_BYTES = 256 * 1024


class Cargo:
    """Some bytes, written once and read as often as one likes.

    Parameters
    ----------
    folder
        Where large ones lie, in a file without a name: it is gone with the cargo, and with the process.
    """

    def __init__(self, size_bytes: int, folder: Path) -> None:
        self.size_bytes = size_bytes
        self._content = bytearray()
        self._folder = folder
        self._descriptor = -1
        if size_bytes > INLINE_BYTES:
            with volume_errors(folder), tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                self._descriptor = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._descriptor)

    def write(self, piece: bytes) -> None:
        """Append the next bytes.

        Raises
        ------
        StoreFull
            If there is no room for them.
        """
        if self._descriptor < 0:
            self._content += piece
            return
        view = memoryview(piece)
        with volume_errors(self._folder):
            while view:
                view = view[os.write(self._descriptor, view) :]

    def chunks(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `begin` to before `end`."""
        at, end = begin, self.size_bytes if end is None else min(end, self.size_bytes)
        while at < end:
            size = min(CHUNK_BYTES, end - at)
            if self._descriptor < 0:
                chunk = bytes(self._content[at : at + size])
            else:
                with volume_errors(self._folder):
                    chunk = os.pread(self._descriptor, size, at)
                if not chunk:
                    raise Broken("an answer ended before its time; ask again")
            at += len(chunk)
            yield chunk

    def read(self) -> bytes:
        """Return all bytes."""
        return b"".join(self.chunks())


class Hold:
    """Room for cargo; what is not there is waited for, or refused.

    Parameters
    ----------
    wait_s
        How long an answer waits for room of which a part is out already.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MAX_OUTSTANDING_BYTES, wait_s: float) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._wait_s = wait_s
        self._taken_bytes = 0
        self._has_room = Condition()

    def load(self, size_bytes: int, *, is_under_way: bool) -> Cargo:
        """Return room for so many bytes; it is free again when nobody knows the cargo any more.

        Raises
        ------
        DecodersBusy
            If too much waits for clients already.
        """
        cargo = self._load(size_bytes, wait_s=self._wait_s if is_under_way else 0)
        if cargo is None:
            raise DecodersBusy(f"{self._taken_bytes} bytes wait for the clients that asked for them; try again")
        return cargo

    def find_room(self, size_bytes: int) -> Cargo | None:
        """Return room for so many bytes as `load` does; None where there is none now."""
        return self._load(size_bytes, wait_s=0)

    def _load(self, size_bytes: int, *, wait_s: float) -> Cargo | None:
        with self._has_room:
            if not self._has_room.wait_for(lambda: self._fits(size_bytes), wait_s):
                return None
            self._taken_bytes += size_bytes
        try:
            cargo = Cargo(size_bytes, self._folder)
        except BaseException:
            self._free(size_bytes)
            raise
        weakref.finalize(cargo, self._free, size_bytes)
        return cargo

    def _fits(self, size_bytes: int) -> bool:
        return not self._taken_bytes or self._taken_bytes + size_bytes <= self._most_bytes

    def _free(self, size_bytes: int) -> None:
        with self._has_room:
            self._taken_bytes -= size_bytes
            self._has_room.notify_all()
