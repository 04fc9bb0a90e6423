"""Cubes of 24 mm around candidates, as the nodule classifier reads them."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from workers.networks.nodule_classifier import PATCH_VOXELS
from workers.volume import Volume

PATCH_MM = 1.0
# A window that keeps fat, soft tissue and ground glass apart; contrast and bone saturate alike.
WINDOW_HU = (-1024.0, 300.0)
BATCH = 64


def cut_patches(volume: Volume, index: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return one patch a candidate; beyond the first and last slice the end slices are repeated.

    Parameters
    ----------
    index
        (n, 3) float64, native (slice, row, column) of the middles.

    Returns
    -------
    ndarray
        (n, 24, 24, 24) float32 at 1 mm, 0..1 over -1024..300 HU.
    """
    offsets = (np.arange(PATCH_VOXELS) - (PATCH_VOXELS - 1) / 2) * PATCH_MM
    steps = [offsets / spacing for spacing in volume.spacing_mm]
    patches = np.empty((len(index), PATCH_VOXELS, PATCH_VOXELS, PATCH_VOXELS), dtype=np.float32)
    for number, middle in enumerate(index):
        z, y, x = (place + step for place, step in zip(middle, steps, strict=True))
        mesh = np.meshgrid(z, y, x, indexing="ij")
        ndimage.map_coordinates(volume.voxels, mesh, order=1, mode="nearest", output=patches[number])
    low, high = WINDOW_HU
    return (np.clip(patches, low, high) - np.float32(low)) / np.float32(high - low)


def score_patches(
    network: torch.nn.Module, patches: NDArray[np.float32], *, recheck_from: float = 0.0, batch: int = BATCH
) -> NDArray[np.float64]:
    """Return the probability (0..1) that the middle of each patch is a nodule.

    A nodule has no handedness: patches that score `recheck_from` or more are asked again in three mirror images, and
    the mean of the four answers counts.

    Parameters
    ----------
    patches
        (n, 24, 24, 24) float32, 0..1.
    recheck_from
        0..1; most candidates are vessels, far below it, and need no second look.
    batch
        How many patches at once.
    """
    logits = _ask(network, patches, batch)
    again = np.flatnonzero(_probability(logits) >= recheck_from)
    if len(again):
        views = [_ask(network, np.flip(patches[again], axis).copy(), batch) for axis in (1, 2, 3)]
        logits[again] = (logits[again] + sum(views)) / 4
    return _probability(logits)


def _ask(network: torch.nn.Module, patches: NDArray[np.float32], batch: int) -> NDArray[np.float64]:
    device = next(network.parameters()).device
    answers = [np.empty(0)]
    with torch.inference_mode():
        for start in range(0, len(patches), batch):
            part = torch.from_numpy(patches[start : start + batch])[:, None].to(device)
            answers.append(network(part).double().cpu().numpy())
    return np.concatenate(answers)


def _probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    probability: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(logits, -50.0, 50.0)))
    return probability
