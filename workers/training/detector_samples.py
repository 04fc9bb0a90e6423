"""Patches of LUNA16 for `ct-detector`: around nodules, around what was mistaken for one, and from anywhere."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workers.training.detector_loss import Target, as_target, draw_target
from workers.training.luna import EDGE_MM, Block, LunaScan, Point, read_block

# How often a patch is around a nodule, and around what is none; the others are from anywhere.
NODULE_SHARE, OTHER_SHARE = 0.5, 0.3
# How far the nodule is from the middle of its patch, of the patch's edge.
WANDER = 0.3
GAIN, SHADE, NOISE = (0.9, 1.1), 0.05, 0.02
LEVELS = 255.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Scans, each with its block on disk, of which parts are read at a time.

    Attributes
    ----------
    with_nodules
        Numbers of the scans that have any.
    with_others
        Numbers of the scans with candidates that are none.
    """

    scans: Sequence[LunaScan]
    blocks: Sequence[Block]
    with_nodules: tuple[int, ...]
    with_others: tuple[int, ...]


def fill_shelf(scans: Sequence[LunaScan], folder: Path) -> Shelf:
    """Return scans with their blocks, which are made once and kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return Shelf(
        scans=scans,
        blocks=[keep_block(scan, folder) for scan in scans],
        with_nodules=tuple(number for number, scan in enumerate(scans) if scan.nodules),
        with_others=tuple(number for number, scan in enumerate(scans) if scan.others),
    )


def keep_block(scan: LunaScan, folder: Path) -> Block:
    """Return the block of a scan, its voxels on disk, read as they are needed.

    The file appears when it is whole: a run that was broken off leaves none that is cut.
    """
    voxels, origin = (folder / f"{scan.series_instance_uid}.{ending}" for ending in ("npy", "json"))
    if not origin.is_file():
        block = read_block(scan.path)
        aside = voxels.with_suffix(".aside")
        with aside.open("wb") as file:
            np.save(file, block.voxels)
        aside.replace(voxels)
        aside.write_text(json.dumps(block.origin_mm), encoding="utf-8")
        aside.replace(origin)
    x, y, z = json.loads(origin.read_text(encoding="utf-8"))
    return Block(voxels=np.load(voxels, mmap_mode="r"), origin_mm=(x, y, z))


def draw_batch(shelf: Shelf, rng: np.random.Generator, *, patch: int, batch: int) -> tuple[torch.Tensor, Target]:
    """Return patches (batch, 1, x, y, z), 0..1, mirrored, re-exposed and noisy at random, and their true maps.

    Parameters
    ----------
    patch
        Edge, voxels.
    """
    images, maps = zip(*(_draw_patch(shelf, rng, patch) for _ in range(batch)), strict=True)
    return torch.from_numpy(np.stack(images))[:, None], as_target(torch.from_numpy(np.stack(maps)))


def _draw_patch(shelf: Shelf, rng: np.random.Generator, patch: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    number, middle = _choose_place(shelf, rng, patch)
    block = shelf.blocks[number]
    corner = np.rint(middle - patch / 2).astype(int)
    image = cut_patch(block.voxels, corner, patch).transpose(2, 1, 0)
    nodules = [
        ((block.to_index(nodule.center_mm) - corner)[::-1], nodule.diameter_mm / EDGE_MM)
        for nodule in shelf.scans[number].nodules
    ]
    near = [one for one in nodules if (one[0] > -one[1]).all() and (one[0] < patch + one[1]).all()]
    maps = draw_target((patch, patch, patch), near)
    mirrored = tuple(axis for axis in range(3) if rng.random() < 0.5)
    image, maps = np.flip(image, mirrored), np.flip(maps, tuple(axis + 1 for axis in mirrored))
    lit = image * np.float32(rng.uniform(*GAIN)) + np.float32(rng.uniform(-SHADE, SHADE))
    lit = lit + rng.standard_normal(lit.shape, np.float32) * np.float32(rng.uniform(0, NOISE))
    return np.ascontiguousarray(np.clip(lit, 0, 1), np.float32), np.ascontiguousarray(maps)


def _choose_place(shelf: Shelf, rng: np.random.Generator, patch: int) -> tuple[int, NDArray[np.float64]]:
    """Return a scan and the middle of a patch, (z, y, x) in voxels of its block."""
    kind = rng.random()
    is_nodule = kind < NODULE_SHARE
    numbers = shelf.with_nodules if is_nodule else shelf.with_others
    if kind >= NODULE_SHARE + OTHER_SHARE or not numbers:
        number = int(rng.integers(len(shelf.scans)))
        return number, rng.uniform(0, 1, 3) * shelf.blocks[number].voxels.shape
    number = int(rng.choice(numbers))
    scan = shelf.scans[number]
    points: Sequence[Point] = [one.center_mm for one in scan.nodules] if is_nodule else scan.others
    point = points[int(rng.integers(len(points)))]
    return number, shelf.blocks[number].to_index(point) + rng.uniform(-WANDER, WANDER, 3) * patch


def cut_patch(voxels: NDArray[np.uint8], corner: NDArray[np.int_], patch: int) -> NDArray[np.float32]:
    """Return a cube (z, y, x) of `patch` voxels, 0..1; air where it is outside of the block."""
    low, high = np.maximum(corner, 0), np.minimum(corner + patch, voxels.shape)
    image = np.zeros((patch, patch, patch), np.float32)
    if (high > low).all():
        source = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        target = tuple(slice(int(a), int(b)) for a, b in zip(low - corner, high - corner, strict=True))
        image[target] = voxels[source].astype(np.float32) / LEVELS
    return image
