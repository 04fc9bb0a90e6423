"""What a person asks of a recipe."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from workers.training.splits import read_exclusions

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One call of ``radnode-train``.

    Attributes
    ----------
    data
        Folder with the training data, in the layout that the recipe's module describes.
    out
        Folder for weights, figures and the checkpoint.
    exclude
        List of patients that must never be learned from; None where the recipe reads no patient.
    device
        Where the network is trained.
    threads
        Of torch, on the CPU, > 0. With one thread the same order gives the same weights.
    steps
        Optimizer steps, > 0; None: as many as the recipe was written for.
    resume
        Go on from ``checkpoint.pt`` in `out`.
    pipeline
        Whose inputs ``input-autoencoder`` learns; None for the other recipes.
    """

    data: Path
    out: Path
    exclude: Path | None = None
    device: torch.device = CPU
    threads: int = 1
    steps: int | None = None
    resume: bool = False
    pipeline: str | None = None

    def excluded(self, data_set: str) -> frozenset[str]:
        """Return the patients of a data set that must not be learned from.

        Raises
        ------
        ValueError
            If no list was named: nobody learns from patients without one.
        """
        if self.exclude is None:
            msg = f"no list says which patients of {data_set} must never be learned from; name it by --exclude FILE"
            raise ValueError(msg)
        return read_exclusions(self.exclude, data_set=data_set)


Recipe = Callable[[Order], None]


def seed_everything(seed: int) -> np.random.Generator:
    """Seed torch, random and numpy's new generator, and return the latter."""
    random.seed(seed)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)
