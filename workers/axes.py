"""The same voxels with their axes the other way round, as files of other worlds want them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def reverse_axes(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Write (a, b, c) as (c, b, a).

    A plane at a time: in one copy each value would come from another line of the cache, and a volume of 512 × 512 would
    take three times as long.

    Parameters
    ----------
    source
        Three axes, contiguous.
    target
        The same axes reversed, of one type with `source`.
    """
    seen, written = torch.from_numpy(source), torch.from_numpy(target)
    for middle in range(source.shape[1]):
        written[:, middle] = seen[:, middle].t()


def reversed_axes(source: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of (a, b, c) as (c, b, a), contiguous."""
    target = np.empty(source.shape[::-1], source.dtype)
    reverse_axes(np.ascontiguousarray(source), target)
    return target
