"""What a Job frees stays in the process for the next one, and goes back to the system when none comes for a while.

By itself glibc gives each large array back at once, and the system fills the next one with zeros, page by page: of
twelve passes over a volume half of the time was that, and of a short Job on a virtual machine, whose host has to find
the pages too, half of the whole.

References: mallopt(3), malloc_trim(3)
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
# Of freed memory at the end of the heap, bytes; the most that an int holds.
NEVER = 2**31 - 1
# Longer than a queue that is worked off leaves between two Jobs; an idle worker is small soon after.
IDLE_S = 30.0


class SpareMemory:
    """What a process freed, and when the system gets it back.

    Parameters
    ----------
    idle_s
        Seconds without use after which it does.
    """

    def __init__(self, *, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._end = threading.Timer(0.0, give_memory_back)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Give nothing back while the block runs, and what is spare some time after it."""
        self._end.cancel()
        try:
            yield
        finally:
            self._end = threading.Timer(self._idle_s, give_memory_back)
            self._end.daemon = True
            self._end.start()


def keep_freed_memory() -> None:
    """Let this process reuse what it freed; nothing happens where the C library is not glibc."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, NEVER)


def give_memory_back() -> None:
    """Give the system what was freed; nothing happens where the C library is not glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
