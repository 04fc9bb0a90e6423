"""The lung nodule Pipeline finds what a phantom holds, measures it, and refuses what it cannot read."""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset, dcmread
from safetensors.torch import load_file, save_file

from node.errors import (
    GeometryRefused,
    InputMissing,
    ModelInvalid,
    ModelOutputInvalid,
    TooFewSlices,
    WrongBodyPart,
    WrongModality,
)
from node.models import SHIPPED_MODELS, ModelCard, read_model
from tests.phantoms import SMALL_NODULES, healthy_chest_ct, small_chest_ct
from workers.inference.weights import load_weights
from workers.measurements import measure_region
from workers.networks.nodule_networks import NoduleNetworks
from workers.networks.nodule_outliner import NoduleOutliner
from workers.pipelines.base import Analysis
from workers.pipelines.lung_candidates import coarsen, find_candidates, find_lungs
from workers.pipelines.lung_nodules import LungNodules
from workers.pipelines.lung_patches import FAR_MM, PATCH_MM, cut_patches
from workers.pipelines.nodule_mask import mark_nodule
from workers.pipelines.nodule_outline import outline_nodule
from workers.pipelines.nodule_scene import CELL_MM, cut_scene
from workers.volume import Volume

CPU = torch.device("cpu")
BALL_INDEX = (30.0, 60.0, 70.0)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return read_model(SHIPPED_MODELS / "ct-nodules")


@pytest.fixture(scope="module")
def pipeline(card: ModelCard) -> LungNodules:
    return LungNodules(card, CPU)


@pytest.fixture(scope="module")
def outliner(card: ModelCard) -> NoduleOutliner:
    networks = NoduleNetworks()
    load_weights(networks, card)
    return networks.outliner


@pytest.fixture(scope="module")
def analysis(pipeline: LungNodules) -> Analysis:
    return pipeline.analyze(pipeline.read({"ct": small_chest_ct().datasets}))


def changed(datasets: Sequence[Dataset], **attributes: object) -> list[Dataset]:
    """Return copies with attributes set."""
    copies = []
    for ds in datasets:
        twin = copy.deepcopy(ds)  # a shallow copy shares its elements
        for keyword, value in attributes.items():
            setattr(twin, keyword, value)
        copies.append(twin)
    return copies


def air_with_ball(*, radius_mm: float, spacing_mm: tuple[float, float, float] = (1.0, 0.8, 0.8)) -> Volume:
    """Return a block of tissue around a block of lung around a ball of tissue."""
    voxels = np.full((60, 120, 140), 40.0, dtype=np.float32)
    voxels[:, 8:-8, 8:-8] = -850.0
    places = np.indices(voxels.shape).reshape(3, -1).T - np.array(BALL_INDEX)
    inside = (np.linalg.norm(places * spacing_mm, axis=1) <= radius_mm).reshape(voxels.shape)
    voxels[inside] = 30.0
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing_mm, 1.0
    return Volume(voxels=voxels, affine=affine, spacing_mm=spacing_mm, frame_of_reference_uid="2.25.1", datasets=())


def test_each_nodule_of_the_phantom_is_found_within_3_mm_and_nothing_else(analysis: Analysis) -> None:
    assert len(analysis.findings) == len(SMALL_NODULES)
    for truth in SMALL_NODULES:
        gaps = [np.linalg.norm(np.subtract(f.center_mm or (), truth.center_mm)) for f in analysis.findings]
        assert min(gaps) < 3.0


def test_a_healthy_chest_yields_no_finding_and_no_mask(pipeline: LungNodules) -> None:
    result = pipeline.analyze(pipeline.read({"ct": healthy_chest_ct().datasets}))
    assert result.findings == ()
    assert result.mask is None
    assert result.reference is not None


