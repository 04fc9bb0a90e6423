"""Heads of other people on other scanners: how slices are changed at random before a network learns from them."""

import numpy as np
import torch
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from workers.training.head_slices import Batch

# Rows and columns that are learned from at once: 216 x 168 mm, which holds most heads and spares the air around them.
WINDOW = (144, 112)
# Which of the three sequences each channel shows: the neighbours are FLAIR, and change as it does.
SEQUENCE = (0, 1, 2, 1, 1)
# How often T1 before contrast, T1 after contrast, and both are hidden, so that FLAIR alone is learned too.
HIDE_PRE, HIDE_POST, HIDE_BOTH = 0.12, 0.12, 0.42
BLURRED = 0.3  # how often a slice is as soft as one of a coarser matrix
BENDS = 5  # knots along each edge by which a head is bent
CEILING = 3.0


def augment(batch: Batch, rng: np.random.Generator) -> Batch:
    """Return slices turned, stretched, bent, mirrored, re-exposed, shaded and noisy at random, some without T1."""
    grid = _draw_grid(batch.channels.shape, rng)
    moved = grid_sample(torch.cat([batch.channels, batch.masks], dim=1), grid, align_corners=False)
    channels, masks = moved[:, :-1], (moved[:, -1:] > 0.5).float()
    present = _draw_presence(channels, rng)
    return Batch(channels=_expose(_soften(channels, rng), rng) * present, masks=masks)


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.uniform(low, high, shape)).float()


def _draw_grid(shape: torch.Size, rng: np.random.Generator) -> torch.Tensor:
    """Return where each pixel of the window is sampled from, (slices, rows, columns, 2)."""
    count = shape[0]
    angle = rng.uniform(-0.3, 0.3, count)
    zoom = rng.uniform(0.82, 1.2, (count, 1)) * rng.uniform(0.93, 1.07, (count, 2))
    theta = np.zeros((count, 2, 3))
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle), -np.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle), np.cos(angle)
    theta[:, :, 0] *= WINDOW[1] / shape[3]
    theta[:, :, 1] *= WINDOW[0] / shape[2]
    theta[:, :, :2] *= zoom[:, :, None]
    theta[:, 0] *= rng.choice((-1.0, 1.0), (count, 1))
    theta[:, :, 2] = rng.uniform(-0.08, 0.08, (count, 2))
    straight = affine_grid(torch.from_numpy(theta).float(), [count, 1, *WINDOW], align_corners=False)
    reach = _uniform(rng, 0, 0.035, count, 1, 1, 1)
    bends = interpolate(
        reach * _uniform(rng, -1, 1, count, 2, BENDS, BENDS), size=WINDOW, mode="bicubic", align_corners=True
    )
    return straight + bends.permute(0, 2, 3, 1)


def _soften(channels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    share = _uniform(rng, 0, 1, len(channels), 1, 1, 1) * torch.from_numpy(
        rng.random((len(channels), 1, 1, 1)) < BLURRED
    )
    return channels + share.float() * (avg_pool2d(channels, 3, stride=1, padding=1) - channels)


def _expose(channels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return other contrast, gain, shade of the coil and noise."""
    count = len(channels)
    gain, gamma = (_uniform(rng, *span, count, 3, 1, 1)[:, SEQUENCE] for span in ((0.85, 1.18), (0.65, 1.5)))
    knots = _uniform(rng, -0.2, 0.2, count, 1, 4, 4)
    shade = 1 + interpolate(knots, size=channels.shape[2:], mode="bilinear", align_corners=True)
    noise = _uniform(rng, 0, 0.1, count, 1, 1, 1) * torch.randn_like(channels)
    return (channels.clamp(min=0) ** gamma * gain * shade + noise).clamp(0, CEILING)


def _draw_presence(channels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return (slices, 5, 1, 1): 0 where a channel is absent or hidden, else 1; FLAIR is never hidden."""
    present = (channels.amax(dim=(2, 3)) > 0).float()
    kind = rng.random(len(channels))
    both = kind > 1 - HIDE_BOTH
    present[:, 0] *= torch.from_numpy(~((kind < HIDE_PRE) | both)).float()
    present[:, 2] *= torch.from_numpy(~(((kind >= HIDE_PRE) & (kind < HIDE_PRE + HIDE_POST)) | both)).float()
    return present[:, :, None, None]
