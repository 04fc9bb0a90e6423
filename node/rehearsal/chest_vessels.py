"""Bronchi and branching pulmonary vessels of the standard chest."""

import numpy as np
import numpy.typing as npt

from node.rehearsal.chest_outlines import lies_in_lung
from node.rehearsal.hounsfield import AIR_HU
from node.rehearsal.shapes import Floats, Grid, Point, Tube, paint_tube

_ROOTS_PER_LUNG = 13
_DEEPEST_BRANCH = 9
_THINNEST_VESSEL_MM = 0.5
# A vessel's radius to this power is the sum of its branches' (Murray: 3; measured in lungs: 2.7).
_MURRAY_POWER = 2.7

Vectors = npt.NDArray[np.float64]


def bronchi() -> list[Tube]:
    """Return trachea, main and lobar bronchi of the standard body."""
    routes: tuple[tuple[list[Point], float, float], ...] = (
        ([(0, 0, 190), (-1, 6, 120), (-1, 16, 60), (-2, 20, 22)], 8.6, 8.4),
        ([(-2, 20, 22), (-16, 22, 8), (-30, 22, -4)], 6.8, 6.2),
        ([(-2, 20, 22), (18, 22, 4), (36, 24, -8)], 6.2, 5.6),
        ([(-30, 22, -4), (-38, 28, -26), (-46, 38, -50)], 4.6, 2.4),
        ([(-26, 22, 2), (-44, 14, 22), (-56, 6, 42)], 3.8, 1.8),
        ([(36, 24, -8), (44, 34, -30), (52, 46, -52)], 4.2, 2.2),
        ([(34, 22, -4), (48, 8, 12), (58, -4, 32)], 3.6, 1.8),
        ([(-38, 22, -20), (-52, -8, -34), (-60, -28, -40)], 2.8, 1.4),
    )
    tubes = []
    for points, first, last in routes:
        radii = np.linspace(first, last, len(points))
        for i in range(len(points) - 1):
            tubes.append(
                Tube(
                    start=points[i],
                    end=points[i + 1],
                    start_radius_mm=float(radii[i]),
                    end_radius_mm=float(radii[i + 1]),
                )
            )
    return tubes


def grow_vessels(rng: np.random.Generator) -> list[Tube]:
    """Return branching pulmonary vessels that taper by Murray's law and stay in the lungs."""
    count = 2 * _ROOTS_PER_LUNG
    side = np.repeat([-1.0, 1.0], _ROOTS_PER_LUNG)
    spread = (rng.uniform(0.35, 1.0, count) * side, rng.normal(0, 0.75, count), rng.normal(0, 0.95, count))
    heading = _unit(np.stack(spread, axis=1))
    start = np.stack([side * 31.0, rng.uniform(0, 24, count), rng.uniform(-26, 16, count)], axis=1)
    radius = rng.uniform(3.2, 5.6, count)
    tubes: list[Tube] = []
    for depth in range(_DEEPEST_BRANCH + 1):
        end = start + heading * (rng.uniform(12, 24, len(start)) * 0.9**depth)[:, None]
        # The first pieces run in the hilum, outside lung; later ones stop at the pleura.
        if depth > 1:
            inside = lies_in_lung(end, heart_scale=1.0)
            start, end, heading, radius = start[inside], end[inside], heading[inside], radius[inside]
        split = rng.uniform(0.3, 0.7, len(start))
        branches = np.stack([split, 1 - split]) ** (1 / _MURRAY_POWER) * radius
        tubes.extend(_join(start, end, radius, branches.max(axis=0)))
        start, heading, radius = (np.concatenate([end] * 2), np.concatenate([heading] * 2), branches.ravel())
        thick = radius > _THINNEST_VESSEL_MM
        start, heading, radius = start[thick], heading[thick], radius[thick]
        heading = _unit(heading + rng.normal(0, 0.42, heading.shape))
    return tubes


def _unit(vectors: Vectors) -> Vectors:
    """Return vectors (n, 3) of length 1."""
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _join(start: Vectors, end: Vectors, first: Vectors, last: Vectors) -> list[Tube]:
    """Return tubes from ends (n, 3) and radii (n,)."""
    rows = zip(start.tolist(), end.tolist(), first.tolist(), last.tolist(), strict=True)
    return [
        Tube(start=(a[0], a[1], a[2]), end=(b[0], b[1], b[2]), start_radius_mm=r, end_radius_mm=s)
        for a, b, r, s in rows
    ]


def paint_airway(volume: Floats, body: Grid, airway: Tube, *, edge_mm: float) -> None:
    """Draw a bronchus: a wall that brightens, then the air inside."""
    wall_mm = 0.6 + 0.12 * airway.start_radius_mm
    wall = Tube(
        start=airway.start,
        end=airway.end,
        start_radius_mm=airway.start_radius_mm + wall_mm,
        end_radius_mm=airway.end_radius_mm + wall_mm,
    )
    paint_tube(volume, body, wall, value=20.0, edge_mm=edge_mm, mode="brighten")
    paint_tube(volume, body, airway, value=AIR_HU + 8, edge_mm=edge_mm)
