"""The small 3D U-Net that tells which voxels around a place belong to a nodule."""

import torch
from torch import Tensor, nn

SCENE_VOXELS = 48
INPUTS = 2
RARE = -4.0  # the logit to begin with; where every cell is called a nodule the overlap teaches little


def _block(inputs: int, outputs: int, stride: int, *, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(),
    )


class NoduleOutliner(nn.Module):
    """Nodule or not, for each voxel of a scene.

    Reads (batch, 2, 48, 48, 48) float32, 0..1, cells of 1 mm: density, and whether a cell is of the closed lungs.
    Answers (batch, 48, 48, 48) logits. Three levels of 2, 4 and 8 mm whose answers are added up. Nothing is computed at
    full resolution, which would cost four times as much: each cell of 2 mm reads 5 mm around it cell by cell, and
    answers for its eight.

    Parameters
    ----------
    width
        Channels at 2 mm, > 0 and even.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        middle, deep = 2 * width, 3 * width // 2
        self.down = nn.ModuleList(
            [
                _block(INPUTS, width, 2, kernel=5),
                _block(width, middle, 2),
                nn.Sequential(_block(middle, deep, 2), _block(deep, deep, 1)),
            ]
        )
        self.across = nn.ModuleList([nn.Conv3d(deep, middle, 1), nn.Conv3d(middle, width, 1)])
        self.up = nn.ModuleList([_block(middle, middle, 1), _block(width, width, 1)])
        self.head = nn.Conv3d(width, 8, 3, padding=1)
        self.head.register_parameter("bias", nn.Parameter(torch.full((8,), RARE)))

    def forward(self, scenes: Tensor) -> Tensor:
        """Return one logit a cell.

        Parameters
        ----------
        scenes
            (batch, 2, 48, 48, 48) float32, 0..1.
        """
        fine = self.down[0](scenes)
        middle = self.down[1](fine)
        deep = self.down[2](middle)
        middle = self.up[0](middle + _double(self.across[0](deep)))
        fine = self.up[1](fine + _double(self.across[1](middle)))
        return _part(self.head(fine))


def _double(cells: Tensor) -> Tensor:
    return nn.functional.interpolate(cells, scale_factor=2.0, mode="nearest")


def _part(cells: Tensor) -> Tensor:
    """Return the eight channels of each cell as its eight cells of half the edge."""
    batch, _, z, y, x = cells.shape
    return cells.reshape(batch, 2, 2, 2, z, y, x).permute(0, 4, 1, 5, 2, 6, 3).reshape(batch, 2 * z, 2 * y, 2 * x)
