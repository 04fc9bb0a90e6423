"""What the first Job of a process pays that the second does not: `radnode bench pipeline --part warm`."""

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from statistics import median
from typing import Any

import torch

from node.models import SHIPPED_MODELS, read_model
from workers.benchmark.one_job import Done, do_job, load_model
from workers.calibration import calibrate, draw_studies
from workers.samples import SMALL, Inputs, Size, draw_inputs

LIBRARIES = ("torch", "numpy", "scipy", "pydicom", "highdicom")
KINDS: Mapping[str, str] = {"CT": "ct-nodules", "MR": "mr-tumour", "X-ray": "cxr-pneumonia"}
SEED = 3
# 300 slices of 512 x 512, 157 MB of pixels.
LARGE: Size = replace(SMALL, ct_slices=300, ct_slice_mm=0.9, ct_matrix=512)
FRESH, SECOND, LATER = "fresh process", "second Job", "later Job"
RESOLUTION_S = 0.05

Taken = tuple[float, int]


def measure_warming(*, rounds: int) -> dict[str, Any]:
    """Return what starting, loading and first Jobs cost, in the form that `radnode bench` shows.

    Parameters
    ----------
    rounds
        How often each Job is done; >= 1.
    """
    with tempfile.TemporaryDirectory(prefix="radnode-bench-") as folder:
        drawn = {kind: _draw(model, Path(folder) / kind, SMALL) for kind, model in KINDS.items()}
        rows = [row for kind, model in KINDS.items() for row in _measure_kind(kind, model, drawn[kind], rounds)]
        large = _draw(KINDS["CT"], Path(folder) / "large", LARGE)
        memory = _measure_memory(drawn, large)
    medians = {row["name"]: row["median_s"] for row in rows}
    compared = [ratio for kind in KINDS for ratio in _compare(kind, medians)]
    return {
        "bench": "pipeline warm",
        "rounds": rounds,
        "unit": "CPU seconds",
        "tables": [
            {"title": "small Study, all but the network itself; bytes are the process's after it", "rows": rows},
            {"title": "memory of one process; bytes", "rows": memory},
        ],
        "ratios": [*compared, *_measure_layouts(rounds)],
        "targets": [
            *({"what": ratio["name"], "measured": ratio["times_faster"], "at_least": 10.0} for ratio in compared[1::2]),
            *(
                {"what": f"{row['name']}, MB", "measured": round(row["size_bytes"] / 1e6), "at_most": most}
                for row, most in zip(memory, (700.0, 1500.0), strict=True)
            ),
        ],
        "versions": {"Python": python_version()} | {library: version(library) for library in LIBRARIES},
    }


def _measure_kind(kind: str, model: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Do the same Job twice in new processes, and again and again in this one, in turn; its network counts nowhere."""
    warm = load_model(model)
    for _ in range(2):
        do_job(warm, folder)
    first: list[Taken] = []
    second: list[Taken] = []
    steady: list[Taken] = []
    for _ in range(rounds):
        cpu_s, (one, two) = _run_fresh([(model, folder)] * 2)
        first.append((cpu_s - two.cpu_s - one.network_s, one.rest_bytes))
        second.append(_beside_network(two))
        gc.collect()
        steady.append(_beside_network(do_job(warm, folder)))
    return [_row(f"{kind}, {FRESH}", first), _row(f"{kind}, {SECOND}", second), _row(f"{kind}, {LATER}", steady)]


def _beside_network(done: Done) -> Taken:
    return done.cpu_s - done.network_s, done.rest_bytes


def _measure_memory(drawn: Mapping[str, Path], large: Path) -> list[dict[str, Any]]:
    """Measure a process that has all three models and did a Job of each, and what a large CT takes above that."""
    small = [(model, drawn[kind]) for kind, model in KINDS.items()]
    cpu_s, done = _run_fresh([*small, (KINDS["CT"], large)])
    *_, idle, busy = done
    return [
        _row("warm: three models, a Job of each done", [(cpu_s - busy.cpu_s, idle.rest_bytes)]),
        _row("CT of 300 slices: peak above that", [(busy.cpu_s, busy.peak_bytes)]),
    ]


def _measure_layouts(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield how much faster than plain each network is in each Layout that this device has instructions for."""
    for model in KINDS.values():
        warm = load_model(model)
        found = calibrate(warm, torch.device("cpu"), studies=draw_studies(warm.card), rounds=rounds)
        for name, chosen in found.networks.items():
            for trial in chosen.trials:
                taken = "taken" if trial.layout == chosen.layout else "not taken"
                yield {"name": f"{model} {name}: {trial.layout}, {taken}", "times_faster": trial.times_faster}


def _run_fresh(jobs: list[tuple[str, Path]]) -> tuple[float, list[Done]]:
    """Return the CPU seconds of a new process that does these Jobs, from exec to its end, and what each took."""
    command = [sys.executable, "-m", "workers.benchmark.one_job", *(str(part) for job in jobs for part in job)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        said = process.stdout.read() if process.stdout is not None else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, [Done(**one) for one in json.loads(said)]


def _draw(model: str, folder: Path, size: Size) -> Path:
    """Write a drawn Study below a folder, a folder for each role."""
    inputs: Inputs = draw_inputs(read_model(SHIPPED_MODELS / model), seed=SEED, healthy=False, size=size) or {}
    for role, series in inputs.items():
        place = folder / role
        place.mkdir(parents=True)
        for number, ds in enumerate(series):
            ds.save_as(place / f"{number:04d}.dcm", enforce_file_format=True)
    return folder


def _row(name: str, taken: list[Taken]) -> dict[str, Any]:
    seconds = [cpu_s for cpu_s, _ in taken]
    return {
        "name": name,
        "min_s": round(min(seconds), 4),
        "median_s": round(median(seconds), 4),
        "size_bytes": taken[-1][1],
    }


def _compare(kind: str, medians: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Yield how many times more a first Job pays than a second: as a whole, and above what any later one pays."""
    fresh_s, second_s, later_s = (medians[f"{kind}, {name}"] for name in (FRESH, SECOND, LATER))
    yield {"name": f"{kind}: {SECOND} against a {FRESH}", "times_faster": round(fresh_s / second_s, 2)}
    # Two medians differ by as much where there is nothing between them.
    above_s = max(second_s - later_s, RESOLUTION_S)
    yield {"name": f"{kind}: the same above a {LATER}", "times_faster": round((fresh_s - later_s) / above_s, 2)}
