"""Networks of the catalogue have the tensors that their publishers' weights have, by name and shape."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle.config_parser import ConfigParser
from pydicom import Dataset
from torch import nn

from node.catalogue.table import read_catalogue
from node.catalogue.writing import write_manifest
from node.errors import ModelOutputInvalid
from node.models import digest_file, read_model
from tests.analyses import make_slices
from tests.solids import Ellipsoid, Scan, acquire
from workers.inference.conversion import convert_weights
from workers.networks.mindgrab import MindGrab
from workers.networks.torchvision_parts import provide_torchvision_parts
from workers.pipelines.bundle import BundlePipeline

# Name and shape of tensors from the first to the last layer, and how many numbers learn; as published.
PUBLISHED: dict[str, tuple[int, dict[str, tuple[int, ...]]]] = {
    "lung_nodule_ct_detection": (
        20_902_741,
        {
            "feature_extractor.body.conv1.weight": (64, 1, 7, 7, 7),
            "feature_extractor.body.layer1.0.conv1.weight": (64, 64, 1, 1, 1),
            "feature_extractor.body.layer2.3.bn3.running_var": (512,),
            "feature_extractor.fpn.inner_blocks.1.weight": (256, 512, 1, 1, 1),
            "classification_head.cls_logits.weight": (3, 256, 3, 3, 3),
            "regression_head.bbox_reg.bias": (18,),
        },
    ),
    "brats_mri_segmentation": (
        4_702_227,
        {
            "convInit.conv.weight": (16, 4, 3, 3, 3),
            "down_layers.3.4.conv2.conv.weight": (128, 128, 3, 3, 3),
            "up_samples.2.0.conv.weight": (16, 32, 1, 1, 1),
            "conv_final.2.conv.bias": (3,),
        },
    ),
    "brain-segmentation-pytorch": (
        7_763_041,
        {
            "encoder1.enc1conv1.weight": (32, 3, 3, 3),
            "encoder4.enc4norm2.running_mean": (256,),
            "bottleneck.bottleneckconv2.weight": (512, 512, 3, 3),
            "upconv4.weight": (512, 256, 2, 2),
            "decoder1.dec1conv1.weight": (32, 64, 3, 3),
            "conv.weight": (1, 32, 1, 1),
        },
    ),
    "xrv-densenet121-res224-all": (
        6_966_034,
        {
            "features.conv0.weight": (64, 1, 7, 7),
            "features.denseblock1.denselayer1.norm1.weight": (64,),
            "features.denseblock4.denselayer16.conv2.weight": (32, 128, 3, 3),
            "features.transition3.conv.weight": (512, 1024, 1, 1),
            "features.norm5.bias": (1024,),
            "classifier.weight": (18, 1024),
            "op_threshs": (18,),
        },
    ),
}
SMALL_WINDOW = {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32], "sw_batch_size": 1, "overlap": 0.0}
SOLID = Ellipsoid(center_mm=(20.0, -35.0, 110.0), semi_axes_mm=(6.0, 5.0, 8.0))


def make_series(modality: str) -> list[Dataset]:
    series = acquire(SOLID, Scan(spacing_mm=(4.0, 2.0, 2.0)))
    for ds in series:
        ds.Modality = modality
    return series


def make_film() -> list[Dataset]:
    ds = make_slices()[0]
    ds.Modality, ds.PhotometricInterpretation, ds.Rows, ds.Columns = "DX", "MONOCHROME2", 80, 70
    ds.PixelData = np.arange(80 * 70, dtype=np.uint16).tobytes()
    return [ds]


def build(name: str) -> nn.Module:
    provide_torchvision_parts()
    parser = ConfigParser()
    parser.read_config({**read_catalogue()[name].config})
    network: nn.Module = parser.get_parsed_content("network_def")
    return network


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_the_tensors_that_were_published(name: str) -> None:
    count, shapes = PUBLISHED[name]
    network = build(name)
    state = network.state_dict()
    assert {key: tuple(state[key].shape) for key in shapes} == shapes
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_mindgrab_has_the_numbers_that_were_published() -> None:
    network = MindGrab()
    assert sum(parameter.numel() for parameter in network.parameters()) == 146_237
    assert len(network.convolutions) == 25
    with torch.inference_mode():
        assert network(torch.rand(1, 1, 6, 5, 4)).shape == (1, 2, 6, 5, 4)


def test_every_entry_that_is_fetched_is_looked_at() -> None:
    assert {name for name, entry in read_catalogue().items() if entry.url} == set(PUBLISHED)


@pytest.mark.thorough
@pytest.mark.parametrize("name", PUBLISHED)
def test_made_up_weights_of_an_entry_load_and_answer(name: str, tmp_path: Path) -> None:
    """From the publisher's file to an Analysis, through the entry's own preprocessing; numbers mean nothing."""
    entry = read_catalogue()[name]
    torch.manual_seed(7)
    torch.save(build(name).state_dict(), tmp_path / "published.pt")
    folder = tmp_path / name
    # Windows of the published size would take minutes here.
    small = {"patch": [32, 32, 16]} | ({} if name != "brats_mri_segmentation" else {"inferer": SMALL_WINDOW})
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text(json.dumps({**entry.config, **small}))
    convert_weights(tmp_path / "published.pt", folder / "weights.safetensors")
    files = {"configs/inference.json": digest_file(folder / "configs" / "inference.json")}
    table = entry.manifest({"file": "weights.safetensors", "sha256": digest_file(folder / "weights.safetensors")})
    (folder / "model.toml").write_text(write_manifest({**table, "bundle": {**table["bundle"], "files": files}}))
    card = read_model(folder)
    pipeline = BundlePipeline(card, torch.device("cpu"))
    modality = card.modalities[card.required_roles[0]][0]
    series = make_film() if modality == "DX" else make_series(modality)
    prepared = pipeline.read(dict.fromkeys(card.required_roles, series))
    try:
        analysis = pipeline.analyze(prepared)
    except ModelOutputInvalid as exc:
        # A network of random numbers may well mark everything.
        assert "of all voxels" in str(exc)  # noqa: PT017
    else:
        assert analysis.reference is not None or analysis.radiograph is not None
