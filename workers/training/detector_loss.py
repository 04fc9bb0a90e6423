"""What `ct-detector` is taught: maps drawn around the middles of nodules, and how far an answer is from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.losses.dice import DiceFocalLoss
from numpy.typing import NDArray
from torch.nn.functional import l1_loss, max_pool3d

from workers.networks.nodule_finder import CENTER, INSIDE, SIZE

# Around a middle the target falls like a bell; a wide one for large nodules, whose middle is less sure.
WIDTH_SHARE, LEAST_WIDTH_VOXELS = 1 / 6, 1.0
# The focal loss for maps of middles, as CenterNet has it: how little counts what is easy, and what is beside a middle.
EASY, BESIDE = 2.0, 4.0
# Where the size is learned: near the middle.
SIZED_FROM = 0.5
SIZE_WEIGHT, INSIDE_WEIGHT = 0.2, 0.5
# Of the coarser levels, 4 and 8 mm.
LEVEL_WEIGHTS = (0.5, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The true maps of patches, each (batch, 1, x, y, z) float32.

    Attributes
    ----------
    centers
        1 at the voxel of a middle, falling to 0 around it.
    log_sizes
        log2 of the diameter in mm, where `centers` is large.
    inside
        1 in the voxels of nodules.
    """

    centers: torch.Tensor
    log_sizes: torch.Tensor
    inside: torch.Tensor


def draw_target(
    shape: tuple[int, int, int], nodules: Sequence[tuple[NDArray[np.float64], float]]
) -> NDArray[np.float32]:
    """Return the true maps (3, x, y, z) of one patch: middles, log2 of the diameter, voxels.

    Only diameters are known, so the voxels of a nodule are those of the sphere.

    Parameters
    ----------
    nodules
        Middle of each, fractional (x, y, z) in the patch, and its diameter in voxels.
    """
    maps = np.zeros((3, *shape), np.float32)
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    for center, diameter in nodules:
        # The bell stands on the nearest voxel, so that one voxel is a whole 1.
        squared = ((index - np.rint(center)) ** 2).sum(axis=-1)
        width = max(LEAST_WIDTH_VOXELS, diameter * WIDTH_SHARE)
        bell = np.exp(-squared / (2 * width**2)).astype(np.float32)
        nearer = bell > maps[CENTER]
        maps[CENTER][nearer] = bell[nearer]
        maps[SIZE][nearer] = np.log2(diameter)
        maps[INSIDE][((index - center) ** 2).sum(axis=-1) <= (diameter / 2) ** 2] = 1
    return maps


def as_target(maps: torch.Tensor) -> Target:
    """Return (batch, 3, x, y, z) of `draw_target` by name."""
    return Target(centers=maps[:, CENTER, None], log_sizes=maps[:, SIZE, None], inside=maps[:, INSIDE, None])


def focal_center_loss(logits: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """Return the focal loss of a map of middles, for each middle that is there (at least one)."""
    there = torch.sigmoid(logits)
    log_there, log_absent = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    is_center = centers == 1
    missed = -((1 - there) ** EASY) * log_there
    false = -((1 - centers) ** BESIDE) * there**EASY * log_absent
    return torch.where(is_center, missed, false).sum() / is_center.sum().clamp(min=1)


def detector_loss(answers: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
    """Return the loss of all that a `NoduleFinder` answers while it is trained."""
    maps, *levels = (answer.float() for answer in answers)
    loss = focal_center_loss(maps[:, CENTER : CENTER + 1], target.centers)
    for level, weight in zip(levels, LEVEL_WEIGHTS, strict=True):
        factor = target.centers.shape[-1] // level.shape[-1]
        loss = loss + weight * focal_center_loss(level, max_pool3d(target.centers, factor))
    near = target.centers > SIZED_FROM
    if near.any():
        loss = loss + SIZE_WEIGHT * l1_loss(maps[:, SIZE : SIZE + 1][near], target.log_sizes[near])
        dice: torch.Tensor = DiceFocalLoss(sigmoid=True, batch=True)(maps[:, INSIDE : INSIDE + 1], target.inside)
        loss = loss + INSIDE_WEIGHT * dice
    return loss
