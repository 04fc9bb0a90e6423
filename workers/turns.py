"""Turns on a device that the processes of one worker share: one at a time, short ones first, and nobody waits for ever.

A turn is a connection. A process hands one end of it to the keeper, together with how urgent and how long its turn is,
and goes on when the keeper says so. The kernel closes the connection of a process that dies, and so ends its turn.

References: unix(7), SCM_RIGHTS
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from selectors import EVENT_READ, DefaultSelector

from node.domain.job import Priority

# Priority, and how long the turn is expected to take, seconds.
ASK = struct.Struct("!Bd")
GO = b"g"
# What takes less is taken for so long: else it would overtake everything by a multiple that means nothing.
SHORTEST_S = 0.01
# One step of priority counts as much as having waited so many times as long.
STEP = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a process says of the turn that it wants.

    Attributes
    ----------
    expected_s
        How long it took the last time, seconds.
    """

    priority: Priority
    expected_s: float

    def urgency(self, waited_s: float) -> tuple[bool, float]:
        """Return what is compared with that of others: who has the highest goes next.

        Of two that have waited equally long the shorter one goes first; who has waited for many times his own length
        comes before shorter ones; STAT comes before everything.
        """
        share = 1 + max(0.0, waited_s) / max(self.expected_s, SHORTEST_S)
        return self.priority is Priority.STAT, share * STEP ** -int(self.priority)


class Gate:
    """The door of one device, made before the processes that share it; they ask on one side, the keeper hears."""

    def __init__(self) -> None:
        self._asks, self.desk = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def close(self) -> None:
        """Ask no more; the keeper ends when every process that shares the Gate has done so, or has ended."""
        self._asks.close()

    @contextmanager
    def turn(self, ask: Ask) -> Iterator[None]:
        """Hold the device while the block runs; returns from waiting when it is this one's turn.

        Where the keeper is gone nobody is waited for: its processes are about to end with it.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                socket.send_fds(self._asks, [ASK.pack(ask.priority, ask.expected_s)], [theirs.fileno()])
            ours.recv(len(GO))
            try:
                yield
            finally:
                # A process that was forked meanwhile may hold this end, too.
                with suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Waiting:
    end: socket.socket
    ask: Ask
    since_s: float


class Gatekeeper:
    """Says who goes next; lives in a thread of the process that made the Gate.

    Parameters
    ----------
    elapsed_s
        Seconds since any moment.
    """

    def __init__(self, gate: Gate, *, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._desk = gate.desk
        self._elapsed_s = elapsed_s
        self._selector = DefaultSelector()
        self._waiting: list[_Waiting] = []
        self._inside: socket.socket | None = None

    def start(self) -> None:
        """Begin to let processes in; ends with this process."""
        self._selector.register(self._desk, EVENT_READ)
        threading.Thread(target=self._keep, name="gatekeeper", daemon=True).start()

    def _keep(self) -> None:
        with self._desk, self._selector:
            while self._desk in self._selector.get_map():
                for key, _ in self._selector.select():
                    if key.fileobj is self._desk:
                        self._hear()
                    elif isinstance(key.fileobj, socket.socket):
                        self._see_off(key.fileobj)
                while self._inside is None and self._waiting:
                    self._let_in()

    def _hear(self) -> None:
        told, descriptors, _, _ = socket.recv_fds(self._desk, ASK.size, 1)
        if not told:
            self._selector.unregister(self._desk)
            return
        if not descriptors:
            # There was no room for one more; the other end hears that it is closed, and goes on.
            return
        priority, expected_s = ASK.unpack(told)
        end = socket.socket(fileno=descriptors[0])
        self._selector.register(end, EVENT_READ)
        ask = Ask(priority=Priority(priority), expected_s=expected_s)
        self._waiting.append(_Waiting(end=end, ask=ask, since_s=self._elapsed_s()))

    def _see_off(self, end: socket.socket) -> None:
        """Forget who has gone, be it from inside or from the queue: they say nothing, so that this is what it means."""
        self._selector.unregister(end)
        end.close()
        self._waiting = [one for one in self._waiting if one.end is not end]
        if self._inside is end:
            self._inside = None

    def _let_in(self) -> None:
        now_s = self._elapsed_s()
        following = max(self._waiting, key=lambda one: one.ask.urgency(now_s - one.since_s))
        self._waiting.remove(following)
        self._inside = following.end
        # One who has died meanwhile is seen off with what the kernel says of it.
        with suppress(OSError):
            following.end.send(GO)
