"""What ``radnode-train ct-detector`` leaves for ``radnode models add``: a MONAI Bundle around the trained network."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from workers.training.luna import EDGE_MM, WINDOW_HU
from workers.training.weights import save_weights

VERSION = "0.1.0"
MODEL_TOML = """\
# Written by radnode-train ct-detector; `radnode models add` completes it.
name = "ct-detector"
version = "{version}"
title = "Lung Nodules (Detector)"
licence = "{licence}"
intended_use = "Finds and outlines lung nodules in chest CT; for testing the node, and for whoever trains it further."
notice = "Trained here, not validated, not for diagnosis"

[inputs.ct]
modality = "CT"

[preprocessing]
min_slices = 20

[thresholds]
finding = {threshold:.3f}

[[labels]]
value = 0
name = "Nodule"
code = ["27925004", "SCT", "Nodule"]
site = ["39607008", "SCT", "Lung"]

[bundle]
kind = "detection"
box_space = "voxel"
box_mode = "xyzxyz"
"""
# What is learned from decides; LUNA16 is CC BY 4.0, and other data in its format may be anything.
LICENCE = "that of its training data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A trained network, and how it is asked.

    Attributes
    ----------
    width
        Of `NoduleFinder`.
    patch
        Edge of what it reads at once, voxels.
    threshold
        Certainty from which a finding counts, 0..1.
    """

    network: torch.nn.Module
    width: int
    patch: int
    threshold: float


def write_bundle(outcome: Outcome, folder: Path) -> str:
    """Write a bundle that replaces what is in `folder`, and return the SHA-256 of its weights."""
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    card = MODEL_TOML.format(version=VERSION, licence=LICENCE, threshold=outcome.threshold)
    (folder / "model.toml").write_text(card, encoding="utf-8")
    for name, content in (("metadata", _describe()), ("inference", _configure(outcome))):
        (folder / "configs" / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return save_weights(outcome.network, folder / "models" / "model.safetensors")


def _configure(outcome: Outcome) -> dict[str, object]:
    low, high = WINDOW_HU
    return {
        "network_def": {"_target_": "workers.networks.nodule_finder.NoduleFinder", "width": outcome.width},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [EDGE_MM] * 3, "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": low,
                    "a_max": high,
                    "b_min": 0.0,
                    "b_max": 1.0,
                    "clip": True,
                },
            ],
        },
        "inferer": {
            "_target_": "workers.pipelines.nodule_finder.FinderInferer",
            "roi_size": [outcome.patch] * 3,
        },
        "postprocessing": {"_target_": "Compose", "transforms": []},
    }


def _describe() -> dict[str, object]:
    return {
        "version": VERSION,
        "task": "Lung nodule detection in CT",
        "copyright": LICENCE,
        "network_data_format": {
            "inputs": {"image": {"modality": "CT", "spatial_shape": ["*", "*", "*"]}},
            "outputs": {"pred": {"format": "boxes", "channel_def": {"0": "nodule"}}},
        },
    }
