"""A 2D residual U-Net that marks the FLAIR abnormality on axial slices of the head.

It is MONAI's UNet with one convolution a unit, by the same names of parameters: to import MONAI takes a worker longer
than everything else before its first Job.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

SEQUENCES = 3  # T1 before contrast, FLAIR, T1 after contrast
NEIGHBOURS = 2  # FLAIR below, FLAIR above
CHANNELS = (16, 32, 64, 128, 128)
# The grid that the weights were learned on: a window of 240 mm.
MATRIX = 160
PIXEL_MM = 1.5
NEIGHBOUR_MM = 5.0  # how far below and above a slice the FLAIR is shown too


class _Unit(nn.Module):
    """A convolution beside which what comes in is added, convolved itself where size or channels change."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, ends: bool = False) -> None:
        super().__init__()
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.conv = nn.Sequential(OrderedDict(unit0=_normed(convolution, outputs, ends=ends)))
        is_same = inputs == outputs and stride == 1
        self.residual = nn.Identity() if is_same else nn.Conv2d(inputs, outputs, 3, stride, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        residual: Tensor = self.residual(maps)
        convolved: Tensor = self.conv(maps)
        return convolved + residual


class _Beside(nn.Module):
    """What comes in, and behind it what the levels below make of it."""

    def __init__(self, below: nn.Module) -> None:
        super().__init__()
        self.submodule = below

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps, self.submodule(maps)], dim=1)


class TumourUnet(nn.Module):
    """Logits of abnormal tissue: (batch, channels, rows, columns) to (batch, 1, rows, columns).

    Rows and columns must be divisible by 16.

    Parameters
    ----------
    inputs
        Channels that it is shown, > 0.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.model = _level(inputs, 1, CHANNELS, is_top=True)

    def forward(self, slices: Tensor) -> Tensor:
        """Return one logit a pixel."""
        logits: Tensor = self.model(slices)
        return logits


def build_tumour_unet(*, has_neighbours: bool) -> nn.Module:
    """Return the network with random weights.

    Parameters
    ----------
    has_neighbours
        Whether two channels more than the three sequences show the FLAIR of the slices below and above.
    """
    return TumourUnet(SEQUENCES + NEIGHBOURS * has_neighbours)


def count_away(slice_mm: float, *, neighbour_mm: float = NEIGHBOUR_MM) -> int:
    """Return how many slices away a neighbour is, for slices `slice_mm` apart, mm, > 0."""
    return max(1, round(neighbour_mm / slice_mm))


def _level(inputs: int, outputs: int, channels: tuple[int, ...], *, is_top: bool) -> nn.Module:
    """Return one level with all below it: halve the edges, go on below, double them again."""
    here, *deeper = channels
    # From the bottom up, so that random weights are drawn in the order in which MONAI draws them.
    if len(deeper) > 1:
        below: nn.Module = _level(here, here, tuple(deeper), is_top=False)
        merged = 2 * here
    else:
        below = _Unit(here, deeper[0])
        merged = here + deeper[0]
    down = _Unit(inputs, here, stride=2)
    double = nn.ConvTranspose2d(merged, outputs, 3, stride=2, padding=1, output_padding=1)
    up = nn.Sequential(_normed(double, outputs), _Unit(outputs, outputs, ends=is_top))
    return nn.Sequential(down, _Beside(below), up)


def _normed(convolution: nn.Module, outputs: int, *, ends: bool = False) -> nn.Sequential:
    """Return a convolution, followed by norm and activation unless it ends the network."""
    layers = OrderedDict[str, nn.Module](conv=convolution)
    if not ends:
        layers["adn"] = nn.Sequential(OrderedDict(N=nn.BatchNorm2d(outputs), A=nn.PReLU()))
    return nn.Sequential(layers)
