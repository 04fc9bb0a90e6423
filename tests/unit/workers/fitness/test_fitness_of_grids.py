"""Spacing, field of view and orientation against a model."""

import numpy as np
import pytest
from pydicom import Dataset

from node.errors import GeometryRefused, NotEligible, WrongFieldOfView, WrongSpacing
from node.manifest import Fit, Plane
from workers.fitness.grid import require_film, require_grid
from workers.radiograph import Radiograph
from workers.volume import Volume

AXIAL = np.diag([1.0, 1.0, 1.0, 1.0])[:, [2, 1, 0, 3]]


def volume(*, slice_mm: float = 2.0, pixel_mm: float = 0.5) -> Volume:
    affine = AXIAL @ np.diag([slice_mm, pixel_mm, pixel_mm, 1.0])
    return Volume(
        voxels=np.zeros((4, 100, 200), np.float32),
        affine=affine,
        spacing_mm=(slice_mm, pixel_mm, pixel_mm),
        frame_of_reference_uid="1.2",
        datasets=(),
    )


def film(**elements: object) -> Radiograph:
    ds = Dataset()
    ds.SOPInstanceUID = "1.2.3"
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return Radiograph(pixels=np.zeros((100, 200), np.float32), dataset=ds)


@pytest.mark.parametrize(
    ("fit", "error", "said"),
    [
        (Fit(orientation=Plane.CORONAL), GeometryRefused, "coronal slices are read"),
        (Fit(slice_spacing_mm=(0.5, 1.5)), WrongSpacing, "slices 2.00 mm apart where 0.5 to 1.5 mm are read"),
        (Fit(pixel_spacing_mm=(0.6, 1.5)), WrongSpacing, "pixels 0.50 mm apart"),
        (Fit(field_of_view_mm=(60, 300)), WrongFieldOfView, "a field of 50 mm where 60 to 300 mm are read"),
    ],
)
def test_a_volume_outside_of_the_limits_is_refused_with_both(fit: Fit, error: type[NotEligible], said: str) -> None:
    with pytest.raises(error, match=said):
        require_grid(volume(), fit)


def test_limits_are_included_and_none_are_needed() -> None:
    fits = Fit(
        orientation=Plane.AXIAL, slice_spacing_mm=(2, 2), pixel_spacing_mm=(0.5, 0.5), field_of_view_mm=(50, 100)
    )
    require_grid(volume(), fits)
    require_grid(volume(), Fit())


def test_a_film_outside_of_the_limits_is_refused() -> None:
    with pytest.raises(WrongSpacing):
        require_film(film(PixelSpacing=[0.1, 0.1]), Fit(pixel_spacing_mm=(0.12, 0.5)))
    with pytest.raises(WrongFieldOfView, match="a field of 20 mm"):
        require_film(film(ImagerPixelSpacing=[0.2, 0.2]), Fit(field_of_view_mm=(30, 500)))


@pytest.mark.parametrize("elements", [{}, {"PixelSpacing": [0, 0]}, {"PixelSpacing": None}, {"PixelSpacing": "0.01"}])
def test_a_film_that_does_not_tell_its_pixels_passes(elements: dict[str, object]) -> None:
    require_film(film(**elements), Fit(pixel_spacing_mm=(0.12, 0.5), field_of_view_mm=(30, 500)))
