"""What `python -m workers bench` can measure; each part is loaded when it is asked for."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

PARTS: Mapping[str, str] = {
    "encode": "workers.benchmark.encoding:measure_encoding",
    "read": "workers.benchmark.reading:measure_reading",
    "resample": "workers.benchmark.resampling:measure_resampling",
    "warm": "workers.benchmark.warming:measure_warming",
    "batch": "workers.benchmark.batching:measure_batching",
}


def known_parts() -> Sequence[str]:
    """Return the names of all parts."""
    return tuple(PARTS)


def measure_part(name: str, *, rounds: int) -> dict[str, Any]:
    """Return what a part takes, in the form that `radnode bench` shows.

    Parameters
    ----------
    rounds
        How often each Subject is measured; >= 1.
    """
    module, _, function = PARTS[name].partition(":")
    measure: Callable[..., dict[str, Any]] = getattr(import_module(module), function)
    return measure(rounds=rounds)
