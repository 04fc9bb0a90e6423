"""A small DenseNet that answers one question about a chest radiograph, place by place.

Its features are those of MONAI's DenseNet, by the same names of parameters: to import MONAI takes a worker longer than
everything else before its first Job.
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

MATRIX = 128  # rows and columns that it reads
INIT_FEATURES = 24
GROWTH_RATE = 12
BOTTLENECK = 4
BLOCKS = (4, 6, 8)
# Stages with places of 8 and 16 pixels; Grad-CAM is taken from the latter.
STAGES = ("features.denseblock2", "relu")
ATTENDED = STAGES[-1]
SHARPNESS = 2.0  # 0 would be the mean of all places, infinity the strongest alone


class _Layer(nn.Module):
    """One layer of a dense block: a bottleneck, then the new features behind what came in."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        narrow = BOTTLENECK * GROWTH_RATE
        self.layers = nn.Sequential(
            OrderedDict(
                norm1=nn.BatchNorm2d(inputs),
                relu1=nn.ReLU(inplace=True),
                conv1=nn.Conv2d(inputs, narrow, 1, bias=False),
                norm2=nn.BatchNorm2d(narrow),
                relu2=nn.ReLU(inplace=True),
                conv2=nn.Conv2d(narrow, GROWTH_RATE, 3, padding=1, bias=False),
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps, self.layers(maps)], 1)


class XrayDensenet(nn.Module):
    """Evidence for a finding at each place, and for the whole film.

    Reads (batch, 1, rows, columns), standardized; a place of the answer covers 16 × 16 pixels. A mean over the film
    would drown a small opacity, and invites to judge posture and age instead of lung; so the strongest places decide.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features, channels = _build_features()
        self.relu = nn.ReLU()
        self.head = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, films: Tensor) -> Tensor:
        """Return the evidence at each place: (batch, rows / 16, columns / 16) logits."""
        places: Tensor = self.head(self.relu(self.features(films)))
        return places[:, 0]


def _build_features() -> tuple[nn.Sequential, int]:
    """Return the layers before the head, and their channels: each block adds, each transition halves."""
    layers = OrderedDict[str, nn.Module](
        conv0=nn.Conv2d(1, INIT_FEATURES, 7, stride=2, padding=3, bias=False),
        norm0=nn.BatchNorm2d(INIT_FEATURES),
        relu0=nn.ReLU(inplace=True),
        pool0=nn.MaxPool2d(3, stride=2, padding=1),
    )
    channels = INIT_FEATURES
    for number, count in enumerate(BLOCKS, 1):
        block = OrderedDict[str, nn.Module](
            (f"denselayer{n + 1}", _Layer(channels + n * GROWTH_RATE)) for n in range(count)
        )
        layers[f"denseblock{number}"] = nn.Sequential(block)
        channels += count * GROWTH_RATE
        if number < len(BLOCKS):
            layers[f"transition{number}"] = _transition(channels)
            channels //= 2
    layers["norm5"] = nn.BatchNorm2d(channels)
    features = nn.Sequential(layers)
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return features, channels


def _transition(channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(channels),
            relu=nn.ReLU(inplace=True),
            conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
            pool=nn.AvgPool2d(2),
        )
    )


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