def test_findings_are_sorted_by_certainty_and_above_the_threshold(analysis: Analysis) -> None:
    certainties = [f.confidence or 0.0 for f in analysis.findings]
    assert certainties == sorted(certainties, reverse=True)
    assert analysis.threshold is not None
    assert min(certainties) >= analysis.threshold


def test_segment_numbers_count_from_one_and_their_denser_half_has_the_findings_center(analysis: Analysis) -> None:
    assert analysis.mask is not None
    assert analysis.reference is not None
    assert [f.segment_number for f in analysis.findings] == list(range(1, len(analysis.findings) + 1))
    assert set(np.unique(analysis.mask)) == set(range(len(analysis.findings) + 1))
    for finding in analysis.findings:
        voxels = analysis.mask == finding.segment_number
        dense = voxels & (analysis.reference.voxels >= np.median(analysis.reference.voxels[voxels]))
        middle = np.argwhere(dense).mean(axis=0)
        assert analysis.reference.to_patient_mm(middle.tolist()) == pytest.approx(finding.center_mm)


def test_volume_is_voxels_times_geometry_and_key_slice_holds_the_largest_area(analysis: Analysis) -> None:
    assert analysis.mask is not None
    assert analysis.reference is not None
    for finding in analysis.findings:
        voxels = analysis.mask == finding.segment_number
        volume_mm3 = voxels.sum() * np.prod(analysis.reference.spacing_mm)
        assert finding.measurements["volume_mm3"] == pytest.approx(volume_mm3, rel=1e-6)
        assert finding.key_slice == int(voxels.sum(axis=(1, 2)).argmax())


def test_diameters_agree_with_the_phantom_to_2_mm(analysis: Analysis) -> None:
    for truth in SMALL_NODULES:
        nearest = min(
            analysis.findings, key=lambda f: float(np.linalg.norm(np.subtract(f.center_mm or (), truth.center_mm)))
        )
        assert nearest.measurements["long_axis_mm"] == pytest.approx(truth.diameter_mm, abs=2.0)
        assert nearest.measurements["short_axis_mm"] <= nearest.measurements["long_axis_mm"]


def test_laterality_follows_patient_coordinates(analysis: Analysis) -> None:
    for finding in analysis.findings:
        assert finding.center_mm is not None
        assert finding.laterality is not None
        assert finding.laterality.meaning == ("Left" if finding.center_mm[0] > 0 else "Right")


def test_order_of_instances_does_not_change_what_is_analyzed(pipeline: LungNodules, analysis: Analysis) -> None:
    shuffled = pipeline.read({"ct": small_chest_ct().datasets[::-1]})
    assert analysis.reference is not None
    assert np.array_equal(shuffled.volume.voxels, analysis.reference.voxels)
    assert np.array_equal(shuffled.volume.affine, analysis.reference.affine)


def test_a_slab_that_ends_inside_the_lung_is_read_and_says_so(pipeline: LungNodules) -> None:
    slab = small_chest_ct().datasets[8:40]
    prepared = pipeline.read({"ct": slab})
    assert prepared.lungs.mask[0].any()
    assert prepared.lungs.mask[-1].any()
    notes = " ".join(pipeline.analyze(prepared).notes)
    assert "first slice still shows lung" in notes
    assert "last slice still shows lung" in notes


def test_no_instances_for_the_role_are_an_absent_input(pipeline: LungNodules) -> None:
    with pytest.raises(InputMissing, match="ct"):
        pipeline.read({"t1": small_chest_ct().datasets})


def test_another_modality_is_refused(pipeline: LungNodules) -> None:
    with pytest.raises(WrongModality, match="MR"):
        pipeline.read({"ct": changed(small_chest_ct().datasets, Modality="MR")})


def test_too_few_slices_are_refused(pipeline: LungNodules) -> None:
    with pytest.raises(TooFewSlices):
        pipeline.read({"ct": small_chest_ct().datasets[:10]})


def test_slices_too_far_apart_are_refused(pipeline: LungNodules) -> None:
    with pytest.raises(GeometryRefused, match=r"4\.0 mm"):
        pipeline.read({"ct": small_chest_ct().datasets[::2]})


