"""The shapes that phantoms are drawn with have the size that they are asked for."""

import numpy as np
import pytest

from node.rehearsal.shapes import Grid, Tube, blur_plane, centered_axis, cloud, paint_tube


def _cube(count: int = 61, spacing_mm: float = 1.0) -> Grid:
    axis = centered_axis(count=count, spacing_mm=spacing_mm)
    return Grid(z=axis, y=axis, x=axis)


def test_tube_has_the_volume_of_a_capsule() -> None:
    grid = _cube()
    volume = np.zeros(grid.shape, dtype=np.float32)
    tube = Tube(start=(-10, 0, 0), end=(10, 0, 0), start_radius_mm=5, end_radius_mm=5)
    paint_tube(volume, grid, tube, value=1.0, edge_mm=1.0)
    assert float(volume.sum()) == pytest.approx(np.pi * 25 * 20 + 4 / 3 * np.pi * 125, rel=0.02)


def test_brightening_never_darkens() -> None:
    grid = _cube(count=21)
    volume = np.full(grid.shape, 100, dtype=np.float32)
    tube = Tube(start=(0, 0, 0), end=(5, 0, 0), start_radius_mm=3, end_radius_mm=3)
    paint_tube(volume, grid, tube, value=50.0, edge_mm=1.0, mode="brighten")
    assert float(volume.min()) == 100


def test_texture_of_a_slab_is_the_slab_of_the_texture() -> None:
    grid = _cube(count=24)
    texture = cloud(np.random.default_rng(1), spacing_mm=5, reach_mm=40)
    assert np.allclose(texture.sample(grid)[7:11], texture.sample(grid.slab(7, 11)), atol=1e-5)


def test_texture_has_a_spread_near_one() -> None:
    texture = cloud(np.random.default_rng(1), spacing_mm=4, reach_mm=80)
    spread = float(texture.sample(_cube(count=70, spacing_mm=2.0)).std())
    assert spread == pytest.approx(1.0, abs=0.1)


def test_blur_keeps_the_mean_and_flat_edges() -> None:
    plane = np.full((20, 30), 7, dtype=np.float32)
    assert np.allclose(blur_plane(plane, sigma_px=1.3), 7)
    spot = np.zeros((31, 31), dtype=np.float32)
    spot[15, 15] = 1
    assert float(blur_plane(spot, sigma_px=2.0).sum()) == pytest.approx(1.0, abs=1e-4)
