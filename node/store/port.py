"""What the node asks of a place where bytes rest."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

Content = bytes | Sequence[bytes]


class Store(Protocol):
    """Keeps whole files under relative paths; a file is there completely or not at all."""

    def add(self, relative_path: str, content: Content) -> bool:
        """Return True after `content` is durable at `relative_path`, False when the path was taken (nothing changed).

        Raises
        ------
        StoreFull
            If the volume is below its reserve, or became full; nothing is left behind.
        Transient
            If the volume failed in another way.
        """

    def put(self, relative_path: str, content: Content) -> None:
        """Return after `content` is durable at `relative_path`; a former file is replaced in one step.

        Raises
        ------
        StoreFull
            If the volume is below its reserve, or became full; the former file stays.
        Transient
            If the volume failed in another way.
        """

    def path(self, relative_path: str) -> Path:
        """Return where `relative_path` lies; never outside the store."""

    def exists(self, relative_path: str) -> bool:
        """Return whether a file lies at `relative_path`."""

    def read(self, relative_path: str) -> bytes:
        """Return the whole file at `relative_path`."""

    def delete(self, relative_path: str) -> None:
        """Remove the file at `relative_path`; nothing happens when it is gone already."""

    def set_aside(self, relative_path: str) -> None:
        """Move a file that nobody can read out of the way, where a person finds it."""

    def list_paths(self, folder: str) -> Iterator[str]:
        """Yield the relative path of every file below `folder`."""

    def sweep(self) -> int:
        """Remove what writers that died have left, and return how many files that were."""

    def check_space(self, size_bytes: int = 0) -> None:
        """Raise StoreFull when `size_bytes` more would eat into the reserve."""
