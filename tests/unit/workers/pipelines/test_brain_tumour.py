"""The brain tumour pipeline with its shipped weights, on heads with a known lesion, and its geometry."""

import copy
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from node.domain.codes import LEFT, NEOPLASM, RIGHT
from node.errors import GeometryRefused, InputMissing, ModelOutputInvalid, TooFewSlices, WrongBodyPart, WrongModality
from node.models import SHIPPED_MODELS, read_model
from node.rehearsal.brain_mr import BrainMrPhantom, brain_mr
from tests.phantoms import changed
from workers.inference.ladder import Footing
from workers.networks.tumour_unet import count_away
from workers.pipelines.axial_stack import (
    AxialStack,
    add_neighbours,
    center_window,
    crop_plane,
    find_turn,
    place_on,
    shrink_stack,
    standardize,
    turn_volume,
    uncrop_plane,
)
from workers.pipelines.base import Analysis
from workers.pipelines.brain_tumour import BrainTumour, ask_slices, drop_specks
from workers.volume import Volume

CARD = read_model(SHIPPED_MODELS / "mr-tumour")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@cache
def pipeline() -> BrainTumour:
    return BrainTumour(CARD, torch.device("cpu"))


@cache
def head(*, seed: int = 5, with_lesion: bool = True) -> BrainMrPhantom:
    return brain_mr(seed=seed, with_lesion=with_lesion)


@cache
def thin() -> BrainMrPhantom:
    """A few slices, for what needs no lesion."""
    return brain_mr(with_lesion=False, slices=8)


@cache
def full_analysis(*, seed: int = 5, with_lesion: bool = True) -> Analysis:
    phantom = head(seed=seed, with_lesion=with_lesion)
    inputs = {"flair": phantom.flair, "t1": phantom.t1, "t1c": phantom.t1c}
    return pipeline().analyze(pipeline().read(inputs))


def dice(mask: NDArray[np.uint8] | None, truth: NDArray[np.bool_]) -> float:
    seen = np.zeros_like(truth) if mask is None else mask > 0
    return 2 * float((seen & truth).sum()) / float(seen.sum() + truth.sum())


@pytest.mark.parametrize("seed", [5, 6])
def test_the_lesion_of_a_phantom_is_outlined_measured_and_sided(seed: int) -> None:
    truth = head(seed=seed).lesion
    assert truth is not None
    analysis = full_analysis(seed=seed)
    (finding,) = analysis.findings
    assert analysis.reference is not None
    assert dice(analysis.mask, truth.mask) >= 0.6
    assert finding.code == NEOPLASM
    assert finding.center_mm == pytest.approx(truth.center_mm, abs=6.0)
    assert finding.measurements["volume_mm3"] == pytest.approx(truth.volume_mm3, rel=0.5)
    assert finding.measurements["long_axis_mm"] >= finding.measurements["short_axis_mm"] > 10
    assert finding.laterality == (LEFT if truth.center_mm[0] > 0 else RIGHT)
    assert finding.segment_number == 1


def test_the_volume_that_is_reported_is_the_volume_of_the_mask() -> None:
    analysis = full_analysis()
    assert analysis.mask is not None
    assert set(np.unique(analysis.mask)) == {0, 1}
    assert analysis.findings[0].measurements["volume_mm3"] == pytest.approx(float((analysis.mask > 0).sum()) * 5.0)
    assert analysis.findings[0].key_slice == int((analysis.mask > 0).sum(axis=(1, 2)).argmax())


def test_a_healthy_head_gives_no_finding_and_no_mask() -> None:
    analysis = full_analysis(with_lesion=False)
    assert analysis.findings == ()
    assert analysis.mask is None
    assert analysis.notes


def test_a_lesion_that_the_slices_cut_off_may_be_larger_and_the_report_says_so() -> None:
    whole = full_analysis().findings[0]
    assert whole.key_slice is not None
    lower = sorted(head().flair, key=lambda ds: float(ds.ImagePositionPatient[2]))[: whole.key_slice + 1]
    analysis = pipeline().analyze(pipeline().read({"flair": lower}))
    cut = "FLAIR abnormality reaches the edge of the images and may be larger than measured."
    assert cut in analysis.notes
    assert cut not in full_analysis().notes


def test_flair_alone_is_enough_and_the_report_says_so() -> None:
    phantom = head()
    assert phantom.lesion is not None
    analysis = pipeline().analyze(pipeline().read({"flair": phantom.flair}))
    assert dice(analysis.mask, phantom.lesion.mask) >= 0.6
    assert "FLAIR alone was read." in analysis.notes
    assert "T1 before contrast was absent." in analysis.notes
    assert not any("absent" in note for note in full_analysis().notes)


def test_the_order_of_the_instances_does_not_matter() -> None:
    shuffled = list(thin().flair)
    np.random.default_rng(1).shuffle(shuffled)
    one = pipeline().read({"flair": shuffled}).channels
    assert np.array_equal(one, pipeline().read({"flair": thin().flair}).channels)


