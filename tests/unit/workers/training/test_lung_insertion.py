"""Nodules that are put into lung are as large as they say, lie where they say, and leave the rest as it was."""

import numpy as np
import pytest

from workers.measurements import measure_region
from workers.pipelines.lung_candidates import coarsen, find_lungs
from workers.training.lung_insertion import Inserted, Keep, LungScan, insert_nodule, insert_nodules
from workers.volume import Volume

SPACING_MM = (1.5, 0.8, 0.8)
LUNG_HU, WALL_HU = -860.0, 40.0
MEDIASTINUM = slice(68, 100)  # 26 mm: the closing of the lungs bridges part of it
WINDPIPE = (slice(60, 80), slice(74, 94))


def chest(*, is_parted: bool = False) -> LungScan:
    """Return a block of tissue around a block of noisy lung, parted or not by a mediastinum that holds a windpipe."""
    voxels = np.full((70, 140, 160), WALL_HU, dtype=np.float32)
    voxels[:, 8:-8, 8:-8] = LUNG_HU
    if is_parted:
        voxels[:, :, MEDIASTINUM] = WALL_HU
        voxels[:, WINDPIPE[0], WINDPIPE[1]] = -1000.0
    voxels += np.random.default_rng(0).normal(0, 20, voxels.shape).astype(np.float32)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *SPACING_MM, 1.0
    volume = Volume(voxels=voxels, affine=affine, spacing_mm=SPACING_MM, frame_of_reference_uid="2.25.1", datasets=())
    coarse = coarsen(volume)
    keep = (Keep(center_mm=volume.to_patient_mm((35, 70, 40)), radius_mm=20.0),)
    return LungScan(name="block", volume=volume, coarse=coarse, lungs=find_lungs(coarse, affine), keep=keep)


@pytest.fixture(scope="module")
def scan() -> LungScan:
    return chest()


@pytest.fixture(scope="module")
def planted(scan: LungScan) -> tuple[Volume, list[Inserted]]:
    return insert_nodules(scan, np.random.default_rng(1), count=6, diameter_mm=(6.0, 16.0))


def test_as_many_are_put_there_as_were_asked_for_where_there_is_room(planted: tuple[Volume, list[Inserted]]) -> None:
    assert len(planted[1]) == 6


def test_the_mask_has_the_volume_of_a_ball_of_that_diameter(scan: LungScan) -> None:
    volume = scan.volume
    for seed in range(6):
        copy = Volume(
            voxels=volume.voxels.copy(),
            affine=volume.affine,
            spacing_mm=SPACING_MM,
            frame_of_reference_uid="2.25.1",
            datasets=(),
        )
        nodule = insert_nodule(copy, np.random.default_rng(seed), index=np.array([35.0, 70.0, 90.0]), radius_mm=6.0)
        assert nodule is not None
        measures = measure_region(copy, nodule.region).values
        assert measures["volume_mm3"] == pytest.approx(4 / 3 * np.pi * 6.0**3, rel=0.25)
        inside = copy.voxels[nodule.region.box][nodule.region.mask]
        assert inside.mean() > LUNG_HU + 100


def test_what_is_far_from_every_nodule_is_unchanged(scan: LungScan, planted: tuple[Volume, list[Inserted]]) -> None:
    changed = planted[0].voxels != scan.volume.voxels
    for nodule in planted[1]:
        changed[nodule.region.box] = False
    assert not changed.any()


def test_nothing_is_put_where_the_patient_has_a_nodule_of_their_own(
    scan: LungScan, planted: tuple[Volume, list[Inserted]]
) -> None:
    ((place, radius_mm),) = scan.keep_index()
    for nodule in planted[1]:
        assert np.linalg.norm((nodule.index - place) * SPACING_MM) > radius_mm + nodule.diameter_mm / 2


def test_the_same_seed_puts_the_same_nodules(scan: LungScan, planted: tuple[Volume, list[Inserted]]) -> None:
    again, _ = insert_nodules(scan, np.random.default_rng(1), count=6, diameter_mm=(6.0, 16.0))
    assert np.array_equal(again.voxels, planted[0].voxels)


def test_no_nodule_lies_in_the_windpipe_or_the_mediastinum() -> None:
    """Where no nodule grows none can be missed: such places made a model look worse than it was."""
    parted = chest(is_parted=True)
    _, nodules = insert_nodules(
        parted, np.random.default_rng(3), count=40, diameter_mm=(4.0, 12.0), site_shares=(0.2, 0.4, 0.4)
    )
    assert len(nodules) > 10
    for nodule in nodules:
        column = np.rint(nodule.index[2])
        assert not MEDIASTINUM.start + 2 <= column < MEDIASTINUM.stop - 2
        _, rows, columns = nodule.region.list_index().T
        in_windpipe = (rows >= 60) & (rows < 80) & (columns >= 74) & (columns < 94)
        assert not in_windpipe.any()


def test_a_nodule_in_the_wall_is_refused_and_changes_nothing(scan: LungScan) -> None:
    before = scan.volume.voxels.copy()
    nodule = insert_nodule(scan.volume, np.random.default_rng(0), index=np.array([35.0, 2.0, 80.0]), radius_mm=2.0)
    assert nodule is None
    assert np.array_equal(scan.volume.voxels, before)
