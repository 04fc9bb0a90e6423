"""OHIF, served by the node, shows Results of the shipped Pipelines: overlay on the lesion, measurement, picture."""

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydicom import Dataset, FileDataset, dcmread

from node.rehearsal.headers import write_datasets
from node.viewer.installation import Installation
from tests.node_process import run_radnode
from tests.peers import require_browser, require_viewer, wait_until
from tests.phantoms import small_brain_mr, small_chest_ct, small_chest_xray
from tests.viewer import Viewer, open_viewer
from tests.websites import STUDIES, Website, files_of, multipart, website
from workers.volume import Volume, read_volume

# A folder that keeps the screenshots, as docs/pictures does.
PICTURES_VARIABLE = "RADNODE_TEST_PICTURES"
PICTURE_SIZE = (1024, 720)
# Without the lowest bits, which are noise, a picture takes half the bytes.
PICTURE_BITS = 5
# Gray pixels have none; OHIF lays half of the segment's color over them.
COLORED = 60
# Six megabytes that Chromium decodes and draws without a graphics card, maybe beside other work.
PICTURE_LIMIT_S = 200.0
AGREEMENT = 0.85
GRAY_LEVELS_OFF = 8.0


def as_another_study(datasets: Sequence[FileDataset]) -> tuple[FileDataset, ...]:
    """Return the same images under other UIDs and of another patient."""
    renamed = []
    for ds in datasets:
        other = copy.deepcopy(ds)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            setattr(other, keyword, f"{ds[keyword].value}.1")
        other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
        # Of the same patient it would be listed as a prior.
        other.PatientID = f"{ds.PatientID}-2"
        renamed.append(other)
    return tuple(renamed)