def test_a_t1_in_another_frame_of_reference_is_registered_and_the_report_says_so() -> None:
    away = changed(head().t1c, FrameOfReferenceUID="1.2.3.4")
    for ds in away:
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x + 40, y, z - 700]
    prepared = pipeline().read({"flair": head().flair, "t1c": away})
    (note,) = (note for note in prepared.notes if note.startswith("T1 after contrast was moved by 701 mm"))
    assert "of another Frame of Reference" in note
    expected = pipeline().read({"flair": head().flair, "t1c": head().t1c}).channels[:, 2]
    assert np.abs(prepared.channels[:, 2] - expected).mean() < 0.05


def test_a_t1_that_does_not_fit_the_flair_is_left_out_and_the_report_says_so() -> None:
    noise = [copy.deepcopy(ds) for ds in thin().t1c]
    for ds in noise:
        ds.PixelData = np.random.default_rng(int(ds.InstanceNumber)).integers(0, 900, 65536).astype("<u2").tobytes()
    prepared = pipeline().read({"flair": thin().flair, "t1": thin().t1, "t1c": noise})
    assert any(note.startswith("T1 after contrast was not read: it ") for note in prepared.notes)
    assert not prepared.channels[:, 2].any()
    assert prepared.channels[:, 0].any()


def test_a_t1_with_a_missing_slice_is_left_out_with_its_reason() -> None:
    gap = [*thin().t1[:3], *thin().t1[4:]]
    prepared = pipeline().read({"flair": thin().flair, "t1": gap})
    assert "T1 before contrast was not read (slice-missing)." in prepared.notes


