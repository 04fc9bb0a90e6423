"""Weights of others become safetensors; whatever a pickle asks for, nothing of it is run."""

import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from node.errors import ModelInvalid

# What torch and the pickle machine raise at bytes that are no file of theirs: of 4,000 damaged ones, nothing else came.
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)
# Under which a checkpoint of training keeps what is wanted.
WRAPPERS = ("state_dict", "model", "network", "model_state_dict", "net")
# What DataParallel puts before each name.
PREFIX = "module."
# Packages of networks: a saved module names their classes, which stand here for nothing but a bag of tensors.
MODULE_PACKAGES = ("torch.nn.", "torchvision.models.", "torchxrayvision.models.", "monai.networks.")


class Bag:
    """What a class of a pickled module becomes: its attributes, and none of its code."""

    def __init__(self, *_: object) -> None:
        """Take whatever it is made with, and keep nothing."""

    def __setstate__(self, state: object) -> None:
        """Keep the attributes."""
        if isinstance(state, Mapping):
            self.__dict__.update(state)


def convert_weights(source: Path, target: Path) -> None:
    """Write the tensors of a state dict, a checkpoint or a pickled module to `target`, as safetensors.

    Raises
    ------
    ModelInvalid
        If it is none of these, or names what could run code.
    """
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in list_tensors(_load(source)).items()}
    if not tensors:
        raise ModelInvalid(f"{source} holds no tensors; it is no state dict, checkpoint or module that torch saved")
    save_file(tensors, target)


def list_tensors(loaded: object) -> dict[str, torch.Tensor]:
    """Return the tensors of what torch has loaded, a state dict or a checkpoint that holds one, by name."""
    return {name.removeprefix(PREFIX): tensor for name, tensor in _list_tensors(loaded)}


def _load(source: Path) -> object:
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except UNREADABLE:
        return _load_module(source)


def _load_module(source: Path) -> object:
    """Return a pickled module, each class of a network replaced by `Bag`."""
    try:
        named = get_unsafe_globals_in_checkpoint(source)
    except UNREADABLE as exc:
        raise ModelInvalid(
            f"{source} is no file that torch saved (cut, or of a very old version): {_line(exc)}"
        ) from exc
    strange = sorted(name for name in named if not name.startswith(MODULE_PACKAGES))
    if strange:
        raise ModelInvalid(f"{source} asks for {', '.join(strange[:5])}, which could run code; it is not read")
    # One class for each name: torch finds what it may use by the class.
    bags: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (type("Bag", (Bag,), {}), name) for name in named
    ]
    try:
        with safe_globals(bags):
            return torch.load(source, map_location="cpu", weights_only=True)
    except UNREADABLE as exc:
        raise ModelInvalid(f"{source} cannot be read without running it: {_line(exc)}") from exc


def _list_tensors(loaded: object) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(loaded, Bag):
        yield from _list_bag(loaded, "")
    elif isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping | Bag)), None)
        if inner is not None:
            yield from _list_tensors(inner)
        else:
            yield from ((str(name), value) for name, value in loaded.items() if isinstance(value, torch.Tensor))


def _list_bag(bag: Bag, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and buffers of a module by the names that `state_dict` gives them."""
    inside: dict[str, Any] = vars(bag)
    unsaved = inside.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, value in (inside.get(kind) or {}).items():
            if isinstance(value, torch.Tensor) and name not in unsaved:
                yield f"{prefix}{name}", value
    for name, child in (inside.get("_modules") or {}).items():
        if isinstance(child, Bag):
            yield from _list_bag(child, f"{prefix}{name}.")


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
