"""MONAI Bundles as somebody would download them: networks so small that every answer is known."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

# Stored values from -1000 to 200 HU become 0 to 1: what is brighter than half, -400 HU, is marked.
SCALE = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1000, "a_max": 200, "b_min": 0, "b_max": 1}
STEEP = 20.0
LESION = "1=52988006,SCT,Lesion"
FINDER = '''"""Finds the one bright thing in a volume."""

import torch


class Finder:
    def __init__(self, certainty):
        self.certainty = certainty

    def __call__(self, images, network):
        answers = []
        for image in images:
            bright = (network(image[None])[0, 0] > 0).nonzero().float()
            if len(bright):
                box = torch.cat([bright.amin(0) - 0.5, bright.amax(0) + 0.5])[None]
            else:
                box = torch.zeros(0, 6)
            certainty = torch.full((len(box),), self.certainty)
            answers.append({"box": box, "label": torch.zeros(len(box), dtype=torch.int64), "label_scores": certainty})
        return answers
'''


def _compose(*transforms: dict[str, Any]) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": list(transforms)}


def _convolution(dimensions: int, outputs: int) -> nn.Module:
    """Return a network that is above zero where its input is above a half; the last channel says so."""
    layer = (nn.Conv2d if dimensions == 2 else nn.Conv3d)(1, outputs, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[-1] = STEEP
        layer.bias.zero_()  # type: ignore[union-attr]  # there is one
        layer.bias[-1] = -STEEP / 2  # type: ignore[index]  # there is one
    return layer


def _write(folder: Path, config: dict[str, Any], metadata: dict[str, Any]) -> None:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    told = {"imports": ["$import os"], "bundle_root": ".", "device": "$torch.device('cpu')", **config}
    (folder / "configs" / "inference.json").write_text(json.dumps(told))
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "0.1.0", **metadata}))


def _metadata(task: str, dimensions: int, **channels: str) -> dict[str, Any]:
    image = {"modality": "CT", "spatial_shape": ["*"] * dimensions}
    named = {key.removeprefix("c"): value for key, value in channels.items()}
    data = {"inputs": {"image": image}, "outputs": {"pred": {"format": "segmentation", "channel_def": named}}}
    return {"task": task, "copyright": "CC0-1.0", "intended_use": "Tests", "network_data_format": data}


def make_volume_bundle(folder: Path) -> Path:
    """Make a bundle that segments volumes at 2 mm, with a state dict of torch."""
    network = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    config = {
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": _compose(
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": "no_channel"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [0.5, 0.5, 0.5], "mode": "bilinear"},
            SCALE,
        ),
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32], "overlap": 0.25},
        "postprocessing": _compose(
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "$@bundle_root + '/eval'"},
        ),
        "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network", "val_data_loader": "@absent"},
    }
    _write(folder, config, _metadata("Lesion segmentation", 3, c0="background", c1="lesion"))
    torch.save({"model": _convolution(3, 2).state_dict()}, folder / "models" / "model.pt")
    return folder


def make_slice_bundle(folder: Path) -> Path:
    """Make a bundle that segments slices, whose weights are TorchScript."""
    config = {
        "network_def": {"_target_": "torch.nn.Identity"},
        "preprocessing": _compose({"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True}, SCALE),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": _compose(
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        ),
    }
    _write(folder, config, _metadata("Lesion segmentation", 2, c1="lesion"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(_convolution(2, 1)).save(folder / "models" / "model.ts")  # type: ignore[no-untyped-call]  # of torch
    return folder


def make_box_bundle(folder: Path, *, certainty: float = 0.9) -> Path:
    """Make a bundle that marks boxes by a script of its own, with safetensors."""
    network = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 1, "kernel_size": 1}
    config = {
        "network_def": network,
        "preprocessing": _compose(
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            SCALE,
        ),
        "inferer": {"_target_": "scripts.finder.Finder", "certainty": certainty},
        "postprocessing": _compose(
            {
                "_target_": "AffineBoxToWorldCoordinated",
                "box_keys": "box",
                "box_ref_image_keys": "image",
                "affine_lps_to_ras": True,
            },
            {"_target_": "ConvertBoxModed", "box_keys": "box", "src_mode": "xyzxyz", "dst_mode": "cccwhd"},
            {"_target_": "DeleteItemsd", "keys": ["image"]},
        ),
    }
    metadata = _metadata("Lesion detection", 3)
    metadata["network_data_format"]["outputs"] = {}
    _write(folder, config, metadata)
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").touch()
    (folder / "scripts" / "finder.py").write_text(FINDER)
    save_file(_convolution(3, 1).state_dict(), folder / "models" / "model.safetensors")
    card = '[bundle]\nkind = "detection"\nbox_space = "world-lps"\n'
    (folder / "model.toml").write_text(
        f'{card}\n[[labels]]\nname = "Lesion"\nvalue = 0\ncode = ["52988006", "SCT", "Lesion"]\n'
    )
    return folder


def make_film_bundle(folder: Path) -> Path:
    """Make a bundle that says how bright a radiograph is: the first number, bright; the second, dark."""
    config = {
        "network_def": "$torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2))",
        "preprocessing": _compose(
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Resized", "keys": "image", "spatial_size": [1, 1], "mode": "area"},
        ),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": _compose({"_target_": "Activationsd", "keys": "pred", "softmax": True}),
    }
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[10.0], [-10.0]]))
        layer.bias.copy_(torch.tensor([-2.0, 2.0]))
    network = nn.Sequential(nn.Flatten(), layer)
    metadata = _metadata("Bright or dark: classification", 2, c0="bright", c1="dark")
    metadata["network_data_format"]["inputs"]["image"]["modality"] = "DX"
    metadata["network_data_format"]["outputs"]["pred"]["format"] = "classes"
    _write(folder, config, metadata)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder
