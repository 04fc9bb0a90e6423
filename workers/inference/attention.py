"""Where a classifier looked: Grad-CAM on one of its layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """What a network answered, and what in one of its layers moved the score.

    Attributes
    ----------
    answer
        As the network gave it.
    maps
        (batch, rows, columns) of the layer, >= 0, in units of the score: what spoke against it is left out.
    """

    answer: Tensor
    maps: Tensor


def attend(network: nn.Module, layer: nn.Module, films: Tensor, *, score_of: Callable[[Tensor], Tensor]) -> Attended:
    """Ask a network, and weigh the channels of one layer by how steeply the score rises with them.

    Nothing of it stays: neither a hook nor a gradient of the weights.

    Parameters
    ----------
    layer
        A part of `network` that answers (batch, channels, rows, columns), with films in their order.
    films
        (batch, channels, rows, columns), on the network's device.
    score_of
        From the answer to one score a film (batch,), before any sigmoid, which would flatten the slope.

    Returns
    -------
    Attended
        Without any gradient, on the network's device.
    """
    seen: list[Tensor] = []

    def keep(_layer: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        seen.append(output)

    hook = layer.register_forward_hook(keep)
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            # Weights may be frozen; the films alone then carry the slope through the network.
            answer: Tensor = network(films.detach().clone().requires_grad_())
            (slopes,) = torch.autograd.grad(score_of(answer).sum(), seen[-1])
    finally:
        hook.remove()
    steepness = slopes.mean(dim=(2, 3), keepdim=True)
    maps = torch.relu((steepness * seen[-1]).sum(dim=1)).detach()
    return Attended(answer=answer.detach(), maps=maps)
