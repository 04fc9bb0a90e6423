"""Voxels on another grid are what and where the field is, to the error of linear interpolation; none is lost."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import interpolate

from workers.benchmark.resampling import measure_resampling
from workers.resampling import (
    DENSE_PLANES,
    Affine,
    Grid,
    average_cells,
    lay_on,
    pick_nearest,
    resample,
    resize_planes,
    sample_along,
)

SHAPE = (9, 16, 20)
# Oblique, and no two edges are equal.
AFFINE = np.array([[0.1, -0.2, 0.7, -90.0], [0.3, 0.8, 0.1, 40.0], [2.4, -0.1, 0.0, 12.0], [0, 0, 0, 1]])
SLOPE = np.array([3.0, -2.0, 5.0])


def field_of(affine: Affine, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a field that rises by `SLOPE` a mm, which linear interpolation does not change."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.asarray((index @ affine[:3, :3].T + affine[:3, 3]) @ SLOPE, np.float32)


def inner(voxels: NDArray[np.float32], rim: int = 2) -> NDArray[np.float32]:
    return voxels[rim:-rim, rim:-rim, rim:-rim]


@pytest.mark.parametrize(
    "scale", [(1.0, 0.7, 0.8), (0.8, 0.5, 0.5), (0.9, 0.4, 0.35), (1.7, 2.0, 1.3), (1.0, 1.0, 1.0)]
)
def test_a_field_is_itself_on_any_grid_where_its_affine_says(scale: tuple[float, float, float]) -> None:
    made = resample(field_of(AFFINE, SHAPE), AFFINE, scale=scale)
    assert made.voxels.shape == tuple(int(n * factor) for n, factor in zip(SHAPE, scale, strict=True))
    assert inner(made.voxels) == pytest.approx(inner(field_of(made.affine, made.voxels.shape)), abs=2e-3)
    edges = np.linalg.norm(made.affine[:3, :3], axis=0)
    assert edges == pytest.approx(np.linalg.norm(AFFINE[:3, :3], axis=0) / scale)


@pytest.mark.parametrize("shrink", [0.9, 0.3], ids=["plane by plane", "at once"])
def test_both_ways_give_what_trilinear_interpolation_gives(shrink: float) -> None:
    assert 0.3**2 < DENSE_PLANES < 0.9**2
    rng = np.random.default_rng(1)
    voxels = rng.normal(0, 500, SHAPE).astype(np.float32)
    scale = (0.83, shrink, shrink)
    expected = interpolate(
        torch.from_numpy(voxels)[None, None],
        scale_factor=list(scale),
        mode="trilinear",
        align_corners=False,
        recompute_scale_factor=False,
    )[0, 0].numpy()
    assert resample(voxels, AFFINE, scale=scale).voxels == pytest.approx(expected, abs=1e-2)


def test_means_of_whole_voxels_lie_in_their_middle() -> None:
    made = average_cells(field_of(AFFINE, SHAPE), AFFINE, whole=(2, 3, 1))
    assert made.voxels.shape == (4, 5, 20)
    assert made.voxels == pytest.approx(field_of(made.affine, made.voxels.shape), abs=2e-3)


def test_a_resized_plane_keeps_its_outer_edges() -> None:
    made = resize_planes(field_of(AFFINE, SHAPE), AFFINE, (8, 5))
    assert inner(made.voxels, 1) == pytest.approx(inner(field_of(made.affine, (9, 8, 5)), 1), abs=2e-3)
    for corner in ((-0.5, -0.5), (16 - 0.5, 20 - 0.5)):
        small = (corner[0] + 0.5) * 8 / 16 - 0.5, (corner[1] + 0.5) * 5 / 20 - 0.5
        assert made.affine @ [0, *small, 1] == pytest.approx(AFFINE @ [0, *corner, 1])


def test_a_volume_on_its_own_grid_is_whole_however_its_affine_is_rounded() -> None:
    voxels = field_of(AFFINE, SHAPE)
    placed = lay_on(voxels, AFFINE @ np.linalg.inv(AFFINE) @ AFFINE, on=Grid(voxels=voxels, affine=AFFINE))
    assert placed == pytest.approx(voxels, abs=1e-3)


@pytest.mark.parametrize("middle", [(4.2, 7.7, 9.1), (-3.0, 15.2, 0.4), (8.0, 0.0, 25.0)])
def test_samples_along_the_axes_are_those_of_scipy_and_ends_are_repeated(middle: tuple[float, float, float]) -> None:
    voxels = np.random.default_rng(3).normal(0, 500, SHAPE).astype(np.float32)
    places = [place + np.linspace(-3, 3, count) for place, count in zip(middle, (5, 11, 7), strict=True)]
    expected = ndimage.map_coordinates(voxels, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
    assert sample_along(voxels, places).astype(np.float32) == pytest.approx(expected, rel=1e-6, abs=1e-4)


@pytest.mark.parametrize(
    "turn",
    [
        np.diag([0.5, 0.6, 0.7]),
        np.array([[0, 0, 0.5], [0.6, 0, 0], [0, 0.7, 0]]),
        np.array([[-0.5, 0, 0], [0, 0, -0.6], [0, 0.7, 0]]),
        np.array([[0.5, 0.01, 0], [0, 0.6, 0], [0, 0, 0.7]]),
    ],
    ids=["larger", "other axes", "reversed", "crooked"],
)
def test_the_nearest_label_is_picked_up_to_the_outer_edge(turn: NDArray[np.float64]) -> None:
    labels = np.random.default_rng(2).integers(1, 9, (6, 7, 8)).astype(np.uint8)
    shape = (13, 14, 15)
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    # From the middle of one grid to the middle of the other; ends of the other lie beyond the outermost middles.
    matrix[:3, 3] = (np.array(labels.shape) - 1) / 2 - turn @ ((np.array(shape) - 1) / 2) + 0.013
    expected = ndimage.affine_transform(
        np.pad(labels, 3), turn, matrix[:3, 3] + 3, shape, output=np.uint8, order=0, mode="grid-constant"
    )
    assert np.array_equal(pick_nearest(labels, matrix, shape), expected)
    assert (expected == 0).any()


def test_no_outermost_plane_is_lost_to_a_rounding_error() -> None:
    labels = np.ones((4, 5, 6), np.uint8)
    matrix = np.eye(4) * (1 + 1e-13)
    matrix[:3, 3] = -1e-13
    assert pick_nearest(labels, matrix, (4, 5, 6)).all()


@pytest.mark.measuring
def test_the_bench_compares_grids_that_are_the_same() -> None:
    measured = measure_resampling(rounds=1, shape=(20, 128, 128))
    for table in measured["tables"]:
        ours, rival, stretched = (float(row["name"].split(" up to ")[1].split()[0]) for row in table["rows"])
        assert ours == pytest.approx(rival, abs=0.02)
        assert ours < 1.4 < 5 < stretched
