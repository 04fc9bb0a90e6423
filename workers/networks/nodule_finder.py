"""A 3D U-Net whose levels are fused to find nodules of any size: their middles, diameters and voxels."""

from itertools import pairwise

import torch
from monai.networks.blocks.convolutions import ResidualUnit
from torch import nn
from torch.nn.functional import interpolate

LEVELS = 4  # of the encoder; each halves the edges
DIVISIBLE = 2 ** (LEVELS - 1)  # edges of what is read
# Of the maps that are answered: a logit of the middle, log2 of the diameter in mm, a logit of the voxel.
CENTER, SIZE, INSIDE = range(3)
# A middle is one voxel of many thousands; the first answers must say so, or the focal loss begins with an explosion.
RARE = -4.6
TYPICAL_LOG2_MM = 3.0  # 8 mm


class NoduleFinder(nn.Module):
    """Answers three maps for a patch of CT at 1 mm: middles of nodules, their size, and their voxels.

    The decoder's levels at 2, 4 and 8 mm are fused at 2 mm (a feature pyramid), where middles and sizes are read;
    voxels are read at 1 mm. While it is trained, each level answers for middles itself (deep supervision).

    Parameters
    ----------
    width
        Features at 1 mm, a multiple of four; each level below has half as many more.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        features = [width * factor for factor in (1, 2, 3, 4)[:LEVELS]]
        self.down = nn.ModuleList(
            [_unit(1, features[0]), *(_unit(fine, coarse, strides=2) for fine, coarse in pairwise(features))]
        )
        self.up = nn.ModuleList(_unit(coarse + fine, fine) for fine, coarse in pairwise(features))
        fused = features[1]
        self.lateral = nn.ModuleList(nn.Conv3d(count, fused, 1) for count in features[1:])
        self.scales = nn.ModuleList(nn.Conv3d(count, 1, 1) for count in features[2:])
        self.fuse = _unit(fused, fused)
        self.place = nn.Conv3d(fused, 2, 1)
        self.voxels = nn.Conv3d(features[0] + fused, 1, 1)
        with torch.no_grad():
            for layer in (self.place, *self.scales):
                layer.weight.mul_(0.1)
                layer.bias.fill_(RARE)
            self.place.bias[SIZE] = TYPICAL_LOG2_MM  # type: ignore[index]  # a convolution has one

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return (batch, 3, x, y, z); while training, then also the middles of each coarser level, 4 and 8 mm.

        Parameters
        ----------
        images
            (batch, 1, x, y, z), 0..1 from -1200 to 600 HU; edges divisible by 8.
        """
        skips = []
        for unit in self.down:
            images = unit(images)
            skips.append(images)
        levels = [skips.pop()]
        for unit in reversed(self.up):
            skip = skips.pop()
            levels.append(unit(torch.cat([_grow(levels[-1], skip), skip], dim=1)))
        finest, *coarser = reversed(levels)
        pyramid = coarser[0].new_zeros(())
        for layer, level in zip(self.lateral, coarser, strict=True):
            pyramid = pyramid + _grow(layer(level), coarser[0])
        fused = self.fuse(pyramid)
        place = _grow(self.place(fused), finest)
        inside = self.voxels(torch.cat([finest, _grow(fused, finest)], dim=1))
        maps = torch.cat([place, inside], dim=1)
        if not self.training:
            return maps
        return maps, *(layer(level) for layer, level in zip(self.scales, coarser[1:], strict=True))


def _unit(inputs: int, outputs: int, *, strides: int = 1) -> nn.Module:
    groups = max(1, outputs // 4)
    unit: nn.Module = ResidualUnit(
        3, inputs, outputs, strides=strides, norm=("GROUP", {"num_groups": groups}), act="LEAKYRELU"
    )
    return unit


def _grow(maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if maps.shape[2:] == like.shape[2:]:
        return maps
    return interpolate(maps, size=like.shape[2:], mode="trilinear", align_corners=False)
