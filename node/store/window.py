"""A file that is read like bytes, of which only a small window is held."""

import os

# The header of most Instances lies in the first; a mapping of the file costs more than reading it.
WINDOW_BYTES = 64 * 1024


class FileWindow:
    """The content of an open descriptor, to be sliced; the slices are the only bytes that stay.

    Parameters
    ----------
    size_bytes
        Of the file, which must not shrink meanwhile.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._begin = 0
        self._held = b""

    def __len__(self) -> int:
        return self._size_bytes

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop = part.start or 0, self._size_bytes if part.stop is None else part.stop
        at = start - self._begin
        end = stop - self._begin
        if at >= 0 and end <= len(self._held):
            return self._held[at:end]
        stop = min(stop, self._size_bytes)
        if stop - start > WINDOW_BYTES:
            return os.pread(self._descriptor, stop - start, start)
        self._held, self._begin = os.pread(self._descriptor, WINDOW_BYTES, start), start
        return self._held[: max(stop - start, 0)]
