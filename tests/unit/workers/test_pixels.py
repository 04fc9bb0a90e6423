"""Pixel Data is decoded to what was stored, or the Instance is refused."""

import contextlib
import random
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from node.errors import PixelsUndecodable
from workers.pixels import decode_pixels, rescale_pixels

STORED = np.arange(-6, 6, dtype=np.int16).reshape(3, 4)


def make_image(stored: NDArray[np.int16] = STORED) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPInstanceUID = "1.2.3"
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelData = stored.tobytes()
    return ds


def compressed(transfer_syntax_uid: UID, codestream: bytes) -> Dataset:
    ds = make_image()
    ds.file_meta.TransferSyntaxUID = transfer_syntax_uid
    ds.PixelData = encapsulate([codestream])
    ds["PixelData"].is_undefined_length = True
    return ds


def test_stored_values_are_signed_as_the_header_says() -> None:
    assert np.array_equal(decode_pixels(make_image()), STORED)
    ds = make_image()
    ds.PixelRepresentation = 0
    assert np.array_equal(decode_pixels(ds), STORED.view(np.uint16))


def test_rescale_gives_hounsfield_units() -> None:
    ds = make_image()
    ds.RescaleSlope, ds.RescaleIntercept = "2.5", "-1024"
    found = rescale_pixels(ds)
    assert found.dtype == np.float32
    assert np.array_equal(found, STORED * 2.5 - 1024)


def test_without_rescale_the_stored_values_stand() -> None:
    assert np.array_equal(rescale_pixels(make_image()), STORED)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_rescale_that_is_no_number_is_refused(keyword: str) -> None:
    ds = make_image()
    setattr(ds, keyword, ["1", "2"])
    with pytest.raises(PixelsUndecodable, match=keyword):
        rescale_pixels(ds)


def test_a_rescale_slope_of_zero_is_refused() -> None:
    ds = make_image()
    ds.RescaleSlope = 0
    with pytest.raises(PixelsUndecodable, match="RescaleSlope"):
        rescale_pixels(ds)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("NumberOfFrames", 2), ("SamplesPerPixel", 3), ("PixelData", None), ("Rows", 40), ("BitsAllocated", 7)],
)
def test_an_image_that_is_not_what_its_header_says_is_refused(keyword: str, value: object) -> None:
    ds = make_image()
    if value is None:
        del ds[keyword]
    else:
        setattr(ds, keyword, value)
    with pytest.raises(PixelsUndecodable, match=r"instance 1\.2\.3"):
        decode_pixels(ds)


def test_a_matrix_that_no_radiograph_has_is_refused_before_memory_is_taken() -> None:
    ds = make_image()
    ds.Rows = ds.Columns = 60000
    with pytest.raises(PixelsUndecodable, match="60000 x 60000"):
        decode_pixels(ds)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("codestream", [b"\x00", b"garbage of some length" * 20, b"\xff\x4f\xff\x51" * 30])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_garbage_for_a_codestream_is_refused(syntax: UID, codestream: bytes) -> None:
    with pytest.raises(PixelsUndecodable):
        decode_pixels(compressed(syntax, codestream))


@pytest.mark.parametrize(
    "encapsulated", [b"", b"\xfe", b"\xfe\xff\x00\xe0", b"\xfe\xff\x00\xe0\xff\xff\xff\x7f", b"abcdefgh" * 4]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pixel_data_that_is_not_encapsulated_as_it_says_is_refused(encapsulated: bytes) -> None:
    ds = compressed(RLELossless, b"x")
    ds.PixelData = encapsulated
    with pytest.raises(PixelsUndecodable):
        decode_pixels(ds)


@pytest.mark.needs("data")
class TestRealCodestreams:
    """One CT and one MR in every coding that scanners use."""

    @pytest.mark.parametrize(
        ("scan", "coding"), [("CT1", "JPLL"), ("CT1", "JLSL"), ("CT1", "J2KR"), ("MR1", "J2KR"), ("MR1", "JLSL")]
    )
    def test_lossless_codings_hold_the_same_pixels(self, data_dir: Path, scan: str, coding: str) -> None:
        folder = data_dir / "transfer-syntaxes"
        expected = decode_pixels(dcmread(folder / f"{scan}_RLE.dcm"))
        found = decode_pixels(dcmread(folder / f"{scan}_{coding}.dcm"))
        assert np.array_equal(found, expected)
        assert found.shape == expected.shape

    @pytest.mark.parametrize(("coding", "most"), [("J2KI", 40), ("JLSN", 10)])
    @pytest.mark.parametrize("scan", ["CT1", "MR1"])
    def test_lossy_codings_hold_nearly_the_same_pixels(self, data_dir: Path, scan: str, coding: str, most: int) -> None:
        folder = data_dir / "transfer-syntaxes"
        expected = decode_pixels(dcmread(folder / f"{scan}_RLE.dcm")).astype(float)
        found = decode_pixels(dcmread(folder / f"{scan}_{coding}.dcm")).astype(float)
        assert np.abs(found - expected).mean() <= most

    def test_twelve_bit_lossy_jpeg_is_refused_or_read_but_never_guessed(self, data_dir: Path) -> None:
        folder = data_dir / "transfer-syntaxes"
        with pytest.raises(PixelsUndecodable, match="cannot be decoded"):
            decode_pixels(dcmread(folder / "MR1_JPLY.dcm"))

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_a_broken_codestream_is_refused(self, data_dir: Path) -> None:
        found = sorted(path for path in (data_dir / "ct-broken-j2k").rglob("*") if path.suffix == ".dcm")
        refused = 0
        for path in found:
            try:
                decode_pixels(dcmread(path))
            except PixelsUndecodable:
                refused += 1
        assert refused > 0

    @pytest.mark.parametrize("coding", ["RLE", "J2KR", "JLSL", "JPLL"])
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_damage_anywhere_is_refused_or_decoded_and_never_another_error(self, data_dir: Path, coding: str) -> None:
        whole = dcmread(data_dir / "transfer-syntaxes" / f"MR1_{coding}.dcm")
        dice = random.Random(7)
        for _ in range(3):
            ds = deepcopy(whole)
            content = bytearray(ds.PixelData)
            for _ in range(dice.choice((1, 20, 400))):
                content[dice.randrange(len(content))] = dice.randrange(256)
            ds.PixelData = bytes(content[: dice.choice((None, dice.randrange(len(content)) & ~1))])
            with contextlib.suppress(PixelsUndecodable):
                assert decode_pixels(ds).shape == (ds.Rows, ds.Columns)
