"""Ellipsoids of known size in Series of any geometry: what a measurement must find, whatever the scanner did."""

import copy
import random
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from node.domain.uids import derive_uid
from tests.analyses import AXIAL, Point, make_slices

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

OUTSIDE_HU = -900
# Inside, HU grow by one a millimetre toward the patient's left: a mask beside its pixels has another mean.
INSIDE_HU = 60
STORED_ZERO_HU = -1024
MARGIN_PIXELS = 3


@dataclass(frozen=True, kw_only=True)
class Ellipsoid:
    """A solid whose every measure is known.

    Attributes
    ----------
    center_mm
        Patient coordinates LPS, mm.
    semi_axes_mm
        Half of each diameter.
    turn
        3 × 3; its columns are the directions of the axes.
    """

    center_mm: Point
    semi_axes_mm: Point
    turn: Matrix = field(default_factory=lambda: np.eye(3))

    @property
    def volume_mm3(self) -> float:
        return float(4 / 3 * np.pi * np.prod(self.semi_axes_mm))

    def reach_mm(self, direction: Vector) -> float:
        """Return how far it reaches from its centre along a unit vector."""
        return float(np.linalg.norm(np.array(self.semi_axes_mm) * (self.turn.T @ direction)))

    def holds(self, points: Vector) -> NDArray[np.bool_]:
        """Tell which points (..., 3) lie inside."""
        local = ((points - np.array(self.center_mm)) @ self.turn) / np.array(self.semi_axes_mm)
        inside: NDArray[np.bool_] = (local**2).sum(axis=-1) <= 1
        return inside

    def section_mm(self, row: Vector, column: Vector, *, offset_mm: float = 0.0) -> tuple[float, float]:
        """Return both diameters of the ellipse in which a plane cuts it, `offset_mm` beside its centre."""
        flat = np.stack([row, column]) @ self.turn / np.array(self.semi_axes_mm)
        shares = np.linalg.eigvalsh(flat @ flat.T)
        height = self.reach_mm(np.cross(row, column))
        shrunk = np.sqrt(max(0.0, 1 - (offset_mm / height) ** 2))
        return float(2 * shrunk / np.sqrt(shares[0])), float(2 * shrunk / np.sqrt(shares[1]))


@dataclass(frozen=True, kw_only=True)
class Scan:
    """How a Series is acquired and sent.

    Attributes
    ----------
    orientation
        Image Orientation (Patient) (0020,0037).
    spacing_mm
        Distance of slices, rows and columns.
    shift
        Where the solid's centre lies between voxel middles, in voxels, -0.5..0.5.
    slice_thickness
        Slice Thickness (0018,0050) as sent, true or not; None leaves it out.
    order
        ``forward``, ``reversed`` or ``shuffled``: of the Instances along the normal.
    """

    orientation: tuple[float, ...] = AXIAL
    spacing_mm: Point = (2.0, 0.8, 0.7)
    shift: Point = (0.2, 0.3, 0.4)
    slice_thickness: str | None = "3.0"
    order: str = "shuffled"
    sop_class_uid: str = CTImageStorage

    @property
    def directions(self) -> Matrix:
        """Return the unit vectors along slices, rows and columns (3, 3), one a row."""
        along_columns, down_rows = np.array(self.orientation).reshape(2, 3)
        return np.stack([np.cross(along_columns, down_rows), down_rows, along_columns])


def acquire(solid: Ellipsoid, scan: Scan) -> list[Dataset]:
    """Return the Instances that show a solid, with some pixels around it."""
    spacing = np.array(scan.spacing_mm)
    reach = np.array([solid.reach_mm(direction) for direction in scan.directions])
    half = np.ceil(reach / spacing).astype(int) + MARGIN_PIXELS
    steps = scan.directions * spacing[:, None]
    origin = np.array(solid.center_mm) - (half + np.array(scan.shift)) @ steps
    template = make_slices(scan.sop_class_uid, BodyPartExamined="CHEST")[0]
    series = []
    for number in range(2 * half[0] + 1):
        position = np.round(origin + number * steps[0], 6)
        ds = copy.deepcopy(template)
        ds.SOPInstanceUID, ds.InstanceNumber = derive_uid("test", "solid", str(number)), number + 1
        ds.Rows, ds.Columns = (int(n) for n in 2 * half[1:] + 1)
        ds.ImagePositionPatient = [f"{value:.6f}" for value in position]
        ds.ImageOrientationPatient = [f"{value:.9f}" for value in scan.orientation]
        ds.PixelSpacing = [f"{value:.6f}" for value in scan.spacing_mm[1:]]
        if scan.slice_thickness is None:
            del ds.SliceThickness
        else:
            ds.SliceThickness = scan.slice_thickness
        ds.PixelData = _paint(solid, position, steps, (ds.Rows, ds.Columns)).tobytes()
        series.append(ds)
    return _send(series, scan.order)


def _paint(solid: Ellipsoid, position: Vector, steps: Matrix, shape: tuple[int, int]) -> NDArray[np.uint16]:
    rows, columns = np.arange(shape[0])[:, None, None], np.arange(shape[1])[None, :, None]
    points = position + rows * steps[1] + columns * steps[2]
    hu = np.where(solid.holds(points), INSIDE_HU + np.round(points[..., 0]), OUTSIDE_HU)
    return (hu - STORED_ZERO_HU).astype(np.uint16)


def _send(series: list[Dataset], order: str) -> list[Dataset]:
    if order == "reversed":
        return series[::-1]
    if order == "shuffled":
        random.Random(7).shuffle(series)
    return series
