"""What the training recipes share: seeds, patients held apart, the learning rate, and weights on disk."""

import hashlib
import math
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

WARMUP_FRACTION = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Patients by use; no patient is in two of them.

    Attributes
    ----------
    train, tune, held
        Patient keys to learn from, to set thresholds on, and to report numbers on.
    """

    train: frozenset[str]
    tune: frozenset[str]
    held: frozenset[str]


def seed_everything(seed: int) -> np.random.Generator:
    """Seed torch, random and numpy's new generator, and return the latter."""
    random.seed(seed)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def read_exclusions(path: Path, *, data_set: str) -> frozenset[str]:
    """Return the patient keys of one data set that must never be trained on.

    Parameters
    ----------
    path
        Text: one ``<data set> <patient key>`` a line; ``#`` starts a comment.
    """
    lines = (line.split("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines())
    return frozenset(words[1] for words in lines if len(words) == 2 and words[0] == data_set)


def split_patients(patients: Iterable[str], *, excluded: Collection[str], tune: int, held: int, seed: int) -> Split:
    """Deal patients at random to three uses; excluded ones to none.

    Parameters
    ----------
    tune, held
        How many patients set thresholds, and how many are only reported on.
    """
    keys = sorted(set(patients) - set(excluded))
    random.Random(seed).shuffle(keys)  # noqa: S311 - a split, not a secret
    return Split(
        held=frozenset(keys[:held]),
        tune=frozenset(keys[held : held + tune]),
        train=frozenset(keys[held + tune :]),
    )


def learning_rate(step: int, *, steps: int, peak: float) -> float:
    """Return the rate of a step: a short linear rise, then half a cosine to zero."""
    warmup = max(1, int(steps * WARMUP_FRACTION))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def load_trained(network: torch.nn.Module, path: Path) -> torch.nn.Module:
    """Fill a network with weights that `save_weights` wrote, in evaluation mode."""
    network.load_state_dict(load_file(path))
    return network.eval()


def bootstrap_interval(
    items: Sequence[Sequence[float]], value: Callable[[NDArray[np.float64]], float], *, rounds: int = 2000
) -> tuple[float, float]:
    """Return the 95 % interval of a number when the patients are drawn again with replacement.

    Parameters
    ----------
    items
        One row a patient or image.
    value
        From (items, columns) to the number.
    """
    rng = np.random.default_rng(0)
    table = np.asarray(items, np.float64)
    drawn = [value(table[rng.integers(len(table), size=len(table))]) for _ in range(rounds)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return round(float(low), 4), round(float(high), 4)


def save_weights(network: torch.nn.Module, path: Path) -> str:
    """Write half-precision weights as safetensors and return the file's sha256."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    path.chmod(0o644)  # safetensors leaves 0600, which another user's worker could not read
    return hashlib.sha256(path.read_bytes()).hexdigest()
