"""Who belongs to a node at this moment: its processes by what they do."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import psutil

from tests.node_process import NodeProcess, command_words

BROKERS = ("valkey", "redis")


class Role(StrEnum):
    """What a process does."""

    NODE = "node"
    RECEIVER = "receiver"
    WORKER = "worker"
    WORKER_CHILD = "worker's child"
    BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a node."""

    role: Role
    process: psutil.Process


def take_census(node: NodeProcess) -> list[Member]:
    """Return the processes of a node; some may end meanwhile, or have ended and are not buried yet."""
    try:
        parent = node.process
        children = parent.children(recursive=True)
    except psutil.Error:
        return []
    return [Member(Role.NODE, parent), *_members(children)]


def _members(children: list[psutil.Process]) -> Iterator[Member]:
    workers: set[int] = set()
    # Parents come before their children.
    for process in children:
        with suppress(psutil.Error):
            words = command_words(process)
            if process.ppid() in workers:
                yield Member(Role.WORKER_CHILD, process)
            elif "workers" in words:
                workers.add(process.pid)
                yield Member(Role.WORKER, process)
            elif "receiver" in words:
                yield Member(Role.RECEIVER, process)
            elif words and any(name in words[0] for name in BROKERS):
                yield Member(Role.BROKER, process)
