"""A small convolutional autoencoder: what it cannot draw again is unlike what it has learned."""

import torch
from torch import nn

MATRIX = 48  # rows and columns of what it reads
CODE = 48  # numbers that a whole plane has to pass through
WIDTHS = (16, 24, 32, 32)  # channels after each halving
GROUPS = 8


class InputAutoencoder(nn.Module):
    """Draws a plane again from `CODE` numbers.

    A plane of another kind does not pass through so few: its drawing looks like the planes of the training.
    """

    def __init__(self) -> None:
        super().__init__()
        self._edge = MATRIX // 2 ** len(WIDTHS)
        narrow = WIDTHS[-1] * self._edge**2
        steps = list(zip((1, *WIDTHS[:-1]), WIDTHS, strict=True))
        self.encoder = nn.Sequential(*(_shrink(before, after) for before, after in steps))
        self.to_code = nn.Linear(narrow, CODE)
        self.from_code = nn.Linear(CODE, narrow)
        self.decoder = nn.Sequential(*(_grow(after, max(before, WIDTHS[0])) for before, after in reversed(steps)))
        self.last = nn.Conv2d(WIDTHS[0], 1, 3, padding=1)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Return the drawing of planes, (planes, 1, `MATRIX`, `MATRIX`) as they are."""
        code = self.to_code(self.encoder(planes).flatten(1))
        narrow = self.from_code(code).unflatten(1, (WIDTHS[-1], self._edge, self._edge))
        drawing: torch.Tensor = self.last(self.decoder(narrow))
        return drawing


def _shrink(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(GROUPS, after), nn.SiLU())


def _grow(before: int, after: int) -> nn.Module:
    return nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(GROUPS, after), nn.SiLU()
    )
