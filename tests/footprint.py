"""What the node's own processes hold, to see that a fault took nothing for good: threads, descriptors, processes."""

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest
from sqlalchemy import make_url

from node.errors import DestinationDown
from node.peers.association import echo
from tests.ledgers import SERVER_VARIABLE
from tests.node_process import NodeProcess, command_words

# pynetdicom's timers and ours are looked at once a second.
GIVE_BACK_LIMIT_S = 30.0
# Within which the node serves again after a fault.
SERVED_LIMIT_S = 5.0
STEADY_S = 1.5
POLL_S = 0.05
# Opened at the first need and kept: the connections of SQLAlchemy's pool, and the audit trail.
KEPT = ("/ledger.sqlite", "/audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What `python -m node` and its own children hold; workers and broker have no part in receiving."""

    processes: int
    threads: int
    descriptors: int

    def fits_into(self, other: "Footprint") -> bool:
        """Return whether nothing of it is more than in `other`."""
        return (
            self.processes <= other.processes
            and self.threads <= other.threads
            and self.descriptors <= other.descriptors
        )


def measure_footprint(node: psutil.Process) -> Footprint:
    """Return what the node's processes hold now."""
    processes = threads = descriptors = 0
    for process in (node, *node.children(recursive=True)):
        # One of them may end meanwhile.
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            if command_words(process)[1:3] == ["-m", "node"]:
                threads += process.num_threads()
                descriptors += _count_descriptors(process.pid)
                processes += 1
    return Footprint(processes=processes, threads=threads, descriptors=descriptors)


def _count_descriptors(pid: int) -> int:
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        # One of them may be closed meanwhile.
        with suppress(FileNotFoundError):
            count += not any(kept in str(descriptor.readlink()) for kept in KEPT)
    return count - _count_sessions(pid)


def _count_sessions(pid: int) -> int:
    """Return how many connections of a process lead to a ledger on PostgreSQL."""
    server = os.environ.get(SERVER_VARIABLE)
    if server is None:
        return 0
    port = make_url(server).port
    found = psutil.Process(pid).net_connections("tcp")
    return sum(one.raddr.port == port for one in found if one.status == psutil.CONN_ESTABLISHED)


class Witness:
    """Says whether a node is as it was before the fault.

    Parameters
    ----------
    calling_aet
        With which the node is asked whether it still serves.
    """

    def __init__(self, node: NodeProcess, *, calling_aet: str = "MODALITY") -> None:
        self.node = node
        self._calling_aet = calling_aet
        self.before = self._steady()

    def look(self) -> None:
        """Return when the node answers a C-ECHO and holds no more than before; fail the test otherwise."""
        self._ask()
        deadline = monotonic() + GIVE_BACK_LIMIT_S
        while not (now := measure_footprint(self.node.process)).fits_into(self.before):
            if monotonic() > deadline:
                pytest.fail(f"before: {self.before}; {GIVE_BACK_LIMIT_S:g} s after: {now}")
            sleep(POLL_S)

    def _steady(self) -> Footprint:
        self._ask()
        last, since = measure_footprint(self.node.process), monotonic()
        while monotonic() - since < STEADY_S:
            sleep(POLL_S)
            now = measure_footprint(self.node.process)
            if now != last:
                last, since = now, monotonic()
        return last

    def _ask(self) -> None:
        """Return when the node answers a C-ECHO; it may turn one out that comes from the address of a crowd."""
        peer = replace(self.node.peer, calling_aet=self._calling_aet, timeout_s=10.0)
        deadline = monotonic() + SERVED_LIMIT_S
        while True:
            try:
                echo(peer)
            except DestinationDown:
                if monotonic() > deadline:
                    raise
                sleep(POLL_S)
            else:
                return
