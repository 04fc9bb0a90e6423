"""How a detector of MONAI is asked about one volume: whole where it fits its window, else in windows."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from workers.inference.suppression import QuickSelector, is_quick


class DetectorInferer:
    """The inferer of a config that has a `detector`.

    Parameters
    ----------
    detector
        MONAI's RetinaNetDetector, with a sliding window.
    """

    def __init__(self, detector: Any) -> None:
        self._detector = detector

    def __call__(self, images: Sequence[torch.Tensor], network: torch.nn.Module) -> list[dict[str, torch.Tensor]]:
        """Return boxes, labels and certainties of each image (channels, x, y, z)."""
        detector = self._detector
        detector.network = network
        detector.eval()
        if is_quick(detector.box_selector):
            detector.box_selector = QuickSelector(detector.box_selector)
        window = math.prod(detector.inferer.roi_size)
        is_large = any(image[0].numel() >= window for image in images)
        found: list[dict[str, torch.Tensor]] = detector(list(images), use_inferer=is_large)
        return found
