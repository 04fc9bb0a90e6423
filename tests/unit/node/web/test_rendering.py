"""Pictures of Frames whose pixels are known: window, rescale, inversion, palettes, color, and what is shown of them."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from node.decoding import decode_frame, open_source, plain_frame, stored_frame
from node.errors import FileUnreadable, NotFound, PixelsUndecodable, RequestMalformed
from node.web.look import PNG, Look, Viewport, Window
from node.web.rendering import render_frame
from node.web.transcoding import transcode
from node.web.viewing import read_request
from tests.instances import BIG_ENDIAN, DEFLATED, IMPLICIT, ct_slice
from tests.websites import part10

RAMP = np.arange(24, dtype=np.uint16).reshape(4, 6) * 100


def ramp(**changes: Any) -> Dataset:
    """Return a CT Image with the values 0, 100, … 2300, row by row."""
    ds = ct_slice()
    ds.PixelData = RAMP.tobytes()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def shown(folder: Path, ds: Dataset, look: Look | None = None, *, number: int = 1) -> NDArray[np.uint8]:
    """Return the shades of a Frame, as somebody sees them who opens the PNG."""
    path = folder / "instance.dcm"
    path.write_bytes(part10(ds))
    with open_source(str(path)) as source:
        picture = render_frame(source, number, look or Look(media_type=PNG))
    return np.asarray(Image.open(BytesIO(picture)))


def in_window(center: float, width: float, function: str = "LINEAR") -> Look:
    return Look(media_type=PNG, window=Window(center=center, width=width, function=function))


def linear(values: NDArray[Any], center: float, width: float) -> NDArray[np.uint8]:
    """Return the shades of PS3.3 C.11.2.1.2.1, as it is written there."""
    shades = np.empty(values.shape)
    for place, x in np.ndenumerate(values.astype(float)):
        if x <= center - 0.5 - (width - 1) / 2:
            shades[place] = 0
        elif x > center - 0.5 + (width - 1) / 2:
            shades[place] = 255
        else:
            shades[place] = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
    return np.rint(shades).astype(np.uint8)


def test_without_a_window_all_values_are_shown(tmp_path: Path) -> None:
    assert shown(tmp_path, ramp()).tolist() == np.rint(RAMP / 2300 * 255).astype(int).tolist()


def test_the_window_of_the_instance_applies_behind_its_rescale(tmp_path: Path) -> None:
    ds = ramp(RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="400", WindowWidth="1500")
    expected = linear(RAMP * 2.0 - 1000, 400, 1500)
    assert np.abs(shown(tmp_path, ds).astype(int) - expected).max() <= 1


def test_the_window_that_is_asked_for_counts_more(tmp_path: Path) -> None:
    ds = ramp(WindowCenter=["400", "50"], WindowWidth=["1500", "80"])
    assert np.abs(shown(tmp_path, ds, in_window(1000, 600)).astype(int) - linear(RAMP, 1000, 600)).max() <= 1
    exact = shown(tmp_path, ds, in_window(1000, 600, "LINEAR_EXACT"))
    assert exact.ravel()[[6, 7, 10, 13, 14]].tolist() == [0, 0, 128, 255, 255]
    sigmoid = shown(tmp_path, ds, in_window(1000, 600, "SIGMOID")).ravel()
    assert sigmoid[10] == 128
    assert (np.diff(sigmoid.astype(int)) >= 0).all()


def test_monochrome1_is_shown_inverted(tmp_path: Path) -> None:
    plain, inverted = shown(tmp_path, ramp()), shown(tmp_path, ramp(PhotometricInterpretation="MONOCHROME1"))
    assert (plain + inverted == 255).all()


def test_a_lookup_table_of_the_instance_applies(tmp_path: Path) -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 0, 16])
    table.add_new("LUTData", "US", [0, 10 * 257, 20 * 257, 65535])
    ds = ramp(VOILUTSequence=[table], BitsAllocated=8, BitsStored=8, HighBit=7)
    ds.PixelData = bytes(range(4)) * 6
    assert shown(tmp_path, ds).ravel()[:4].tolist() == [0, 10, 20, 255]


def test_the_values_of_an_enhanced_object_are_those_of_its_frame(tmp_path: Path) -> None:
    ds = ramp(Rows=2, NumberOfFrames="2")
    transformation, voi = Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = "1", "-1200"
    voi.WindowCenter, voi.WindowWidth = "500", "1000"
    shared, first, second = Dataset(), Dataset(), Dataset()
    shared.FrameVOILUTSequence = [voi]
    second.PixelValueTransformationSequence = [transformation]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [first, second]
    plain, moved = shown(tmp_path, ds), shown(tmp_path, ds, number=2)
    assert np.array_equal(plain, moved)
    assert plain.max() == 255


@pytest.mark.parametrize(
    ("name", "corner"),
    [
        ("examples_palette.dcm", None),
        ("examples_rgb_color.dcm", None),
        ("SC_ybr_full_422_uncompressed.dcm", (255, 0, 0)),
        ("SC_rgb_jpeg_dcmtk.dcm", (255, 0, 0)),
        ("SC_rgb_rle_16bit.dcm", (255, 0, 0)),
    ],
)
def test_color_is_shown_in_color(name: str, corner: tuple[int, int, int] | None) -> None:
    with open_source(str(get_testdata_file(name))) as source:
        picture = Image.open(BytesIO(render_frame(source, 1, Look(media_type=PNG))))
        size = source.header.Columns, source.header.Rows
    assert (picture.mode, picture.size) == ("RGB", size)
    if corner is not None:
        assert np.abs(np.asarray(picture)[5, 5].astype(int) - corner).max() <= 3


def test_a_viewport_cuts_mirrors_and_fits(tmp_path: Path) -> None:
    whole = shown(tmp_path, ramp())
    part = Viewport(width=3, height=2, x=3, y=0, region_width=3, region_height=2)
    assert np.array_equal(shown(tmp_path, ramp(), Look(media_type=PNG, viewport=part)), whole[:2, 3:])
    mirrored = Viewport(width=6, height=4, region_width=-6, region_height=4)
    assert np.array_equal(shown(tmp_path, ramp(), Look(media_type=PNG, viewport=mirrored)), whole[:, ::-1])
    assert shown(tmp_path, ramp(), Look(media_type=PNG, viewport=Viewport(width=60, height=20))).shape == (20, 30)
    nothing = Viewport(width=6, height=4, x=60)
    with pytest.raises(PixelsUndecodable, match="viewport"):
        shown(tmp_path, ramp(), Look(media_type=PNG, viewport=nothing))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", "40"),
        ("window", "40,0"),
        ("window", "40,0.5,linear"),
        ("window", "40,400,curved"),
        ("window", "nan,400"),
        ("window", "1,2,linear,4"),
        ("viewport", "0,10"),
        ("viewport", "10"),
        ("viewport", "100000,1"),
        ("viewport", "16384,16384"),
        ("viewport", "inf,1"),
        ("viewport", "10,10,-1,0,5,5"),
        ("viewport", "10,10,0,0,0,5"),
        ("quality", "0"),
        ("quality", "101"),
        ("quality", "0099999"),
        ("quality", "high"),
    ],
)
def test_parameters_that_say_nothing_are_refused(name: str, value: str) -> None:
    with pytest.raises(RequestMalformed, match=name.replace("viewport", "viewport|pixels")):
        read_request({name: value}, PNG)


def test_parameters_are_read() -> None:
    look = read_request({"window": "40,400,linear-exact", "viewport": "100,50,,,10,", "quality": "50"}, PNG)
    assert look == Look(
        media_type=PNG,
        window=Window(center=40, width=400, function="LINEAR_EXACT"),
        viewport=Viewport(width=100, height=50, region_width=10),
        quality=50,
    )


@pytest.mark.parametrize("syntax", [IMPLICIT, DEFLATED, BIG_ENDIAN])
def test_native_encodings_give_the_same_frame(tmp_path: Path, syntax: str) -> None:
    ds = ramp()
    if syntax == BIG_ENDIAN:
        ds.PixelData = RAMP.astype(">u2").tobytes()
    path = tmp_path / "instance.dcm"
    path.write_bytes(part10(ds, syntax))
    with open_source(str(path)) as source:
        assert plain_frame(source, 1) == RAMP.tobytes()
        assert np.array_equal(decode_frame(source, 1), RAMP)
    again = dcmread(BytesIO(transcode(str(path))))
    assert (again.PixelData, again.file_meta.TransferSyntaxUID) == (RAMP.tobytes(), "1.2.840.10008.1.2.1")
    assert again.ImagePositionPatient == [-10.5, 20, 30.25]


def test_frames_of_single_bits_begin_at_a_byte(tmp_path: Path) -> None:
    bits = np.array([[1, 0, 1, 1, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0, 1, 0, 1]], dtype=np.uint8)
    ds = ramp(Rows=3, Columns=3, NumberOfFrames="2", BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes() + b"\0"
    path = tmp_path / "instance.dcm"
    path.write_bytes(part10(ds))
    with open_source(str(path)) as source:
        frames = [np.frombuffer(stored_frame(source, number), np.uint8) for number in (1, 2)]
    assert [np.unpackbits(frame, bitorder="little")[:9].tolist() for frame in frames] == bits.tolist()


def test_a_frame_larger_than_any_image_is_not_decoded(tmp_path: Path) -> None:
    ds = ramp(Rows=65535, Columns=65535)
    path = tmp_path / "instance.dcm"
    path.write_bytes(part10(ds))
    with pytest.raises(PixelsUndecodable, match="65535 x 65535"), open_source(str(path)):
        pass


def test_what_is_no_file_or_has_no_pixels_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable), open_source(str(tmp_path / "absent.dcm")):
        pass
    ds = ct_slice()
    del ds.PixelData
    path = tmp_path / "instance.dcm"
    path.write_bytes(part10(ds))
    with pytest.raises(NotFound, match="no Pixel Data"), open_source(str(path)):
        pass
    path.write_bytes(b"no DICOM at all" * 100)
    with pytest.raises(FileUnreadable), open_source(str(path)):
        pass
