"""A head that was moved by a known motion is found again, and the same each time."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from node.errors import GeometryRefused
from node.rehearsal.brain_mr import brain_mr_voxels
from node.rehearsal.shapes import Grid, centered_axis
from workers.registration import Motion, find_middle, find_motion, measure_fit

Vector = tuple[float, float, float]
SLICES, MATRIX = 26, 110
THICK_MM, PIXEL_MM = 5.5, 2.0
# (slice, row, column) of an axial stack about a head, LPS.
AXIAL = np.array([[0, 0, PIXEL_MM, -109], [0, PIXEL_MM, 0, -109], [THICK_MM, 0, 0, -35], [0, 0, 0, 1]])


@dataclass(frozen=True, kw_only=True)
class Slab:
    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]


@cache
def head() -> dict[str, Slab]:
    """A whole head in small voxels, of which every other stack here is a scan."""
    plane = centered_axis(count=110, spacing_mm=2.0)
    grid = Grid(z=centered_axis(count=80, spacing_mm=2.0, center_mm=34.0), y=plane, x=plane)
    voxels, _ = brain_mr_voxels(grid, seed=5, with_lesion=True)
    affine = np.eye(4)[:, [2, 1, 0, 3]] * 2.0
    affine[:, 3] = [*grid.origin_mm, 1.0]
    return {role: Slab(voxels=values, affine=affine) for role, values in voxels.items()}


def scan(role: str, motion: NDArray[np.float64]) -> Slab:
    """Scan the head after a motion, in patient coordinates, on thick axial slices."""
    whole = head()[role]
    matrix = np.linalg.inv(whole.affine) @ np.linalg.inv(motion) @ AXIAL
    voxels = ndimage.affine_transform(
        whole.voxels, matrix[:3, :3], matrix[:3, 3], (SLICES, MATRIX, MATRIX), order=1, cval=0.0
    )
    return Slab(voxels=voxels.astype(np.float32), affine=AXIAL)


def move(turn_deg: Vector, shift_mm: Vector) -> NDArray[np.float64]:
    """Return a motion about the middle of the stack."""
    middle = (AXIAL @ np.array([(SLICES - 1) / 2, (MATRIX - 1) / 2, (MATRIX - 1) / 2, 1.0]))[:3]
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    matrix[:3, 3] = middle + np.array(shift_mm) - matrix[:3, :3] @ middle
    return matrix


def miss(found: Motion, true: NDArray[np.float64]) -> tuple[float, float]:
    """Return how far a motion is from the true one: mm at the middle, degrees."""
    left = np.linalg.inv(true) @ found.matrix
    middle = find_middle(scan("flair", np.eye(4)))
    angle = np.degrees(np.arccos(np.clip((np.trace(left[:3, :3]) - 1) / 2, -1, 1)))
    return float(np.linalg.norm((left @ np.array([*middle, 1.0]))[:3] - middle)), float(angle)


@pytest.mark.parametrize(
    ("role", "turn_deg", "shift_mm"),
    [
        ("t1", (0, 0, 0), (3, -2, 0)),
        ("t1c", (3, -4, 5), (4, -6, 5)),
        ("t1", (-8, 5, -6), (-10, 8, 8)),
        ("t1c", (12, -3, 10), (5, -5, -10)),
    ],
)
def test_a_known_motion_is_recovered(role: str, turn_deg: Vector, shift_mm: Vector) -> None:
    true = move(turn_deg, shift_mm)
    found = find_motion(scan("flair", np.eye(4)), scan(role, true))
    far_mm, angle_deg = miss(found, true)
    assert far_mm < 1.0
    assert angle_deg < 1.0
    assert found.shift_mm == pytest.approx(np.linalg.norm(shift_mm), abs=1.0)


def test_undoing_the_motion_brings_the_voxels_back() -> None:
    reference, moved = scan("flair", np.eye(4)), scan("flair", move((0, 0, 9), (0, 6, 0)))
    motion = find_motion(reference, moved)
    matrix = np.linalg.inv(motion.undo(moved.affine)) @ reference.affine
    back = ndimage.affine_transform(moved.voxels, matrix[:3, :3], matrix[:3, 3], moved.voxels.shape, order=1)
    inside = slice(4, -4)
    fits = [measure_fit(reference.voxels[inside], values[inside]) for values in (moved.voxels, back)]
    assert fits[1] > fits[0] + 0.05


def test_the_same_heads_give_the_same_motion_to_the_last_bit() -> None:
    reference, moved = scan("flair", np.eye(4)), scan("t1", move((2, 0, 4), (3, 1, 2)))
    first, second = (find_motion(reference, moved).matrix for _ in range(2))
    assert np.array_equal(first, second)


def test_a_search_goes_on_from_where_it_is_told() -> None:
    true = move((0, 0, 0), (0, 0, 0))
    true[:3, 3] += (400.0, -300.0, 0.0)
    reference = scan("flair", np.eye(4))
    away = scan("t1", np.eye(4))
    away = replace(away, affine=true @ away.affine)
    with pytest.raises(GeometryRefused, match="no place in common"):
        find_motion(reference, away)
    assert miss(find_motion(reference, away, start=true), true) == pytest.approx((0.0, 0.0), abs=1.0)


def test_sagittal_slices_are_registered_to_axial_ones() -> None:
    true = move((4, 0, 6), (3, 5, -4))
    whole = head()["t1"]
    turned = whole.affine[:, [2, 1, 0, 3]]
    sagittal = Slab(voxels=np.ascontiguousarray(whole.voxels.transpose(2, 1, 0)), affine=true @ turned)
    far_mm, angle_deg = miss(find_motion(scan("flair", np.eye(4)), sagittal), true)
    assert far_mm < 1.0
    assert angle_deg < 1.0


def test_a_picture_fits_itself_best_and_noise_not_at_all() -> None:
    rng = np.random.default_rng(1)
    values = rng.random(50_000).astype(np.float32)
    assert measure_fit(values, values) == pytest.approx(2.0)
    assert measure_fit(values, 3 - 2 * values) == pytest.approx(2.0, abs=0.1)
    assert measure_fit(values, rng.random(50_000).astype(np.float32)) == pytest.approx(1.0, abs=0.01)
    assert measure_fit(values, np.zeros_like(values)) == pytest.approx(1.0)
