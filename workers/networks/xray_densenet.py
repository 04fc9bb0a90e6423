"""A small DenseNet that answers one question about a chest radiograph, place by place."""

import math

import torch
from monai.networks.nets.densenet import DenseNet
from torch import Tensor, nn

MATRIX = 128  # rows and columns that it reads
INIT_FEATURES = 24
GROWTH_RATE = 12
BLOCKS = (4, 6, 8)
# Stages with places of 8 and 16 pixels; Grad-CAM is taken from the latter.
STAGES = ("features.denseblock2", "relu")
ATTENDED = STAGES[-1]
SHARPNESS = 2.0  # 0 would be the mean of all places, infinity the strongest alone


class XrayDensenet(nn.Module):
    """Evidence for a finding at each place, and for the whole film.

    Reads (batch, 1, rows, columns), standardized; a place of the answer covers 16 × 16 pixels. A mean over the film
    would drown a small opacity, and invites to judge posture and age instead of lung; so the strongest places decide.
    """

    def __init__(self) -> None:
        super().__init__()
        dense = DenseNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            init_features=INIT_FEATURES,
            growth_rate=GROWTH_RATE,
            block_config=BLOCKS,
        )
        self.features = dense.features
        self.relu = nn.ReLU()
        self.head = nn.Conv2d(_count_features(), 1, kernel_size=1)

    def forward(self, films: Tensor) -> Tensor:
        """Return the evidence at each place: (batch, rows / 16, columns / 16) logits."""
        places: Tensor = self.head(self.relu(self.features(films)))
        return places[:, 0]


def _count_features() -> int:
    """Return the channels after the last block: each block adds, each transition halves."""
    channels = INIT_FEATURES
    for number, layers in enumerate(BLOCKS):
        channels = channels // 2 if number else channels
        channels += layers * GROWTH_RATE
    return channels


def mirror(films: Tensor) -> Tensor:
    """Return films (batch, …, columns), and behind them their mirror images: (2 × batch, …, columns)."""
    return torch.cat([films, films.flip(-1)])


def merge_mirrored(values: Tensor) -> Tensor:
    """Return the mean of what was said of films and of their mirror images: (2 × batch, …) to (batch, …).

    Maps of mirror images must have been mirrored back.
    """
    straight, mirrored = values.chunk(2)
    return (straight + mirrored) / 2


def pool_evidence(places: Tensor) -> Tensor:
    """Return one logit a film (batch,) from the evidence at its places: a soft maximum."""
    flat = places.flatten(1) * SHARPNESS
    pooled: Tensor = (torch.logsumexp(flat, dim=1) - math.log(flat.shape[1])) / SHARPNESS
    return pooled
