"""Spacing, field of view and orientation of an input, against what the model was made for."""

from collections.abc import MutableSequence, Sequence

import numpy as np
from pydicom import Dataset

from node.errors import GeometryRefused, WrongFieldOfView, WrongSpacing
from node.manifest import Fit, Plane
from workers.radiograph import Radiograph
from workers.volume import Volume

MIN_COSINE = 0.8  # the slice normal lies within 37 degrees of what the plane is named after
# Where the normal of each plane points: x, y or z in patient coordinates.
NORMALS = {Plane.SAGITTAL: 0, Plane.CORONAL: 1, Plane.AXIAL: 2}

Range = tuple[float, float]


def require_grid(volume: Volume, fit: Fit) -> None:
    """Refuse a Volume that lies, or is sampled, otherwise than the model expects.

    Raises
    ------
    GeometryRefused
        If the slices lie in another plane.
    WrongSpacing, WrongFieldOfView
        With the millimetres that were found and those that are read.
    """
    name = f"series {volume.datasets[0].get('SeriesInstanceUID')}" if volume.datasets else "the volume"
    if fit.orientation is not None:
        normal = volume.affine[:3, 0] / np.linalg.norm(volume.affine[:3, 0])
        if abs(float(normal[NORMALS[fit.orientation]])) < MIN_COSINE:
            plane = fit.orientation.value
            raise GeometryRefused(
                f"{name}: {plane} slices are read, found another orientation. Route the {plane} Series"
            )
    _check_spacing(name, "slices", volume.spacing_mm[0], fit.slice_spacing_mm)
    for step_mm, count in zip(volume.spacing_mm[1:], volume.voxels.shape[1:], strict=True):
        _check_spacing(name, "pixels", step_mm, fit.pixel_spacing_mm)
        _check_field(name, step_mm * count, fit.field_of_view_mm)


def require_film(radiograph: Radiograph, fit: Fit) -> None:
    """Refuse a radiograph whose pixels, or whose field, are smaller or larger than the model expects.

    Raises
    ------
    WrongSpacing, WrongFieldOfView
        With the millimetres that were found and those that are read; a film that does not tell its pixels passes.
    """
    ds = radiograph.dataset
    for step_mm, count in zip(_pixel_mm(ds), radiograph.pixels.shape, strict=False):
        name = f"instance {ds.get('SOPInstanceUID')}"
        _check_spacing(name, "pixels", step_mm, fit.pixel_spacing_mm)
        _check_field(name, step_mm * count, fit.field_of_view_mm)


def _pixel_mm(ds: Dataset) -> Sequence[float]:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        told = ds.get(keyword)
        # One number, or none, is written too.
        if isinstance(told, MutableSequence) and len(told) == 2 and min(map(float, told)) > 0:
            return float(told[0]), float(told[1])
    return ()


def _check_spacing(name: str, what: str, found_mm: float, told: Range | None) -> None:
    if told is not None and not told[0] <= found_mm <= told[1]:
        raise WrongSpacing(f"{name}: {what} {found_mm:.2f} mm apart where {told[0]:g} to {told[1]:g} mm are read")


def _check_field(name: str, found_mm: float, told: Range | None) -> None:
    if told is not None and not told[0] <= found_mm <= told[1]:
        raise WrongFieldOfView(f"{name}: a field of {found_mm:.0f} mm where {told[0]:g} to {told[1]:g} mm are read")
