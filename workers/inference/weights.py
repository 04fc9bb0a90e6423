"""Weights: proven by digest, read from safetensors, never unpickled."""

import torch
from safetensors.torch import load_file

from node.errors import ModelInvalid
from node.models import ModelCard


def load_weights(network: torch.nn.Module, card: ModelCard) -> torch.nn.Module:
    """Fill `network` with the weights of `card` and put it in evaluation mode.

    Stored half precision is widened to the network's own type.

    Raises
    ------
    ModelInvalid
        If the file is absent, differs from its digest, or does not fit the network.
    """
    card.verify_weights()
    try:
        network.load_state_dict(load_file(card.weights))
    except (RuntimeError, ValueError) as exc:
        # Torch lists every tensor; the first line names the network.
        said = str(exc).splitlines()[0].rstrip(": ")
        raise ModelInvalid(f"model {card.name}: the weights do not fit the network of its Pipeline ({said})") from exc
    return network.eval()
