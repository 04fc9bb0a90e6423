"""Nodes that forward what they receive, well or badly: what a judge must tell apart."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.peers.peer import Peer
from node.peers.sender import send_files
from node.rehearsal.pacs import SimulatedPacs

LOOK_EVERY_S = 0.05
RETRY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a router forwards.

    Attributes
    ----------
    tries
        How often it sends an object that is not taken.
    times
        How often it sends one that is taken.
    forgets_every
        Every n-th object is not sent at all; 0 for none.
    """

    tries: int = 50
    times: int = 1
    forgets_every: int = 0


@contextmanager
def router(folder: Path, pacs: Peer, manner: Manner) -> Iterator[Peer]:
    """Run a router; yields where it receives."""
    leaving = threading.Event()
    with SimulatedPacs(folder, aet="ROUTER") as inbox:
        thread = threading.Thread(target=_forward, args=(inbox, pacs, manner, leaving))
        thread.start()
        try:
            yield inbox.peer
        finally:
            leaving.set()
            thread.join()


def _forward(inbox: SimulatedPacs, pacs: Peer, manner: Manner, leaving: threading.Event) -> None:
    done: dict[str, int] = {}
    while not leaving.wait(LOOK_EVERY_S):
        for instance in inbox.record.received:
            if instance.sop_instance_uid in done:
                continue
            done[instance.sop_instance_uid] = len(done) + 1
            if not manner.forgets_every or len(done) % manner.forgets_every:
                _send(instance.path, pacs, manner, leaving)


def _send(path: Path, pacs: Peer, manner: Manner, leaving: threading.Event) -> None:
    taken = 0
    for _ in range(manner.tries):
        taken += send_files([path], pacs).sent
        if taken >= manner.times or leaving.wait(RETRY_S):
            return
