"""What a network does when memory is short: a smaller batch, then a smaller tile, then the CPU."""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from node.errors import OutOfMemory
from workers.inference.faults import is_out_of_memory
from workers.inference.turn import without_turn

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Tile = tuple[int, ...]

# A batch of 64 is at 1 in three steps; what does not fit takes little time to fail.
BATCH_DIVISOR = 4
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """How a network is asked.

    Attributes
    ----------
    batch
        How many inputs at once, > 0.
    tile
        Edges of what is read at once, voxels; None where the network reads its input whole.
    """

    device: torch.device
    batch: int
    tile: Tile | None = None

    def __str__(self) -> str:
        tile = "" if self.tile is None else f", tile {name_tile(self.tile)}"
        return f"{self.device}, batch {self.batch}{tile}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[Answer]):
    """An answer, and the sentences that the report owes where the way to it may change its numbers."""

    answer: Answer
    notes: tuple[str, ...]


class Ladder:
    """Asks one network; each Job begins at the top, so that its answer depends on what is free and on nothing else.

    Parameters
    ----------
    device
        Where the network runs if it can.
    batch
        At the top.
    tiles
        The tile at the top, then those that may be tried, each smaller; empty where the input is read whole.
    """

    def __init__(
        self, network: torch.nn.Module, device: torch.device, *, batch: int, tiles: Sequence[Tile] = ()
    ) -> None:
        self._network = network
        self._footings = tuple(_footings(device, batch, tuple(tiles)))

    def ask(self, question: Callable[[torch.nn.Module, Footing], Answer]) -> Asked[Answer]:
        """Return what `question` answers on the highest footing for which there is memory.

        Parameters
        ----------
        question
            Called with the network, which is on the device of the footing already. It is called again from its
            beginning where memory was short, and leaves its answer on the CPU.

        Raises
        ------
        OutOfMemory
            If there is not enough memory on the lowest footing.
        """
        for footing in self._footings:
            try:
                with without_turn() if footing.device == CPU else nullcontext():
                    answer = question(self._network.to(footing.device), footing)
            except (MemoryError, RuntimeError) as exc:
                if not is_out_of_memory(exc):
                    raise
                logger.warning("memory short", extra={"step": str(footing)})
            else:
                return Asked(answer=answer, notes=_notes(self._footings[0], footing))
            # Not above: there the error still holds every tensor of its frames.
            _free_memory()
        raise OutOfMemory(
            f"the network does not find the memory that it needs, not even with {self._footings[-1]}; give the worker "
            "more, or run fewer processes beside it"
        )


def name_tile(tile: Tile) -> str:
    """Return a tile in words, such as ``96 x 96 x 64``."""
    return " x ".join(map(str, tile))


def _footings(device: torch.device, batch: int, tiles: tuple[Tile, ...]) -> Iterator[Footing]:
    top = tiles[0] if tiles else None
    while True:
        yield Footing(device=device, batch=batch, tile=top)
        if batch == 1:
            break
        batch = max(1, batch // BATCH_DIVISOR)
    for tile in tiles[1:]:
        yield Footing(device=device, batch=1, tile=tile)
    if device != CPU:
        for one in tiles or (None,):
            yield Footing(device=CPU, batch=1, tile=one)


def _notes(top: Footing, taken: Footing) -> tuple[str, ...]:
    notes = []
    if taken.device != top.device:
        notes.append("The memory of the accelerator was short: the network ran on the CPU, which rounds otherwise.")
    if taken.tile is not None and top.tile is not None and taken.tile != top.tile:
        notes.append(f"Memory was short: the network read tiles of {name_tile(taken.tile)}, not {name_tile(top.tile)}.")
    return tuple(notes)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
