"""A 2D residual U-Net that marks the FLAIR abnormality on axial slices of the head."""

from monai.networks.nets.unet import UNet
from torch import nn

SEQUENCES = 3  # T1 before contrast, FLAIR, T1 after contrast
NEIGHBOURS = 2  # FLAIR below, FLAIR above
CHANNELS = (16, 32, 64, 128, 128)
STRIDES = (2, 2, 2, 2)
# The grid that the weights were learned on: a window of 240 mm.
MATRIX = 160
PIXEL_MM = 1.5
NEIGHBOUR_MM = 5.0  # how far below and above a slice the FLAIR is shown too


def build_tumour_unet(*, has_neighbours: bool) -> nn.Module:
    """Return the network with random weights: (batch, channels, rows, columns) to (batch, 1, rows, columns) logits.

    Rows and columns must be divisible by 16.

    Parameters
    ----------
    has_neighbours
        Whether two channels more than the three sequences show the FLAIR of the slices below and above.
    """
    network: nn.Module = UNet(
        spatial_dims=2,
        in_channels=SEQUENCES + NEIGHBOURS * has_neighbours,
        out_channels=1,
        channels=CHANNELS,
        strides=STRIDES,
        num_res_units=1,
        norm="BATCH",
    )
    return network


def count_away(slice_mm: float, *, neighbour_mm: float = NEIGHBOUR_MM) -> int:
    """Return how many slices away a neighbour is, for slices `slice_mm` apart, mm, > 0."""
    return max(1, round(neighbour_mm / slice_mm))
