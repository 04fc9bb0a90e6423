"""The brain MR phantom shows what its truth says."""

import numpy as np
import pytest

from node.errors import Misconfigured
from node.rehearsal.brain_mr import brain_mr
from tests.phantoms import small_brain_mr


def _stack(datasets: object) -> np.ndarray:
    """Return the pixels of a Series."""
    return np.stack([ds.pixel_array for ds in datasets]).astype(float)  # type: ignore[attr-defined]  # pydicom


def test_three_series_share_one_grid_and_frame_of_reference() -> None:
    phantom = small_brain_mr()
    places = [
        [(ds.FrameOfReferenceUID, *ds.ImagePositionPatient, *ds.PixelSpacing) for ds in series]
        for series in (phantom.t1, phantom.t1c, phantom.flair)
    ]
    assert places[0] == places[1] == places[2]
    assert len({ds.SeriesInstanceUID for ds in phantom.datasets}) == 3
    assert len({ds.SOPInstanceUID for ds in phantom.datasets}) == len(phantom.datasets)
    assert len({ds.StudyInstanceUID for ds in phantom.datasets}) == 1


def test_lesion_is_bright_on_flair_dark_on_t1_and_its_rim_enhances() -> None:
    phantom = small_brain_mr()
    assert phantom.lesion is not None
    t1, t1c, flair = (_stack(series) for series in (phantom.t1, phantom.t1c, phantom.flair))
    mask, rim = phantom.lesion.mask, phantom.lesion.enhancing
    mirrored = mask[:, :, ::-1]
    assert flair[mask].mean() > 1.6 * flair[mirrored].mean()
    assert t1[mask].mean() < 0.85 * t1[mirrored].mean()
    assert t1c[rim].mean() > 2 * t1[rim].mean()
    assert not np.any(rim & ~mask)


def test_center_and_volume_follow_from_mask_and_headers() -> None:
    phantom = small_brain_mr()
    assert phantom.lesion is not None
    slices, rows, columns = np.nonzero(phantom.lesion.mask)
    first = phantom.flair[0]
    x0, y0, _ = (float(v) for v in first.ImagePositionPatient)
    z = np.mean([float(phantom.flair[k].ImagePositionPatient[2]) for k in slices])
    row_mm, column_mm = (float(v) for v in first.PixelSpacing)
    center = (x0 + columns.mean() * column_mm, y0 + rows.mean() * row_mm, z)
    assert np.allclose(center, phantom.lesion.center_mm, atol=0.01)
    voxel = row_mm * column_mm * float(first.SpacingBetweenSlices)
    assert phantom.lesion.volume_mm3 == pytest.approx(phantom.lesion.mask.sum() * voxel)
    assert 8_000 < phantom.lesion.volume_mm3 < 60_000


def test_healthy_brain_is_the_same_head_without_a_lesion() -> None:
    ill, healthy = small_brain_mr(), brain_mr(seed=5, slices=18, with_lesion=False)
    assert healthy.lesion is None
    assert ill.lesion is not None
    change = np.abs(_stack(ill.flair) - _stack(healthy.flair))
    inside = ill.lesion.mask
    assert change[inside].mean() > 20 * change[~inside].mean()
    assert ill.t1[0].StudyInstanceUID != healthy.t1[0].StudyInstanceUID


def test_same_arguments_give_the_same_bytes() -> None:
    first, second = (brain_mr(seed=3, slices=14) for _ in range(2))
    assert [d.PixelData for d in first.datasets] == [d.PixelData for d in second.datasets]


def test_slices_that_miss_the_lesion_are_refused() -> None:
    with pytest.raises(Misconfigured, match="do not reach"):
        brain_mr(seed=5, slices=3, slice_distance_mm=0.5, matrix=16)
