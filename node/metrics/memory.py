"""How much memory the processes of a node hold, as the system tells it (Linux; elsewhere nothing is told)."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from node.ledger.journal import FOLDER, SUFFIX
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
    One whose parent has died is known by the journal that it holds. Nothing is told where the node does not run, or
    not on this machine.
    """
    node = next(_holders([data_dir / LOCK_FILE]), None)
    if node is None:
        return {}
    receiving = _holders((data_dir / FOLDER).glob(f"*{SUFFIX}"))
    family = _family([(node, NODE), *((pid, _kind(pid, otherwise=NODE)) for pid in receiving)])
    held: Counter[str] = Counter()
    for pid, kind in family.items():
        # It may end at any moment.
        with suppress(OSError, ValueError, IndexError):
            held[kind] += _held_bytes(pid)
    return held


def _family(roots: Iterable[tuple[int, str]]) -> Mapping[int, str]:
    """Return `roots` and their descendants, with the kind of each."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    family: dict[int, str] = {}
    waiting = list(roots)
    while waiting:
        pid, kind = waiting.pop()
        if pid not in family:
            family[pid] = kind
            waiting += [(child, _kind(child, otherwise=kind)) for child in children.get(pid, ())]
    return family


def _holders(paths: Iterable[Path]) -> Iterator[int]:
    """Yield the processes that hold the locks of files, as far as they are to be seen from here."""
    with suppress(OSError):
        lines = LOCKS.read_text(encoding="ascii").splitlines()
        for path in paths:
            wanted = path.stat()
            place = f"{os.major(wanted.st_dev):02x}:{os.minor(wanted.st_dev):02x}:{wanted.st_ino}"
            for words in map(str.split, lines):
                if place in words and "FLOCK" in words and "->" not in words:
                    pid = int(words[words.index(place) - 1])
                    if pid > 0:
                        yield pid


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
