"""Ribs, collar bones, shoulder blades and the heads of the arms."""

import numpy as np

from node.rehearsal.chest_outlines import (
    CAVITY_CENTER_Y,
    CAVITY_HALF_DEPTH,
    CAVITY_HALF_WIDTH,
    CAVITY_SHIFT,
    CAVITY_Z,
    OUTLINE_POWER,
    value_at,
)
from node.rehearsal.hounsfield import CARTILAGE_HU, CORTEX_HU, MARROW_HU
from node.rehearsal.shapes import Floats, Grid, Point, chain, paint_tube


def paint_bones(volume: Floats, body: Grid, *, edge_mm: float) -> None:
    """Draw ribs, collar bones, shoulder blades and the heads of the arms, in place."""
    for side in (-1.0, 1.0):
        for number in range(1, 12):
            path = _rib_path(side, number)
            _paint_long_bone(volume, body, path, radius_mm=4.6, edge_mm=edge_mm)
            if 2 <= number <= 7:
                front = (side * 14.0, path[-1][1] - 3, path[-1][2] + 14.0)
                for tube in chain([path[-1], front], 4.4):
                    paint_tube(volume, body, tube, value=CARTILAGE_HU, edge_mm=edge_mm)
        _paint_long_bone(volume, body, _clavicle_path(side), radius_mm=5.6, edge_mm=edge_mm)
        _paint_shoulder(volume, body, side, edge_mm=edge_mm)


def _paint_shoulder(volume: Floats, body: Grid, side: float, *, edge_mm: float) -> None:
    """Draw a shoulder blade and the head of the upper arm, in place."""
    blade: list[Point] = [
        (side * 138.0, 40.0, 108.0),
        (side * 126.0, 66.0, 76.0),
        (side * 112.0, 84.0, 34.0),
        (side * 104.0, 92.0, -4.0),
    ]
    _paint_long_bone(volume, body, blade, radius_mm=3.6, edge_mm=edge_mm)
    spine: list[Point] = [(side * 78.0, 84.0, 82.0), (side * 112.0, 76.0, 96.0), blade[0]]
    _paint_long_bone(volume, body, spine, radius_mm=3.8, edge_mm=edge_mm)
    head: Point = (side * 156.0, 22.0, 102.0)
    _paint_long_bone(volume, body, [head, head], radius_mm=18.0, edge_mm=edge_mm)


def _paint_long_bone(volume: Floats, body: Grid, path: list[Point], *, radius_mm: float, edge_mm: float) -> None:
    """Draw a bone along a path: first all of its cortex, then all of its marrow, in place."""
    for tube in chain(path, radius_mm):
        paint_tube(volume, body, tube, value=CORTEX_HU, edge_mm=edge_mm)
    for tube in chain(path, radius_mm - 1.6):
        paint_tube(volume, body, tube, value=MARROW_HU, edge_mm=edge_mm)


def _rib_path(side: float, number: int) -> list[Point]:
    """Return points along one rib (1..11) of the standard body, from the spine to its cartilage."""
    root_z = 118.0 - 20.5 * number
    # Ribs fall toward the front, the lower ones more.
    fall = 24.0 + 5.5 * min(number, 7)
    last = 2.55 if number <= 7 else 2.55 - 0.27 * (number - 7)
    points = []
    for angle in np.linspace(0.30, last, 26):
        z = root_z - fall * (1 - np.cos(angle)) / 2 - 6 * np.sin(angle)
        shift = value_at(z, CAVITY_Z, CAVITY_SHIFT)
        width = value_at(z, CAVITY_Z, CAVITY_HALF_WIDTH) - shift + 6.5
        depth = max(value_at(z, CAVITY_Z, CAVITY_HALF_DEPTH), 26.0) + 6.5
        across = abs(np.sin(angle)) ** (2 / OUTLINE_POWER) * (width + shift)
        along = np.sign(np.cos(angle)) * abs(np.cos(angle)) ** (2 / OUTLINE_POWER) * depth
        middle = value_at(z, CAVITY_Z, CAVITY_CENTER_Y)
        points.append((side * float(across), float(middle + along), float(z)))
    return points


def _clavicle_path(side: float) -> list[Point]:
    """Return points along a collar bone of the standard body."""
    return [
        (side * 14.0, -62.0, 88.0),
        (side * 40.0, -58.0, 97.0),
        (side * 75.0, -40.0, 106.0),
        (side * 110.0, -14.0, 113.0),
        (side * 140.0, 2.0, 117.0),
    ]
