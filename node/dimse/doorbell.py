"""How pynetdicom's reactor waits until there is something to do, where it would turn a thousand times a second."""

import queue
from threading import Event
from typing import Any

# pynetdicom's timers are looked at so often when nothing else happens.
SWEEP_S = 1.0


class Doorbell(Event):
    """Stands for the Event at which pynetdicom's reactor waits once in each round; else it turns 1,000 times a second.

    `wait` also waits for a ring, or for `SWEEP_S`; whatever the reactor looks at rings.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rung = Event()

    def ring(self) -> None:
        """Let the reactor make one round."""
        self._rung.set()

    def set(self) -> None:
        """Open the gate, and ring."""
        super().set()
        self._rung.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Return after a ring, and when the gate is open."""
        self._rung.wait(SWEEP_S)
        self._rung.clear()
        return super().wait(timeout)


class RingingQueue(queue.Queue[Any]):
    """A queue that rings when something is put into it."""

    def __init__(self, bell: Doorbell) -> None:
        super().__init__()
        self._bell = bell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put `item` into the queue, and ring."""
        super().put(item, block, timeout)
        self._bell.ring()
