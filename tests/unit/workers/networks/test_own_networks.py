"""The networks of the reference models answer what MONAI's do with the same weights."""

import pytest
import torch
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.unet import UNet
from torch import nn

from workers.networks.tumour_unet import CHANNELS, build_tumour_unet
from workers.networks.xray_densenet import BLOCKS, GROWTH_RATE, INIT_FEATURES, XrayDensenet


def stir(network: nn.Module) -> nn.Module:
    """Return a network whose running means are none of those with which it begins."""
    generator = torch.Generator().manual_seed(5)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.2 + 0.05)
    return network.eval()


@pytest.mark.parametrize("has_neighbours", [False, True])
def test_the_unet_is_the_one_of_monai(has_neighbours: bool) -> None:
    inputs = 5 if has_neighbours else 3
    theirs = UNet(2, inputs, 1, CHANNELS, (2, 2, 2, 2), num_res_units=1, norm="BATCH")
    stir(theirs)
    ours = build_tumour_unet(has_neighbours=has_neighbours)
    ours.load_state_dict(theirs.state_dict())
    slices = torch.rand(1, inputs, 32, 48, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        assert torch.equal(ours.eval()(slices), theirs(slices))


def test_the_unet_is_drawn_as_monai_draws_it() -> None:
    torch.manual_seed(7)
    theirs = UNet(2, 5, 1, CHANNELS, (2, 2, 2, 2), num_res_units=1, norm="BATCH").state_dict()
    torch.manual_seed(7)
    ours = build_tumour_unet(has_neighbours=True).state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


def test_the_features_of_the_densenet_are_those_of_monai() -> None:
    theirs = DenseNet(2, 1, 1, init_features=INIT_FEATURES, growth_rate=GROWTH_RATE, block_config=BLOCKS).features
    stir(theirs)
    ours = XrayDensenet().features
    ours.load_state_dict(theirs.state_dict())
    films = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(8))
    with torch.inference_mode():
        assert torch.equal(ours.eval()(films), theirs(films))
