"""Segments on their slices: voxels, extent and values are those of shapes with a known answer."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from node.domain.result import ResultKind, SegmentationForm
from tests.analyses import AXIAL, SPACING_MM, TILTED, Case, ct_case, make_slices
from workers.pixels import rescale_pixels
from workers.proving.frames import prove_frames
from workers.proving.originals import OriginalReader, Originals, gather_originals
from workers.proving.placed_segments import PlacedSegmentation, gather_values, measure_extent, measure_voxel
from workers.proving.segment_reading import cut_patches, read_segmentation, unpack_frame


def read_originals(datasets: Sequence[Dataset]) -> Originals:
    by_uid = {str(ds.SOPInstanceUID): ds for ds in datasets}
    return gather_originals(map(OriginalReader().read, datasets), lambda place: rescale_pixels(by_uid[place[0]]))


def read_seg(case: Case, form: SegmentationForm = SegmentationForm.BINARY) -> Dataset:
    results = case.encode(segmentation=form)
    return dcmread(BytesIO(next(one.content for one in results if one.kind is ResultKind.SEG)))


def place(case: Case, form: SegmentationForm = SegmentationForm.BINARY) -> tuple[PlacedSegmentation, Originals]:
    originals = read_originals(case.inputs["ct"])
    placed, complaints = prove_frames(read_seg(case, form), originals)
    assert complaints == []
    return placed, originals


def mask_of(case: Case) -> NDArray[np.uint8]:
    assert case.analysis.mask is not None
    return case.analysis.mask


@pytest.mark.parametrize("form", SegmentationForm)
@pytest.mark.parametrize("orientation", [AXIAL, TILTED], ids=["axial", "tilted"])
def test_voxels_volume_and_values_are_those_of_the_mask(orientation: Sequence[float], form: SegmentationForm) -> None:
    case = ct_case(orientation=orientation)
    placed, originals = place(case, form)
    volume = case.analysis.reference
    assert volume is not None
    for number in (1, 2):
        region = mask_of(case) == number
        assert placed.count_voxels(number) == region.sum()
        assert measure_voxel(placed, number) == pytest.approx(
            (float(np.prod(SPACING_MM)), 3.0 * SPACING_MM[1] * SPACING_MM[2])
        )
        assert sorted(gather_values(placed, originals, number)) == sorted(volume.voxels[region])


@pytest.mark.parametrize("orientation", [AXIAL, TILTED], ids=["axial", "tilted"])
def test_extent_of_a_ball_is_its_diameter_and_at_most_a_voxel(orientation: Sequence[float]) -> None:
    case = ct_case(orientation=orientation)
    placed, _ = place(case)
    for number, ball in enumerate(case.balls, start=1):
        extent_mm = measure_extent(placed, number)
        assert extent_mm is not None
        assert 0.99 * 2 * ball.radius_mm - min(SPACING_MM) <= extent_mm
        assert extent_mm <= 2 * ball.radius_mm + float(np.linalg.norm(SPACING_MM))


def test_slice_distance_is_not_fooled_by_a_slice_that_is_not_at_hand() -> None:
    slices = make_slices()
    series = str(slices[0].SeriesInstanceUID)
    assert read_originals(slices).measure_distance(series) == pytest.approx(2.0)
    assert read_originals(slices[:4] + slices[5:]).measure_distance(series) == pytest.approx(2.0)
    assert read_originals(slices[:1]).measure_distance(series) is None
    assert read_originals(slices).measure_distance("1.2.3") is None


def test_a_localizer_in_the_series_does_not_change_the_distance() -> None:
    slices = make_slices()
    localizer = make_slices(orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0), series="localizer")[0]
    localizer.SeriesInstanceUID = slices[0].SeriesInstanceUID
    assert read_originals([*slices, localizer]).measure_distance(str(slices[0].SeriesInstanceUID)) == pytest.approx(2.0)


def test_frames_that_begin_within_a_byte_are_read() -> None:
    frames = (np.arange(3 * 35) % 3 == 0).astype(np.uint8).reshape(3, 35)
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    for number in range(3):
        assert unpack_frame(packed, number, 35).tolist() == frames[number].tolist()


def test_patches_are_cut_to_what_is_set() -> None:
    case = ct_case()
    seg = read_seg(case)
    reading = read_segmentation(seg)
    for patch in cut_patches(seg, reading.frames):
        edges = (patch.mask[0], patch.mask[-1], patch.mask[:, 0], patch.mask[:, -1])
        assert all(edge.any() for edge in edges)
        shown = np.zeros((reading.rows, reading.columns), bool)
        shown[patch.top : patch.top + patch.mask.shape[0], patch.left : patch.left + patch.mask.shape[1]] = patch.mask
        assert any(np.array_equal(shown, one == patch.segment) for one in mask_of(case))
