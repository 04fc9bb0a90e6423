"""The organs of the standard chest, drawn one axial plane at a time."""

import numpy as np

from node.rehearsal.chest_outlines import (
    BODY_CENTER_Y,
    BODY_HALF_DEPTH,
    BODY_HALF_WIDTH,
    BODY_Z,
    CAVITY_CENTER_Y,
    CAVITY_HALF_DEPTH,
    CAVITY_Z,
    DIAPHRAGM_TOP_MM,
    SPINE_Y,
    cavity_plane,
    dome_height,
    heart_level,
    lung_plane,
    outline_level,
    value_at,
)
from node.rehearsal.hounsfield import (
    AIR_HU,
    BLOOD_HU,
    CORD_HU,
    CORTEX_HU,
    DISC_HU,
    FAT_HU,
    HEART_HU,
    LIVER_HU,
    MARROW_HU,
    MEDIASTINAL_FAT_HU,
    MUSCLE_HU,
    SPLEEN_HU,
    STOMACH_HU,
)
from node.rehearsal.shapes import Floats, Grid, Mask

_SKIN_MM = 2.0
_FAT_MM = 13.0
VERTEBRA_MM = 23.0
_DISC_MM = 5.0


def draw_plane(plane: Floats, body: Grid, z: float, *, heart_scale: float, disc_z_mm: float) -> Mask:
    """Draw the organs of one axial plane in place; return where lung is (still empty)."""
    x, y = body.x, body.y
    middle = y - np.float32(value_at(z, BODY_Z, BODY_CENTER_Y))
    width = value_at(z, BODY_Z, BODY_HALF_WIDTH)
    depth = value_at(z, BODY_Z, BODY_HALF_DEPTH)
    skin = outline_level(x, middle, half_width=width, half_depth=depth)
    plane[skin < 1] = MUSCLE_HU
    inner = outline_level(x, middle, half_width=width - _SKIN_MM, half_depth=depth - _SKIN_MM)
    plane[inner < 1] = FAT_HU
    fat = _FAT_MM + 3 * np.sin(z / 40)
    muscle = outline_level(x, middle, half_width=width - fat, half_depth=depth - fat)
    plane[muscle < 1] = MUSCLE_HU
    _draw_chest_wall(plane, x, y, z)
    cavity = cavity_plane(x, y, z)
    plane[cavity] = MEDIASTINAL_FAT_HU
    level = heart_level(x, y, z, scale=heart_scale)
    plane[(level < 1) & cavity] = HEART_HU
    if z < DIAPHRAGM_TOP_MM:
        _draw_abdomen(plane, body, z, cavity & (dome_height(x, y) >= z))
    _draw_spine(plane, x, y, z - disc_z_mm)
    _draw_breastbone(plane, x, y, z)
    _draw_great_vessels(plane, x, y, z)
    return cavity & lung_plane(x, y, z, heart_scale=heart_scale)


def _draw_chest_wall(plane: Floats, x: Floats, y: Floats, z: float) -> None:
    """Draw the layer between the ribs and the fat planes behind the shoulder blades."""
    if 25 < z < 108:
        width = value_at(z, BODY_Z, BODY_HALF_WIDTH)
        size = 17 * np.sin((z - 25) / 83 * np.pi) + 2
        for side in (-1.0, 1.0):
            _disk(plane, x, y, (side * (width - 48), 12.0, size, size * 1.5), FAT_HU)
            _disk(plane, x, y, (side * (width - 44), 16.0, 4.5, 4.5), BLOOD_HU)
            _disk(plane, x, y, (side * (width - 53), 4.0, 3.5, 5.0), MUSCLE_HU)
    ring = cavity_plane(x, y, z, grow_mm=13.0) & ~cavity_plane(x, y, z, grow_mm=10.5)
    plane[ring & (plane > 0)] = FAT_HU * 0.5


def _disk(plane: Floats, x: Floats, y: Floats, where: tuple[float, float, float, float], hu: float) -> None:
    """Fill an ellipse (center x, y, half axes) of one plane, touching only its box."""
    cx, cy, a, b = where
    columns = slice(*np.searchsorted(x, (cx - a, cx + a)))
    rows = slice(*np.searchsorted(y, (cy - b, cy + b)))
    level = (((x[columns] - cx) / a) ** 2)[None, :] + (((y[rows] - cy) / b) ** 2)[:, None]
    part = plane[rows, columns]
    part[level < 1] = hu


