"""What a Study takes in a process of its own, as one that starts a container for each would have it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from node.benchmark.invented_backlog import KindPress
from node.benchmark.usage import cpu_s
from node.errors import Broken
from node.settings.whole import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What one Study takes where nothing is loaded and nobody else works.

    Attributes
    ----------
    kind
        As in `node.benchmark.invented_backlog`.
    """

    kind: str
    seconds: float
    cpu_s: float


def run_alone(kind: str, press: KindPress, settings: Settings, *, folder: Path) -> Alone:
    """Return what `radnode process` takes for one Study, its start included.

    Parameters
    ----------
    folder
        Does not exist; it is gone afterwards.

    Raises
    ------
    Broken
        If it does not answer.
    """
    press.write(kind, folder / "in")
    command = (sys.executable, "-m", "node", "process", str(folder / "in"), "--out", str(folder / "out"))
    began_s = monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ, **settings.as_environment()}
    )
    # Not waited for yet: then its processor time is still to be read.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds, spent_s = monotonic() - began_s, cpu_s(process.pid)
    if process.wait() != 0:
        raise Broken(f"`radnode process` of one {kind} ended with {process.returncode}; its log is on standard error")
    shutil.rmtree(folder)
    return Alone(kind=kind, seconds=seconds, cpu_s=spent_s)
