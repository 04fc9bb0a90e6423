"""What is measured is what was drawn: in mm and HU, on the right side, whatever the geometry of the Series."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import MRImageStorage
from scipy import ndimage

from node.domain.codes import LEFT, RIGHT
from node.errors import ModelOutputInvalid
from tests.analyses import AXIAL, make_slices
from tests.solids import INSIDE_HU, Ellipsoid, Scan, acquire
from workers.measurements import (
    Plane,
    Region,
    cut_region,
    find_regions,
    find_side,
    holds_hounsfield,
    measure_axes,
    measure_mask,
    measure_region,
    name_plane,
    note_limits,
)
from workers.volume import Volume, read_volume

BONE_WINDOW_HU = -400.0
# From here on the volume of a drawn ball is that of the ball within 2 %; see `workers.measurements.measure_region`.
EDGES_FOR_2_PERCENT = 9
# The direction of a section that is nearly round is uncertain, and with it what lies across; see `measure_axes`.
SHORT_AXIS_TOLERANCE = 1.1
CORONAL, SAGITTAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
POSITIONS = {
    "head first, supine": AXIAL,
    "head first, prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "feet first, supine": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "feet first, prone": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "head first, lying on the right": (0.0, 1.0, 0.0, -1.0, 0.0, 0.0),
    "coronal": CORONAL,
    "coronal from behind": (-1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "sagittal": SAGITTAL,
    "sagittal from the right": (0.0, -1.0, 0.0, 0.0, 0.0, -1.0),
}
# Shrinking a failure to its simplest form would take minutes.
quick = settings(
    derandomize=True, max_examples=40, deadline=None, database=None, phases=(Phase.explicit, Phase.generate)
)


def turn(a: float, b: float, c: float) -> NDArray[np.float64]:
    """Return a rotation by three angles, radians."""
    matrix = np.eye(3)
    for angle, (first, second) in ((a, (0, 1)), (b, (1, 2)), (c, (0, 2))):
        one = np.eye(3)
        one[first, first] = one[second, second] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ one
    return matrix


angles = st.tuples(*[st.floats(-3.1, 3.1)] * 3)
oblique = angles.map(lambda abc: tuple(turn(*abc)[:, :2].T.ravel().tolist()))
scans = st.builds(
    Scan,
    orientation=st.one_of(oblique, st.sampled_from(sorted(POSITIONS.values()))),
    spacing_mm=st.tuples(st.floats(0.6, 5.0), st.floats(0.5, 1.2), st.floats(0.5, 1.2)),
    shift=st.tuples(*[st.floats(0.1, 0.4)] * 3),
    # As thick as the slices are apart, thicker (they overlap), thinner (gaps), absurd, absent.
    slice_thickness=st.sampled_from(["2.0", "5.0", "0.5", "99", "0", None]),
    order=st.sampled_from(["forward", "reversed", "shuffled"]),
)


def place(side: int, reach_mm: float) -> tuple[float, float, float]:
    """Return a centre on the left (+1), the right (-1) or in the midline (0), x = 0, for a solid of this reach."""
    return side * (reach_mm + 8.0), -31.0, 44.5


def mark(volume: Volume) -> NDArray[np.bool_]:
    return volume.voxels > BONE_WINDOW_HU


def check_against_truth(solid: Ellipsoid, scan: Scan, volume: Volume) -> None:
    """Hold each measure of a solid against its truth."""
    measures = measure_mask(volume, mark(volume))
    values = measures.values
    assert values["volume_mm3"] == pytest.approx(solid.volume_mm3, rel=0.02)
    normal, down_rows, along_columns = scan.directions
    # Within one voxel of the solid's own section; within one pixel of the section that the key slice shows.
    offset_mm = float(np.dot(volume.to_patient_mm((measures.key_slice, 0, 0)) - np.array(solid.center_mm), normal))
    for tolerance_mm, offset in ((max(scan.spacing_mm), 0.0), (max(scan.spacing_mm[1:]), offset_mm)):
        long_mm, short_mm = solid.section_mm(along_columns, down_rows, offset_mm=offset)
        assert values["long_axis_mm"] == pytest.approx(long_mm, abs=tolerance_mm)
        assert values["short_axis_mm"] == pytest.approx(short_mm, abs=SHORT_AXIS_TOLERANCE * tolerance_mm)
    assert values["short_axis_mm"] <= values["long_axis_mm"] + 1e-9
    assert np.linalg.norm(np.subtract(measures.center_mm, solid.center_mm)) < 0.1 * max(scan.spacing_mm)
    assert values["mean_hu"] == pytest.approx(INSIDE_HU + solid.center_mm[0], abs=0.5)
    assert not measures.is_cut


@quick
@given(scan=scans, edges=st.floats(EDGES_FOR_2_PERCENT, 11), side=st.sampled_from([-1, 0, 1]))
def test_a_ball_is_measured_in_any_geometry(scan: Scan, edges: float, side: int) -> None:
    radius_mm = edges * max(scan.spacing_mm)
    ball = Ellipsoid(center_mm=place(side, radius_mm), semi_axes_mm=(radius_mm, radius_mm, radius_mm))
    volume = read_volume(acquire(ball, scan))
    check_against_truth(ball, scan, volume)
    found = find_side(volume, cut_region(volume, mark(volume)), midline_mm=0.0)
    assert found == {-1: RIGHT, 0: None, 1: LEFT}[side]


@quick
@given(scan=scans, longer=st.tuples(st.floats(1.0, 1.6), st.floats(1.0, 1.6)), tilt=angles)
def test_an_ellipsoid_is_measured_in_any_geometry(
    scan: Scan, longer: tuple[float, float], tilt: tuple[float, float, float]
) -> None:
    least_mm = EDGES_FOR_2_PERCENT * max(scan.spacing_mm)
    semi_axes_mm = (least_mm, least_mm * longer[0], least_mm * longer[1])
    solid = Ellipsoid(center_mm=place(1, max(semi_axes_mm)), semi_axes_mm=semi_axes_mm, turn=turn(*tilt))
    check_against_truth(solid, scan, read_volume(acquire(solid, scan)))


@quick
@given(scan=scans, radius_mm=st.floats(1.5, 6.0))
def test_a_small_ball_has_the_volume_of_its_voxels_and_a_diameter_within_a_voxel(scan: Scan, radius_mm: float) -> None:
    """Voxels of 2 x 0.7 x 0.7 mm cannot tell the volume of a ball of 4 mm; they can tell their own."""
    spacing_mm = (min(scan.spacing_mm[0], radius_mm), *scan.spacing_mm[1:])
    scan = dataclasses.replace(scan, spacing_mm=spacing_mm)
    ball = Ellipsoid(center_mm=place(-1, radius_mm), semi_axes_mm=(radius_mm, radius_mm, radius_mm))
    volume = read_volume(acquire(ball, scan))
    values = measure_mask(volume, mark(volume)).values
    voxels = sum(int((np.frombuffer(ds.PixelData, np.uint16) > 600).sum()) for ds in volume.datasets)
    assert values["volume_mm3"] == pytest.approx(voxels * np.prod(spacing_mm), rel=1e-4)
    for axis in ("long_axis_mm", "short_axis_mm"):
        assert values[axis] == pytest.approx(2 * radius_mm, abs=max(spacing_mm))


@quick
@given(
    radius=st.tuples(st.floats(1.5, 14.0), st.floats(1.5, 14.0)),
    spacing_mm=st.tuples(st.floats(0.5, 1.2), st.floats(0.5, 1.2)),
    shift=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_axes_never_leave_the_outer_edges_of_the_pixels(
    radius: tuple[float, float], spacing_mm: tuple[float, float], shift: tuple[float, float]
) -> None:
    rows, columns = np.ogrid[:61, :61]
    plane = ((rows - 30 - shift[0]) * spacing_mm[0] / radius[0]) ** 2 + (
        (columns - 30 - shift[1]) * spacing_mm[1] / radius[1]
    ) ** 2 <= 1
    long_mm, short_mm = measure_axes(plane, spacing_mm)
    corners = np.concatenate([np.argwhere(plane) + offset for offset in ((0, 0), (0, 1), (1, 0), (1, 1))]) * spacing_mm
    assert long_mm <= max(np.linalg.norm(corners - corner, axis=1).max() for corner in corners)
    assert 0 < short_mm <= long_mm + 1e-9
    assert long_mm <= 2 * max(radius) + max(spacing_mm)


@pytest.mark.parametrize(("name", "orientation"), POSITIONS.items(), ids=POSITIONS)
def test_left_is_left_in_every_position_of_the_patient(name: str, orientation: tuple[float, ...]) -> None:
    """Seen from the foot or the head, from behind or the side: x grows toward the left hand (PS3.3 C.7.6.2.1.1)."""
    for side, expected in ((1, LEFT), (-1, RIGHT)):
        ball = Ellipsoid(center_mm=place(side, 9.0), semi_axes_mm=(9.0, 9.0, 9.0))
        volume = read_volume(acquire(ball, Scan(orientation=orientation)))
        region = cut_region(volume, mark(volume))
        assert find_side(volume, region, midline_mm=0.0) == expected
        assert find_side(volume, region, midline_mm=ball.center_mm[0] + 4.0) is None
        assert measure_region(volume, region).center_mm == pytest.approx(ball.center_mm, abs=0.2)


def blank(shape: tuple[int, int, int] = (20, 30, 40), **elements: Any) -> Volume:
    """Return the Volume of a real Series with its grid exchanged: slices 2 mm, rows 1 mm, columns 0.5 mm apart."""
    volume = read_volume(make_slices(**elements))
    affine = np.array([[0, 0, 0.5, -10], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    return dataclasses.replace(
        volume, voxels=np.full(shape, 25.0, np.float32), affine=affine, spacing_mm=(2.0, 1.0, 0.5)
    )


def region_of(*parts: tuple[slice, slice, slice], volume: Volume) -> Region:
    mask = np.zeros(volume.voxels.shape, bool)
    for part in parts:
        mask[part] = True
    return cut_region(volume, mask)


def test_a_lesion_on_both_sides_of_the_midline_has_no_side() -> None:
    """Its centre lies 5.9 mm to the left, a third of it on the right."""
    volume = blank((20, 30, 100))
    both = region_of(
        (slice(5, 9), slice(5, 9), slice(80, 100)), (slice(5, 7), slice(5, 9), slice(0, 20)), volume=volume
    )
    assert both.center_index()[2] * 0.5 - 10 == pytest.approx(21.4, abs=0.1)
    assert find_side(volume, both, midline_mm=15.5) is None
    assert find_side(volume, both, midline_mm=-15.5) == LEFT


def test_a_rectangle_has_its_diagonal_and_the_longest_chord_across_it() -> None:
    """Not the width of its shadow across the diagonal, which is 15.4 mm."""
    plane = np.zeros((40, 40), bool)
    plane[5:15, 8:32] = True
    diagonal_mm = float(np.hypot(10, 12))
    long_mm, short_mm = measure_axes(plane, (1.0, 0.5))
    assert diagonal_mm - 0.75 < long_mm <= diagonal_mm
    assert short_mm == pytest.approx(10 * diagonal_mm / 12, abs=0.5)


def list_blobs() -> list[NDArray[np.bool_]]:
    """Return blobs and rectangles, as irregular and as regular as masks are."""
    rng = np.random.default_rng(4)
    blobs = [ndimage.gaussian_filter(rng.random((24, 24)), 2.0) > 0.5 for _ in range(12)]
    boxes = [np.pad(np.ones(rng.integers(1, 20, 2), bool), 2) for _ in range(12)]
    noise = [rng.random((12, 12)) > 0.5 for _ in range(12)]
    return blobs + boxes + noise


def test_the_long_axis_is_the_longest_of_all_distances() -> None:
    for plane in list_blobs():
        labels, _ = ndimage.label(plane, structure=np.ones((3, 3)))
        piece = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
        ends = np.argwhere(piece)[:, None] + np.array([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]])
        ends = ends.reshape(-1, 2) * (0.7, 0.9)
        longest = max(float(np.linalg.norm(ends - one, axis=1).max()) for one in ends)
        assert measure_axes(plane, (0.7, 0.9))[0] == pytest.approx(longest, abs=1e-9)


def test_axes_do_not_depend_on_where_in_the_box_a_region_lies() -> None:
    """Of a disk many diameters are equal, and which one is rounded up is chance."""
    for plane in list_blobs():
        moved = np.pad(plane, ((13, 4), (7, 30)))
        assert measure_axes(moved, (0.7, 0.7)) == pytest.approx(measure_axes(plane, (0.7, 0.7)), abs=1e-9)
        assert measure_axes(plane.T, (0.7, 0.7)) == pytest.approx(measure_axes(plane, (0.7, 0.7)), abs=1e-9)


def test_all_regions_of_a_label_map_are_what_each_is_alone() -> None:
    volume = blank()
    labels = np.zeros(volume.voxels.shape, np.uint8)
    labels[2:5, 3:9, 1:30:2] = 7
    labels[4:20, 5, 0:40] = 2
    found = find_regions(volume, labels)
    assert sorted(found) == [2, 7]
    for number, region in found.items():
        alone = cut_region(volume, labels == number)
        assert region.box == alone.box
        assert np.array_equal(region.mask, alone.mask)
        assert measure_region(volume, region) == measure_region(volume, alone)
    with pytest.raises(ModelOutputInvalid, match="own grid"):
        find_regions(volume, labels[1:])


def test_no_diameter_spans_the_gap_between_two_pieces() -> None:
    plane = np.zeros((40, 40), bool)
    plane[5:15, 3:13] = True
    larger = plane.copy()
    plane[20:24, 30:34] = True
    assert measure_axes(plane, (1.0, 0.5)) == measure_axes(larger, (1.0, 0.5))


def test_pieces_that_share_a_corner_are_one() -> None:
    plane = np.zeros((40, 40), bool)
    plane[5:9, 5:9] = plane[9:13, 9:13] = True
    assert measure_axes(plane, (1.0, 1.0))[0] == pytest.approx(np.hypot(8, 8), abs=1.0)


def test_one_voxel_is_as_large_as_it_is() -> None:
    volume = blank()
    measures = measure_region(volume, region_of((slice(3, 4), slice(4, 5), slice(5, 6)), volume=volume))
    assert measures.values == {
        "long_axis_mm": 1.0,
        "short_axis_mm": 0.5,
        "volume_mm3": pytest.approx(1.0),
        "mean_hu": 25.0,
    }
    assert measures.center_mm == (-7.5, 4.0, 6.0)
    assert (measures.key_slice, measures.is_cut) == (3, False)


def test_the_key_slice_is_the_one_with_the_largest_area() -> None:
    volume = blank()
    region = region_of((slice(3, 9), slice(4, 6), slice(5, 9)), (slice(7, 8), slice(4, 12), slice(5, 9)), volume=volume)
    measures = measure_region(volume, region)
    assert measures.key_slice == 7
    assert measures.values["long_axis_mm"] == pytest.approx(np.hypot(8, 2), abs=1.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("end", ["first", "last"])
def test_a_lesion_that_touches_the_border_says_so(axis: int, end: str) -> None:
    volume = blank()
    part = [slice(5, 9)] * 3
    part[axis] = slice(0, 4) if end == "first" else slice(-4, None)
    measures = measure_region(volume, region_of((part[0], part[1], part[2]), volume=volume))
    assert measures.is_cut
    assert measures.values["volume_mm3"] == pytest.approx(64)
    assert note_limits(volume, {"Nodule 1": measures}) == (
        "Nodule 1 reaches the edge of the images and may be larger than measured.",
    )


@pytest.mark.parametrize(
    ("degrees", "plane"), [(0.0, Plane.AXIAL), (25.0, Plane.AXIAL), (40.0, Plane.OBLIQUE), (80.0, Plane.CORONAL)]
)
def test_axes_off_the_axial_plane_are_told_in_the_notes(degrees: float, plane: Plane) -> None:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    volume = read_volume(make_slices(orientation=(1.0, 0.0, 0.0, 0.0, float(cosine), -float(sine))))
    assert name_plane(volume) == plane
    measures = measure_mask(volume, np.pad(np.ones((4, 4, 4), bool), ((4, 4), (30, 30), (26, 26))))
    expected = f"Long and short axis were measured on {plane} slices, not in the axial plane."
    assert note_limits(volume, {"Nodule 1": measures}) == (() if plane is Plane.AXIAL else (expected,))
    assert note_limits(volume, {}) == ()


@pytest.mark.parametrize("orientation", [SAGITTAL, POSITIONS["sagittal from the right"]])
def test_sagittal_slices_are_named(orientation: tuple[float, ...]) -> None:
    assert name_plane(read_volume(make_slices(orientation=orientation))) is Plane.SAGITTAL


@pytest.mark.parametrize("rescale_type", [None, "HU"])
def test_ct_in_hounsfield_units_has_a_mean(rescale_type: str | None) -> None:
    assert holds_hounsfield(read_volume(make_slices(RescaleType=rescale_type)))


@pytest.mark.parametrize("rescale_type", ["US", "Z_EFF", "HU_MOD"])
def test_ct_in_other_units_has_no_mean(rescale_type: str) -> None:
    volume = blank(RescaleType=rescale_type)
    measures = measure_region(volume, region_of((slice(3, 4), slice(4, 5), slice(5, 6)), volume=volume))
    assert "mean_hu" not in measures.values


def test_mr_has_no_hounsfield_units() -> None:
    assert not holds_hounsfield(read_volume(make_slices(MRImageStorage)))


@pytest.mark.parametrize(
    ("mask", "complaint"),
    [
        (np.zeros((20, 30, 40), bool), "empty"),
        (np.zeros((20, 30, 40), np.float32), "empty"),
        (np.full((20, 30, 40), np.nan), "NaN"),
        (np.pad(np.full((1, 1, 1), np.nan), ((0, 19), (0, 29), (0, 39))), "NaN"),
        (np.full((20, 30, 40), 0.3), "other numbers than 0 and 1"),
        (np.full((20, 30, 40), 2, np.uint8), "other numbers than 0 and 1"),
        (np.full((20, 30, 40), np.inf), "other numbers than 0 and 1"),
        (np.ones((20, 30, 39), bool), "20 x 30 x 39 voxels where the volume has 20 x 30 x 40"),
        (np.ones((20, 30), bool), "20 x 30 voxels"),
    ],
)
def test_a_mask_that_is_no_mask_is_refused(mask: NDArray[np.generic], complaint: str) -> None:
    with pytest.raises(ModelOutputInvalid, match=complaint):
        measure_mask(blank(), mask)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_a_mask_may_be_bools_or_numbers(dtype: type) -> None:
    volume = blank()
    marked: NDArray[np.generic] = np.pad(np.ones((4, 4, 4), dtype), ((4, 12), (4, 22), (4, 32)))
    assert measure_mask(volume, marked).values["volume_mm3"] == pytest.approx(64)