def test_coronal_slices_are_refused(pipeline: LungNodules) -> None:
    datasets = changed(small_chest_ct().datasets, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    for number, ds in enumerate(datasets):
        ds.ImagePositionPatient = [-180.0, 2.0 * number, 180.0]
    with pytest.raises(GeometryRefused, match="axial"):
        pipeline.read({"ct": datasets})


@pytest.mark.parametrize("hu", [-1000, 40], ids=["air", "tissue"])
def test_a_series_without_lungs_is_another_body_part(pipeline: LungNodules, hu: int) -> None:
    datasets = small_chest_ct().datasets
    stored = np.full((datasets[0].Rows, datasets[0].Columns), hu + 1024, dtype=np.uint16).tobytes()
    with pytest.raises(WrongBodyPart, match="lung"):
        pipeline.read({"ct": changed(datasets, PixelData=stored)})


@pytest.mark.parametrize("name", ["classifier.head.1.bias", "outliner.head.bias"])
def test_weights_that_answer_nan_are_an_invalid_output(card: ModelCard, tmp_path: Path, name: str) -> None:
    state = load_file(card.weights)
    state[name] = torch.full_like(state[name], float("nan"))
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    damaged = LungNodules(dataclasses.replace(card, weights=path, weights_sha256=digest), CPU)
    with pytest.raises(ModelOutputInvalid, match="NaN"):
        damaged.analyze(damaged.read({"ct": small_chest_ct().datasets}))


def test_a_network_that_answers_the_same_to_everything_is_an_invalid_output(
    card: ModelCard, pipeline: LungNodules, tmp_path: Path
) -> None:
    """A network that says no to everything would be the worst: a report of nothing, which nobody doubts."""
    prepared = pipeline.read({"ct": small_chest_ct().datasets})
    for weight, bias, said in (
        (1.0, 20.0, "nodules; the input is unlike"),
        (0.0, 20.0, "places"),
        (0.0, -9.0, "places"),
    ):
        state = load_file(card.weights)
        state["classifier.head.1.weight"] = state["classifier.head.1.weight"] * weight
        state["classifier.head.1.bias"] = torch.full_like(state["classifier.head.1.bias"], bias)
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        damaged = LungNodules(dataclasses.replace(card, weights=path, weights_sha256=digest), CPU)
        with pytest.raises(ModelOutputInvalid, match=said):
            damaged.analyze(prepared)


def test_other_weights_than_the_card_names_are_refused(card: ModelCard) -> None:
    with pytest.raises(ModelInvalid):
        LungNodules(dataclasses.replace(card, weights_sha256="0" * 64), CPU)


@pytest.mark.parametrize("radius_mm", [3.0, 5.0, 8.0])
def test_a_ball_is_outlined_to_one_voxel(outliner: NoduleOutliner, radius_mm: float) -> None:
    volume = air_with_ball(radius_mm=radius_mm)
    coarse = coarsen(volume)
    lungs = find_lungs(coarse, volume.affine)
    off_middle = np.add(BALL_INDEX, (0.5 * radius_mm, 0.0, 0.0))
    outline = mark_nodule(outliner, volume, coarse, lungs, index=off_middle)
    assert outline is not None
    assert outline.center_index() == pytest.approx(BALL_INDEX, abs=0.5)
    found = measure_region(volume, outline).values
    assert found["long_axis_mm"] == pytest.approx(2 * radius_mm, abs=1.0)
    assert found["short_axis_mm"] == pytest.approx(2 * radius_mm, abs=1.0)


def test_a_region_that_fills_the_search_has_no_outline() -> None:
    volume = air_with_ball(radius_mm=40.0)
    coarse = coarsen(volume)
    lungs = find_lungs(coarse, volume.affine)
    assert outline_nodule(volume, coarse, lungs, index=np.array(BALL_INDEX), radius_mm=8.0) is None


def test_lung_without_a_nodule_has_no_outline(outliner: NoduleOutliner) -> None:
    volume = air_with_ball(radius_mm=5.0)
    coarse = coarsen(volume)
    lungs = find_lungs(coarse, volume.affine)
    beside = np.add(BALL_INDEX, (0.0, 25.0, 0.0))
    assert mark_nodule(outliner, volume, coarse, lungs, index=beside) is None


def test_a_scene_holds_the_ball_in_its_middle_and_knows_the_lung() -> None:
    volume = air_with_ball(radius_mm=5.0)
    coarse = coarsen(volume)
    density, lung = cut_scene(volume, coarse, find_lungs(coarse, volume.affine), np.array(BALL_INDEX))
    bright = np.argwhere(density > 0.5)
    bright = bright[np.abs(bright - 23.5).max(axis=1) * CELL_MM < 8.0]
    assert bright.mean(axis=0) == pytest.approx([23.5] * 3, abs=0.3)
    assert (np.ptp(bright, axis=0) + 1) * CELL_MM == pytest.approx([10] * 3, abs=CELL_MM)
    assert lung[24, 24, 24] == 1.0
    at_the_wall = cut_scene(volume, coarse, find_lungs(coarse, volume.affine), np.array((30.0, 8.0, 70.0)))[1]
    assert at_the_wall[24, 10, 24] == 0.0


def test_the_ball_is_the_first_candidate_and_lies_where_it_was_put() -> None:
    volume = air_with_ball(radius_mm=5.0)
    coarse = coarsen(volume)
    found = find_candidates(coarse, find_lungs(coarse, volume.affine), limit=10)
    gap_mm = (found.index[0] - np.array(BALL_INDEX)) * volume.spacing_mm
    assert np.linalg.norm(gap_mm) < 2.0


def test_coarse_and_native_grid_share_their_outer_corners() -> None:
    volume = air_with_ball(radius_mm=5.0)
    coarse = coarsen(volume)
    corners = np.array([[-0.5] * 3, np.array(coarse.voxels.shape) - 0.5])
    native = np.array([[-0.5] * 3, np.array(coarse.voxels.shape) * coarse.step - 0.5])
    assert coarse.to_native(corners) == pytest.approx(native)
    assert native[1] == pytest.approx(np.array(volume.voxels.shape) - 0.5, abs=float(coarse.step.max()))


def test_patches_hold_the_ball_in_their_middle_at_1_and_2_mm() -> None:
    volume = air_with_ball(radius_mm=5.0)
    ((near, far),) = cut_patches(volume, coarsen(volume), np.array([BALL_INDEX]))
    for patch, edge_mm in ((near, PATCH_MM), (far, FAR_MM)):
        bright = np.argwhere(patch > 0.5)
        bright = bright[np.abs(bright - 11.5).max(axis=1) * edge_mm < 8.0]  # the wall is not far
        assert bright.mean(axis=0) == pytest.approx([11.5] * 3, abs=0.3)
        assert (np.ptp(bright, axis=0) + 1) * edge_mm == pytest.approx([10] * 3, abs=edge_mm)


@pytest.mark.needs("data")
def test_the_nodule_of_a_real_patient_is_the_first_finding(pipeline: LungNodules, data_dir: Path) -> None:
    folder = data_dir / "ct-lungfcp-0001"
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    datasets = [dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    result = pipeline.analyze(pipeline.read({"ct": datasets}))
    # A part-solid nodule is outlined with its ground glass, so `whole` is the truth that it is held against.
    gap_mm = np.linalg.norm(np.subtract(result.findings[0].center_mm or (), truth["whole"]["lps_mm"]))
    assert gap_mm < 5.0
    assert len(result.findings) <= 2
    # The slab of 40 slices ends inside the nodule.
    assert "Nodule 1 reaches the edge of the images and may be larger than measured." in result.notes
