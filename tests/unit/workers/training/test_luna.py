"""LUNA16 is read as it is downloaded, and what its coordinates say is where it is in the voxels."""

from pathlib import Path

import numpy as np
import pytest

from tests.luna import AIR_HU, BALL_HU, Ball, Volume, write_luna, write_mhd
from workers.training.luna import read_block, read_luna, to_window

BALL = Ball(center_mm=(-3.5, -78.0, 152.0), diameter_mm=9.0)
# To the patient's right and to the front, as a prone patient's CT has them.
PRONE = np.diag([-1.0, -1.0, 1.0])


def test_nodules_and_candidates_are_read_by_series(tmp_path: Path) -> None:
    folder = write_luna(
        tmp_path, {"1.2.7": Volume(balls=(BALL,)), "1.2.8": Volume(balls=())}, others={"1.2.8": [(1.5, -80.0, 140.0)]}
    )
    with_nodule, without = read_luna(folder)
    assert with_nodule.series_instance_uid == "1.2.7"
    assert with_nodule.path == folder / "subset0" / "1.2.7.mhd"
    ((nodule,), others) = with_nodule.nodules, with_nodule.others
    assert (nodule.center_mm, nodule.diameter_mm) == (BALL.center_mm, BALL.diameter_mm)
    assert others == ()
    assert (without.nodules, without.others) == ((), ((1.5, -80.0, 140.0),))


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "zraw"])
@pytest.mark.parametrize(
    "volume",
    [
        Volume(balls=(BALL,)),
        Volume(balls=(BALL,), spacing_mm=(0.7, 0.7, 2.5), shape=(60, 60, 18)),
        Volume(balls=(BALL,), axes=PRONE, origin_mm=(18.0, -57.0, 130.0)),
    ],
    ids=["nearly 1 mm", "thick slices", "prone"],
)
def test_a_ball_lies_in_the_block_where_its_coordinates_say(volume: Volume, compressed: bool, tmp_path: Path) -> None:
    block = read_block(write_mhd(tmp_path, "1.2.3", volume, compressed=compressed))
    assert block.voxels.dtype == np.uint8
    bright = block.voxels > to_window(np.array([(AIR_HU + BALL_HU) / 2], np.float32))
    middle = np.argwhere(bright).mean(axis=0)
    assert middle == pytest.approx(block.to_index(BALL.center_mm), abs=0.3)
    assert block.to_patient_mm(middle.tolist()) == pytest.approx(BALL.center_mm, abs=0.3)
    # A voxel is a cube of 1 mm.
    assert bright.sum() == pytest.approx(4 / 3 * np.pi * 4.5**3, rel=0.12)


def test_the_block_covers_the_volume_in_millimetres(tmp_path: Path) -> None:
    block = read_block(write_mhd(tmp_path, "1.2.3", Volume(balls=())))
    assert block.voxels.shape == (43, 39, 40)
    assert block.origin_mm == (-21.0, -95.5, 130.25)


def test_the_window_goes_from_minus_1200_to_600_hu() -> None:
    assert to_window(np.array([-3024, -1200, -300, 600, 3000], np.float32)).tolist() == [0, 0, 128, 255, 255]


def test_a_folder_that_is_not_luna16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected subset\*/<seriesuid>\.mhd"):
        read_luna(tmp_path)
    write_mhd(tmp_path / "subset0", "1.2.3", Volume(balls=()))
    with pytest.raises(ValueError, match=r"annotations\.csv is absent"):
        read_luna(tmp_path)


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ("seriesuid,coordX,coordY,coordZ\n", "column diameter_mm is absent"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,1,2,nan,5\n", "coordZ of 1.2.3 is 'nan'"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,1,2\n", "coordZ of 1.2.3 is None"),
    ],
)
def test_a_table_that_is_wrong_says_where(annotations: str, said: str, tmp_path: Path) -> None:
    write_mhd(tmp_path / "subset0", "1.2.3", Volume(balls=()))
    (tmp_path / "annotations.csv").write_text(annotations)
    with pytest.raises(ValueError, match=said):
        read_luna(tmp_path)


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "zraw"])
def test_voxels_that_are_absent_or_cut_are_refused(compressed: bool, tmp_path: Path) -> None:
    path = write_mhd(tmp_path, "1.2.3", Volume(balls=()), compressed=compressed)
    data = path.with_suffix(".zraw" if compressed else ".raw")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(ValueError, match="download the subset again"):
        read_block(path)
    data.unlink()
    with pytest.raises(ValueError, match="download the subset again"):
        read_block(path)
