"""A grid in patient coordinates, and the few solid shapes that phantoms are drawn with."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Voxel centers along the three patient axes, each ascending.

    Attributes
    ----------
    z
        (slices,) float32, mm, toward the head.
    y
        (rows,) float32, mm, toward the back.
    x
        (columns,) float32, mm, toward the patient's left.
    """

    z: Floats
    y: Floats
    x: Floats

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return slices, rows, columns."""
        return (self.z.size, self.y.size, self.x.size)

    @property
    def origin_mm(self) -> Point:
        """Return the first voxel (x, y, z): Image Position (Patient) (0020,0032) of the first slice."""
        return (float(self.x[0]), float(self.y[0]), float(self.z[0]))

    def slab(self, start: int, stop: int) -> "Grid":
        """Return the slices from `start` up to, not including, `stop`."""
        return Grid(z=self.z[start:stop], y=self.y, x=self.x)

    def scaled(self, scale: Point) -> "Grid":
        """Return the grid as seen by a body that is `scale` (x, y, z) times as large."""
        return Grid(z=self.z / np.float32(scale[2]), y=self.y / np.float32(scale[1]), x=self.x / np.float32(scale[0]))

    def box(self, low: Point, high: Point) -> Box | None:
        """Return the slices of the voxels between two corners (x, y, z) in mm, or None where there are none."""
        spans = []
        for axis, a, b in ((self.z, low[2], high[2]), (self.y, low[1], high[1]), (self.x, low[0], high[0])):
            start, stop = np.searchsorted(axis, (a, b))
            if start >= stop:
                return None
            spans.append(slice(int(start), int(stop)))
        return (spans[0], spans[1], spans[2])

    def offsets(self, box: Box, center: Point) -> tuple[Floats, Floats, Floats]:
        """Return the open mesh (z, y, x) of a box in mm, measured from a center (x, y, z)."""
        return (
            (self.z[box[0]] - np.float32(center[2]))[:, None, None],
            (self.y[box[1]] - np.float32(center[1]))[None, :, None],
            (self.x[box[2]] - np.float32(center[0]))[None, None, :],
        )


def centered_axis(*, count: int, spacing_mm: float, center_mm: float = 0.0) -> Floats:
    """Return `count` voxel centers, `spacing_mm` apart, symmetric about a center."""
    return ((np.arange(count) - (count - 1) / 2) * spacing_mm + center_mm).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tube:
    """A straight piece of a vessel, airway or bone: two ends (x, y, z) in mm and the radius at each."""

    start: Point
    end: Point
    start_radius_mm: float
    end_radius_mm: float


def chain(points: list[Point], radius_mm: float) -> Iterator[Tube]:
    """Yield the tubes of constant radius that join neighboring points."""
    for start, end in pairwise(points):
        yield Tube(start=start, end=end, start_radius_mm=radius_mm, end_radius_mm=radius_mm)


def tube_cover(grid: Grid, tube: Tube, *, edge_mm: float) -> tuple[Box, Floats] | None:
    """Return the box that a tube touches and how much of each voxel it fills.

    Parameters
    ----------
    grid
        Where to draw.
    tube
        What to draw.
    edge_mm
        Width of the soft edge (partial volume), mm, > 0.

    Returns
    -------
    tuple or None
        The box and its cover, 0..1 float32; None where the tube lies outside the grid.
    """
    reach = max(tube.start_radius_mm, tube.end_radius_mm) + edge_mm
    low = tuple(min(a, b) - reach for a, b in zip(tube.start, tube.end, strict=True))
    high = tuple(max(a, b) + reach for a, b in zip(tube.start, tube.end, strict=True))
    box = grid.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    if box is None:
        return None
    z, y, x = grid.offsets(box, tube.start)
    run_x, run_y, run_z = (np.float32(b - a) for a, b in zip(tube.start, tube.end, strict=True))
    length_2 = max(float(run_x**2 + run_y**2 + run_z**2), 1e-6)
    along = np.clip((x * run_x + y * run_y + z * run_z) / np.float32(length_2), 0, 1)
    gap = np.sqrt((x - along * run_x) ** 2 + (y - along * run_y) ** 2 + (z - along * run_z) ** 2)
    radius = tube.start_radius_mm + np.float32(tube.end_radius_mm - tube.start_radius_mm) * along
    return box, np.clip((radius - gap) / np.float32(edge_mm) + np.float32(0.5), 0, 1).astype(np.float32)


def paint_tube(
    volume: Floats, grid: Grid, tube: Tube, *, value: float, edge_mm: float, mode: Literal["over", "brighten"] = "over"
) -> None:
    """Draw a tube into a volume.

    Parameters
    ----------
    volume
        (slices, rows, columns) float32, changed in place.
    grid
        The volume's grid.
    tube
        What to draw.
    value
        The tube's value, in the volume's unit.
    edge_mm
        Width of the soft edge, mm.
    mode
        "over" replaces; "brighten" never lowers a voxel, so that a vessel does not cut into a wall.
    """
    found = tube_cover(grid, tube, edge_mm=edge_mm)
    if found is None:
        return
    box, cover = found
    part = volume[box]
    mixed = part + cover * (np.float32(value) - part)
    volume[box] = np.maximum(part, mixed) if mode == "brighten" else mixed


def ellipsoid_level(
    grid: Grid, *, center: Point, axes: Point, turn_xz: float = 0.0, turn_xy: float = 0.0, reach: float = 1.0
) -> tuple[Box, Floats] | None:
    """Return the box around an ellipsoid and its level there: below 1 inside, 1 on the surface.

    Parameters
    ----------
    grid
        Where to draw.
    center
        (x, y, z), mm.
    axes
        Half axes along x, y, z before turning, mm.
    turn_xz, turn_xy
        Turns in the coronal and then the axial plane, radian.
    reach
        How far the box extends, in levels, >= 1.

    Returns
    -------
    tuple or None
        The box and the level, float32; None where the box lies outside the grid.
    """
    turned = turn_xz != 0.0 or turn_xy != 0.0
    half = tuple((max(axes) if turned else a) * reach for a in axes)
    low = tuple(c - h for c, h in zip(center, half, strict=True))
    high = tuple(c + h for c, h in zip(center, half, strict=True))
    box = grid.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    if box is None:
        return None
    z, y, x = grid.offsets(box, center)
    cos_z, sin_z = np.float32(np.cos(turn_xz)), np.float32(np.sin(turn_xz))
    cos_y, sin_y = np.float32(np.cos(turn_xy)), np.float32(np.sin(turn_xy))
    u, w = x * cos_z + z * sin_z, z * cos_z - x * sin_z
    u, v = u * cos_y + y * sin_y, y * cos_y - u * sin_y
    a, b, c = (np.float32(h) for h in axes)
    return box, np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Smooth random texture that is a function of the place, so that slabs drawn apart fit together.

    Attributes
    ----------
    knots
        (z, y, x) float32, the random lattice.
    origin_mm
        The first knot along each axis, mm.
    spacing_mm
        Distance of knots, mm: structures come out about twice as wide.
    """

    knots: Floats
    origin_mm: float
    spacing_mm: float

    def sample(self, grid: Grid) -> Floats:
        """Return the texture on a grid: (slices, rows, columns) float32 with a mean near 0 and a spread near 1."""
        texture = np.empty(grid.shape, dtype=np.float32)
        for k, plane in enumerate(self.planes(grid)):
            texture[k] = plane
        return texture

    def planes(self, grid: Grid) -> Iterator[Floats]:
        """Yield the texture slice by slice, (rows, columns) each, for who has no room for all of it."""
        (at_z, z), (at_y, y), (at_x, x) = (self._taps(axis) for axis in (grid.z, grid.y, grid.x))
        for k, first in enumerate(at_z):
            knots = np.einsum("t,tyx->yx", z[k], self.knots[first : first + 4])
            rows = sum(knots[at_y + t] * y[:, t, None] for t in range(4))
            yield sum(rows[:, at_x + t] * x[:, t] for t in range(4))

    def _taps(self, axis: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return for each coordinate its first knot (n,) and the B-spline weights of four (n, 4)."""
        place = (axis.astype(np.float64) - self.origin_mm) / self.spacing_mm
        first = np.floor(place).astype(np.int64) - 1
        gap = np.abs(place[:, None] - (first[:, None] + np.arange(4)))
        inner = 2 / 3 - gap**2 + gap**3 / 2
        outer = np.clip(2 - gap, 0, None) ** 3 / 6
        return first, np.where(gap < 1, inner, outer).astype(np.float32)


# A cubic B-spline keeps 0.4798 of the variance of white knots per axis, averaged over the cell.
SPLINE_SPREAD = 0.4798**1.5


def cloud(rng: np.random.Generator, *, spacing_mm: float, reach_mm: float) -> Cloud:
    """Return a random texture that covers a cube of +- `reach_mm` about the origin."""
    count = int(np.ceil(2 * reach_mm / spacing_mm)) + 4
    knots = rng.standard_normal((count, count, count), dtype=np.float32) / np.float32(SPLINE_SPREAD)
    return Cloud(knots=knots, origin_mm=-(count - 1) * spacing_mm / 2, spacing_mm=spacing_mm)


def blur_plane(plane: Floats, *, sigma_px: float) -> Floats:
    """Return a plane (rows, columns) under a Gaussian of `sigma_px`, edges repeated."""
    reach = max(1, int(np.ceil(2.5 * sigma_px)))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        size = plane.shape[axis]
        padded = np.pad(plane, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        total = np.zeros_like(plane)
        for i, weight in enumerate(weights):
            total += (padded[i : i + size] if axis == 0 else padded[:, i : i + size]) * weight
        plane = total
    return plane