def _draw_great_vessels(plane: Floats, x: Floats, y: Floats, z: float) -> None:
    """Draw aorta, pulmonary trunk, caval vein and esophagus where they cross a plane."""
    _draw_aorta(plane, x, y, z)
    if -10 < z < 26:
        _disk(plane, x, y, (18.0, -24.0 + 0.5 * z, 14.5, 14.0), BLOOD_HU)
    if -20 < z < 75:
        _disk(plane, x, y, (-23.0, -10.0, 9.0, 10.5), BLOOD_HU)
    if 62 <= z < 125:
        for cx, cy in ((-17, -8), (15, -4), (-6, -18), (22, 8), (-25, 2)):
            _disk(plane, x, y, (cx * (1 + (z - 62) / 150), cy, 5.5, 5.5), BLOOD_HU)
    if z > 105:
        _disk(plane, x, y, (-15.0, -12.0, 11.0, 14.0), 95.0)
        _disk(plane, x, y, (15.0, -12.0, 11.0, 14.0), 95.0)
    _disk(plane, x, y, (4.0 if z > 0 else 8.0, 31.0, 7.5, 5.0), MUSCLE_HU)


def _draw_aorta(plane: Floats, x: Floats, y: Floats, z: float) -> None:
    """Draw the descending, the arching and the ascending aorta where they cross a plane."""
    if z < 38:
        _disk(plane, x, y, (25.0, 42.0 - 0.05 * z, 12.5, 12.5), BLOOD_HU)
    if 38 <= z < 62:
        reach = np.sqrt(1 - ((z - 38) / 24) ** 2)
        for step in np.linspace(-reach, 1, 16):
            _disk(plane, x, y, (10 + 9 * step, 3 + 33 * step, 12.0, 12.0), BLOOD_HU)
    if -10 < z < 45:
        _disk(plane, x, y, (-9.0 - 0.05 * z, -26.0, 16.0, 16.0), BLOOD_HU)


def _draw_breastbone(plane: Floats, x: Floats, y: Floats, z: float) -> None:
    """Draw the breastbone in one plane: it follows the front of the cavity."""
    if not -72 < z < 92:
        return
    front = value_at(z, CAVITY_Z, CAVITY_CENTER_Y) - value_at(z, CAVITY_Z, CAVITY_HALF_DEPTH) - 7.0
    width = 21.0 if z > 55 else 14.0
    _disk(plane, x, y, (0.0, front, width, 6.0), 430.0)
    _disk(plane, x, y, (0.0, front, width - 2, 4.4), 150.0)


def _draw_spine(plane: Floats, x: Floats, y: Floats, height: float) -> None:
    """Draw vertebral body or disc, canal, arch and processes in one plane."""
    within = height % VERTEBRA_MM
    _disk(plane, x, y, (0.0, SPINE_Y + 22, 46.0, 19.0), MUSCLE_HU)
    near_end = min(within - _DISC_MM, VERTEBRA_MM - within)
    if within < _DISC_MM:
        _disk(plane, x, y, (0.0, SPINE_Y, 19.0, 15.5), DISC_HU)
    else:
        _disk(plane, x, y, (0.0, SPINE_Y, 19.5, 16.0), CORTEX_HU * 0.75)
        _disk(plane, x, y, (0.0, SPINE_Y, 17.5, 14.0), MARROW_HU if near_end > 1.5 else 420.0)
    if 8 < within < 18:
        for side in (-1.0, 1.0):
            _disk(plane, x, y, (side * 13, SPINE_Y + 18, 4.5, 10.0), 430.0)
            _disk(plane, x, y, (side * 26, SPINE_Y + 25, 15.0, 4.5), 400.0)
    _disk(plane, x, y, (0.0, SPINE_Y + 27, 15.0, 6.0), 480.0)
    _disk(plane, x, y, (0.0, SPINE_Y + 19.5, 9.5, 7.5), CORD_HU)
    if within < 15:
        _disk(plane, x, y, (0.0, SPINE_Y + 38, 3.5, 12.0), 430.0)


def _draw_abdomen(plane: Floats, body: Grid, z: float, below: Mask) -> None:
    """Draw what lies under the diaphragm in one plane: liver, stomach with its bubble, spleen."""
    x, y = body.x, body.y
    deep = below & (dome_height(x, y) >= z + 3.5)
    plane[below] = MUSCLE_HU
    plane[deep] = MEDIASTINAL_FAT_HU
    liver = (((x + 62) / 105) ** 2)[None, :] + (((y + 8) / 84) ** 2)[:, None] < 1
    plane[deep & liver] = LIVER_HU
    spleen = (((x - 92) / 34) ** 2)[None, :] + (((y - 46) / 36) ** 2)[:, None] < 1
    plane[deep & spleen] = SPLEEN_HU
    stomach = (((x - 66) / 44) ** 2)[None, :] + (((y + 26) / 46) ** 2)[:, None]
    full = max(0.0, 1 - ((z + 122) / 42) ** 2)
    plane[deep & (stomach < full)] = STOMACH_HU
    plane[deep & (stomach < full * 0.8) & (y < -34)[:, None]] = AIR_HU + 5
