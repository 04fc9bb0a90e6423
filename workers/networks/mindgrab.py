"""MindGrab: a dilated 3D network that tells brain from everything else in a head of 1 mm voxels."""

import torch
from torch import Tensor, nn

CHANNELS = 15
# Five times from far to near: each voxel sees the whole head, with 146,237 parameters.
DILATIONS = (16, 8, 4, 2, 1) * 5
CLASSES = 2


class MindGrab(nn.Module):
    """Logits of background and brain: (batch, 1, 256, 256, 256), 0..1, to (batch, 2, 256, 256, 256)."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (1, *(CHANNELS for _ in DILATIONS[1:]))
        self.convolutions = nn.ModuleList(
            nn.Conv3d(channels, CHANNELS, 3, padding=dilation, dilation=dilation, bias=False)
            for channels, dilation in zip(inputs, DILATIONS, strict=True)
        )
        # As many groups as channels, and nothing learned: each map is standardized by itself.
        self.norm = nn.GroupNorm(CHANNELS, CHANNELS, affine=False)
        self.output = nn.Conv3d(CHANNELS, CLASSES, 1)

    def forward(self, heads: Tensor) -> Tensor:
        """Return one logit a class and voxel."""
        for convolution in self.convolutions:
            heads = torch.nn.functional.gelu(self.norm(convolution(heads)))
        logits: Tensor = self.output(heads)
        return logits
