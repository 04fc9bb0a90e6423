"""What a Job frees stays in the process until the Job ends, and goes back to the system then.

By itself glibc gives each large array back at once, and the system fills the next one with zeros, page by page: of
twelve passes over a volume half of the time was that.

References: mallopt(3), malloc_trim(3)
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
# Of freed memory at the end of the heap, bytes; the most that an int holds.
NEVER = 2**31 - 1


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
