"""A 2D residual U-Net that marks the FLAIR abnormality on axial slices of the head."""

from monai.networks.nets.unet import UNet
from torch import nn

IN_CHANNELS = 3  # T1 before contrast, FLAIR, T1 after contrast
CHANNELS = (16, 32, 64, 128, 128)
STRIDES = (2, 2, 2, 2)


def build_tumour_unet() -> nn.Module:
    """Return the network with random weights: (batch, 3, rows, columns) to (batch, 1, rows, columns) logits.

    Rows and columns must be divisible by 16.
    """
    network: nn.Module = UNet(
        spatial_dims=2,
        in_channels=IN_CHANNELS,
        out_channels=1,
        channels=CHANNELS,
        strides=STRIDES,
        num_res_units=1,
        norm="BATCH",
    )
    return network
