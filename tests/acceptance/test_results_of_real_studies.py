"""Results that `radnode process` makes of every set of real images: independent programs find no error in any."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from node.rehearsal.chest_xray import wrap_film_file
from node.rehearsal.headers import write_datasets
from tests.node_process import run_radnode
from tests.validators import (
    list_complaints,
    list_contradictions,
    read_measurements,
    read_regions,
    volumes_mm3,
)
from tests.wrapped import wrap_nifti_study, wrap_npz_study
from workers.volume import Volume, read_volume

pytestmark = pytest.mark.needs(
    *("data", "dciodvfy", "dcentvfy", "dsrdump", "dsr2html", "dcmpschk", "dcm2pdf"),
    *("segimage2itkimage", "tid1500reader"),
)

DONE, REFUSED = 0, 3
ALL_OF_A_VOLUME = ("picture", "key-objects", "presentation-state", "pdf")
WISHES: Mapping[str, Sequence[str]] = {
    "lung_nodules": ALL_OF_A_VOLUME,
    "brain_tumour": ALL_OF_A_VOLUME,
    "chest_xray": (*ALL_OF_A_VOLUME, "heat-map"),
}
FILMS_OF_EACH_LABEL = 2
# Which sets end in Results; the others are refused for what they are, and test_process.py says why.
COMPLETED = ("ct-lungfcp-0001", "mr-pgbm-003", "mr-tcga-fg-6692", "mr-lgg", "cxr-kermany", "cxr-nema-rg1")
REFUSED_SETS = ("ct-broken-j2k", "cxr-nih-dicom", "cxr-siim-dicom", "transfer-syntaxes")
SEGMENTED = ("ct-lungfcp-0001", "mr-pgbm-003", "mr-tcga-fg-6692", "mr-lgg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """One Study with what came of it.

    Attributes
    ----------
    sources
        Its Instances.
    results
        Kind and file of each Result.
    """

    sources: tuple[Path, ...]
    results: tuple[tuple[str, Path], ...]

    def only(self, kind: str) -> Path:
        """Return the one Result of a kind."""
        (path,) = (path for k, path in self.results if k == kind)
        return path


@pytest.fixture(scope="module")
def studies(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Processed]]:
    """Return the Studies of each set, all run by one command with every optional Result."""
    folder = tmp_path_factory.mktemp("sets")
    inputs = {name: data_dir / name for name in (*COMPLETED, *REFUSED_SETS)} | wrap_sets(data_dir, folder / "wrapped")
    settings = folder / "settings.toml"
    tables = (f"[pipelines.{name}]\noptional_results = {json.dumps(wished)}\n" for name, wished in WISHES.items())
    settings.write_text("\n".join(tables))
    out = folder / "out"
    ended = run_radnode("process", *inputs.values(), "--out", out, "--settings", settings, limit_s=900.0)
    assert ended.returncode == REFUSED, ended.stdout + ended.stderr
    report = json.loads((out / "report.json").read_text())
    found = {study["study_instance_uid"]: study for study in report["studies"]}
    return {name: list(list_processed(path, found, out)) for name, path in inputs.items()}


def wrap_sets(data_dir: Path, folder: Path) -> dict[str, Path]:
    """Write the sets that are no DICOM as DICOM."""
    labels = [sorted(label.iterdir())[:FILMS_OF_EACH_LABEL] for label in (data_dir / "cxr-kermany").iterdir()]
    (stack,) = (data_dir / "mr-lgg").glob("*.npz")
    write_datasets([wrap_film_file(path) for path in chain(*labels)], folder / "cxr-kermany")
    write_datasets(wrap_nifti_study(data_dir / "mr-tcga-fg-6692"), folder / "mr-tcga-fg-6692")
    write_datasets(wrap_npz_study(stack), folder / "mr-lgg")
    return {name: folder / name for name in ("cxr-kermany", "mr-tcga-fg-6692", "mr-lgg")}


def list_processed(folder: Path, found: Mapping[str, Any], out: Path) -> Iterator[Processed]:
    """Give each Study of a set with its Results."""
    sources: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        header = dcmread(path, stop_before_pixels=True)
        sources.setdefault(str(header.StudyInstanceUID), []).append(path)
    for uid, paths in sources.items():
        results = [result for job in found[uid]["jobs"] for result in job["results"]]
        yield Processed(
            sources=tuple(paths), results=tuple((result["kind"], out / result["path"]) for result in results)
        )


@pytest.mark.parametrize("name", COMPLETED)
def test_no_program_finds_an_error(name: str, studies: Mapping[str, list[Processed]], tmp_path: Path) -> None:
    for study in studies[name]:
        assert {"SR", "SC", "DOC"} <= {kind for kind, _ in study.results}
        for _, path in study.results:
            assert list_complaints(path, tmp_path) == [], path
        files = [path for _, path in study.results]
        assert list_contradictions([*study.sources, *files], tmp_path) == []


@pytest.mark.parametrize("name", COMPLETED)
def test_our_own_check_finds_every_object_right(name: str, studies: Mapping[str, list[Processed]]) -> None:
    for study in studies[name]:
        folders = {path.parent for _, path in study.results}
        originals = os.path.commonpath([path.parent for path in study.sources])
        for folder in folders:
            ended = run_radnode("results", "check", folder, "--originals", originals)
            assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("name", REFUSED_SETS)
def test_a_refused_set_stays_without_results(name: str, studies: Mapping[str, list[Processed]]) -> None:
    assert [study.results for study in studies[name]] == [() for _ in studies[name]]


@pytest.mark.parametrize("name", SEGMENTED)
def test_dcmqi_places_and_measures_the_segments_as_we_do(
    name: str, studies: Mapping[str, list[Processed]], tmp_path: Path
) -> None:
    (study,) = studies[name]
    seg = dcmread(study.only("SEG"))
    volume = read_segmented_volume(seg, study.sources)
    regions = read_regions(study.only("SEG"), tmp_path)
    said_mm3 = volumes_mm3(read_measurements(study.only("SR"), tmp_path))
    assert set(regions) == set(said_mm3) == {int(item.SegmentNumber) for item in seg.SegmentSequence}
    for number, region in regions.items():
        assert (region.mark_in(volume) == mark_by_source(seg, number, volume)).all()
        assert len(region.centers_mm) * region.voxel_mm3 == pytest.approx(said_mm3[number], rel=0.01)


def read_segmented_volume(seg: Dataset, sources: Sequence[Path]) -> Volume:
    """Return the Series to which a SEG refers."""
    wanted = str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID)
    datasets = [dcmread(path) for path in sources]
    return read_volume([ds for ds in datasets if ds.SeriesInstanceUID == wanted])


def mark_by_source(seg: Dataset, number: int, volume: Volume) -> NDArray[np.bool_]:
    """Return the voxels of a Segment by the source Instance that each Frame names, not by its position."""
    index = {str(ds.SOPInstanceUID): place for place, ds in enumerate(volume.datasets)}
    marked = np.zeros(volume.voxels.shape, bool)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    shared = seg.SharedFunctionalGroupsSequence[0]
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        # Shared where there is one Segment only.
        (shown,) = (shared if "SegmentIdentificationSequence" in shared else groups).SegmentIdentificationSequence
        if shown.ReferencedSegmentNumber == number:
            source = groups.DerivationImageSequence[0].SourceImageSequence[0]
            marked[index[str(source.ReferencedSOPInstanceUID)]] |= frame > 0
    return marked
