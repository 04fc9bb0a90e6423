"""Of boxes that overlap, the most certain one: what MONAI's detectors do at the end, without its cost for each box."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.apps.detection.utils.box_selector import BoxSelector
from monai.data.box_utils import box_iou, clip_boxes_to_image
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# As MONAI adds it: two boxes without volume overlap by nothing.
EPSILON = np.finfo(np.float32).eps


class QuickSelector(BoxSelector):
    """Chooses the boxes that `BoxSelector` chooses, in its order.

    Parameters
    ----------
    like
        Whose limits it has; its measure of overlap is `box_iou`.
    """

    def __init__(self, like: BoxSelector) -> None:
        super().__init__(
            apply_sigmoid=like.apply_sigmoid,
            score_thresh=like.score_thresh,
            topk_candidates_per_level=like.topk_candidates_per_level,
            nms_thresh=like.nms_thresh,
            detections_per_img=like.detections_per_img,
        )

    def select_boxes_per_image(
        self, boxes_list: Sequence[torch.Tensor], logits_list: Sequence[torch.Tensor], spatial_size: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return boxes (n, 6), certainties and labels, the most certain first.

        Parameters
        ----------
        boxes_list, logits_list
            Of each level: boxes (n, 6), two corners, and logits (n, classes).
        spatial_size
            Of the image; what reaches beyond is cut off.
        """
        levels = [self._choose(*level, spatial_size) for level in zip(boxes_list, logits_list, strict=True)]
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*levels, strict=True))
        spread = boxes.float()
        if len(boxes):
            # Boxes of two labels never overlap.
            spread = spread + labels.to(spread)[:, None] * (spread.max() + 1)
        kept = suppress_overlaps(
            spread.cpu().numpy(), scores.cpu().numpy(), overlap=self.nms_thresh, most=self.detections_per_img
        )
        chosen = torch.from_numpy(kept).to(boxes.device)
        return boxes[chosen].to(boxes_list[0].dtype), scores[chosen].to(logits_list[0].dtype), labels[chosen]

    def _choose(
        self, boxes: torch.Tensor, logits: torch.Tensor, spatial_size: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        places, scores, labels = self.select_top_score_idx_per_level(logits)
        inside, kept = clip_boxes_to_image(boxes[places], spatial_size, remove_empty=True)
        # It returns the kind of array that it was given.
        return torch.as_tensor(inside), scores[kept], labels[kept]


def is_quick(selector: BoxSelector) -> bool:
    """Return whether a selector may be replaced by a `QuickSelector`."""
    return type(selector) is BoxSelector and selector.box_overlap_metric is box_iou


def suppress_overlaps(boxes: Floats, scores: Floats, *, overlap: float, most: int) -> NDArray[np.int64]:
    """Return the indices of the boxes that no more certain one covers, the most certain first.

    Parameters
    ----------
    boxes
        (n, 6): two corners.
    scores
        (n,); of equals the first is taken for the more certain one.
    overlap
        Intersection over union, 0..1, above which a box is covered.
    most
        How many are kept; < 1: as many as there are.
    """
    order = np.argsort(-scores, kind="stable")
    low, high = np.ascontiguousarray(boxes[order, :3].T), np.ascontiguousarray(boxes[order, 3:].T)
    size = np.prod(high - low, axis=0)
    kept: list[int] = []
    left = np.arange(len(order))
    while left.size and not len(kept) >= most >= 1:
        first, left = left[0], left[1:]
        kept.append(int(order[first]))
        edges = np.minimum(high[:, left], high[:, first, None]) - np.maximum(low[:, left], low[:, first, None])
        shared = np.prod(np.maximum(edges, 0), axis=0)
        left = left[shared / (size[left] + size[first] - shared + EPSILON) <= np.float32(overlap)]
    return np.array(kept, np.int64)
