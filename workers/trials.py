"""What each process of a worker was trying before its first Job: where one ended over it, nobody tries that again."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

BEGUN, ENDED = "begun", "ended"


class Trials:
    """Notes of the processes of one worker, which outlive each of them; made before they are forked."""

    def __init__(self) -> None:
        # Inherited with its offset: lines of several processes follow one another.
        self._notes = os.memfd_create("trials")

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Note that this process tries a Pipeline as long as the block takes."""
        self._note(BEGUN, name)
        try:
            yield
        finally:
            self._note(ENDED, name)

    def has_ended_one(self, name: str) -> bool:
        """Return whether a process that is no more has begun with a Pipeline and not come to its end."""
        open_by: set[int] = set()
        for pid, said, what in self._read():
            if what == name:
                (open_by.add if said == BEGUN else open_by.discard)(pid)
        return any(not _is_running(pid) for pid in open_by)

    def _note(self, said: str, name: str) -> None:
        os.write(self._notes, f"{json.dumps([os.getpid(), said, name])}\n".encode())

    def _read(self) -> Iterator[tuple[int, str, str]]:
        size = os.fstat(self._notes).st_size
        for line in os.pread(self._notes, size, 0).splitlines():
            pid, said, name = json.loads(line)
            yield pid, said, name


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
