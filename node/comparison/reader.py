"""Asks a caged process in what two files differ: what peers sent may do anything to a decoder."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from node.cage.process import DONE, Bounds, CagedProcess, Idlers
from node.errors import DecoderDied

# What runs in the process.
MODULE = "node.comparison.program"
# A thousand compressed Frames take a minute.
BOUNDS = Bounds(memory_bytes=3 * 2**30, seconds=300.0)
MAX_NAMED = 6  # elements that a difference names


class CagedReader:
    """Compares two files of the store.

    Parameters
    ----------
    locate
        Returns where a path of the store lies.
    """

    def __init__(self, locate: Callable[[str], Path], idlers: Idlers[CagedProcess]) -> None:
        self._locate = locate
        self._idlers = idlers

    def difference(self, earlier_path: str, path: str) -> str:
        """Return in words in what two files differ; where that cannot be told, so much."""
        request = {
            "task": "difference",
            "earlier": str(self._locate(earlier_path)),
            "later": str(self._locate(path)),
        }
        try:
            with self._idlers.lend() as process:
                answer = process.ask(request)
                told = json.loads(b"".join(answer.pieces))
        except DecoderDied as exc:
            return f"cannot be compared with it ({exc.code})"
        if answer.status != DONE:
            return f"cannot be compared with it ({told['code']})"
        return _tell(told)


@contextmanager
def open_reader(locate: Callable[[str], Path]) -> Iterator[CagedReader]:
    """Give a reader, whose process ends with the block."""
    idlers = Idlers(lambda: CagedProcess(MODULE, BOUNDS))
    try:
        yield CagedReader(locate, idlers)
    finally:
        idlers.close()


def _tell(names: list[str]) -> str:
    if not names:
        return ""
    more = len(names) - MAX_NAMED
    return f"differs from it in {', '.join(names[:MAX_NAMED])}{f' and {more} more' if more > 0 else ''}"
