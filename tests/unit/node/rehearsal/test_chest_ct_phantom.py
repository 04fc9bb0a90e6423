"""The chest CT phantom shows what its truth says."""

import numpy as np
import pytest

from node.errors import Misconfigured
from node.rehearsal.chest import Nodule, draw_chest, draw_nodules, is_clear_of_anatomy
from node.rehearsal.chest_ct import CtScan, chest_ct, chest_ct_voxels
from tests.phantoms import SMALL_CT_SEED, SMALL_NODULES, healthy_chest_ct, small_chest_ct


def test_same_arguments_give_the_same_bytes() -> None:
    first, second = (chest_ct(slices=5, matrix=128, nodules=()) for _ in range(2))
    assert [ds.PixelData for ds in first.datasets] == [ds.PixelData for ds in second.datasets]
    assert [ds.SOPInstanceUID for ds in first.datasets] == [ds.SOPInstanceUID for ds in second.datasets]


def test_another_seed_or_another_content_gives_other_uids() -> None:
    plain = chest_ct(slices=3, matrix=64, nodules=())
    other_seed = chest_ct(seed=8, slices=3, matrix=64, nodules=())
    other_scan = chest_ct(slices=4, matrix=64, nodules=())
    uids = {p.datasets[0].StudyInstanceUID for p in (plain, other_seed, other_scan)}
    assert len(uids) == 3


def test_nodule_lies_where_the_headers_say_in_millimetres() -> None:
    phantom, healthy = small_chest_ct(), healthy_chest_ct()
    heights = [float(ds.ImagePositionPatient[2]) for ds in phantom.datasets]
    x0, y0, _ = (float(v) for v in phantom.datasets[0].ImagePositionPatient)
    step = float(phantom.datasets[0].PixelSpacing[0])
    gain = _added_tissue(phantom.hu, healthy.hu)
    for nodule in phantom.nodules:
        z, y, x = np.ix_(
            np.array(heights) - nodule.center_mm[2],
            y0 + step * np.arange(gain.shape[1]) - nodule.center_mm[1],
            x0 + step * np.arange(gain.shape[2]) - nodule.center_mm[0],
        )
        weight = gain * (x**2 + y**2 + z**2 < 15**2)
        off = [float((weight * axis).sum() / weight.sum()) for axis in (x, y, z)]
        assert np.allclose(off, 0, atol=0.5)
        volume = float(weight.sum()) * step * step * 2.0
        assert volume == pytest.approx(np.pi / 6 * nodule.diameter_mm**3, rel=0.12)


def _added_tissue(with_nodules: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Return the share of each voxel that became nodule: the two scans have the same noise."""
    gain: np.ndarray = np.clip((with_nodules - without) / (35.0 - -868.0), 0, 1)
    return gain


def test_sides_are_not_swapped() -> None:
    assert [nodule.side for nodule in SMALL_NODULES] == ["right", "left"]
    # The liver lies on the right, which is low x, which is the left of the picture.
    hu, _ = chest_ct_voxels(seed=7, nodules=(), scan=CtScan(slices=3, matrix=128, center_z_mm=-95))
    row = hu[1, 58]
    right, left = row[: row.size // 2], row[row.size // 2 :]
    assert (right > 40).mean() > (left > 40).mean()


def test_tissues_have_their_hounsfield_units() -> None:
    scan = CtScan(slices=40, matrix=256, noise=0.0)
    hu, _ = chest_ct_voxels(seed=7, nodules=(), scan=scan)
    grid = scan.grid()
    heart = _median_at(hu, grid, (17.0, -30.0, -36.0))
    trachea = _median_at(hu, grid, (-1.0, 14.0, 36.0))
    lung = hu[(hu < -600) & (hu > -950)]
    assert heart == pytest.approx(42, abs=3)
    assert trachea < -950
    assert -900 < float(np.median(lung)) < -820
    assert float(hu.max()) > 400
    assert float(hu[:, 0].max()) < -900


def _median_at(hu: np.ndarray, grid: object, place: tuple[float, float, float]) -> float:
    """Return the median of the 27 voxels about a place (x, y, z)."""
    axes = (getattr(grid, name) for name in ("z", "y", "x"))
    k, i, j = (int(np.argmin(np.abs(axis - p))) for axis, p in zip(axes, place[::-1], strict=True))
    return float(np.median(hu[k - 1 : k + 2, i - 1 : i + 2, j - 1 : j + 2]))


@pytest.mark.parametrize("seed", range(4))
def test_drawn_nodules_lie_in_lung_off_the_vessels_one_on_each_side(seed: int) -> None:
    chest = draw_chest(seed)
    nodules = draw_nodules(chest, count=2)
    assert [nodule.side for nodule in nodules] == ["right", "left"]
    assert all(is_clear_of_anatomy(chest, nodule) for nodule in nodules)
    in_heart = Nodule(center_mm=(17.0, -30.0, -40.0), diameter_mm=8.0)
    assert not is_clear_of_anatomy(chest, in_heart)


def test_shared_nodules_are_clear_of_anatomy() -> None:
    chest = draw_chest(SMALL_CT_SEED)
    assert all(is_clear_of_anatomy(chest, nodule) for nodule in SMALL_NODULES)


def test_nodule_outside_the_slices_is_refused() -> None:
    nodule = Nodule(center_mm=(-80.0, 0.0, 40.0), diameter_mm=8.0)
    with pytest.raises(Misconfigured, match="does not fit"):
        chest_ct(nodules=(nodule,), slices=10, matrix=64)


def test_stored_pixels_are_the_voxels() -> None:
    phantom = small_chest_ct()
    ds = phantom.datasets[20]
    stored = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    assert np.array_equal(stored, phantom.hu[20])
