"""Cubes of 24 and 48 mm around candidates, as the nodule classifier reads them."""

import numpy as np
import torch
from numpy.typing import NDArray

from workers.inference.turn import device_turn
from workers.networks.nodule_classifier import PATCH_VOXELS
from workers.pipelines.lung_candidates import COARSE_MM, Coarse
from workers.resampling import sample_along
from workers.stopwatch import stage
from workers.volume import Volume

PATCH_MM, FAR_MM = 1.0, 2.0  # edges of a voxel: what a thing is, and what it belongs to
# A window that keeps fat, soft tissue and ground glass apart; contrast and bone saturate alike.
WINDOW_HU = (-1024.0, 300.0)
BATCH = 64


def cut_patches(volume: Volume, coarse: Coarse, index: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return two cubes a candidate, near and far; beyond the volume its outermost voxels are repeated.

    Parameters
    ----------
    index
        (n, 3) float64, native (slice, row, column) of the middles.

    Returns
    -------
    ndarray
        (n, 2, 24, 24, 24) float32, 0..1 over -1024..300 HU: 24 mm at 1 mm, and 48 mm at 2 mm.
    """
    patches = np.empty((len(index), 2, PATCH_VOXELS, PATCH_VOXELS, PATCH_VOXELS), dtype=np.float32)
    for number, middle in enumerate(index):
        cut_cube(volume.voxels, middle, np.asarray(volume.spacing_mm) / PATCH_MM, output=patches[number, 0])
        far = (middle + 0.5) / coarse.step - 0.5
        cut_cube(coarse.voxels, far, np.full(3, COARSE_MM / FAR_MM), output=patches[number, 1])
    return to_window(patches)


def cut_cube(
    voxels: NDArray[np.float32], middle: NDArray[np.float64], scale: NDArray[np.float64], *, output: NDArray[np.float32]
) -> None:
    """Fill `output`, a cube, with the voxels around `middle`, interpolated linearly.

    Parameters
    ----------
    middle
        (3,) index in `voxels`.
    scale
        (3,) edges of a voxel of `voxels` in edges of one of `output`.
    """
    offsets = np.arange(len(output)) - (len(output) - 1) / 2
    output[...] = sample_along(voxels, [place + offsets / step for place, step in zip(middle, scale, strict=True)])


def to_window(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 0..1 over -1024..300 HU, clipped."""
    low, high = WINDOW_HU
    return (np.clip(hu, low, high) - np.float32(low)) / np.float32(high - low)


def score_patches(
    network: torch.nn.Module, patches: NDArray[np.float32], *, recheck_from: float = 0.0, batch: int = BATCH
) -> NDArray[np.float64]:
    """Return the probability (0..1) that the middle of each patch is a nodule.

    A nodule has no handedness: patches that score `recheck_from` or more are asked again in three mirror images, and
    the mean of the four answers counts.

    Parameters
    ----------
    patches
        (n, 2, 24, 24, 24) float32, 0..1.
    recheck_from
        0..1; most candidates are vessels, far below it, and need no second look.
    batch
        How many patches at once.
    """
    logits = _ask(network, patches, batch)
    again = np.flatnonzero(_probability(logits) >= recheck_from)
    if len(again):
        views = [_ask(network, np.flip(patches[again], axis).copy(), batch) for axis in (2, 3, 4)]
        logits[again] = (logits[again] + sum(views)) / 4
    return _probability(logits)


@stage("network")
@device_turn()
def _ask(network: torch.nn.Module, patches: NDArray[np.float32], batch: int) -> NDArray[np.float64]:
    device = next(network.parameters()).device
    answers = [np.empty(0)]
    with torch.inference_mode():
        for start in range(0, len(patches), batch):
            part = torch.from_numpy(patches[start : start + batch]).to(device)
            answers.append(network(part).double().cpu().numpy())
    return np.concatenate(answers)


def _probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    probability: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(logits, -50.0, 50.0)))
    return probability
