"""The 2D U-Net of brain-segmentation-pytorch (Buda et al.), by the names of its published weights."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

IN_CHANNELS = 3  # before contrast, FLAIR, after contrast
INIT_FEATURES = 32
LEVELS = 4


def _block(inputs: int, outputs: int, name: str) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module]()
    for number, channels in enumerate((inputs, outputs), 1):
        layers[f"{name}conv{number}"] = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        layers[f"{name}norm{number}"] = nn.BatchNorm2d(outputs)
        layers[f"{name}relu{number}"] = nn.ReLU()
    return nn.Sequential(layers)


class PublishedUnet(nn.Module):
    """The probability of abnormal tissue, slice by slice.

    Parameters
    ----------
    features
        Channels of the first level, > 0; each deeper one has twice as many.
    """

    def __init__(self, features: int = INIT_FEATURES) -> None:
        super().__init__()
        channels = IN_CHANNELS
        for level in range(1, LEVELS + 1):
            outputs = features * 2 ** (level - 1)
            self.add_module(f"encoder{level}", _block(channels, outputs, f"enc{level}"))
            channels = outputs
        self.bottleneck = _block(channels, 2 * channels, "bottleneck")
        for level in range(LEVELS, 0, -1):
            outputs = features * 2 ** (level - 1)
            self.add_module(f"upconv{level}", nn.ConvTranspose2d(2 * outputs, outputs, 2, stride=2))
            self.add_module(f"decoder{level}", _block(2 * outputs, outputs, f"dec{level}"))
        self.conv = nn.Conv2d(features, 1, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, slices: Tensor) -> Tensor:
        """Return probabilities (batch, 1, rows, columns) of slices (batch, 3, rows, columns), z-scores.

        Rows and columns must be divisible by 16.
        """
        kept = []
        for level in range(1, LEVELS + 1):
            slices = self.get_submodule(f"encoder{level}")(slices)
            kept.append(slices)
            slices = self.pool(slices)
        slices = self.bottleneck(slices)
        for level in range(LEVELS, 0, -1):
            slices = torch.cat((self.get_submodule(f"upconv{level}")(slices), kept.pop()), dim=1)
            slices = self.get_submodule(f"decoder{level}")(slices)
        return torch.sigmoid(self.conv(slices))
