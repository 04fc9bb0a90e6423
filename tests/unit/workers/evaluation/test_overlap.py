"""Overlap of masks whose figures can be told by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.evaluation.overlap import Overlap, measure_overlap

SPACING = (5.0, 1.0, 2.0)


def cube(start: int, stop: int) -> NDArray[np.bool_]:
    """Return a mask of (10, 30, 30) voxels that is full between two columns."""
    mask = np.zeros((10, 30, 30), bool)
    mask[3:7, 10:20, start:stop] = True
    return mask


def overlap(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Overlap:
    return measure_overlap(found, truth, spacing_mm=SPACING, voxel_mm3=10.0, tolerance_mm=1.0)


def test_the_same_mask_is_perfect() -> None:
    same = overlap(cube(5, 15), cube(5, 15))
    assert (same.dice, same.jaccard, same.hd95_mm, same.surface_dice, same.volume_error) == (1, 1, 0, 1, 0)
    assert same.truth_mm3 == 4 * 10 * 10 * 10


def test_a_mask_that_is_shifted_by_half_its_width() -> None:
    shifted = overlap(cube(10, 20), cube(5, 15))
    assert shifted.dice == pytest.approx(0.5)
    assert shifted.jaccard == pytest.approx(1 / 3)
    # Five columns of 2 mm.
    assert shifted.hd95_mm == pytest.approx(10.0)
    assert shifted.volume_error == 0


def test_distances_are_in_mm_and_surfaces_within_the_tolerance_agree() -> None:
    by_one = overlap(cube(6, 16), cube(5, 15))
    assert by_one.hd95_mm == pytest.approx(2.0)
    agreeing = measure_overlap(cube(6, 16), cube(5, 15), spacing_mm=SPACING, voxel_mm3=10.0, tolerance_mm=2.0)
    assert agreeing.surface_dice == 1.0
    assert by_one.surface_dice < 1.0


def test_twice_the_volume() -> None:
    assert overlap(cube(5, 25), cube(5, 15)).volume_error == pytest.approx(1.0)
    assert overlap(cube(5, 25), cube(5, 15)).dice == pytest.approx(2 / 3)


def test_empty_masks_are_defined() -> None:
    nothing = np.zeros((10, 30, 30), bool)
    both = overlap(nothing, nothing)
    assert (both.dice, both.jaccard, both.hd95_mm, both.surface_dice) == (1, 1, 0, 1)
    assert math.isnan(both.volume_error)
    missed = overlap(nothing, cube(5, 15))
    assert (missed.dice, missed.jaccard, missed.surface_dice, missed.volume_error) == (0, 0, 0, -1)
    assert math.isnan(missed.hd95_mm)
    false = overlap(cube(5, 15), nothing)
    assert (false.dice, false.surface_dice) == (0, 0)
    assert math.isnan(false.hd95_mm)


def test_a_mask_at_the_edge_of_the_volume_has_a_surface_there() -> None:
    whole = np.ones((10, 30, 30), bool)
    assert overlap(whole, whole).hd95_mm == 0
    assert overlap(whole, whole).surface_dice == 1
