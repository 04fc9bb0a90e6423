"""Asks a caged process in what two files differ: what peers sent may do anything to a decoder."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Timer

from node.cage.process import DONE, Bounds, CagedProcess, Idlers
from node.errors import DecoderDied

# What runs in the process.
MODULE = "node.comparison.program"
# A sender waits meanwhile. What takes longer, such as some hundred recompressed Frames, is not said to be the same.
BOUNDS = Bounds(memory_bytes=3 * 2**30, seconds=10.0)
# What comes again seldom comes alone; after that, the process is not worth its memory.
IDLE_S = 5.0
MAX_NAMED = 6  # elements that a difference names
UNCOMPARED = "cannot be compared with what came before"


class CagedReader:
    """Compares two files of the store, one pair at a time.

    Parameters
    ----------
    locate
        Returns where a path of the store lies.
    """

    def __init__(self, locate: Callable[[str], Path], *, bounds: Bounds = BOUNDS, idle_s: float = IDLE_S) -> None:
        self._locate = locate
        self._bounds = bounds
        self._idle_s = idle_s
        self._idlers = Idlers(lambda: CagedProcess(MODULE, bounds))
        self._turn = Lock()
        self._rest: Timer | None = None

    def difference(self, earlier_path: str, path: str) -> str:
        """Return in words, and without values, how the second file differs from the first.

        Returns
        -------
        difference
            Empty where both say the same; where that cannot be told, so much.
        """
        if not self._turn.acquire(timeout=self._bounds.seconds):
            return f"{UNCOMPARED} (too many wait)"
        try:
            return self._ask(earlier_path, path)
        finally:
            self._turn.release()
            # Where no thread is to be had, it waits until the next comparison.
            with suppress(RuntimeError):
                self._end_later()

    def list_pids(self) -> Sequence[int]:
        """Return the process ids of what waits for the next comparison."""
        return self._idlers.list_pids()

    def _ask(self, earlier_path: str, path: str) -> str:
        files = {"earlier": str(self._locate(earlier_path)), "later": str(self._locate(path))}
        try:
            with self._idlers.lend() as process:
                answer = process.ask({"task": "difference", **files})
                told = json.loads(b"".join(answer.pieces))
        except DecoderDied as exc:
            return f"{UNCOMPARED} ({exc.code})"
        except OSError as exc:
            return f"{UNCOMPARED} (no process: {exc.strerror})"
        return _tell(told) if answer.status == DONE else f"{UNCOMPARED} ({told['code']})"

    def _end_later(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        self._rest = Timer(self._idle_s, self._idlers.close)
        self._rest.daemon = True
        self._rest.start()


def _tell(names: list[str]) -> str:
    if not names:
        return ""
    more = len(names) - MAX_NAMED
    return f"differs from it in {', '.join(names[:MAX_NAMED])}{f' and {more} more' if more > 0 else ''}"
