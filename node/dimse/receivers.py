"""The receiver processes behind the gate: as many as settings say, each started again when it dies."""

import socket
from collections.abc import Callable
from functools import partial

from node.children import Child, Process
from node.dimse.acceptor import ABORT_S
from node.dimse.channel import open_pair
from node.dimse.gate import Gate
from node.errors import Broken

DRAIN_S = 10.0
# A receiver that was told to drain ends by itself before; then it is ended by force.
STOP_S = DRAIN_S + ABORT_S + 8.0
START_S = 60.0

Spawn = Callable[[int, socket.socket], Process]


class Receivers:
    """Gate and receiver processes.

    Parameters
    ----------
    spawn
        Starts the receiver of a number, with its end of the channel.
    """

    def __init__(self, gate: Gate, spawn: Spawn, *, count: int) -> None:
        self._gate = gate
        self._spawn_process = spawn
        self._children = [
            Child(f"receiver-{number}", partial(self._spawn, number), stop_timeout_s=STOP_S)
            for number in range(1, count + 1)
        ]

    def start(self) -> tuple[str, int]:
        """Return address and port; connections wait there until receivers are ready.

        Raises
        ------
        Misconfigured
            If the port is taken, or anybody on the network could send.
        """
        address = self._gate.start()
        for child in self._children:
            child.start()
        return address

    def wait_until_ready(self) -> None:
        """Return when every receiver takes connections.

        Raises
        ------
        Broken
            If one does not in a minute.
        """
        if not self._gate.wait_until_ready(len(self._children), START_S):
            raise Broken(f"not all of {len(self._children)} receivers started in {START_S:g} s; see the node's log")

    def are_ready(self) -> bool:
        """Return whether a receiver takes connections now."""
        return self._gate.wait_until_ready(1, 0.0)

    def stop(self) -> None:
        """Accept no more, and return when every receiver has ended, its Associations first."""
        for child in self._children:
            child.expect_end()
        self._gate.stop(DRAIN_S)
        for child in self._children:
            child.stop()

    def _spawn(self, number: int) -> Process:
        ours, theirs = open_pair()
        with theirs:
            try:
                process = self._spawn_process(number, theirs)
            except BaseException:
                ours.close()
                raise
        self._gate.attach(number, ours)
        return process
