"""The DenseNet-121 of torchxrayvision, by the names of its published weights."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

LABELS = 18
GROWTH_RATE, BLOCKS, INIT_FEATURES, BOTTLENECK = 32, (6, 12, 24, 16), 64, 4


class _Layer(nn.Module):
    """One layer of a dense block: a bottleneck, then the new features beside what came in."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, BOTTLENECK * GROWTH_RATE, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * GROWTH_RATE)
        self.conv2 = nn.Conv2d(BOTTLENECK * GROWTH_RATE, GROWTH_RATE, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        new = self.conv1(torch.relu(self.norm1(maps)))
        return torch.cat([maps, self.conv2(torch.relu(self.norm2(new)))], dim=1)


class XrvDensenet(nn.Module):
    """Logits of 18 labels for a chest radiograph: (batch, 1, 224, 224), -1024..1024, to (batch, 18)."""

    def __init__(self) -> None:
        super().__init__()
        layers = OrderedDict[str, nn.Module]()
        layers["conv0"] = nn.Conv2d(1, INIT_FEATURES, 7, stride=2, padding=3, bias=False)
        layers["norm0"] = nn.BatchNorm2d(INIT_FEATURES)
        layers["relu0"] = nn.ReLU()
        layers["pool0"] = nn.MaxPool2d(3, stride=2, padding=1)
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
        self.features = nn.Sequential(layers)
        self.classifier = nn.Linear(channels, LABELS)
        # Where each label turns from absent to present on the publisher's validation data; a logit there is a half.
        self.register_buffer("op_threshs", torch.full((LABELS,), torch.nan))

    def forward(self, films: Tensor) -> Tensor:
        """Return one logit a label; 0 is the publisher's operating point where that is known."""
        maps = torch.relu(self.features(films))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        chances = torch.sigmoid(logits)
        points = torch.as_tensor(self.op_threshs)
        below, above = chances / (2 * points), 1 - (1 - chances) / (2 * (1 - points))
        moved = torch.where(chances < points, below, above)
        return torch.where(points.isnan(), logits, torch.logit(moved, eps=1e-6))


def _transition(channels: int) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module]()
    layers["norm"] = nn.BatchNorm2d(channels)
    layers["relu"] = nn.ReLU()
    layers["conv"] = nn.Conv2d(channels, channels // 2, 1, bias=False)
    layers["pool"] = nn.AvgPool2d(2)
    return nn.Sequential(layers)
