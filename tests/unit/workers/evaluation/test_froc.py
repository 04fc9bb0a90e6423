"""FROC and mean precision, against counts by hand and against MONAI."""

import math

import numpy as np
import pytest
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from numpy.typing import NDArray

from workers.evaluation.froc import (
    Marks,
    average_precision,
    competition_performance,
    froc_curve,
    mean_average_precision,
    mean_average_recall,
    pair_findings,
    sensitivity_at_rate,
)

Floats = NDArray[np.float64]


def scan(lesions: int, hits: list[float], alarms: list[float]) -> Marks:
    return Marks(lesions=lesions, hits=np.array(hits), alarms=np.array(alarms))


# Four scans, five lesions of which four are found.
SCANS = [scan(2, [0.9, 0.5], [0.7]), scan(1, [0.8], []), scan(0, [], [0.6, 0.2]), scan(2, [0.3], [])]


def test_froc_counts_lesions_and_false_findings_at_each_threshold() -> None:
    false, sensitivity = froc_curve(SCANS)
    assert false.tolist() == [0, 0, 0, 0.25, 0.5, 0.5, 0.5, 0.75]
    assert sensitivity.tolist() == pytest.approx([0, 0.2, 0.4, 0.4, 0.4, 0.6, 0.8, 0.8])


def test_sensitivity_at_a_rate_is_the_best_that_keeps_it() -> None:
    assert sensitivity_at_rate(SCANS, 1 / 8) == pytest.approx(0.4)
    assert sensitivity_at_rate(SCANS, 0.5) == pytest.approx(0.8)
    assert sensitivity_at_rate(SCANS, 8) == pytest.approx(0.8)
    assert competition_performance(SCANS) == pytest.approx((0.4 + 0.4 + 0.8 * 5) / 7)


def test_scans_without_lesions_define_no_sensitivity() -> None:
    assert math.isnan(sensitivity_at_rate([scan(0, [], [0.5])], 1.0))
    assert sensitivity_at_rate([scan(1, [], [])], 1.0) == 0


def test_a_lesion_belongs_to_one_finding() -> None:
    pairing = pair_findings([0.5, 0.9], np.array([[0.8], [0.6]]))
    assert pairing.scores.tolist() == [0.9, 0.5]
    assert pairing.is_hit[0].tolist() == [True, False]
    assert pair_findings([], np.zeros((0, 2))).lesions == 2
    assert pair_findings([0.4], np.zeros((1, 0))).is_hit.any() == np.False_


def draw_boxes(rng: np.random.Generator, count: int) -> Floats:
    low = rng.uniform(0, 60, (count, 3))
    return np.concatenate([low, low + rng.uniform(5, 20, (count, 3))], axis=1)


def intersect_over_union(one: Floats, other: Floats) -> Floats:
    low = np.maximum(one[:, None, :3], other[None, :, :3])
    high = np.minimum(one[:, None, 3:], other[None, :, 3:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    sizes = [np.prod(boxes[:, 3:] - boxes[:, :3], axis=1) for boxes in (one, other)]
    return np.asarray(common / (sizes[0][:, None] + sizes[1][None] - common))


def test_map_and_mar_are_those_of_monai() -> None:
    rng = np.random.default_rng(8)
    truths = [draw_boxes(rng, 4) for _ in range(12)]
    found = [np.concatenate([boxes[:3] + rng.normal(0, 1.5, (3, 6)), draw_boxes(rng, 3)]) for boxes in truths]
    scores = [rng.random(6) for _ in truths]
    pairings = [
        pair_findings(score.tolist(), intersect_over_union(boxes, truth))
        for score, boxes, truth in zip(scores, found, truths, strict=True)
    ]
    metric = COCOMetric(classes=["nodule"], iou_list=(0.1, 0.5), iou_range=(0.1, 0.5, 0.05), max_detection=(100,))
    results = matching_batch(
        iou_fn=intersect_over_union,
        iou_thresholds=metric.iou_thresholds.tolist(),
        pred_boxes=found,
        pred_classes=[np.zeros(6, int) for _ in truths],
        pred_scores=scores,
        gt_boxes=truths,
        gt_classes=[np.zeros(4, int) for _ in truths],
        gt_ignore=[np.zeros(4, bool) for _ in truths],
    )
    told = metric(results)[0]
    assert mean_average_precision(pairings) == pytest.approx(told["mAP_IoU_0.10_0.50_0.05_MaxDet_100"], abs=1e-6)
    assert mean_average_recall(pairings) == pytest.approx(told["mAR_IoU_0.10_0.50_0.05_MaxDet_100"], abs=1e-6)
    assert 0 < average_precision(pairings, level=8) < average_precision(pairings, level=0) < 1
