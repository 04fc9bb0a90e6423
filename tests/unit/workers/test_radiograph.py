"""Radiographs: gray values from 0 to 1, on which bright means dense."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from node.errors import PixelsUndecodable
from workers.radiograph import read_radiograph


def make_film(stored: NDArray[np.uint16], photometric: str = "MONOCHROME2") -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPInstanceUID = "1.2.3"
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, photometric, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelData = stored.tobytes()
    return ds


RAMP = np.arange(4000, dtype=np.uint16).reshape(50, 80)


def test_gray_values_run_from_0_to_1_in_order() -> None:
    pixels = read_radiograph(make_film(RAMP)).pixels
    assert pixels.dtype == np.float32
    assert pixels.shape == RAMP.shape
    assert (pixels.min(), pixels.max()) == (0.0, 1.0)
    assert (np.diff(pixels.ravel()) >= 0).all()
    assert pixels.ravel()[2000] == pytest.approx(0.5, abs=0.01)


def test_monochrome1_is_the_negative_of_monochrome2() -> None:
    positive, negative = read_radiograph(make_film(RAMP)), read_radiograph(make_film(RAMP, "MONOCHROME1"))
    assert np.allclose(negative.pixels, 1.0 - positive.pixels)


def test_few_extreme_pixels_do_not_darken_the_film() -> None:
    marked = RAMP // 10
    marked[0, :4] = 4095
    assert read_radiograph(make_film(marked)).pixels[25, 0] == pytest.approx(0.5, abs=0.02)


def test_a_film_of_one_gray_value_is_refused() -> None:
    with pytest.raises(PixelsUndecodable, match="one gray value"):
        read_radiograph(make_film(np.full((5, 5), 7, np.uint16)))


def test_the_source_is_kept_unchanged() -> None:
    ds = make_film(RAMP)
    before = bytes(ds.PixelData)
    assert read_radiograph(ds).dataset is ds
    assert ds.PixelData == before
