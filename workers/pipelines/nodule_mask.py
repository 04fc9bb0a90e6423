"""The voxels of a nodule, as a network outlines it."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from workers.inference.answers import require_finite
from workers.inference.turn import device_turn
from workers.measurements import Box, Region
from workers.pipelines.lung_candidates import Coarse, Lungs
from workers.pipelines.nodule_scene import CELL_MM, MIDDLE, cut_scene
from workers.resampling import sample_along
from workers.stopwatch import stage
from workers.volume import Volume

LOOKS = 3  # a candidate may lie off the middle, and the network sees 24 mm around it
MOVED_MM = 1.5  # a second look from so near by would say the same
CORE_MM = 3.0  # the nodule meant is the one within this of the middle
EDGE = -1.5  # the logit at a nodule's edge; at 0 what is outlined is too small
OUTSIDE = -9.0  # a logit that is no nodule
MIRRORED = ((), (1,), (2,), (3,))

Logits = NDArray[np.float32]
MaskArray = NDArray[np.bool_]


def mark_nodule(
    network: torch.nn.Module, volume: Volume, coarse: Coarse, lungs: Lungs, *, index: NDArray[np.float64]
) -> Region | None:
    """Return the nodule at `index`, connected, or None where the network sees none.

    Parameters
    ----------
    network
        A `NoduleOutliner`.
    index
        Native (slice, row, column) in the nodule.

    Raises
    ------
    ModelOutputInvalid
        If the network answers with NaN.
    """
    spacing = np.asarray(volume.spacing_mm)
    middle = np.asarray(index, dtype=np.float64)
    logits = ask_outliner(network, cut_scene(volume, coarse, lungs, middle))
    mask = _pick(logits > EDGE)
    for _ in range(LOOKS - 1):
        moved_mm = np.zeros(3) if mask is None else (np.argwhere(mask).mean(axis=0) - MIDDLE) * CELL_MM
        if float(np.linalg.norm(moved_mm)) <= MOVED_MM:
            break
        middle = middle + moved_mm / spacing
        logits = ask_outliner(network, cut_scene(volume, coarse, lungs, middle))
        mask = _pick(logits > EDGE)
    if mask is None:
        return None
    return _to_native(np.where(mask | (logits <= EDGE), logits, OUTSIDE), volume, middle)


@stage("network")
@device_turn()
def ask_outliner(network: torch.nn.Module, scene: NDArray[np.float32]) -> Logits:
    """Return the mean of the network's answers to a scene and to its three mirror images, (48, 48, 48) logits.

    Parameters
    ----------
    scene
        (2, 48, 48, 48) float32, of `cut_scene`.

    Raises
    ------
    ModelOutputInvalid
        If it answers with NaN.
    """
    device = next(network.parameters()).device
    given = torch.from_numpy(scene).to(device)
    with torch.inference_mode():
        # Together: of one alone, PyTorch on one core computes no convolution by oneDNN, and takes three times as long.
        answers = network(torch.stack([given.flip(axes) for axes in MIRRORED]))
        turned = [answer.flip([axis - 1 for axis in axes]) for answer, axes in zip(answers, MIRRORED, strict=True)]
        mean: Logits = torch.stack(turned).mean(dim=0).float().cpu().numpy()
    require_finite(mean, "nodule outline")
    return mean


def _pick(inside: MaskArray) -> MaskArray | None:
    """Return the connected part that the middle lies in."""
    labels, _ = ndimage.label(inside)
    offsets = (np.arange(len(inside)) - MIDDLE) * CELL_MM
    far = offsets[:, None, None] ** 2 + offsets[None, :, None] ** 2 + offsets[None, None, :] ** 2
    there = labels[far <= CORE_MM**2]
    counts = np.bincount(there[there > 0], minlength=1)
    if not counts.any():
        return None
    picked: MaskArray = labels == int(counts.argmax())
    return picked


def _to_native(logits: Logits, volume: Volume, middle: NDArray[np.float64]) -> Region | None:
    """Return the voxels of the volume whose middle lies within the edge."""
    spacing = np.asarray(volume.spacing_mm)
    reach = (MIDDLE * CELL_MM) / spacing
    start = np.maximum(0, np.ceil(middle - reach)).astype(int)
    stop = np.minimum(volume.voxels.shape, np.floor(middle + reach).astype(int) + 1)
    places = [
        (np.arange(a, b) - place) * step / CELL_MM + MIDDLE
        for a, b, place, step in zip(start, stop, middle, spacing, strict=True)
    ]
    mask: MaskArray = sample_along(logits, places).astype(np.float32) > EDGE
    for plane in mask:
        ndimage.binary_fill_holes(plane, output=plane)
    if not mask.any():
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    box: Box = (z, y, x)
    return Region(box=box, mask=mask)
