"""Where a worker's process stands, and the name under which it holds Jobs."""

import math
import os
import platform
import secrets
from dataclasses import dataclass
from pathlib import Path

from workers.trials import Trials
from workers.turns import Gate

CPU = "cpu"
CGROUP = Path("/sys/fs/cgroup")
# Of one device: while the network of one Job runs on it, others read and write.
PROCESSES_OF_A_DEVICE = 3
# Of memory to a process on the CPU: 0.7 GB warm and 1.5 GB for a CT are promised, the rest is for all others.
PROCESS_BYTES = 3 << 30
# Unless somebody wants more; each has connections to the ledger.
MOST_UNASKED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What the processes of one worker have in common.

    Attributes
    ----------
    device
        ``cpu``, ``cuda`` or ``cuda:N``.
    processes
        How many share this machine's cores.
    crew
        Begins the name of each of them in leases; no other worker has it, not even one that had these process ids.
    gate
        Where they wait for their turn on the device; None where nobody waits.
    trials
        What they note when they load and try all Pipelines before their first Job; None where they do not.
    """

    device: str
    processes: int
    crew: str
    gate: Gate | None = None
    trials: Trials | None = None

    @property
    def cores_each(self) -> int:
        """How many cores are one process's own."""
        return max(1, len(os.sched_getaffinity(0)) // self.processes)

    def name_process(self, pid: int) -> str:
        """Return the name under which a process holds Jobs."""
        return f"{self.crew}:{pid}"

    def find_pid(self, lease_owner: str) -> int:
        """Return the process id in a name that `name_process` gave."""
        return int(lease_owner.removeprefix(f"{self.crew}:"))


def make_post(device: str, *, processes: int = 1, warms: bool = False) -> Post:
    """Return the post of a worker that starts now.

    Parameters
    ----------
    warms
        Whether its processes load and try all Pipelines before their first Job.
    """
    crew = f"{platform.node()}:{secrets.token_hex(4)}"
    gate = Gate() if device != CPU and processes > 1 else None
    return Post(device=device, processes=processes, crew=crew, gate=gate, trials=Trials() if warms else None)


def usual_processes(device: str) -> int:
    """Return how many Jobs a worker does at a time unless it is told: on a CPU one a core, where memory allows."""
    if device != CPU:
        return PROCESSES_OF_A_DEVICE
    return max(1, min(_count_cores(), _memory_bytes() // PROCESS_BYTES, MOST_UNASKED))


def _count_cores() -> int:
    cores = len(os.sched_getaffinity(0))
    quota, _, period = _read_limit("cpu.max").partition(" ")
    return min(cores, math.ceil(int(quota) / int(period))) if quota.isdigit() and period.isdigit() else cores


def _memory_bytes() -> int:
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _read_limit("memory.max")
    return min(memory_bytes, int(limit)) if limit.isdigit() else memory_bytes


def _read_limit(name: str) -> str:
    """Return what a container is limited to; empty where nothing is said (cgroups(7))."""
    try:
        return (CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
