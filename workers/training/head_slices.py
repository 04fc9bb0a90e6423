"""Slices of marked heads, real and drawn, from which the batches of `mr-tumour` are drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from workers.networks.tumour_unet import NEIGHBOUR_MM
from workers.training.lgg import FLAIR, MarkedHead

Numbers = NDArray[np.int64]

TISSUE = 0.5  # of typical tissue: slices without a brighter pixel show no head
SAME_SLICE = 0.15  # how often a slice is its own neighbour, as the outermost ones are


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Slices that a network learns from at once.

    Attributes
    ----------
    channels
        (slices, 5, rows, columns) float32: T1 before contrast, FLAIR, T1 after contrast, FLAIR below, FLAIR above.
    masks
        (slices, 1, rows, columns) float32, 0..1.
    """

    channels: torch.Tensor
    masks: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSlices:
    """All slices of some heads, one after the other.

    Attributes
    ----------
    channels
        (slices, 3, rows, columns) float16.
    masks
        (slices, 1, rows, columns) float16, 0..1.
    first, last
        (slices,) number of the lowest and of the highest slice of the same head.
    steps
        (slices,) float64, how many slices of that head make up `NEIGHBOUR_MM`.
    """

    channels: torch.Tensor
    masks: torch.Tensor
    first: Numbers
    last: Numbers
    steps: NDArray[np.float64]

    @classmethod
    def of(cls, heads: Sequence[MarkedHead]) -> "HeadSlices":
        """Put the slices of heads together."""
        sizes = np.array([len(head.mask) for head in heads])
        ends = np.cumsum(sizes)
        return cls(
            channels=torch.from_numpy(np.concatenate([head.channels for head in heads])),
            masks=torch.from_numpy(np.concatenate([head.mask for head in heads])[:, None]),
            first=np.repeat(ends - sizes, sizes),
            last=np.repeat(ends - 1, sizes),
            steps=np.repeat([NEIGHBOUR_MM / head.slice_mm for head in heads], sizes),
        )

    def take(self, numbers: Numbers, rng: np.random.Generator) -> Batch:
        """Return slices with their neighbours, which lie at about the distance that the Pipeline takes."""
        away = np.maximum(np.rint(self.steps[numbers] * rng.uniform(0.7, 1.4, len(numbers))), 1).astype(np.int64)
        away[rng.random(len(numbers)) < SAME_SLICE] = 0
        below = np.maximum(numbers - away, self.first[numbers])
        above = np.minimum(numbers + away, self.last[numbers])
        parts = [self.channels[numbers], self.channels[below, FLAIR][:, None], self.channels[above, FLAIR][:, None]]
        return Batch(channels=torch.cat(parts, dim=1).float(), masks=self.masks[numbers].float())


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One kind of slice.

    Attributes
    ----------
    slices
        Where the slices are.
    by_head
        The numbers of the slices that are of this kind, head by head, so that each head is drawn equally often
        however many slices it has.
    per_batch
        How many of a batch are of this kind.
    """

    slices: HeadSlices
    by_head: tuple[Numbers, ...]
    per_batch: int

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return `per_batch` slices: a head at random, then one of its slices at random."""
        heads = [self.by_head[int(number)] for number in rng.integers(len(self.by_head), size=self.per_batch)]
        return self.slices.take(np.array([head[int(rng.integers(len(head)))] for head in heads]), rng)


def gather_sources(heads: Sequence[MarkedHead], *, marked: int, unmarked: int) -> tuple[Source, Source]:
    """Return the slices with and those without an abnormality.

    Parameters
    ----------
    marked, unmarked
        How many of each are in a batch.

    Raises
    ------
    ValueError
        If a kind has no slice.
    """
    slices = HeadSlices.of(heads)
    has_mark = (slices.masks > 0.5).flatten(1).any(dim=1).numpy()
    shows_head = (slices.channels[:, FLAIR] > TISSUE).flatten(1).any(dim=1).numpy()
    return (
        Source(slices=slices, by_head=_part(has_mark, slices.first), per_batch=marked),
        Source(slices=slices, by_head=_part(~has_mark & shows_head, slices.first), per_batch=unmarked),
    )


def draw_batch(sources: Iterable[Source], rng: np.random.Generator) -> Batch:
    """Return one batch with the slices of every source."""
    parts = [source.draw(rng) for source in sources]
    return Batch(channels=torch.cat([part.channels for part in parts]), masks=torch.cat([part.masks for part in parts]))


def _part(chosen: NDArray[np.bool_], first: Numbers) -> tuple[Numbers, ...]:
    numbers = np.flatnonzero(chosen)
    if not numbers.size:
        msg = "no slice to learn from: heads with a drawn abnormality and slices without one are both needed"
        raise ValueError(msg)
    return tuple(np.split(numbers, np.flatnonzero(np.diff(first[numbers])) + 1))
