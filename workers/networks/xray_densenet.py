"""A small DenseNet that answers one question about a chest radiograph."""

from monai.networks.nets.densenet import DenseNet
from torch import nn

INIT_FEATURES = 24
GROWTH_RATE = 12
BLOCKS = (4, 6, 8, 6)


def build_xray_densenet() -> nn.Module:
    """Return the network with random weights: (batch, 1, rows, columns) to (batch, 1) logits."""
    network: nn.Module = DenseNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        init_features=INIT_FEATURES,
        growth_rate=GROWTH_RATE,
        block_config=BLOCKS,
    )
    return network
