"""Of boxes that overlap those stay that MONAI would leave, in its order."""

import numpy as np
import pytest
import torch
from monai.apps.detection.utils.box_selector import BoxSelector
from monai.data.box_utils import box_giou

from workers.inference.suppression import QuickSelector, is_quick, suppress_overlaps

IMAGE = [60, 60, 40]


def draw_boxes(count: int, *, seed: int, spread: float = 50.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    centers = torch.rand(count, 3, generator=rng) * spread
    halves = torch.rand(count, 3, generator=rng) * 8 + 0.5
    return torch.cat([centers - halves, centers + halves], dim=1)


@pytest.mark.parametrize(("classes", "most"), [(1, 300), (3, 20)])
def test_the_same_boxes_are_selected_in_the_same_order(classes: int, most: int) -> None:
    boxes = [draw_boxes(300, seed=1), draw_boxes(80, seed=2)]
    logits = [torch.randn(len(one), classes, generator=torch.Generator().manual_seed(3)) for one in boxes]
    # Equally certain boxes stay in their order.
    logits[0][:40] = 1.5
    theirs = BoxSelector(score_thresh=0.3, nms_thresh=0.2, detections_per_img=most, topk_candidates_per_level=200)
    expected = theirs.select_boxes_per_image(boxes, logits, IMAGE)
    found = QuickSelector(theirs).select_boxes_per_image(boxes, logits, IMAGE)
    assert len(expected[0]) > 10
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_where_there_are_no_boxes_there_are_none() -> None:
    theirs = BoxSelector(score_thresh=0.9)
    found = QuickSelector(theirs).select_boxes_per_image([draw_boxes(3, seed=1)], [torch.full((3, 1), -9.0)], IMAGE)
    assert [len(part) for part in found] == [0, 0, 0]


def test_a_selector_with_another_measure_of_overlap_is_left_alone() -> None:
    assert is_quick(BoxSelector())
    assert not is_quick(BoxSelector(box_overlap_metric=box_giou))
    assert not is_quick(QuickSelector(BoxSelector()))


def test_a_box_that_touches_another_one_is_not_covered_by_it() -> None:
    boxes = np.array([[0, 0, 0, 2, 2, 2], [2, 0, 0, 4, 2, 2], [0, 0, 0, 2, 2, 1.9]], np.float32)
    kept = suppress_overlaps(boxes, np.array([0.5, 0.9, 0.8], np.float32), overlap=0.5, most=0)
    assert kept.tolist() == [1, 2]
