"""A network in another Layout: it reads and answers what it did before, only faster or otherwise rounded."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from node.layouts import PLAIN, Layout, Memory, Precision

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
FORWARD = "forward"


@runtime_checkable
class Networked(Protocol):
    """A Pipeline whose networks may be laid out otherwise, each by itself."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Return the networks that are asked, by name."""
        ...


def networks_of(pipeline: object) -> Mapping[str, nn.Module]:
    """Return the networks of a Pipeline by name; none where it keeps them to itself."""
    return pipeline.networks if isinstance(pipeline, Networked) else {}


def lay_out(network: nn.Module, layout: Layout, device: torch.device) -> None:
    """Lay a network out, whatever its Layout was before.

    Parameters
    ----------
    device
        Where it was calibrated: should it be asked on another one, for want of memory, it computes in float32 there.
    """
    vars(network).pop(FORWARD, None)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.dim() in FORMATS:
                tensor.data = tensor.data.contiguous(memory_format=_format_of(tensor, layout.memory))
    if layout != PLAIN:
        # Hooks would not do: autocast must last from before the first layer to behind the last one.
        vars(network)[FORWARD] = _wrap(network.forward, layout, device)


def _wrap(forward: Callable[..., Any], layout: Layout, device: torch.device) -> Callable[..., Any]:
    def ask(*inputs: Any, **named: Any) -> Any:
        given = [_convert(one, layout.memory) for one in inputs]
        is_there = any(isinstance(one, torch.Tensor) and one.device.type == device.type for one in given)
        halves = layout.precision is Precision.BFLOAT16 and is_there
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=halves):
            answer = forward(*given, **{name: _convert(one, layout.memory) for name, one in named.items()})
        return _restore(answer)

    return ask


def _format_of(tensor: torch.Tensor, memory: Memory) -> torch.memory_format:
    return FORMATS[tensor.dim()] if memory is Memory.CHANNELS_LAST else torch.contiguous_format


def _convert(value: Any, memory: Memory) -> Any:
    if isinstance(value, torch.Tensor) and value.dim() in FORMATS:
        return value.contiguous(memory_format=_format_of(value, memory))
    return value


def _restore(answer: Any) -> Any:
    """Return what a network answers as it would lie and be kept without any Layout."""
    if isinstance(answer, torch.Tensor):
        return (answer.float() if answer.dtype is torch.bfloat16 else answer).contiguous()
    if isinstance(answer, Mapping):
        return {key: _restore(value) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return type(answer)(_restore(value) for value in answer)
    return answer
