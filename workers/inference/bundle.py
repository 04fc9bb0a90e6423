"""A MONAI Bundle, loaded: its own preprocessing, inferer and postprocessing around weights that are proven."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from monai.bundle.config_parser import ConfigParser

from node.errors import ModelInvalid, ModelOutputInvalid
from node.manifest import Bundle, WeightsFormat
from node.models import ModelCard
from workers.inference.faults import is_device_fault, is_out_of_memory
from workers.inference.weights import load_network, load_weights

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

# Files are read and written by the node: what a bundle's transforms would do of that is taken out, and with it what
# they do about channels, which come first here.
FILE_TRANSFORMS = ("LoadImage", "SaveImage", "EnsureChannelFirst", "AsChannelFirst", "AddChannel")
# What must have been evaluated before the inferer is used.
PREPARATIONS = ("detector_ops",)
# Whatever the code of a bundle may raise.
FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
MAX_SAID = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBundle:
    """A bundle that can be asked.

    Attributes
    ----------
    root
        Its folder, where its scripts are.
    preprocessing, postprocessing
        From a table of tensors to a table of tensors.
    inferer
        From images and network to the answer.
    """

    name: str
    root: Path
    network: torch.nn.Module
    preprocessing: Callable[[dict[str, Any]], dict[str, Any]]
    inferer: Callable[[Any, torch.nn.Module], Any]
    postprocessing: Callable[[dict[str, Any]], dict[str, Any]]

    def run(self, step: str, call: Callable[[], Value]) -> Value:
        """Return what a part of the bundle answers.

        Raises
        ------
        ModelOutputInvalid
            If it fails; a lack of memory or of a device goes through as it is.
        """
        try:
            with _scripts_of(self.root):
                return call()
        except FOREIGN as exc:
            if is_out_of_memory(exc) or is_device_fault(exc):
                raise
            logger.warning("bundle failed", exc_info=True)
            raise ModelOutputInvalid(
                f"the bundle {self.name} failed in its {step} ({_say(exc)}); try it with MONAI on the same Series, and "
                "ask whoever made it"
            ) from exc


def load_bundle(card: ModelCard, bundle: Bundle, device: torch.device) -> LoadedBundle:
    """Return the bundle of a model folder; its config and scripts are run, once every file of it is proven.

    Raises
    ------
    ModelInvalid
        If a file is absent or differs from its digest, or the config lacks what is needed, or does not load.
    """
    card.verify_weights()
    root = card.folder
    try:
        with _scripts_of(root):
            return _load(card, bundle, device, root)
    except FOREIGN as exc:
        if is_out_of_memory(exc) or is_device_fault(exc):
            raise
        raise ModelInvalid(
            f"model {card.name}: its {bundle.config} does not load ({_say(exc)}); compare [bundle] in model.toml with "
            "the config, and see which packages the bundle needs"
        ) from exc


def _load(card: ModelCard, bundle: Bundle, device: torch.device, root: Path) -> LoadedBundle:
    parser = ConfigParser()
    parser.read_config(str(root / bundle.config))
    parser.config = _drop_file_transforms(parser.config)
    parser["bundle_root"] = str(root)
    parser["device"] = f"$torch.device({str(device)!r})"
    if card.weights_format in {WeightsFormat.TORCHSCRIPT, WeightsFormat.EXPORT}:
        network = load_network(card).to(device)
        parser[bundle.network] = network
    else:
        network = load_weights(parser.get_parsed_content(bundle.network), card).to(device)
    for key in PREPARATIONS:
        if key in parser:
            parser.get_parsed_content(key)
    return LoadedBundle(
        name=card.name,
        root=root,
        network=network,
        preprocessing=parser.get_parsed_content(bundle.preprocessing),
        inferer=parser.get_parsed_content(bundle.inferer),
        postprocessing=parser.get_parsed_content(bundle.postprocessing),
    )


def _drop_file_transforms(config: Any) -> Any:
    """Return a config without what reads or writes files."""
    if isinstance(config, dict):
        return {key: _drop_file_transforms(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_drop_file_transforms(one) for one in config if not _handles_files(one)]
    return config


def _handles_files(entry: object) -> bool:
    target = entry.get("_target_") if isinstance(entry, dict) else None
    return isinstance(target, str) and target.rpartition(".")[2].startswith(FILE_TRANSFORMS)


@contextmanager
def _scripts_of(root: Path) -> Iterator[None]:
    """Let the block import modules of one bundle, of which another may have some of the same name."""
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    try:
        with warnings.catch_warnings():
            # What a bundle should have written otherwise is for whoever made it.
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(root))
        # Not all of them: there are thousands, and every step of a bundle ends here.
        for name in sys.modules.keys() - before:
            module = sys.modules[name]
            file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
            if file is not None and Path(file).is_relative_to(root):
                del sys.modules[name]


def _say(error: BaseException) -> str:
    """Return an error in one line; of several, the one that began it."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:MAX_SAID]}" if text else type(error).__name__
