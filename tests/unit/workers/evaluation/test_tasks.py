"""Answers against truth: which finding hits which lesion, which case counts where, and how two models differ."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from node.domain.finding import Presence
from tests.analyses import ct_case, xray_case
from workers.evaluation.classification import Classification, FilmRow
from workers.evaluation.detection import Detection, ScanRow
from workers.evaluation.measure import Measure, Section, compare, estimate, proportion
from workers.evaluation.order import Order
from workers.evaluation.segmentation import OutlineRow, Segmentation
from workers.evaluation.truth import Lesion, Truth
from workers.pipelines.base import Analysis


def order(**changes: Any) -> Order:
    return Order(models=(), form="dicom", data=Path(), out=Path(), thresholds={}, **changes)


def values(sections: Sequence[Section], count: int) -> dict[str, float]:
    index = np.arange(count)
    return {one.key: one.value(index) for section in sections for one in section.measures}


def both_nodules() -> tuple[Analysis, tuple[Lesion, ...]]:
    case = ct_case()
    return case.analysis, tuple(Lesion(center_mm=ball.center_mm, diameter_mm=2 * ball.radius_mm) for ball in case.balls)


def judge(analysis: Analysis, lesions: tuple[Lesion, ...]) -> ScanRow:
    row = Detection(order()).judge(Truth(lesions=lambda _: lesions), analysis)
    assert row is not None
    return row


def test_each_nodule_is_found_with_its_diameter() -> None:
    analysis, lesions = both_nodules()
    row = judge(analysis, lesions)
    assert [one.is_found for one in row.lesions] == [True, True]
    assert [one.found_mm for one in row.lesions] == pytest.approx([one.diameter_mm for one in lesions])
    assert row.alarms == ()
    figures = values(Detection(order()).tabulate([row]), 1)
    assert figures["sensitivity"] == figures["cpm"] == 1
    assert figures["false_findings"] == figures["diameter_error"] == 0
    assert figures["diameters_within_15_percent"] == 1
    assert figures["ap_at_0.1_box"] == 1


def test_a_finding_beside_the_lesion_is_false_and_the_lesion_is_missed() -> None:
    analysis, lesions = both_nodules()
    first = lesions[0]
    x, y, z = first.center_mm
    away = replace(first, center_mm=(x, y, z + first.diameter_mm / 2 + 0.5))
    row = judge(analysis, (away, lesions[1]))
    assert [one.is_found for one in row.lesions] == [False, True]
    assert row.alarms == (analysis.findings[0].confidence,)
    near = replace(first, center_mm=(x, y, z + first.diameter_mm / 2 - 0.5))
    assert judge(analysis, (near, lesions[1])).alarms == ()


def test_two_findings_on_one_lesion_count_once_and_none_is_false() -> None:
    analysis, lesions = both_nodules()
    twice = replace(analysis, findings=(*analysis.findings, replace(analysis.findings[0], confidence=0.2)))
    row = judge(twice, lesions)
    assert row.alarms == ()
    assert row.lesions[0].score == analysis.findings[0].confidence
    assert len(row.marks.hits) == 2


def test_findings_in_a_healthy_scan_are_false() -> None:
    analysis, _ = both_nodules()
    row = judge(analysis, ())
    assert len(row.alarms) == 2
    figures = values(Detection(order()).tabulate([row]), 1)
    assert math.isnan(figures["sensitivity"])
    assert figures["false_findings"] == 2


def test_masks_of_the_truth_are_lesions_and_give_map_of_masks() -> None:
    case = ct_case()
    mask = case.analysis.mask
    assert mask is not None
    truth = Truth(marks=lambda _: mask.astype(np.uint16))
    row = Detection(order()).judge(truth, case.analysis)
    assert row is not None
    figures = values(Detection(order()).tabulate([row]), 1)
    assert figures["map_mask"] == figures["map_box"] == figures["mar_mask"] == 1


def test_size_classes_hold_the_lesions_of_their_size() -> None:
    row = judge(*both_nodules())
    sections = Detection(order()).tabulate([row])
    counts = {one.title: one.count(np.arange(1)) for one in sections[1].measures}
    assert sum(counts.values()) == 2


def outline(analysis: Analysis, mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], **changes: Any) -> OutlineRow:
    row = Segmentation(order(**changes)).judge(Truth(marks=lambda _: mask.astype(np.uint16)), analysis)
    assert row is not None
    return row


def test_outlines_are_those_of_all_segments_or_of_one_label() -> None:
    analysis = ct_case().analysis
    mask = analysis.mask
    assert mask is not None
    assert outline(analysis, mask).overlap.dice == 1
    first = (mask == 1).astype(np.uint8)
    assert outline(analysis, first).overlap.dice < 1
    assert outline(analysis, first, label=analysis.findings[0].label).overlap.dice == 1


def test_healthy_cases_do_not_raise_the_dice() -> None:
    analysis = ct_case().analysis
    mask = analysis.mask
    assert mask is not None
    nothing = np.zeros_like(mask)
    healthy = replace(analysis, mask=None, findings=())
    rows = [outline(healthy, mask), outline(healthy, nothing), outline(analysis, nothing), outline(analysis, mask)]
    figures = values(Segmentation(order()).tabulate(rows), 4)
    assert figures["dice"] == pytest.approx(0.5)
    assert figures["touched"] == figures["healthy_clean"] == 0.5
    assert rows[1].columns == {"lesion-size": "none"}
    # The distance is that of the one case in which both are there.
    assert figures["hd95_mm"] == 0


def film(presence: Presence, *, is_ill: bool) -> FilmRow:
    row = Classification(order()).judge(Truth(labels={"pneumonia": is_ill}), xray_case(presence).analysis)
    assert row is not None
    return row


def test_films_are_counted_by_the_threshold_of_the_model() -> None:
    rows = [
        film(Presence.PRESENT, is_ill=True),
        film(Presence.PRESENT, is_ill=False),
        film(Presence.ABSENT, is_ill=False),
        film(Presence.ABSENT, is_ill=False),
        film(Presence.UNDETERMINED, is_ill=True),
    ]
    figures = values(Classification(order()).tabulate(rows), 5)
    assert figures["specificity"] == pytest.approx(2 / 3)
    assert figures["undetermined"] == pytest.approx(1 / 5)
    assert figures["auc"] == pytest.approx((2.5 + 2) / 6)
    called = [row.answers["Pneumonia"].is_called for row in rows]
    hits = sum(called[n] for n in (0, 4))
    assert figures["sensitivity"] == hits / 2
    assert figures["precision"] == hits / sum(called)
    assert figures["f1"] == pytest.approx(2 * hits / (2 + sum(called)))


def test_a_label_of_which_the_truth_knows_nothing_is_not_judged() -> None:
    assert Classification(order()).judge(Truth(labels={"effusion": True}), xray_case().analysis) is None
    assert Segmentation(order()).judge(Truth(labels={"effusion": True}), ct_case().analysis) is None
    assert Detection(order()).judge(Truth(labels={"effusion": True}), ct_case().analysis) is None


def share(hits: Sequence[int]) -> Measure:
    return proportion(("k", "K", "K."), hits=[float(hit) for hit in hits], totals=[1.0] * len(hits))


def test_a_share_has_wilsons_interval_where_each_patient_gives_one_thing() -> None:
    found = estimate(share([1] * 81 + [0] * 182), [str(n) for n in range(263)], np.arange(263))
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    all_hit = estimate(share([1] * 8), ["a", "a", "b", "b", "c", "c", "d", "d"], np.arange(8))
    # Of eight hits of four patients no more is known than of four.
    assert (all_hit.value, all_hit.low, all_hit.high) == pytest.approx((1.0, 0.5101, 1.0), abs=1e-4)


def test_models_are_compared_on_the_same_patients() -> None:
    rng = np.random.default_rng(2)
    base = rng.random(60) < 0.6
    patients = [str(n) for n in range(60)]
    better = base | (rng.random(60) < 0.5)
    told = compare(share(better.astype(int).tolist()), share(base.astype(int).tolist()), patients, rounds=500)
    assert told.verdict == "better"
    assert told.value - told.against == pytest.approx(better.mean() - base.mean())
    worse = compare(share(base.astype(int).tolist()), share(better.astype(int).tolist()), patients, rounds=500)
    assert worse.verdict == "worse"
    same = compare(share(base.astype(int).tolist()), share(base.astype(int).tolist()), patients, rounds=500)
    assert same.verdict == "no difference shown"
    assert (same.low, same.high) == (0, 0)
