"""A small volume for a node's data, which can be filled and freed."""

import os
from pathlib import Path

BALLAST = "ballast"
SMALLEST_BYTES = 4096


class Disk:
    """The volume that is mounted at `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self, *, leave_bytes: int) -> None:
        """Take all but so many bytes of what is free."""
        with (self._folder / BALLAST).open("wb") as file:
            size_bytes = self._free_bytes()
            while (left_bytes := self._free_bytes() - leave_bytes) > 0 and size_bytes >= SMALLEST_BYTES:
                size_bytes = min(size_bytes, left_bytes)
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size_bytes)
                except OSError:
                    # Others write meanwhile, and the last of what counts as free nobody can have.
                    size_bytes //= 2

    def free(self) -> None:
        """Give it back."""
        (self._folder / BALLAST).unlink(missing_ok=True)

    def _free_bytes(self) -> int:
        volume = os.statvfs(self._folder)
        # With what only root may take, who runs the node here.
        return volume.f_bfree * volume.f_frsize