@pytest.mark.parametrize(
    ("elements", "error"),
    [
        ({"Modality": "CT"}, WrongModality),
        ({"BodyPartExamined": "KNEE"}, WrongBodyPart),
        ({"PixelSpacing": [2.5, 2.5]}, WrongBodyPart),
        ({"PixelSpacing": [0.2, 0.2]}, WrongBodyPart),
    ],
)
def test_what_is_no_mr_of_a_head_is_refused(elements: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        pipeline().read({"flair": changed(thin().flair, **elements)})


def test_an_absent_flair_and_one_of_two_slices_are_refused() -> None:
    with pytest.raises(InputMissing):
        pipeline().read({"t1": thin().t1})
    with pytest.raises(TooFewSlices):
        pipeline().read({"flair": thin().flair[:2]})


def test_thick_sagittal_slices_are_refused() -> None:
    sagittal = changed(thin().flair, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    for number, ds in enumerate(sagittal):
        ds.ImagePositionPatient = [5.0 * number, -128, 128]
    with pytest.raises(GeometryRefused, match="axial"):
        pipeline().read({"flair": sagittal})


def test_nan_and_a_mask_that_fills_the_head_never_become_a_result() -> None:
    broken = BrainTumour(CARD, torch.device("cpu"))
    prepared = broken.read({"flair": thin().flair})
    for value in (float("nan"), 10.0, -10.0):
        with torch.no_grad():
            for name, parameter in broken._network.named_parameters():
                parameter.fill_(value if "bias" in name or value != value else 0.0)
        with pytest.raises(ModelOutputInvalid):
            broken.analyze(prepared)


def test_a_smaller_batch_changes_the_answer_by_rounding_only() -> None:
    """What a Job does when memory is short; the report need not tell of it."""
    network = pipeline()._network
    channels = pipeline()._show(pipeline().read({"flair": thin().flair}))
    asked = [ask_slices(network, channels, Footing(device=torch.device("cpu"), batch=n)) for n in (8, 2, 1)]
    for answer in asked[1:]:
        np.testing.assert_allclose(answer, asked[0], atol=1e-5)


def blob_volume(affine: NDArray[np.float64], shape: tuple[int, int, int], center_mm: Sequence[float]) -> Volume:
    """A ball of 25 mm at a known place."""
    index = np.indices(shape).reshape(3, -1)
    points = affine[:3, :3] @ index + affine[:3, 3:]
    inside = np.linalg.norm(points - np.array(center_mm)[:, None], axis=0) < 25
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return Volume(
        voxels=inside.reshape(shape).astype(np.float32),
        affine=affine,
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        frame_of_reference_uid="1.2",
        datasets=(),
    )


def centroid(stack: AxialStack) -> NDArray[np.float64]:
    weights = stack.voxels / stack.voxels.sum()
    index = np.array([(np.indices(stack.voxels.shape)[axis] * weights).sum() for axis in range(3)])
    return np.asarray((stack.affine @ np.array([*index, 1.0]))[:3])


AXIAL = np.array([[0, 0, 0.8, -60], [0, 0.9, 0, -60], [4.0, 0, 0, -60], [0, 0, 0, 1]], float)
SAGITTAL = np.array([[1.2, 0, 0, -60], [0, 0, 1.0, -60], [0, -1.0, 0, 60], [0, 0, 0, 1]], float)
FLIPPED = np.array([[0, 0, -0.8, 60], [0, -0.9, 0, 60], [-4.0, 0, 0, 60], [0, 0, 0, 1]], float)


@pytest.mark.parametrize(
    ("affine", "shape"), [(AXIAL, (30, 133, 150)), (SAGITTAL, (100, 120, 121)), (FLIPPED, (30, 133, 150))]
)
def test_a_place_stays_where_it_is_through_turning_and_shrinking(
    affine: NDArray[np.float64], shape: tuple[int, int, int]
) -> None:
    center = (11.0, -7.0, 5.0)
    volume = blob_volume(affine, shape, center)
    turned, turn = turn_volume(volume)
    small = shrink_stack(turned, pixel_mm=1.5)
    assert np.array_equal(turn.undo(turned.voxels), volume.voxels)
    assert (np.diag(turned.affine[:3, [2, 1, 0]]) > 0).all()
    assert small.spacing_mm[1] == pytest.approx(1.5, abs=0.02)
    assert centroid(turned) == pytest.approx(center, abs=0.35)
    assert centroid(small) == pytest.approx(centroid(turned), abs=0.05)


def test_a_stack_placed_on_another_grid_keeps_its_place_and_tells_what_it_covers() -> None:
    center = (11.0, -7.0, 5.0)
    sagittal, _ = turn_volume(blob_volume(SAGITTAL, (100, 120, 121), center))
    axial, _ = turn_volume(blob_volume(AXIAL, (30, 133, 150), center))
    placed, covered = place_on(sagittal, axial)
    assert centroid(placed) == pytest.approx(center, abs=0.6)
    assert covered > 0.9
    far = AxialStack(voxels=axial.voxels, affine=axial.affine + np.array([[0, 0, 0, 90.0]] + [[0, 0, 0, 0]] * 3))
    assert place_on(sagittal, far)[1] < 0.5


def test_a_tilted_stack_keeps_its_slices() -> None:
    tilt = np.deg2rad(15)
    affine = AXIAL.copy()
    affine[:3, 1] = [0, 0.9 * np.cos(tilt), 0.9 * np.sin(tilt)]
    affine[:3, 0] = [0, -4 * np.sin(tilt), 4 * np.cos(tilt)]
    assert find_turn(affine).order == (0, 1, 2)


@pytest.mark.parametrize("corner", [(-7, 12), (5, -3), (-20, -30)])
def test_a_window_goes_back_where_it_was_cut(corner: tuple[int, int]) -> None:
    voxels = np.random.default_rng(0).random((2, 40, 44)).astype(np.float32)
    window = crop_plane(voxels, corner, 96)
    back = uncrop_plane(window, corner, (40, 44))
    inside = back != 0
    assert inside.mean() > 0.5
    assert np.array_equal(back[inside], voxels[inside])


def test_neighbours_are_shown_and_the_outermost_slices_stand_in_for_those_beyond() -> None:
    voxels = np.arange(5, dtype=np.float32)[:, None, None, None] + np.array([0, 10, 20], np.float32)[:, None, None]
    shown = add_neighbours(np.broadcast_to(voxels, (5, 3, 2, 2)), 1, away=2)
    assert shown.shape == (5, 5, 2, 2)
    assert np.array_equal(shown[:, :3, 0, 0], voxels[:, :, 0, 0])
    assert list(shown[:, 3, 1, 1]) == [10, 10, 10, 11, 12]
    assert list(shown[:, 4, 1, 1]) == [12, 13, 14, 14, 14]


@pytest.mark.parametrize(("slice_mm", "away"), [(1.0, 5), (2.4, 2), (5.0, 1), (6.5, 1), (12.0, 1)])
def test_a_neighbour_is_about_five_millimetres_away(slice_mm: float, away: int) -> None:
    assert count_away(slice_mm) == away


def test_the_window_has_the_head_in_its_middle() -> None:
    seen = np.zeros((2, 60, 60), bool)
    seen[:, 10:30, 20:50] = True
    assert center_window(seen, 40) == (0, 15)


def test_standardized_voxels_do_not_depend_on_the_scanner_unit() -> None:
    voxels = pipeline().read({"flair": thin().flair}).stack.voxels
    assert np.allclose(standardize(voxels), standardize(voxels * 7.5 + 40), atol=0.02)
    assert standardize(voxels).min() >= 0
    assert standardize(voxels).max() <= 3


def test_specks_are_dropped_and_the_rest_stays() -> None:
    mask = np.zeros((6, 20, 20), bool)
    mask[1:4, 2:8, 2:8] = True
    mask[5, 15, 15] = True
    kept = drop_specks(mask, min_voxels=10)
    assert kept.sum() == 3 * 6 * 6
    assert not kept[5].any()
    assert not drop_specks(mask, min_voxels=1000).any()
