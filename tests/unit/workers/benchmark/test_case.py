"""The invented Series are of the size that the page of benchmarks tells."""

import numpy as np

from workers.benchmark.case import nodule_case, organ_case


def count_frames(mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> int:
    return sum(int((mask == number).any(axis=(1, 2)).sum()) for number in range(1, int(mask.max()) + 1))


def test_three_nodules_lie_on_49_of_400_slices_and_are_measured() -> None:
    analysis = nodule_case().analysis
    assert analysis.mask is not None
    assert analysis.mask.shape == (400, 512, 512)
    assert (count_frames(analysis.mask), int(analysis.mask.max())) == (49, 3)
    assert [sorted(finding.measurements) for finding in analysis.findings] == [
        ["long_axis_mm", "mean_hu", "short_axis_mm", "volume_mm3"]
    ] * 3
    assert [9 < finding.measurements["long_axis_mm"] < 17 for finding in analysis.findings] == [True] * 3


def test_twenty_organs_are_4000_frames_on_400_slices() -> None:
    mask = organ_case().analysis.mask
    assert mask is not None
    assert (count_frames(mask), int(mask.max())) == (4000, 20)
    assert mask.any(axis=(1, 2)).all()
