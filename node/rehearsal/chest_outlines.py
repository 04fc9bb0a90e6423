"""The outlines of the standard chest: body, thoracic cavity, lungs, heart and diaphragm, mm."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from node.rehearsal.shapes import Floats, Mask, Point

# Heights (mm) and the outlines that belong to them; between them linear.
CAVITY_Z = (-150.0, -60.0, 0.0, 40.0, 70.0, 90.0, 104.0, 114.0, 120.0)
CAVITY_HALF_WIDTH = (131.0, 134.0, 130.0, 119.0, 104.0, 90.0, 77.0, 63.0, 47.0)
CAVITY_SHIFT = (0.0, 0.0, 0.0, 8.0, 22.0, 32.0, 38.0, 42.0, 44.0)
CAVITY_HALF_DEPTH = (90.0, 90.0, 86.0, 77.0, 64.0, 52.0, 38.0, 21.0, 1.0)
CAVITY_CENTER_Y = (2.0, 2.0, 4.0, 8.0, 14.0, 18.0, 22.0, 24.0, 25.0)
BODY_Z = (-240.0, -80.0, 20.0, 70.0, 105.0, 128.0, 145.0, 160.0, 240.0)
BODY_HALF_WIDTH = (158.0, 165.0, 168.0, 174.0, 180.0, 168.0, 118.0, 66.0, 60.0)
BODY_HALF_DEPTH = (112.0, 116.0, 116.0, 108.0, 92.0, 78.0, 68.0, 60.0, 60.0)
BODY_CENTER_Y = (2.0, 2.0, 3.0, 8.0, 14.0, 18.0, 20.0, 18.0, 16.0)
# Half width of the mediastinum from front to back, mm.
_MEDIASTINUM_Y = (-100.0, -78.0, -50.0, -20.0, 15.0, 40.0, 62.0, 80.0, 100.0)
_MEDIASTINUM_HALF_WIDTH = (9.0, 5.0, 14.0, 27.0, 27.0, 22.0, 20.0, 22.0, 25.0)
# Its width changes with the height, and differently on the two sides: aortic arch and pulmonary trunk
# bulge to the left, the caval veins to the right.
_MEDIASTINUM_Z = (-150.0, -70.0, -20.0, 4.0, 24.0, 36.0, 50.0, 62.0, 90.0, 122.0)
_MEDIASTINUM_LEFT = (0.80, 0.80, 0.95, 1.22, 1.16, 1.02, 1.26, 1.08, 0.80, 0.86)
_MEDIASTINUM_RIGHT = (0.84, 0.84, 0.98, 1.16, 1.04, 1.06, 1.00, 0.92, 0.84, 0.92)
OUTLINE_POWER = 2.35
SPINE_Y = 61.0
DIAPHRAGM_TOP_MM = -50.0
_HEART_CENTER: Point = (17.0, -29.0, -48.0)
_HEART_AXES: Point = (63.0, 45.0, 54.0)
_HEART_TURN = -0.5


def value_at(z: float, heights: Sequence[float], values: Sequence[float]) -> float:
    """Return the outline value at a height."""
    return float(np.interp(z, heights, values))


def outline_level(x: Floats, y: Floats, *, half_width: float, half_depth: float) -> Floats:
    """Return the level of a superellipse on the open mesh: below 1 inside; (rows, columns)."""
    across = np.abs(x / np.float32(half_width)) ** np.float32(OUTLINE_POWER)
    along = np.abs(y / np.float32(half_depth)) ** np.float32(OUTLINE_POWER)
    level: Floats = along[:, None] + across[None, :]
    return level


def cavity_plane(x: Floats, y: Floats, z: float, *, grow_mm: float = 0.0) -> Mask:
    """Return where the thoracic cavity is in one axial plane: (rows, columns)."""
    return _is_cavity(x[None, :], y[:, None], np.float32(z), grow_mm=grow_mm)


def heart_level(x: Floats, y: Floats, z: float, *, scale: float) -> Floats:
    """Return the level of the heart in one axial plane, below 1 inside: (rows, columns)."""
    return _heart_level(x[None, :], y[:, None], np.float32(z), scale=scale)


def dome_height(x: Floats, y: Floats) -> Floats:
    """Return the height of the diaphragm, mm: (rows, columns). The right dome stands higher."""
    return _dome_height(x[None, :], y[:, None])


def lung_plane(x: Floats, y: Floats, z: float, *, heart_scale: float) -> Mask:
    """Return where lung is in one axial plane of the standard body: (rows, columns)."""
    return _is_lung(x[None, :], y[:, None], np.float32(z), heart_scale=heart_scale)


def lies_in_lung(points: npt.NDArray[np.float64], *, heart_scale: float) -> Mask:
    """Return for each point (n, 3) of the standard body whether it lies in lung."""
    x, y, z = points.astype(np.float32).T
    return _is_lung(x, y, z, heart_scale=heart_scale)


# The formulas below take coordinates that broadcast: a plane as an open mesh, or a list of points.


def _along(z: Floats | np.float32, heights: Sequence[float], values: Sequence[float]) -> Floats:
    """Return the outline value at each height."""
    return np.asarray(np.interp(z, heights, values), dtype=np.float32)


def _is_cavity(x: Floats, y: Floats, z: Floats | np.float32, *, grow_mm: float = 0.0) -> Mask:
    """Return where the thoracic cavity is."""
    shift = _along(z, CAVITY_Z, CAVITY_SHIFT)
    width = _along(z, CAVITY_Z, CAVITY_HALF_WIDTH) - shift + np.float32(grow_mm)
    depth = _along(z, CAVITY_Z, CAVITY_HALF_DEPTH) + np.float32(grow_mm)
    beyond = np.clip(np.abs(x) - shift, 0, None) / width
    middle = np.abs(y - _along(z, CAVITY_Z, CAVITY_CENTER_Y)) / depth
    level = middle ** np.float32(OUTLINE_POWER) + beyond ** np.float32(OUTLINE_POWER)
    return np.asarray((level < 1) & (z <= CAVITY_Z[-1]))


def _heart_level(x: Floats, y: Floats, z: Floats | np.float32, *, scale: float) -> Floats:
    """Return the level of the heart, below 1 inside."""
    u0, v0, w0 = (axis - np.float32(c) for axis, c in zip((x, y, z), _HEART_CENTER, strict=True))
    cos, sin = np.float32(np.cos(_HEART_TURN)), np.float32(np.sin(_HEART_TURN))
    a, b, c = (np.float32(h * scale) for h in _HEART_AXES)
    across = ((u0 * cos + w0 * sin) / a) ** 2 + ((w0 * cos - u0 * sin) / c) ** 2
    return np.asarray((v0 / b) ** 2 + across, dtype=np.float32)


def _dome_height(x: Floats, y: Floats) -> Floats:
    """Return the height of the diaphragm, mm."""
    top = np.where(x < 0, np.float32(-62.0), np.float32(-74.0))
    across = ((np.abs(x) - np.float32(62.0)) / np.float32(74.0)) ** 2
    along = ((y + np.float32(16.0)) / np.float32(92.0)) ** 2
    return np.asarray(top - np.float32(52.0) * (across + along))


def _is_lung(x: Floats, y: Floats, z: Floats | np.float32, *, heart_scale: float) -> Mask:
    """Return where lung is."""
    widest = _along(y, _MEDIASTINUM_Y, _MEDIASTINUM_HALF_WIDTH)
    left = _along(z, _MEDIASTINUM_Z, _MEDIASTINUM_LEFT)
    right = _along(z, _MEDIASTINUM_Z, _MEDIASTINUM_RIGHT)
    lung = _is_cavity(x, y, z)
    lung &= np.abs(x) / np.where(x > 0, left, right) > widest
    lung &= (x / np.float32(23.5)) ** 2 + ((y - np.float32(SPINE_Y)) / np.float32(21.0)) ** 2 > 1
    lung &= _heart_level(x, y, z, scale=heart_scale * 1.05) > 1
    if np.min(z) < DIAPHRAGM_TOP_MM:
        lung &= _dome_height(x, y) < z
    return lung
