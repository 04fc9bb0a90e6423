"""How much memory the processes of a node hold, as the system tells it (Linux; elsewhere nothing is told)."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from node.lock import LOCK_FILE

PROC = Path("/proc")
PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
# Which word of statm, in pages (proc(5)).
RESIDENT = 1
LOCKS = PROC / "locks"
NODE = "node"
# python -m node receiver
WORDS = 4
# A word of a command line to the kind of process; children have the kind of their parent unless a word says another.
KINDS: Mapping[str, str] = {
    "nursery": "nursery",
    "receiver": "receiver",
    "web": "web",
    "node.web.picture": "decoder",
    "workers.decoding.captive": "decoder",
    "workers": "worker",
    "valkey-server": "broker",
    "redis-server": "broker",
}


def measure_memory(data_dir: Path) -> Mapping[str, int]:
    """Return kind to the bytes in memory of all processes of that kind that the node of a data folder has started.

    A page that processes share counts in each with its part; where Linux does not tell that, in each as a whole.
    Nothing is told where the node does not run, or not on this machine.
    """
    node = _holder(data_dir / LOCK_FILE)
    if node is None:
        return {}
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    held: Counter[str] = Counter()
    waiting = [(node, NODE)]
    while waiting:
        pid, kind = waiting.pop()
        # It may end at any moment.
        with suppress(OSError, ValueError, IndexError):
            held[kind] += _held_bytes(pid)
        waiting += [(child, _kind(child, otherwise=kind)) for child in children.get(pid, ())]
    return held


def _holder(path: Path) -> int | None:
    """Return the process that holds the lock of a file; None: nobody, or not to be seen from here."""
    try:
        wanted, lines = path.stat(), LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    place = f"{os.major(wanted.st_dev):02x}:{os.minor(wanted.st_dev):02x}:{wanted.st_ino}"
    for line in lines:
        words = line.split()
        if place in words and "FLOCK" in words and "->" not in words:
            pid = int(words[words.index(place) - 1])
            return pid if pid > 0 else None
    return None


def _parents() -> Iterable[tuple[int, int]]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                # The name of the program stands in parentheses, and may hold anything.
                told = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                yield int(entry.name), int(told[1])


def _held_bytes(pid: int) -> int:
    folder = PROC / str(pid)
    # Older than Linux 4.14, or a process that is not ours to look into.
    with suppress(OSError):
        told = PSS.search((folder / "smaps_rollup").read_text(encoding="ascii"))
        return int(told[1]) * 1024 if told else 0
    return int((folder / "statm").read_text(encoding="ascii").split()[RESIDENT]) * os.sysconf("SC_PAGE_SIZE")


def _kind(pid: int, *, otherwise: str) -> str:
    with suppress(OSError):
        told = (PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", errors="replace")
        # Redis writes its own over it, with spaces.
        words = [Path(word).name for word in told.replace("\0", " ").split()[:WORDS]]
        return next((KINDS[word] for word in words if word in KINDS), otherwise)
    return otherwise
