"""The journal of one receiver: which files it has acknowledged and not yet recorded, for whoever comes after it."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from node.errors import DataDirInUse, LedgerBusy

# In the data folder of a node, for the journals of all its receivers.
FOLDER = "receivers"
SUFFIX = ".journal"
POLL_S = 0.05


class Journal:
    """Notes paths before their sender is told Success, and forgets them when their rows are committed.

    It survives the end of the process that wrote it, ``kill -9`` too, and not a loss of power: nothing is flushed,
    and after a loss of power the start-up scan looks at every file anyway. Two files take turns: one is emptied as
    soon as every row that it names is committed, and is written next; so both stay short, however long the load lasts.

    Parameters
    ----------
    folder
        Of the journals of all receivers of a node; made when absent.
    number
        Which receiver; no other process may hold its journal at a time.
    wait_s
        How long to wait for a process that still holds it.

    Raises
    ------
    DataDirInUse
        If it is held all that time.
    """

    def __init__(self, folder: Path, number: int, *, wait_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"{number}-{turn}{SUFFIX}" for turn in (0, 1)]
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        # What the older one names is committed once `_turn` rows are.
        self._older, self._newer = (os.open(path, flags, 0o600) for path in self._paths)
        self._noted = self._committed = self._turn = 0
        self._take_hold(monotonic() + wait_s)

    def pending(self) -> Sequence[str]:
        """Return the paths that an earlier life has noted, in their order, each once."""
        lines: list[tuple[int, str]] = []
        for path in self._paths:
            # The last line may be cut: nobody was told Success for it.
            for line in path.read_text(encoding="ascii", errors="replace").splitlines(keepends=True):
                order, _, noted = line.partition(" ")
                if noted.endswith("\n") and order.isdecimal():
                    lines.append((int(order), noted.removesuffix("\n")))
        latest_first = dict.fromkeys(noted for _, noted in sorted(lines, reverse=True))
        return list(reversed(latest_first))

    def clear(self) -> None:
        """Forget what an earlier life has noted; it is recorded now."""
        os.ftruncate(self._older, 0)
        os.ftruncate(self._newer, 0)

    def note(self, path: str) -> None:
        """Note that the file at `path` is about to be acknowledged.

        Raises
        ------
        LedgerBusy
            If the line cannot be written.
        """
        line = f"{self._noted} {path}\n".encode("ascii")
        try:
            written = os.write(self._newer, line)
            if written < len(line):
                # The next line must not be joined to half of this one.
                os.ftruncate(self._newer, os.fstat(self._newer).st_size - written)
        except OSError as exc:
            raise LedgerBusy(f"{self._paths[0].parent} took no line ({exc.strerror}); see its disk") from exc
        if written < len(line):
            raise LedgerBusy(f"{self._paths[0].parent} has no space for a line; free some")
        self._noted += 1

    def forget(self, count: int) -> None:
        """Take note that the rows of the next `count` paths, in their order, are committed."""
        self._committed += count
        # A line that stays too long costs the next life a look.
        with suppress(OSError):
            if self._committed >= self._turn and self._noted > self._turn:
                os.ftruncate(self._older, 0)
                self._older, self._newer = self._newer, self._older
                self._turn = self._noted
            if self._committed == self._noted:
                self.clear()

    def close(self) -> None:
        """Let go of it; another process may go on with what it names."""
        older, newer = self._older, self._newer
        # A thread that notes late must meet an error, not somebody else's file.
        self._older = self._newer = -1
        os.close(older)
        os.close(newer)

    def _take_hold(self, deadline_s: float) -> None:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(self._older, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if monotonic() > deadline_s:
                self.close()
                raise DataDirInUse(
                    f"{self._paths[0]} belongs to a receiver that still runs; end that process, or set node.data_dir "
                    "to another folder"
                )
            sleep(POLL_S)


def journals_of(folder: Path, *, wait_s: float) -> Iterator[Journal]:
    """Yield every journal in `folder`, held.

    Raises
    ------
    DataDirInUse
        If one is held by a process that does not let go of it in `wait_s`.
    """
    for number in sorted({int(path.name.split("-")[0]) for path in folder.glob(f"*{SUFFIX}")}):
        yield Journal(folder, number, wait_s=wait_s)
