"""What the stages of one Job take: whoever does a part of the work notes it, wherever in the code that is."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType

_running: ContextVar["Stopwatch"] = ContextVar("radnode_stopwatch")


class Stopwatch:
    """Seconds by stage of one Job; while its block runs, `stage` notes here.

    Each moment counts once, for the innermost stage that is open: what is told adds up to the whole.

    Parameters
    ----------
    elapsed_s
        Seconds since any moment.
    """

    def __init__(self, *, elapsed_s: Callable[[], float] = time.perf_counter) -> None:
        self._elapsed_s = elapsed_s
        self._spent: dict[str, float] = {}
        self._open: list[str] = []
        self._since_s = 0.0

    def __enter__(self) -> "Stopwatch":
        self._token: Token[Stopwatch] = _running.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _running.reset(self._token)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, and ``stage.part`` by part of it; what no part of a stage took is under the stage."""
        return {name: round(spent, 3) for name, spent in self._spent.items()}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Count the time that the block takes for stage `name`, or for that part of the stage that is open."""
        self._count()
        self._open.append(f"{self._open[0]}.{name}" if self._open else name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def _count(self) -> None:
        now_s = self._elapsed_s()
        if self._open:
            self._spent[self._open[-1]] = self._spent.get(self._open[-1], 0.0) + now_s - self._since_s
        self._since_s = now_s


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Note what the block takes on the stopwatch that runs in this context; without one, just run it.

    A stage inside of another is a part of the outermost one, whichever others lie between.

    Parameters
    ----------
    name
        One word, the same wherever the same is done: ``fetch``, ``read``, ``resample``, ``network``, ``outline``,
        ``measure``, ``write``, ``prove``, ``store`` ...
    """
    watch = _running.get(None)
    if watch is None:
        yield
        return
    with watch.measure(name):
        yield
