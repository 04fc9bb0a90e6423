"""A process that does Jobs and tells what they took: `python -m workers.benchmark.one_job MODEL FOLDER …`.

It does what a worker does between claim and commit, on files of ``FOLDER/ROLE/``, and prints one line of JSON.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from node.models import SHIPPED_MODELS, read_model
from workers.app import load_pipeline, open_device
from workers.inference.layout import networks_of
from workers.memory import give_memory_back, keep_freed_memory
from workers.post import make_post
from workers.runner import WarmPipeline
from workers.warming import answer_inputs

STATUS, ROLLUP, FORGET = Path("/proc/self/status"), Path("/proc/self/smaps_rollup"), Path("/proc/self/clear_refs")
# proc(5): what a process held at most becomes what it holds now.
FORGET_PEAK = "5"
KILOBYTES = 1024
NODE_AET = "RADNODE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What one Job took.

    Attributes
    ----------
    cpu_s, network_s
        CPU seconds of all of it, and of the forward passes of its networks alone.
    peak_bytes
        Memory that it took above what the process held before.
    rest_bytes
        What the process holds after it, once what it freed was given back; pages that others use too count in part.
    """

    cpu_s: float
    network_s: float
    peak_bytes: int
    rest_bytes: int


def read_folder(folder: Path) -> Mapping[str, Sequence[Dataset]]:
    """Return the Instances of each role of a folder."""
    return {path.name: [dcmread(file) for file in sorted(path.iterdir())] for path in sorted(folder.iterdir())}


def do_job(warm: WarmPipeline, folder: Path) -> Done:
    """Do a Job, from its files to proven Results, and return what it took."""
    FORGET.write_text(FORGET_PEAK)
    before = _read_bytes(STATUS, "VmRSS")
    begun = time.process_time()
    with _timed(warm) as spent:
        answer_inputs(warm, read_folder(folder), name=warm.card.pipeline, node_aet=NODE_AET)
    cpu_s = time.process_time() - begun
    peak = _read_bytes(STATUS, "VmHWM")
    give_memory_back()
    return Done(cpu_s=cpu_s, network_s=sum(spent), peak_bytes=peak - before, rest_bytes=_read_bytes(ROLLUP, "Pss"))


def load_model(name: str) -> WarmPipeline:
    """Return a shipped model, loaded in this process as a worker of all cores does it."""
    processes = len(os.sched_getaffinity(0))
    return load_pipeline(read_model(SHIPPED_MODELS / name), open_device(make_post("cpu", processes=processes)))


@contextmanager
def _timed(warm: WarmPipeline) -> Iterator[list[float]]:
    """Note the CPU seconds of each forward pass while the block runs."""
    spent: list[float] = []

    def begin(*_: Any) -> None:
        spent.append(-time.process_time())

    def end(*_: Any) -> None:
        spent[-1] += time.process_time()

    networks = networks_of(warm.pipeline).values()
    hooks = [network.register_forward_pre_hook(begin) for network in networks]
    hooks += [network.register_forward_hook(end) for network in networks]
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()


def _read_bytes(path: Path, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", path.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * KILOBYTES if found else 0


def main() -> int:
    """Do one Job for each pair of arguments, all models warm before the first if there are several."""
    keep_freed_memory()
    pairs = list(zip(sys.argv[1::2], map(Path, sys.argv[2::2]), strict=True))
    loaded = {name: load_model(name) for name, _ in pairs}
    done = [do_job(loaded[name], folder) for name, folder in pairs]
    sys.stdout.write(json.dumps([asdict(one) for one in done]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
