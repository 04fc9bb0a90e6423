"""Segments on their original slices: how much each holds, how far it reaches, and what was stored under it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.proving.originals import Originals, Plane, SlicePlace, SourceSlice
from workers.proving.segment_reading import Patch, ReadSegment, ReadSegmentation

# Directions in which an extent is looked for: neighbors lie 0.1 rad apart, which loses less than 0.2 %.
DIRECTIONS = 800
# An organ has tens of thousands of points; this many directions of each fit into the cache of a processor.
DIRECTIONS_AT_ONCE = 32
GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


class Box(NamedTuple):
    """Rows and columns that a Segment covers on one slice, pixel edges, from 0."""

    top: float
    bottom: float
    left: float
    right: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSegmentation:
    """A SEG whose Frames have found their source slices.

    Attributes
    ----------
    sources
        Frame number to its source slice; a Frame without one is absent.
    patches
        Segment Number to its pixels; None where Pixel Data cannot be read.
    distance_mm
        Between neighboring source slices, from Image Position (Patient); None where the originals are no stack.
    """

    reading: ReadSegmentation
    sources: Mapping[int, SourceSlice]
    patches: Mapping[int, tuple[Patch, ...]] | None
    distance_mm: float | None

    def find_segment(self, number: int) -> ReadSegment | None:
        """Return the described Segment of that number."""
        return next((segment for segment in self.reading.segments if segment.number == number), None)

    def list_patches(self, number: int) -> tuple[Patch, ...]:
        """Return the pixels of a Segment; none where it is empty or cannot be read."""
        return () if self.patches is None else self.patches.get(number, ())

    def is_placed(self, number: int) -> bool:
        """Return whether every Frame on which a Segment has pixels has found its source slice."""
        patches = self.list_patches(number)
        return bool(patches) and all(patch.frame in self.sources for patch in patches)

    def count_voxels(self, number: int) -> int:
        """Return how many voxels a Segment holds."""
        return sum(int(patch.mask.sum()) for patch in self.list_patches(number))

    def find_boxes(self, number: int, place: SlicePlace) -> list[Box]:
        """Return what a Segment covers on one source slice; nothing where it has no pixel there."""
        return [
            Box(patch.top, patch.top + patch.mask.shape[0], patch.left, patch.left + patch.mask.shape[1])
            for patch in self.list_patches(number)
            if patch.frame in self.sources and self.sources[patch.frame].place == place
        ]


def measure_voxel(placed: PlacedSegmentation, number: int) -> tuple[float, float | None] | None:
    """Return the volume of one voxel of a Segment, mm³, and what it would be by Slice Thickness.

    The volume is slice distance × pixel spacing, from the originals; None where these do not tell.
    """
    plane = placed.sources[placed.list_patches(number)[0].frame].plane
    if placed.distance_mm is None or plane is None:
        return None
    area = plane.spacing_mm[0] * plane.spacing_mm[1]
    thickness_mm = plane.slice_thickness_mm
    return placed.distance_mm * area, None if thickness_mm is None else thickness_mm * area


def measure_least_extent(placed: PlacedSegmentation, number: int) -> float:
    """Return how far a Segment reaches along rows or columns of one slice, mm: it is at least so long; 0 if unknown."""
    least_mm = 0.0
    for patch in placed.list_patches(number):
        plane = placed.reading.frames[patch.frame - 1].plane
        if plane is not None:
            rows, columns = patch.mask.shape
            least_mm = max(least_mm, rows * plane.spacing_mm[0], columns * plane.spacing_mm[1])
    return least_mm


def measure_extent(placed: PlacedSegmentation, number: int) -> float | None:
    """Return how far a Segment reaches from voxel edge to voxel edge, mm, in the direction in which it is longest.

    None where the originals do not tell.
    """
    ends, voxel = [], None
    for patch in placed.list_patches(number):
        plane = placed.reading.frames[patch.frame - 1].plane
        if plane is None or placed.distance_mm is None:
            return None
        ends.append(_locate_ends(patch, plane))
        voxel = _span_voxel(plane, placed.distance_mm)
    if voxel is None:
        return None
    points, longest_mm = np.concatenate(ends), 0.0
    for directions in np.split(_spread_directions(), DIRECTIONS // DIRECTIONS_AT_ONCE):
        along = points @ directions.T
        reach_mm = along.max(axis=0) - along.min(axis=0) + np.abs(voxel @ directions.T).sum(axis=0)
        longest_mm = max(longest_mm, float(reach_mm.max()))
    return longest_mm


def gather_values(placed: PlacedSegmentation, originals: Originals, number: int) -> NDArray[np.float32]:
    """Return what the originals hold under a Segment, after the Modality LUT.

    Raises
    ------
    PixelsUndecodable
        If a slice cannot be decoded.
    """
    found = []
    for patch in placed.list_patches(number):
        values = originals.read_values(placed.sources[patch.frame].place)
        rows, columns = patch.mask.shape
        found.append(values[patch.top : patch.top + rows, patch.left : patch.left + columns][patch.mask])
    return np.concatenate(found)


def _locate_ends(patch: Patch, plane: Plane) -> NDArray[np.float64]:
    """Return where the first and last pixel of each row lie, (n, 3): no pixel between them reaches further."""
    rows = np.flatnonzero(patch.mask.any(axis=1))
    mask = patch.mask[rows]
    first, last = mask.argmax(axis=1), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    return plane.locate(
        np.concatenate([rows, rows]).astype(float) + patch.top, np.concatenate([first, last]).astype(float) + patch.left
    )


def _span_voxel(plane: Plane, distance_mm: float) -> NDArray[np.float64]:
    """Return the three edges of a voxel, one a row, mm."""
    along, down = np.reshape(plane.orientation, (2, 3))
    return np.stack([along * plane.spacing_mm[1], down * plane.spacing_mm[0], np.cross(along, down) * distance_mm])


def _spread_directions() -> NDArray[np.float64]:
    """Return unit vectors spread evenly over half a sphere, (DIRECTIONS, 3)."""
    numbers = np.arange(DIRECTIONS)
    height = (numbers + 0.5) / DIRECTIONS
    radius, turn = np.sqrt(1.0 - height**2), GOLDEN_ANGLE * numbers
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)
