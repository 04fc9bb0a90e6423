"""Outlines run along pixel edges and enclose exactly the mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from workers.drawing.slice_panel import smooth
from workers.outline import area_of, trace_outlines

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def test_one_pixel_is_a_square_around_it() -> None:
    mask = np.zeros((4, 5), bool)
    mask[2, 3] = True
    (outline,) = trace_outlines(mask)
    assert outline[0].tolist() == outline[-1].tolist()
    assert {tuple(point) for point in outline.tolist()} == {(3, 2), (4, 2), (4, 3), (3, 3)}


def test_hole_is_an_outline_of_its_own_with_negative_area() -> None:
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    outer, hole = trace_outlines(mask)
    assert (area_of(outer), area_of(hole)) == (25, -1)


def test_pixels_that_meet_at_a_corner_stay_apart() -> None:
    outlines = trace_outlines(np.eye(2, dtype=bool))
    assert [area_of(outline) for outline in outlines] == [1, 1]


def test_largest_region_comes_first() -> None:
    mask = np.zeros((8, 12), bool)
    mask[1:3, 1:3] = True
    mask[2:7, 5:11] = True
    assert [area_of(outline) for outline in trace_outlines(mask)] == [30, 4]


def test_empty_mask_has_no_outline() -> None:
    assert trace_outlines(np.zeros((3, 3), bool)) == []


@settings(max_examples=150, deadline=None)
@given(mask=MASKS)
def test_areas_add_up_to_the_pixels(mask: NDArray[np.bool_]) -> None:
    outlines = trace_outlines(mask)
    assert sum(area_of(outline) for outline in outlines) == mask.sum()
    for outline in outlines:
        steps = np.diff(outline, axis=0)
        # Upright edges, a turn at each corner, closed.
        assert ((steps == 0).sum(axis=1) == 1).all()
        assert (outline[0] == outline[-1]).all()


@settings(max_examples=50, deadline=None)
@given(mask=MASKS, top=st.integers(0, 6), left=st.integers(0, 6))
def test_outlines_move_with_the_mask(mask: NDArray[np.bool_], top: int, left: int) -> None:
    larger = np.zeros((20, 20), bool)
    larger[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    moved = [(outline - (left, top)).tolist() for outline in trace_outlines(larger)]
    assert moved == [outline.tolist() for outline in trace_outlines(mask)]


def test_smooth_outline_keeps_middle_and_nearly_the_area() -> None:
    rows, columns = np.mgrid[0:40, 0:40]
    disc = (rows - 18.5) ** 2 + (columns - 21.5) ** 2 <= 11**2
    (outline,) = trace_outlines(disc)
    smoothed = smooth(outline)
    assert area_of(smoothed) == pytest.approx(disc.sum(), rel=0.03)
    assert np.allclose(smoothed[:-1].mean(axis=0), [22, 19], atol=0.05)
    # No step of a pixel is left: directions change gently.
    steps = np.diff(smoothed, axis=0)
    turns = np.abs(np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))))
    assert np.degrees(turns.max()) < 60
