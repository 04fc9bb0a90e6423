"""Studies with nodules put in are read back as they were made, with a truth that `radnode evaluate` reads."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.phantoms import healthy_chest_ct
from workers.evaluation.truth_table import read_truth_table
from workers.pipelines.lung_candidates import coarsen, find_lungs
from workers.training.lung_insertion import Keep, LungScan, insert_nodules
from workers.training.lung_studies import STUDIES, TRUTH, write_studies
from workers.volume import read_volume

SEED, NODULES = 31, 2
OWN = Keep(center_mm=(70.0, 20.0, 0.0), radius_mm=20.0, diameter_mm=9.0)


def test_voxels_and_nodules_are_those_that_were_put_in(tmp_path: Path) -> None:
    volume = read_volume(healthy_chest_ct().datasets[8:40])
    coarse = coarsen(volume)
    lungs = find_lungs(coarse, volume.affine)
    scan = LungScan(name="PH", volume=volume, coarse=coarse, lungs=lungs, keep=(OWN,))
    assert write_studies(scan, tmp_path, seeds=[SEED], nodules=NODULES) == NODULES + 1
    written = [dcmread(path) for path in sorted((tmp_path / STUDIES / str(SEED)).iterdir())]
    made, inserted = insert_nodules(scan, np.random.default_rng(SEED), count=NODULES, diameter_mm=(6.0, 30.0))
    again = read_volume(written)
    assert np.abs(again.voxels - made.voxels).max() <= 0.5
    assert len({ds.SOPInstanceUID for ds in (*written, *volume.datasets)}) == 2 * len(written)
    assert {ds.PatientID for ds in written} == {f"{volume.datasets[0].PatientID}-{SEED}"}
    ((names, truth),) = read_truth_table(tmp_path / TRUTH, label="")
    assert names == (written[0].SeriesInstanceUID,)
    assert truth.lesions is not None
    *found, own = truth.lesions(again)
    assert (own.center_mm, own.diameter_mm) == (OWN.center_mm, OWN.diameter_mm)
    for lesion, nodule in zip(found, inserted, strict=True):
        assert volume.to_index(lesion.center_mm) == pytest.approx(nodule.region.center_index())
        assert 4.0 < lesion.diameter_mm < 45.0
