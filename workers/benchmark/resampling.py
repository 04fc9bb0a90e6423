"""What another grid costs, and how true it is: `radnode bench pipeline`, part `resample`."""

from dataclasses import dataclass
from importlib.metadata import version
from platform import python_version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from workers.benchmark.rounds import Measurement, Subject, measure_in_turn
from workers.resampling import Grid, resample

LIBRARIES = ("torch", "scipy", "numpy")
# On these spacings each grid below has whole voxels, so that scipy can be asked for the very same one.
SHAPE = (300, 512, 512)
SPACING_MM = (0.8, 0.703125, 0.703125)
EDGES_MM = (1.0, 2.0)
# A field that is known everywhere: a wave along each axis.
WAVE_MM, WAVE_HU = 40.0, 100.0
# Beyond the outermost middles every interpolation only repeats.
RIM = 2

Voxels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One way to a grid, what it took, and how far from the field it ends; HU."""

    title: str
    took: Measurement
    error_hu: float


def measure_resampling(*, rounds: int, shape: tuple[int, int, int] = SHAPE) -> dict[str, Any]:
    """Return what a volume of 300 × 512 × 512 on grids of 1 and 2 mm takes, in the form that `radnode bench` shows.

    Parameters
    ----------
    rounds
        How often each Subject is measured; >= 1.
    shape
        Of the volume, slices, rows, columns; multiples of 5, 128 and 128, and at least 20 slices.
    """
    threads = torch.get_num_threads()
    # scipy has one; and threads that wait for each other on a busy machine take time of the CPU for nothing.
    torch.set_num_threads(1)
    try:
        return _measure_all(rounds=rounds, shape=shape)
    finally:
        torch.set_num_threads(threads)


def _measure_all(*, rounds: int, shape: tuple[int, int, int]) -> dict[str, Any]:
    source = Grid(voxels=_draw(shape, np.diag([*SPACING_MM, 1.0])), affine=np.diag([*SPACING_MM, 1.0]))
    tables, ratios = [], []
    for edge_mm in EDGES_MM:
        ours, rival, stretched = _measure(source, edge_mm, rounds=rounds)
        tables.append(
            {
                "title": f"{' x '.join(map(str, shape))} to {edge_mm:g} mm",
                "rows": [
                    way.took.as_json() | {"name": f"{way.title}; error up to {way.error_hu:.2f} HU"}
                    for way in (ours, rival, stretched)
                ],
            }
        )
        faster = round(rival.took.median_s / ours.took.median_s, 2)
        ratios.append({"name": f"to {edge_mm:g} mm: against scipy on the same grid", "times_faster": faster})
    return {
        "bench": "resample",
        "rounds": rounds,
        "unit": "CPU seconds",
        "tables": tables,
        "ratios": ratios,
        "versions": {"Python": python_version()} | {library: version(library) for library in LIBRARIES},
    }


def _measure(source: Grid, edge_mm: float, *, rounds: int) -> list[_Way]:
    scale = [spacing / edge_mm for spacing in SPACING_MM]
    made: dict[str, Grid] = {}

    def ours() -> int:
        made["resample"] = resample(source.voxels, source.affine, scale=scale)
        return made["resample"].voxels.nbytes

    def rival() -> int:
        voxels = ndimage.zoom(source.voxels, scale, order=1, mode="nearest", grid_mode=True)
        made["scipy.ndimage.zoom, order 1"] = Grid(voxels=voxels, affine=made["resample"].affine)
        return int(voxels.nbytes)

    def stretched() -> int:
        # As it is often written: the outermost middles stay where they are, and the spacing is taken for the nominal.
        voxels = ndimage.zoom(source.voxels, scale, order=1)
        made["the same by default"] = Grid(voxels=voxels, affine=np.diag([edge_mm] * 3 + [1.0]))
        return int(voxels.nbytes)

    names = ("resample", "scipy.ndimage.zoom, order 1", "the same by default")
    subjects = [Subject(name=name, run=run) for name, run in zip(names, (ours, rival, stretched), strict=True)]
    took = measure_in_turn(subjects, rounds=rounds)
    return [_Way(title=name, took=took[name], error_hu=_error_hu(made[name])) for name in names]


def _draw(shape: tuple[int, ...], affine: NDArray[np.float64]) -> Voxels:
    """Return the field at the voxels of a grid along the axes."""
    waves = [
        WAVE_HU * np.sin(2 * np.pi / WAVE_MM * (affine[axis, axis] * np.arange(size) + affine[axis, 3]))
        for axis, size in enumerate(shape)
    ]
    field: Voxels = (waves[0][:, None, None] + waves[1][:, None] + waves[2]).astype(np.float32)
    return field


def _error_hu(grid: Grid) -> float:
    inner = (slice(RIM, -RIM),) * 3
    return float(np.abs(grid.voxels[inner] - _draw(grid.voxels.shape, grid.affine)[inner]).max())
