"""Weights: proven by digest, read without running what they hold."""

import io
import json
import warnings
import zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from node.errors import ModelInvalid
from node.manifest import WeightsFormat
from node.models import ModelCard
from workers.inference.conversion import UNREADABLE, list_tensors

# Lists of what an exported network holds, and how tensors are called there.
PAYLOADS = ("_weights_config.json", "_constants_config.json")
TENSORS = ("weight_", "tensor_")
NOT_WEIGHTS = (*UNREADABLE, SafetensorError, zipfile.BadZipFile)


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
        own = network.state_dict()
        found = {name: _widen(tensor, own.get(name)) for name, tensor in _read_tensors(card).items()}
        # Tensors of the file's own type stay in the file, whose pages all processes share.
        network.load_state_dict(found, assign=True)
    except NOT_WEIGHTS as exc:
        # Torch lists every tensor; the first line names the network.
        said = _first_line(exc).rstrip(": ")
        raise ModelInvalid(f"model {card.name}: the weights do not fit the network of its Pipeline ({said})") from exc
    return network.eval()


def load_network(card: ModelCard) -> torch.nn.Module:
    """Return the network that the weights of `card` hold themselves, in evaluation mode.

    A network is code: only those of a bundle, which a person has said to trust, are read.

    Raises
    ------
    ModelInvalid
        If the file is absent, differs from its digest, or holds no network.
    """
    card.verify_weights()
    try:
        if card.weights_format is WeightsFormat.EXPORT:
            _refuse_pickles(card)
            # What was exported has its mode built in, and refuses to be told.
            return torch.export.load(card.weights).module()
        with warnings.catch_warnings():
            # Bundles in the field are TorchScript, whatever torch would like better.
            warnings.simplefilter("ignore", DeprecationWarning)
            scripted: torch.nn.Module = torch.jit.load(str(card.weights), map_location="cpu")  # type: ignore[no-untyped-call]  # of torch
    except NOT_WEIGHTS as exc:
        raise ModelInvalid(f"model {card.name}: {card.weights} holds no network ({_first_line(exc)})") from exc
    return scripted.eval()


def _refuse_pickles(card: ModelCard) -> None:
    """Refuse an exported network with parts that are no plain tensors: torch would unpickle them."""
    with zipfile.ZipFile(card.weights) as archive:
        for name in archive.namelist():
            if name.endswith(PAYLOADS):
                entries = json.loads(archive.read(name))["config"].values()
                if any(one["use_pickle"] or not one["path_name"].startswith(TENSORS) for one in entries):
                    raise ModelInvalid(f"model {card.name}: {card.weights} holds pickles ({name}); export it anew")
            elif name.endswith(".pt"):
                # Torch tries this too, and unpickles what it refuses.
                torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)


def _widen(tensor: torch.Tensor, own: torch.Tensor | None) -> torch.Tensor:
    return tensor if own is None else tensor.to(own.dtype)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _read_tensors(card: ModelCard) -> dict[str, torch.Tensor]:
    if card.weights_format is WeightsFormat.SAFETENSORS:
        tensors: dict[str, torch.Tensor] = load_file(card.weights)
        return tensors
    return list_tensors(torch.load(card.weights, map_location="cpu", weights_only=True))
