"""Weights are read from the four formats that run nothing, and from no other."""

import hashlib
import json
import os
import pickle
import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from node.errors import ModelInvalid
from node.manifest import FORMATS, WeightsFormat
from node.models import ModelCard, read_model
from tests.unit.node.test_manifest import BUNDLE
from tests.unit.node.test_models import CARD, WEIGHTS
from workers.inference.weights import load_network, load_weights


def make_layer(value: float) -> nn.Linear:
    layer = nn.Linear(2, 1)
    nn.init.constant_(layer.weight, value)
    nn.init.constant_(layer.bias, value)
    return layer


def save(layer: nn.Module, path: Path) -> None:
    match path.suffix:
        case ".safetensors":
            save_file(layer.state_dict(), path)
        case ".pt2":
            torch.export.save(torch.export.export(layer, (torch.zeros(1, 2),)), path)
        case ".ts":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                torch.jit.script(layer).save(path)  # type: ignore[no-untyped-call]  # of torch
        case _:
            torch.save({"state_dict": {f"module.{key}": value for key, value in layer.state_dict().items()}}, path)


def make_card(folder: Path, file: str) -> ModelCard:
    digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    old = hashlib.sha256(WEIGHTS).hexdigest()
    # A network of its own is read of a bundle only.
    text = BUNDLE if Path(file).suffix in {".ts", ".pt2"} else CARD
    (folder / "model.toml").write_text(text.replace("weights.safetensors", file).replace(old, digest))
    return read_model(folder)


def load(card: ModelCard) -> nn.Module:
    """Load weights into a network that knows nothing, or the network that they are."""
    is_network = card.weights_format in {WeightsFormat.TORCHSCRIPT, WeightsFormat.EXPORT}
    return load_network(card) if is_network else load_weights(make_layer(0.0), card)


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_was_saved_answers_as_it_did(suffix: str, tmp_path: Path) -> None:
    save(make_layer(3.0), tmp_path / f"model{suffix}")
    card = make_card(tmp_path, f"model{suffix}")
    assert load(card)(torch.ones(1, 2)).tolist() == [[9.0]]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [b"", b"not weights", *(Random(seed).randbytes(1000) for seed in range(8))])
def test_what_is_no_weights_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / f"model{suffix}").write_bytes(content)
    card = make_card(tmp_path, f"model{suffix}")
    with pytest.raises(ModelInvalid, match="NAME"):
        load(card)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".pt2", ".ts"])
def test_a_pickle_that_would_run_code_is_not_read(suffix: str, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"weight": Trap()}, tmp_path / f"model{suffix}")
    card = make_card(tmp_path, f"model{suffix}")
    with pytest.raises(ModelInvalid):
        load(card)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", ["sample_inputs/model.pt", "constants/opaque_obj_0"])
def test_an_exported_network_with_a_pickle_is_not_read(part: str, tmp_path: Path) -> None:
    """Of itself torch.export.load unpickles what is no plain tensor."""

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    folder = tmp_path / "model"
    folder.mkdir()
    save(make_layer(3.0), tmp_path / "right.pt2")
    trap = BytesIO()
    if part.endswith(".pt"):
        torch.save((Trap(),), trap)
    else:
        pickle.dump(Trap(), trap)
    config = json.dumps(
        {"config": {"x": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}}
    )
    with zipfile.ZipFile(tmp_path / "right.pt2") as right, zipfile.ZipFile(folder / "model.pt2", "w") as wrong:
        for name in right.namelist():
            replaced = trap.getvalue() if name.endswith(part) else right.read(name)
            wrong.writestr(name, config if "constants_config" in name and "constants" in part else replaced)
        if "constants" in part:
            wrong.writestr(f"{right.namelist()[0].partition('/')[0]}/data/{part}", trap.getvalue())
    with pytest.raises(ModelInvalid):
        load_network(make_card(folder, "model.pt2"))
    assert not (tmp_path / "ran").exists()
