"""Weights on disk: half precision wherever it holds them, safetensors."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def load_trained(network: torch.nn.Module, path: Path) -> torch.nn.Module:
    """Fill a network with weights that `save_weights` wrote, in evaluation mode."""
    network.load_state_dict(load_file(path))
    return network.eval()


def save_weights(network: torch.nn.Module, path: Path) -> str:
    """Write half-precision weights as safetensors and return the file's sha256."""
    tensors = {name: _halve(value).cpu().contiguous() for name, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    path.chmod(0o644)  # safetensors leaves 0600, which another user's worker could not read
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _halve(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor in half precision, but for one with numbers too large for it, as a variance may be."""
    half = value.half() if value.is_floating_point() else value
    return half if torch.equal(half.isfinite(), value.isfinite()) else value
