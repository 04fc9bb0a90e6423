"""How the network learns that outlines nodules: on scenes whose nodules are known to the voxel."""

from functools import partial

import numpy as np
import torch
from monai.losses.dice import DiceFocalLoss
from numpy.typing import NDArray

from workers.training.course import Course, Plan
from workers.training.lung_augmentation import mirror, turn_and_zoom, vary_density
from workers.training.lung_samples import BYTE
from workers.training.order import Order, seed_everything

PLAN = Plan(steps=2000, peak_rate=4e-3, average=0.995)
BATCH = 6
SHIFT = 0.2  # 5 of the 24 mm from the middle to the edge: a candidate lies off the nodule's middle

Scenes = NDArray[np.uint8]


def train_outliner(network: torch.nn.Module, order: Order, scenes: Scenes, *, seed: int) -> torch.nn.Module:
    """Return the averaged network, on the CPU.

    Parameters
    ----------
    scenes
        (n, 3, 48, 48, 48) uint8, of `workers.training.lung_samples.Lesson`.
    """
    rng = seed_everything(seed)
    course = Course(network, order, rng=rng, plan=PLAN)
    course.run(partial(_loss, course, scenes, DiceFocalLoss(sigmoid=True), order.device))
    return course.averaged.cpu()


def _loss(course: Course, scenes: Scenes, loss: torch.nn.Module, device: torch.device) -> torch.Tensor:
    chosen = course.rng.integers(len(scenes), size=BATCH)
    shown, truth = change_scenes(torch.from_numpy(scenes[chosen]).to(device), course.rng)
    found: torch.Tensor = loss(course.network(shown)[:, None], truth)
    return found


def change_scenes(scenes: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the network is shown, and the true masks: moved, turned, zoomed, mirrored, of other density.

    Parameters
    ----------
    scenes
        (batch, 3, 48, 48, 48) uint8.

    Returns
    -------
    tuple
        (batch, 2, 48, 48, 48) and (batch, 1, 48, 48, 48) float32.
    """
    whole = scenes.float()
    whole[:, :2] /= BYTE
    moved = mirror(turn_and_zoom(whole, rng, shift=SHIFT), rng).contiguous()
    shown = torch.cat([vary_density(moved[:, :1]), moved[:, 1:2]], dim=1)
    return shown, (moved[:, 2:] >= 0.5).float()


def measure_outlines(network: torch.nn.Module, scenes: Scenes) -> dict[str, float]:
    """Return the mean overlap (Dice) with the true masks, of all that lies in the scenes."""
    dice = []
    with torch.inference_mode():
        for scene in scenes:
            shown = torch.from_numpy(scene[None, :2].astype(np.float32) / np.float32(BYTE))
            found, true = (network(shown)[0] > 0).numpy(), scene[2] > 0
            dice.append(2 * (found & true).sum() / max(1, found.sum() + true.sum()))
    return {"scenes": len(dice), **({"dice": float(np.mean(dice))} if dice else {})}