CT, MR = small_chest_ct(), small_brain_mr()
# Other pixels would do as well; these have a known answer.
OTHER_MR = as_another_study(MR.datasets)
FILM = small_chest_xray(with_opacity=True).dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The phantoms and their Results in a node.

    Attributes
    ----------
    report
        What `radnode process` reported of both runs.
    """

    site: Website
    report: dict[str, Any]

    def first_finding(self, source: Dataset) -> dict[str, Any]:
        """Return what the node says of the first Finding of a phantom."""
        return dict(self._job(source)["findings"][0])

    def result(self, source: Dataset, kind: str) -> Dataset:
        """Return a Result of a phantom."""
        (path,) = (entry["path"] for entry in self._job(source)["results"] if entry["kind"] == kind)
        return dcmread(path)

    def _job(self, source: Dataset) -> dict[str, Any]:
        uid = source.StudyInstanceUID
        (study,) = (study for study in self.report["studies"] if study["study_instance_uid"] == uid)
        (job,) = study["jobs"]
        return dict(job)


def store(site: Website, path: Path) -> None:
    """Store one file by STOW-RS."""
    body, headers = multipart(files_of(path.read_bytes()))
    response, said = site.ask("POST", STUDIES, body=body, headers=headers)
    assert response.status == 200, said


def process(folder: Path, inputs: Mapping[str, Sequence[FileDataset]], *options: str | Path) -> dict[str, Any]:
    """Run the Pipelines on some Studies and return the report, whose paths are then absolute."""
    for name, datasets in inputs.items():
        write_datasets(datasets, folder / "in" / name)
    ended = run_radnode("process", folder / "in", "--out", folder / "out", *options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text())
    for result in (result for study in report["studies"] for job in study["jobs"] for result in job["results"]):
        result["path"] = str(folder / "out" / result["path"])
    return report


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    require_browser(), require_viewer()
    folder = tmp_path_factory.mktemp("viewer")
    settings = folder / "labelmap.toml"
    settings.write_text('[pipelines.brain_tumour]\nsegmentation = "labelmap"\n')
    report = process(folder / "as-shipped", {"ct": CT.datasets, "mr": MR.datasets, "film": (FILM,)})
    report["studies"] += process(folder / "labelmap", {"mr": OTHER_MR}, "--settings", settings)["studies"]
    (folder / "node").mkdir()
    Installation(folder / "node").install_from(require_viewer())
    with website(folder / "node") as site:
        for path in sorted(folder.rglob("*.dcm")):
            store(site, path)
        yield Archive(site=site, report=report)


@pytest.fixture(scope="module")
def viewer(archive: Archive) -> Iterator[Viewer]:
    with open_viewer(archive.site) as opened:
        yield opened
        assert opened.failures == []


def keep(viewer: Viewer, name: str) -> None:
    """Keep what is seen, where a folder for it is named."""
    folder = os.environ.get(PICTURES_VARIABLE)
    if folder:
        reduced = viewer.screenshot().resize(PICTURE_SIZE, Image.Resampling.LANCZOS)
        ImageOps.posterize(reduced, PICTURE_BITS).save(Path(folder) / f"ohif-{name}.png", optimize=True)


def voxel_centers(volume: Volume, index: int) -> NDArray[np.float64]:
    """Return the places of all voxels of a slice, (rows · columns, 3) LPS mm."""
    _, rows, columns = volume.voxels.shape
    grid = np.stack(np.broadcast_arrays(index, *np.ogrid[:rows, :columns]), axis=-1).reshape(-1, 3)
    return np.asarray(grid @ volume.affine[:3, :3].T + volume.affine[:3, 3])


def assert_overlay_covers(viewer: Viewer, volume: Volume, lesion: NDArray[np.bool_]) -> None:
    """Assert that OHIF, by its own geometry, colors the lesion on its largest slice and nothing else.

    Parameters
    ----------
    lesion
        (slices, rows, columns) of `volume`.
    """
    index = int(lesion.sum(axis=(1, 2)).argmax())
    points = voxel_centers(volume, index)
    true = lesion[index].ravel()
    viewer.await_segments()
    shown = viewer.find_slice(points[true].mean(axis=0).tolist())
    viewer.show_slice(shown)
    columns, rows = np.floor(viewer.to_canvas(points)).astype(int).T

    def is_covered() -> bool:
        # Once more each time: OHIF scrolls by itself when it has drawn the first segment.
        viewer.show_slice(shown)
        colored = np.ptp(viewer.picture()[rows, columns], axis=-1) > COLORED
        return bool(2.0 * (colored & true).sum() >= AGREEMENT * (colored.sum() + true.sum()))

    wait_until(is_covered, what="the overlay lies on the lesion and nowhere else")


def volume_of(datasets: Sequence[Dataset]) -> Volume:
    return read_volume(list(datasets))


def test_the_overlay_of_a_ct_lies_on_the_nodule(viewer: Viewer, archive: Archive) -> None:
    volume, nodule = volume_of(CT.datasets), CT.nodules[0]
    shape = volume.voxels.shape
    places = np.concatenate([voxel_centers(volume, index) for index in range(shape[0])]).reshape(*shape, 3)
    within = np.linalg.norm(places - np.array(nodule.center_mm), axis=-1) <= nodule.diameter_mm / 2
    viewer.open_series(CT.datasets[0].StudyInstanceUID, archive.result(CT.datasets[0], "SEG").SeriesDescription)
    assert_overlay_covers(viewer, volume, within)
    keep(viewer, "ct-seg")


@pytest.mark.thorough
def test_the_overlay_of_an_mr_lies_on_the_lesion(viewer: Viewer, archive: Archive) -> None:
    viewer.open_series(MR.flair[0].StudyInstanceUID, archive.result(MR.flair[0], "SEG").SeriesDescription)
    assert MR.lesion is not None
    assert_overlay_covers(viewer, volume_of(MR.flair), MR.lesion.mask)
    keep(viewer, "mr-seg")


@pytest.mark.thorough
def test_the_overlay_of_a_label_map_is_in_color_and_lies_on_the_lesion(viewer: Viewer, archive: Archive) -> None:
    assert MR.lesion is not None
    seg = archive.result(OTHER_MR[0], "SEG")
    assert seg.SegmentationType == "LABELMAP"
    viewer.open_series(OTHER_MR[0].StudyInstanceUID, seg.SeriesDescription)
    assert_overlay_covers(viewer, volume_of([ds for ds in OTHER_MR if "FLAIR" in ds.SeriesDescription]), MR.lesion.mask)


def test_the_measurement_is_read_on_its_slice_beside_its_outline(viewer: Viewer, archive: Archive) -> None:
    source = CT.datasets[0]
    finding = archive.first_finding(source)
    viewer.open_series(source.StudyInstanceUID, archive.result(source, "SR").SeriesDescription)
    for name, unit, key in (("Long axis", "mm", "long_axis_mm"), ("Volume", "mm3", "volume_mm3")):
        value = finding["measurements"][key]
        viewer.page.get_by_text(f"{name}: {value:.2f} {unit}").first.wait_for()
    center = np.array(finding["center_mm"])
    assert abs(viewer.current_slice() - viewer.find_slice(center.tolist())) <= 1
    reach = finding["measurements"]["long_axis_mm"] * np.array([[-1.0, -1, 0], [1, 1, 0]])
    (left, top), (right, bottom) = viewer.to_canvas(center + reach) + viewer.canvas_corner()
    box = viewer.screenshot().crop((int(left), int(top), int(right), int(bottom)))
    assert (np.ptp(np.asarray(box, np.int16), axis=-1) > COLORED).sum() > 0
    keep(viewer, "ct-sr")


def test_the_picture_of_an_xray_is_seen_as_it_was_drawn(viewer: Viewer, archive: Archive) -> None:
    drawn = archive.result(FILM, "SC")
    viewer.open_series(FILM.StudyInstanceUID, drawn.SeriesDescription)
    expected = Image.fromarray(drawn.pixel_array)

    def is_seen() -> bool:
        seen = viewer.picture()
        scale = min(seen.shape[1] / expected.width, seen.shape[0] / expected.height)
        size = (round(expected.width * scale), round(expected.height * scale))
        left, top = (seen.shape[1] - size[0]) // 2, (seen.shape[0] - size[1]) // 2
        fitted = np.asarray(expected.resize(size, Image.Resampling.BILINEAR), np.int16)
        shown = seen[top : top + size[1], left : left + size[0]]
        return bool(shown.std() > COLORED / 2 and np.abs(shown - fitted).mean() < GRAY_LEVELS_OFF)

    wait_until(is_seen, what="the picture is seen", limit_s=PICTURE_LIMIT_S)
    keep(viewer, "xray-sc")
