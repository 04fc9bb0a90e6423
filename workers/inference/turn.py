"""The part of a Job that needs the device to itself: only that waits for others, and only where others are."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

import torch

from node.domain.job import Priority
from workers.stopwatch import stage
from workers.turns import Ask, Gate

# A Pipeline's first turn in this process.
UNKNOWN_S = 1.0
# How long room on the device is waited for, between two looks at it and in all; then the network tries what there is.
LOOK_EVERY_S = 0.1
PATIENCE_S = 30.0

_turn: ContextVar[Callable[[], AbstractContextManager[None]] | None] = ContextVar("radnode_device_turn", default=None)


@contextmanager
def device_turn() -> Iterator[None]:
    """Have the device while the block runs, from the first tensor on it to the last answer off it.

    Nothing is waited for where nobody shares the device, and inside of another turn.
    """
    take = _turn.get()
    if take is None:
        yield
        return
    token = _turn.set(None)
    try:
        with take():
            yield
    finally:
        _turn.reset(token)


@contextmanager
def without_turn() -> Iterator[None]:
    """Wait for nobody while the block runs: what it asks runs elsewhere than on the device."""
    token = _turn.set(None)
    try:
        yield
    finally:
        _turn.reset(token)


class DeviceMemory(Protocol):
    """What is known of the memory of a device."""

    def free_bytes(self) -> int:
        """Return what this process could take now, whoever else is on the device."""
        ...

    def begin(self) -> None:
        """Begin to watch what this process takes."""
        ...

    def end(self) -> int:
        """Return the most that was taken since `begin`, when all is done, and leave to others what is not held."""
        ...


class CudaMemory:
    """The memory of one GPU, as its driver and torch see it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held = 0

    def free_bytes(self) -> int:
        """Return what this process could take now, whoever else is on the device."""
        free, _ = torch.cuda.mem_get_info(self._device)
        return free + torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)

    def begin(self) -> None:
        """Begin to watch what this process takes."""
        # The peak itself is counted from the begin of each Job: see `workers.inference.scale`.
        self._held = torch.cuda.memory_allocated(self._device)

    def end(self) -> int:
        """Return the most that was taken since `begin`, when all is done, and leave to others what is not held."""
        torch.cuda.synchronize(self._device)
        peak = torch.cuda.max_memory_allocated(self._device) - self._held
        torch.cuda.empty_cache()
        return peak


class Turns:
    """The turns of one process on a device that it shares.

    What a Pipeline took the last time, of time and of memory, is what it is expected to take the next time.

    Parameters
    ----------
    memory
        Of the device; None where it has none of its own.
    """

    def __init__(
        self, gate: Gate, memory: DeviceMemory | None, *, elapsed_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._gate = gate
        self._memory = memory
        self._elapsed_s = elapsed_s
        self._took_s: dict[str, float] = {}
        self._took_bytes: dict[str, int] = {}

    @contextmanager
    def of(
        self, pipeline: str, priority: Priority, *, waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> Iterator[None]:
        """Let `device_turn` wait for this device while the block runs.

        Parameters
        ----------
        waiting
            Surrounds each wait.
        """
        until_s = self._elapsed_s() + PATIENCE_S

        def take() -> AbstractContextManager[None]:
            return self._take(pipeline, priority, until_s, waiting)

        token = _turn.set(take)
        try:
            yield
        finally:
            _turn.reset(token)

    @contextmanager
    def _take(
        self, pipeline: str, priority: Priority, until_s: float, waiting: Callable[[], AbstractContextManager[None]]
    ) -> Iterator[None]:
        ask = Ask(priority=priority, expected_s=self._took_s.get(pipeline, UNKNOWN_S))
        while True:
            with ExitStack() as turn:
                with stage("turn"), waiting():
                    turn.enter_context(self._gate.turn(ask))
                if self._has_room(pipeline) or self._elapsed_s() >= until_s:
                    with self._watched(pipeline):
                        yield
                    return
            # Without the turn: whoever makes room may need one.
            with stage("turn"), waiting():
                time.sleep(LOOK_EVERY_S)

    def _has_room(self, pipeline: str) -> bool:
        return self._memory is None or self._memory.free_bytes() >= self._took_bytes.get(pipeline, 0)

    @contextmanager
    def _watched(self, pipeline: str) -> Iterator[None]:
        begun_s = self._elapsed_s()
        if self._memory is not None:
            self._memory.begin()
        try:
            yield
        finally:
            if self._memory is not None:
                self._took_bytes[pipeline] = self._memory.end()
            self._took_s[pipeline] = self._elapsed_s() - begun_s
