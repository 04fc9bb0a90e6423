"""The chest X-ray phantom shows what its label says."""

from pathlib import Path

import numpy as np
from PIL import Image

from node.rehearsal.chest_xray import FIELD_MM, chest_xray, wrap_film, wrap_film_file
from tests.phantoms import small_chest_xray


def test_opacity_brightens_the_lung_at_its_place_and_nowhere_else() -> None:
    ill, healthy = (small_chest_xray(with_opacity=state) for state in (True, False))
    assert ill.has_opacity
    assert not healthy.has_opacity
    assert ill.opacity is not None
    change = ill.dataset.pixel_array.astype(float) - healthy.dataset.pixel_array.astype(float)
    matrix = change.shape[0]
    column = int((ill.opacity.center_mm[0] / FIELD_MM + 0.5) * matrix)
    row = int((0.5 - (ill.opacity.center_mm[2] - 2.0) / FIELD_MM) * matrix)
    assert change[row - 10 : row + 10, column - 10 : column + 10].mean() > 250
    other_lung = change[:, matrix - column - 10 : matrix - column + 10]
    assert abs(other_lung.mean()) < 25


def test_lungs_are_dark_and_the_mediastinum_bright() -> None:
    film = small_chest_xray(with_opacity=False).dataset.pixel_array
    matrix = film.shape[0]
    lung = film[matrix // 3 : matrix // 2, matrix // 4 - 10 : matrix // 4 + 10].mean()
    spine = film[matrix // 3 : matrix // 2, matrix // 2 - 10 : matrix // 2 + 10].mean()
    assert 400 < lung < 1800
    assert spine > 2 * lung


def test_monochrome1_is_the_inverse_of_monochrome2() -> None:
    bright = small_chest_xray(with_opacity=False).dataset
    dark = chest_xray(seed=11, with_opacity=False, matrix=512, photometric_interpretation="MONOCHROME1").dataset
    assert dark.PhotometricInterpretation == "MONOCHROME1"
    assert np.all(bright.pixel_array.astype(int) + dark.pixel_array.astype(int) == 4095)
    assert bright.SOPInstanceUID != dark.SOPInstanceUID


def test_plain_picture_becomes_a_dx_instance_with_its_pixels(tmp_path: Path) -> None:
    pixels = np.arange(35 * 21, dtype=np.uint16).reshape(35, 21).astype(np.uint8)
    path = tmp_path / "film-0001.png"
    Image.fromarray(pixels).save(path)
    from_file, from_array = wrap_film_file(path), wrap_film(pixels, name="film-0001")
    assert np.array_equal(from_file.pixel_array, pixels)
    assert from_file.SOPInstanceUID == from_array.SOPInstanceUID
    assert from_file.Modality == "DX"
    assert wrap_film(pixels, name="film-0002").SOPInstanceUID != from_file.SOPInstanceUID
