"""Where a worker's process stands, and the name under which it holds Jobs."""

import platform
import secrets
from dataclasses import dataclass


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
    """

    device: str
    processes: int
    crew: str

    def name_process(self, pid: int) -> str:
        """Return the name under which a process holds Jobs."""
        return f"{self.crew}:{pid}"

    def find_pid(self, lease_owner: str) -> int:
        """Return the process id in a name that `name_process` gave."""
        return int(lease_owner.removeprefix(f"{self.crew}:"))


def make_post(device: str, *, processes: int = 1) -> Post:
    """Return the post of a worker that starts now."""
    return Post(device=device, processes=processes, crew=f"{platform.node()}:{secrets.token_hex(4)}")
