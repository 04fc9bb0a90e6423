"""A MONAI Bundle of a weight and a bias: it marks what is brighter than bone, in no time."""

import json
import struct
from pathlib import Path

from node.catalogue.bundle import Wishes, complete_bundle

NAME = "tiny"
WEIGHTS = "models/model.safetensors"
# What goes in is 0 to 1 for these HU; what is above the threshold is marked.
LOWEST_HU, HIGHEST_HU, THRESHOLD_HU = -1000.0, 3000.0, 1500.0
STEEPNESS = 20.0
LABEL = "1=27925004,SCT,Nodule"
KEYS = {"keys": "pred"}
CONFIG = {
    "network_def": {"_target_": "torch.nn.BatchNorm3d", "num_features": 1, "track_running_stats": True},
    "preprocessing": {
        "_target_": "ScaleIntensityRanged",
        "keys": "image",
        "a_min": LOWEST_HU,
        "a_max": HIGHEST_HU,
        "b_min": 0.0,
        "b_max": 1.0,
    },
    "inferer": {"_target_": "SimpleInferer"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "sigmoid": True, **KEYS},
            {"_target_": "AsDiscreted", "threshold": 0.5, **KEYS},
        ],
    },
}
METADATA = {
    "version": "1.0.0",
    "task": "Segmentation of the nodules of a phantom",
    "copyright": "CC0-1.0",
    "intended_use": "Benchmarks",
    "network_data_format": {
        "inputs": {"image": {"modality": "CT", "spatial_shape": ["*", "*", "*"]}},
        "outputs": {"pred": {"format": "segmentation", "channel_def": {"1": "nodule"}}},
    },
}


def write_tiny_model(models: Path) -> Path:
    """Return the model's folder below `models`, ready for a node."""
    folder = models / NAME
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA), encoding="utf-8")
    (folder / WEIGHTS).write_bytes(_weights())
    complete_bundle(folder, Wishes(labels=(LABEL,)))
    return folder


def _weights() -> bytes:
    """Return weight and bias, mean 0 and variance 1 as safetensors: length of the header, header, data."""
    middle = (THRESHOLD_HU - LOWEST_HU) / (HIGHEST_HU - LOWEST_HU)
    numbers = {"weight": STEEPNESS, "bias": -STEEPNESS * middle, "running_mean": 0.0, "running_var": 1.0}
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * place, 4 * place + 4]}
        for place, name in enumerate(numbers)
    }
    seen = {"num_batches_tracked": {"dtype": "I64", "shape": [], "data_offsets": [16, 24]}}
    text = json.dumps(header | seen).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<4fq", *numbers.values(), 1)
