"""What the node asks of a place where bytes rest."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

Content = bytes | Sequence[bytes]


class View(Protocol):
    """What is read without being held in memory; it can be cut like bytes."""

    def __len__(self) -> int:
        """Return how many bytes there are."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Return the bytes of `part`, which has no step."""


class Spool(Protocol):
    """A file that is being received; exactly one of `keep` that returns True, and `discard`, ends it."""

    size_bytes: int

    def write(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Append `buffers`.

        Raises
        ------
        StoreFull
            If the volume is below its reserve, or became full.
        Transient
            If the volume failed in another way.
        """

    def view(self) -> AbstractContextManager[View]:
        """Give what was written, without holding it in memory."""

    def keep(self, relative_path: str) -> bool:
        """Return True after the bytes are durable and named, False when the name was taken (nothing changed).

        Raises
        ------
        StoreFull
            If the volume became full.
        Transient
            If the bytes could not be made durable; they must be received anew, trying again would prove nothing.
        """

    def discard(self) -> None:
        """Forget it; nothing happens the second time, or after `keep`."""


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

    def spool(self) -> Spool:
        """Begin a file that gets its name when it is whole.

        Raises
        ------
        StoreFull
            If the volume is below its reserve, or full.
        Transient
            If the volume failed in another way.
        """

    def leftovers(self, *, min_age_s: float = 0.0) -> Iterator[Spool]:
        """Yield every spool whose writer died, as it stands; call it before `sweep`, which removes them.

        Parameters
        ----------
        min_age_s
            As that of `sweep`.
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

    def view(self, relative_path: str) -> AbstractContextManager[View]:
        """Give the file at `relative_path`, without holding it in memory."""

    def delete(self, relative_path: str) -> None:
        """Remove the file at `relative_path`; nothing happens when it is gone already."""

    def renew(self, relative_path: str) -> None:
        """Return after the file at `relative_path` is durably the youngest of all.

        Raises
        ------
        Transient
            If the volume failed.
        """

    def set_aside(self, relative_path: str) -> None:
        """Move a file that nobody can read out of the way, where a person finds it."""

    def list_paths(self, folder: str, *, depth: int | None = None) -> Iterator[str]:
        """Yield the relative path of every file below `folder`.

        Parameters
        ----------
        depth
            So many folders further down, and no further; None: all the way.
        """

    def sweep(self, *, min_age_s: float = 0.0) -> int:
        """Remove what writers that died have left, and return how many files that were.

        Parameters
        ----------
        min_age_s
            Since the last write, seconds; where others are at work, more than 0: a lock comes after its file.
        """

    def check_space(self, size_bytes: int = 0) -> None:
        """Raise StoreFull when `size_bytes` more would eat into the reserve."""
