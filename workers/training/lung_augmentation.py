"""How what is cut out of lungs is changed before it is learned from: there are few real lungs."""

import numpy as np
import torch
from torch.nn import functional

TURN_RAD = 0.25  # standard deviation of the turn about each axis
ZOOM = (0.78, 1.12)  # edge of what is shown, in edges of a cube


def turn_and_zoom(batch: torch.Tensor, rng: np.random.Generator, *, shift: float = 0.0) -> torch.Tensor:
    """Return each cube turned a little and shown at another size.

    Parameters
    ----------
    batch
        (batch, channels, z, y, x) float32.
    shift
        At most so far, in half edges, each is moved along each axis.
    """
    turns = rng.normal(0, TURN_RAD, (len(batch), 3))
    zooms = np.exp(rng.uniform(np.log(ZOOM[0]), np.log(ZOOM[1]), len(batch)))
    places = np.zeros((len(batch), 3, 4), dtype=np.float32)
    for place, (x, y, z), zoom in zip(places, turns, zooms, strict=True):
        about = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        place[:, :3] = zoom * (np.eye(3) + about + about @ about / 2)  # a turn, to the second order
    places[:, :, 3] = rng.uniform(-shift, shift, (len(batch), 3))
    grid = functional.affine_grid(torch.from_numpy(places).to(batch.device), list(batch.shape), align_corners=False)
    return functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)


def mirror(batch: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return all cubes mirrored and with their axes in another order."""
    for axis in (2, 3, 4):
        if rng.random() < 0.5:
            batch = batch.flip(axis)
    return batch.permute(0, 1, *(2 + rng.permutation(3)).tolist())


def vary_density(batch: torch.Tensor) -> torch.Tensor:
    """Return the batch, 0..1, shifted and stretched in density, and with more noise."""
    gain = 1 + 0.06 * torch.randn(len(batch), 1, 1, 1, 1, device=batch.device)
    shift = 0.02 * torch.randn(len(batch), 1, 1, 1, 1, device=batch.device)
    grain = 0.03 * torch.rand(len(batch), 1, 1, 1, 1, device=batch.device)
    return (batch * gain + shift + grain * torch.randn_like(batch)).clamp(0, 1)
