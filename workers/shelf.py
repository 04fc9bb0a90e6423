"""The shelf of warm Pipelines: as many as there is room for, those asked last."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.runner import WarmPipeline

logger = logging.getLogger(__name__)


class Scale(Protocol):
    """What tells how much room a Pipeline takes."""

    def weigh(self, pipeline: object) -> int:
        """Return the bytes that its weights take now."""
        ...

    def read_peak(self) -> int:
        """Return the most bytes that the process held since it was asked last; 0 where nobody counts."""
        ...

    def let_go(self) -> None:
        """Give back what evicted Pipelines left behind."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stamp:
    """How a file of weights was found when it was read; a network may still read its pages."""

    inode: int
    changed_ns: int
    size_bytes: int

    @staticmethod
    def of(path: Path) -> "_Stamp | None":
        try:
            found = path.stat()
        except OSError:
            return None
        return _Stamp(inode=found.st_ino, changed_ns=found.st_mtime_ns, size_bytes=found.st_size)

    def is_overwritten(self, now: "_Stamp | None") -> bool:
        """Tell whether the very file was written to; one that was removed or replaced lives on for who reads it."""
        return now is not None and now.inode == self.inode and now != self


class WarmShelf:
    """Pipelines by name, each loaded at its first Job, and kept while there is room.

    There must be room for the weights of all together, and beside them for what any one of them needs to work, as far
    as that is known from its earlier Jobs. The Pipeline that was asked for is never put away, however large it is.

    Parameters
    ----------
    load
        From the name of a Pipeline to the loaded one.
    room_bytes
        What they may take together; 0: any number of them.
    """

    def __init__(self, load: Callable[[str], WarmPipeline], *, scale: Scale, room_bytes: int = 0) -> None:
        self._load = load
        self._scale = scale
        self._room_bytes = room_bytes
        # In the order in which they were asked last.
        self._warm: dict[str, WarmPipeline] = {}
        self._stamps: dict[str, _Stamp | None] = {}
        self._work_bytes: dict[str, int] = {}
        self._last: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The Pipelines that are warm, the one asked last at the end."""
        return tuple(self._warm)

    def __call__(self, name: str) -> WarmPipeline:
        """Return the Pipeline called `name`, loaded.

        Raises
        ------
        PipelineUnknown
            If settings or code know no such Pipeline.
        ModelInvalid
            If its model is absent or damaged.
        """
        self._remember_work()
        warm = self._warm.pop(name, None)
        if warm is None or self._is_overwritten(name, warm):
            warm = self._load(name)
            self._stamps[name] = _Stamp.of(warm.card.weights)
        self._warm[name] = warm
        self._last = name
        self._make_room()
        return warm

    def _is_overwritten(self, name: str, warm: WarmPipeline) -> bool:
        stamp = self._stamps[name]
        return stamp is not None and stamp.is_overwritten(_Stamp.of(warm.card.weights))

    def _remember_work(self) -> None:
        peak = self._scale.read_peak()
        if peak and self._last is not None:
            work = peak - self._weigh_all()
            self._work_bytes[self._last] = max(work, self._work_bytes.get(self._last, 0))

    def _make_room(self) -> None:
        """Put away those that were not asked for longest, until the others fit."""
        while self._room_bytes and len(self._warm) > 1 and self._needed() > self._room_bytes:
            oldest = next(iter(self._warm))
            del self._warm[oldest]
            self._scale.let_go()
            logger.info("pipeline put away", extra={"pipeline": oldest})

    def _needed(self) -> int:
        return self._weigh_all() + max(self._work_bytes.get(name, 0) for name in self._warm)

    def _weigh_all(self) -> int:
        return sum(self._scale.weigh(warm.pipeline) for warm in self._warm.values())
