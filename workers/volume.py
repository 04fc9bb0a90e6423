"""Slices become a Volume with a proven geometry, or are refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.errors import InputMissing, TooFewSlices, TooLarge
from workers.frames import number_frame, spread_frames
from workers.geometry import Geometry, Slices, name_series, prove_geometry
from workers.instances import StoredSeries
from workers.pixels import decode_pixels, read_rescale, rescale

MIN_SLICES = 3
FEWEST_FOR_GEOMETRY = 2
# 4,096 slices of 512 x 512, 4 GiB: more than any scanner writes of one body, and Pipelines take several times as much.
MAX_VOXELS = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A stack of parallel, evenly spaced slices.

    Attributes
    ----------
    voxels
        (slices, rows, columns) float32; HU for CT. Slices run along the normal of Image Orientation.
    affine
        4 × 4 float64; (slice, row, column, 1) to patient coordinates LPS, mm.
    spacing_mm
        Distance between slices (along their normal, from Image Position, never Slice Thickness), rows, columns; mm.
    frame_of_reference_uid
        Frame of Reference UID (0020,0052).
    datasets
        The headers of the slices in their order: an Instance each, or a Frame of one (`workers.frames`, whose
        `name_slice` names it). Those of a Job hold no Pixel Data, and are parsed when one is asked for.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    frame_of_reference_uid: str
    datasets: Sequence[Dataset]

    @property
    def voxel_mm3(self) -> float:
        """Return the volume of one voxel, mm³."""
        return abs(float(np.linalg.det(self.affine[:3, :3])))

    def to_patient_mm(self, index: Sequence[float]) -> tuple[float, float, float]:
        """Return where (slice, row, column) lies, in LPS mm."""
        x, y, z = (self.affine @ np.array([*index, 1.0]))[:3]
        return float(x), float(y), float(z)

    def to_index(self, point_mm: Sequence[float]) -> tuple[float, float, float]:
        """Return the fractional (slice, row, column) of a point in LPS mm."""
        s, r, c = (np.linalg.inv(self.affine) @ np.array([*point_mm, 1.0]))[:3]
        return float(s), float(r), float(c)


def read_volume(datasets: Sequence[Dataset], *, min_slices: int = MIN_SLICES) -> Volume:
    """Sort, prove and stack the slices of one Series.

    Parameters
    ----------
    datasets
        Instances of one Series, any order, Pixel Data present; several Frames of one are as many slices.
    min_slices
        Fewer are refused; > 1.

    Raises
    ------
    NotEligible
        If an Instance has several Frames, and does not say where each lies or what its values mean.
    TooFewSlices, SliceMissing, SliceDoubled, MixedGeometry, NoFrameOfReference
        If the slices do not form an evenly spaced stack that can be measured.
    TooLarge
        If they have more than `MAX_VOXELS` together; no memory was taken then.
    PixelsUndecodable
        If one slice cannot be decoded.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1, C.7.4.1
    """
    if not datasets:
        raise InputMissing("the Series holds no Instances; send it again")
    slices = _list_slices(datasets)
    if len(slices) < FEWEST_FOR_GEOMETRY:
        raise TooFewSlices(_tell_few(slices, FEWEST_FOR_GEOMETRY))
    # A Series that cannot be decoded at all is told so, whatever else is wrong with it.
    slices.prove_decodable(0)
    geometry = prove_geometry(slices)
    _require_room(slices, geometry)
    voxels = np.empty(geometry.shape, np.float32)
    slices.read(geometry.order, voxels)
    # Asked last: of a short Series that is damaged too, the damage is what a person must know.
    if len(slices) < min_slices:
        raise TooFewSlices(_tell_few(slices, min_slices))
    return Volume(
        voxels=voxels,
        affine=geometry.affine,
        spacing_mm=geometry.spacing_mm,
        frame_of_reference_uid=geometry.frame_of_reference_uid,
        datasets=slices.arrange(geometry.order),
    )


def _list_slices(datasets: Sequence[Dataset]) -> Slices:
    if isinstance(datasets, StoredSeries):
        datasets.prove_split()
        return datasets
    return _HeldSlices(spread_frames(datasets))


class _HeldSlices:
    """Slices of Instances that are in memory, or are asked one by one (`workers.geometry.Slices`)."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._datasets = datasets

    def __len__(self) -> int:
        return len(self._datasets)

    def values(self, keyword: str) -> list[Any]:
        return [ds.get(keyword) for ds in self._datasets]

    def frame_number(self, number: int) -> int | None:
        return number_frame(self._datasets[number])

    def prove_decodable(self, number: int) -> None:
        decode_pixels(self._datasets[number])

    def read(self, order: Sequence[int], voxels: NDArray[np.float32]) -> None:
        for place, number in enumerate(order):
            ds = self._datasets[number]
            stored = decode_pixels(ds)
            slope, intercept = read_rescale(ds)
            rescale(stored, voxels[place], slope=slope, intercept=intercept)

    def arrange(self, order: Sequence[int]) -> tuple[Dataset, ...]:
        return tuple(self._datasets[number] for number in order)


def _tell_few(slices: Slices, needed: int) -> str:
    found = f"{name_series(slices)}: {len(slices)} slices where at least {needed} are needed"
    return f"{found}; send the whole Series"


def _require_room(slices: Slices, geometry: Geometry) -> None:
    count, rows, columns = geometry.shape
    if count * rows * columns > MAX_VOXELS:
        raise TooLarge(
            f"{name_series(slices)}: {count} slices of {rows} x {columns} pixels, at most {MAX_VOXELS} pixels are read "
            "together; send a part of it, or a thicker reconstruction"
        )
