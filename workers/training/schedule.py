"""The learning rate of each step: a short rise, then half a cosine to zero."""

import math

import torch

WARMUP_FRACTION = 0.03


def learning_rate(step: int, *, steps: int, peak: float) -> float:
    """Return the rate of a step: a short linear rise, then half a cosine to zero."""
    warmup = max(1, int(steps * WARMUP_FRACTION))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
