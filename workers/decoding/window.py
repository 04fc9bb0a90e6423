"""Memory that a decoder shares with its owner, so that pixels cross without a pipe."""

import fcntl
import mmap
import os

import numpy as np
from numpy.typing import NDArray

NAME = "radnode-slice"
# What a decoder says of a file that is not as the ledger tells; it is asked again then, without the ledger's help.
ODD = b""
# What it says, in front of the number of the error, of a file that the system does not let it read.
UNREAD = b"!"


class Window:
    """The owner's side: a nameless file in memory, as large as the largest slice so far.

    The decoder cannot make it smaller: who looks at pages that are no longer there dies.
    """

    def __init__(self) -> None:
        self.descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self._view = np.empty(0, np.uint8)

    def make_room(self, size_bytes: int) -> None:
        """Let it hold so many bytes at least; > 0."""
        if self._view.size < size_bytes:
            # What its other holder made larger stays so.
            os.ftruncate(self.descriptor, max(size_bytes, os.fstat(self.descriptor).st_size))
            self._view = map_window(self.descriptor)

    def look(self, dtype: np.dtype[np.generic], shape: tuple[int, int]) -> NDArray[np.generic]:
        """Return what the decoder wrote, as (rows, columns); valid until it is asked again."""
        return self._view[: dtype.itemsize * shape[0] * shape[1]].view(dtype).reshape(shape)

    def close(self) -> None:
        """Let go of the file; its memory goes with the last view of it."""
        self._view = np.empty(0, np.uint8)
        os.close(self.descriptor)


def map_window(descriptor: int) -> NDArray[np.uint8]:
    """Return all bytes of a window."""
    return np.frombuffer(mmap.mmap(descriptor, 0), np.uint8)
