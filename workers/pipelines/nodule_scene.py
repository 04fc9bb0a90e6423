"""The surroundings of a nodule as the outlining network reads them."""

import numpy as np
from numpy.typing import NDArray

from workers.networks.nodule_outliner import INPUTS, SCENE_VOXELS
from workers.pipelines.lung_candidates import COARSE_MM, Coarse, Lungs
from workers.pipelines.lung_patches import cut_cube, to_window
from workers.volume import Volume

CELL_MM = 1.0
MARGIN = 2  # voxels beyond the scene, for the interpolation
MIDDLE = (SCENE_VOXELS - 1) / 2


def cut_scene(volume: Volume, coarse: Coarse, lungs: Lungs, middle: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return density and lung around a place; beyond the volume its outermost voxels are repeated.

    Parameters
    ----------
    middle
        (3,) float64, native (slice, row, column).

    Returns
    -------
    ndarray
        (2, 48, 48, 48) float32: 0..1 over -1024..300 HU, and 1 in the closed lungs; cells of 1 mm.
    """
    scene = np.empty((INPUTS, SCENE_VOXELS, SCENE_VOXELS, SCENE_VOXELS), dtype=np.float32)
    cut_cube(volume.voxels, middle, np.asarray(volume.spacing_mm) / CELL_MM, output=scene[0])
    scene[0] = to_window(scene[0])
    far = (middle + 0.5) / coarse.step - 0.5
    cut_marks(lungs.mask, far, np.full(3, COARSE_MM / CELL_MM), output=scene[1])
    return scene


def cut_marks(
    marks: NDArray[np.bool_], middle: NDArray[np.float64], scale: NDArray[np.float64], *, output: NDArray[np.float32]
) -> None:
    """Fill `output`, a cube, with the share of each cell around `middle` that is marked; as `cut_cube`."""
    reach = np.ceil(len(output) / 2 / scale) + MARGIN
    start = np.clip(np.floor(middle - reach), 0, np.array(marks.shape) - 1).astype(int)
    stop = np.clip(np.ceil(middle + reach), start + 1, marks.shape).astype(int)
    part = marks[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    cut_cube(part.astype(np.float32), middle - start, scale, output=output)
