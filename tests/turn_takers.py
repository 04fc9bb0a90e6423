"""Processes that take turns, as those of a worker do: `python -m tests.turn_takers` writes into a file who was inside.

Three of them have twenty turns each. A fourth is killed in the middle of its turn, and a fifth while it waits.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from node.domain.job import Priority
from workers.turns import Ask, Gate, Gatekeeper

TAKERS, TURNS = 3, 20
HELD_S = 0.001
SHORT = Ask(priority=Priority.ROUTINE, expected_s=0.01)
URGENT = Ask(priority=Priority.STAT, expected_s=0.01)


def main() -> None:
    path = Path(sys.argv[1])
    book = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    gate = Gate()
    doomed = [_fork(lambda: _die_inside(gate, book)), _fork(lambda: _take_all(gate, book))]
    for pid in doomed:
        _await_its_wait(pid)
    takers = [_fork(lambda: _take_all(gate, book)) for _ in range(TAKERS)]
    os.kill(doomed[1], signal.SIGKILL)
    Gatekeeper(gate).start()
    for pid in (*doomed, *takers):
        os.waitpid(pid, 0)


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def _await_its_wait(pid: int) -> None:
    """Return when a process sleeps: it does so for nothing but its turn (proc(5), stat)."""
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "S":
        time.sleep(0.001)


def _take_all(gate: Gate, book: int) -> None:
    for _ in range(TURNS):
        with gate.turn(SHORT):
            _note(book, "in")
            time.sleep(HELD_S)
            _note(book, "out")


def _die_inside(gate: Gate, book: int) -> None:
    with gate.turn(URGENT):
        _note(book, "dies")
        os.kill(os.getpid(), signal.SIGKILL)


def _note(book: int, what: str) -> None:
    os.write(book, f"{what} {os.getpid()}\n".encode())


if __name__ == "__main__":
    main()
