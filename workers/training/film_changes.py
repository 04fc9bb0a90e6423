"""What training does to a film at random, so that the network learns the chest and not the way it was taken."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def change_films(films: Tensor, rng: np.random.Generator) -> Tensor:
    """Return films turned, moved, stretched, mirrored, re-exposed and made noisy.

    Parameters
    ----------
    films
        (films, 1, rows, columns) float32, 0..1.

    Returns
    -------
    Tensor
        The same shape, about 0..1.
    """
    count = len(films)
    moved = _move(films, rng)
    gamma = torch.from_numpy(rng.uniform(0.7, 1.4, (count, 1, 1, 1))).float()
    noise = torch.from_numpy(rng.uniform(0, 0.03, (count, 1, 1, 1))).float() * torch.randn_like(moved)
    return moved**gamma + noise


def _move(films: Tensor, rng: np.random.Generator) -> Tensor:
    count = len(films)
    angle = rng.uniform(-0.14, 0.14, count)
    zoom = rng.uniform(0.8, 1.12, (count, 1)) * rng.uniform(0.88, 1.14, (count, 2))
    theta = np.zeros((count, 2, 3))
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle), -np.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle), np.cos(angle)
    theta[:, :, :2] *= zoom[:, :, None]
    theta[:, 0] *= rng.choice((-1.0, 1.0), (count, 1))
    theta[:, :, 2] = rng.uniform(-0.1, 0.1, (count, 2))
    grid = affine_grid(torch.from_numpy(theta).float(), list(films.shape), align_corners=False)
    return grid_sample(films, grid, padding_mode="border", align_corners=False).clamp(0, 1)
