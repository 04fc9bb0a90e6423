"""The small 3D network that tells a nodule from a vessel."""

import torch
from torch import Tensor, nn

PATCH_VOXELS = 24
SCALES = 2


def _block(inputs: int, outputs: int, stride: int, *, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(),
    )


class NoduleClassifier(nn.Module):
    """Nodule or not, for the middle of a patch.

    Reads (batch, 2, 24, 24, 24) float32, 0..1: the middle 24 mm at 1 mm, and 48 mm at 2 mm, which tell a nodule of
    30 mm from a wall, and a vessel from what only lies beside one. Answers (batch,) logits. Batch normalization follows
    each convolution, so that a shift of the reconstruction kernel's noise does not move the answer far.

    Parameters
    ----------
    width
        Channels of the first block, > 0; later blocks have two and four times as many.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            # A wide kernel at half resolution: four times as fast as a narrow one at full resolution.
            _block(SCALES, width, 2, kernel=5),
            _block(width, width, 1),
            _block(width, 2 * width, 2),
            _block(2 * width, 4 * width, 1),
            _block(4 * width, 4 * width, 1),
        )
        # The mean sees how much is bright, the middle cells see whether it is the middle that is.
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8 * width, 1))

    def forward(self, patches: Tensor) -> Tensor:
        """Return one logit a patch.

        Parameters
        ----------
        patches
            (batch, 2, 24, 24, 24) float32, 0..1.
        """
        cells = self.features(patches)
        middle = cells[:, :, 2:4, 2:4, 2:4].mean(dim=(2, 3, 4))
        everywhere = self.pool(cells).flatten(1)
        logits: Tensor = self.head(torch.cat([middle, everywhere], dim=1)).squeeze(1)
        return logits
