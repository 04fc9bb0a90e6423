"""In what two files of one Instance differ: an encoding is no difference, and any other value is one."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.comparison.sameness import CHUNK_BYTES, _go_on_alike, list_differences
from node.errors import FileUnreadable, NotFound
from tests.phantoms import small_chest_ct

Change = Callable[[Dataset], object]
PRIVATE_GROUP = 0x0019


def slice_of_chest() -> Dataset:
    ds = copy.deepcopy(small_chest_ct().datasets[20])
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName = "Müller^Jörg"
    ds.InstitutionName = "Klinik"
    ds.AccessionNumber = "A1"
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "1", "Über"
    ds.ProcedureCodeSequence = [item]
    ds.private_block(PRIVATE_GROUP, "RADNODE TEST", create=True).add_new(1, "LO", "a value")
    return ds


def written(folder: Path, name: str, ds: Dataset, syntax: UID = ExplicitVRLittleEndian) -> str:
    ds = copy.deepcopy(ds)
    if syntax.is_encapsulated and not syntax.is_deflated:
        ds.compress(syntax, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, dtype="<u2").byteswap().tobytes()
    dcmwrite(folder / name, ds, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return str(folder / name)


def differences(folder: Path, change: Change) -> list[str]:
    ds = slice_of_chest()
    before = written(folder, "before.dcm", ds)
    change(ds)
    return list_differences(before, written(folder, "after.dcm", ds))


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian,
        JPEGLSLossless, JPEG2000Lossless, RLELossless,
    ],
    ids=lambda syntax: syntax.keyword,
)  # fmt: skip
def test_the_same_image_in_another_transfer_syntax_says_the_same(tmp_path: Path, syntax: UID) -> None:
    ds = slice_of_chest()
    plain = written(tmp_path, "plain.dcm", ds)
    other = written(tmp_path, "other.dcm", ds, syntax)
    assert Path(plain).read_bytes() != Path(other).read_bytes()
    assert list_differences(plain, other) == []
    ds.PatientName = "Müller^Jürg"
    assert list_differences(plain, written(tmp_path, "third.dcm", ds, syntax)) == ["PatientName"]


def test_the_same_stream_is_the_same_whether_or_not_anybody_can_decode_it(tmp_path: Path) -> None:
    ds = slice_of_chest()
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    ds.PixelData = ds.PixelData[:200] + bytes(len(ds.PixelData) - 200)
    ds.save_as(tmp_path / "before.dcm")
    ds.RetrieveAETitle = "ARCHIVE"
    ds.save_as(tmp_path / "after.dcm")
    assert list_differences(str(tmp_path / "before.dcm"), str(tmp_path / "after.dcm")) == []


@pytest.mark.parametrize("is_longer_first", [False, True])
def test_a_stream_that_goes_on_where_the_other_ends_is_another(tmp_path: Path, is_longer_first: bool) -> None:
    # The shorter one ends with a piece as they are read.
    files = []
    for name, length in (("short", CHUNK_BYTES), ("long", CHUNK_BYTES + 10)):
        (tmp_path / name).write_bytes(bytes(length))
        files.append(tmp_path / name)
    with files[is_longer_first].open("rb") as one, files[not is_longer_first].open("rb") as other:
        assert not _go_on_alike(one, other)
        assert one.tell() == other.tell() == 0


def test_of_many_frames_the_last_counts_too(tmp_path: Path) -> None:
    ds = slice_of_chest()
    ds.NumberOfFrames = 3
    ds.PixelData = ds.PixelData * 3
    packed = written(tmp_path, "packed.dcm", ds, RLELossless)
    assert list_differences(packed, written(tmp_path, "plain.dcm", ds)) == []
    pixels = bytearray(ds.PixelData)
    pixels[-1000] ^= 1
    ds.PixelData = bytes(pixels)
    assert list_differences(packed, written(tmp_path, "other.dcm", ds)) == ["Pixel Data"]


def test_color_that_a_codec_keeps_in_its_own_way_says_the_same(tmp_path: Path) -> None:
    ds = slice_of_chest()
    shape = (int(ds.Rows), int(ds.Columns), 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB"
    packed = copy.deepcopy(ds)
    packed.compress(JPEG2000Lossless, generate_instance_uid=False, encoding_plugin="pylibjpeg")
    packed.PhotometricInterpretation = "YBR_RCT"
    other = tmp_path / "packed.dcm"
    packed.save_as(other, enforce_file_format=True)
    assert list_differences(written(tmp_path, "plain.dcm", ds), str(other)) == []
    pixels[5, 5, 1] ^= 1
    ds.PixelData = pixels.tobytes()
    assert list_differences(written(tmp_path, "third.dcm", ds), str(other)) == ["Pixel Data"]


def recode(ds: Dataset) -> None:
    ds.decode()
    ds.SpecificCharacterSet = "ISO_IR 192"


@pytest.mark.parametrize(
    "change",
    [
        recode,
        lambda ds: setattr(ds, "InstanceAvailability", "ONLINE"),
        lambda ds: setattr(ds, "RetrieveAETitle", "PACS"),
        lambda ds: setattr(ds, "OriginalAttributesSequence", [Dataset()]),
        lambda ds: setattr(ds, "OperatorsName", ""),
        lambda ds: setattr(ds, "SliceThickness", f"{ds.SliceThickness:.5f}"),
    ],
    ids=["character set", "availability", "retrieve AE", "original attributes", "empty element", "decimal places"],
)
def test_what_an_archive_writes_about_its_copy_is_no_difference(tmp_path: Path, change: Change) -> None:
    assert differences(tmp_path, change) == []


def change_pixel(ds: Dataset) -> None:
    pixels = bytearray(ds.PixelData)
    pixels[1000] ^= 1
    ds.PixelData = bytes(pixels)


def change_item(ds: Dataset) -> None:
    ds.ProcedureCodeSequence[0].CodeMeaning = "Ober"


def change_private(ds: Dataset) -> None:
    ds.private_block(PRIVATE_GROUP, "RADNODE TEST")[1].value = "another"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (change_pixel, ["Pixel Data"]),
        (change_item, ["ProcedureCodeSequence"]),
        (lambda ds: ds.ProcedureCodeSequence.append(Dataset()), ["ProcedureCodeSequence"]),
        (change_private, ["(0019,1001)"]),
        (lambda ds: delattr(ds, "AccessionNumber"), ["AccessionNumber"]),
        (lambda ds: setattr(ds, "PatientID", "another"), ["PatientID"]),
        (lambda ds: setattr(ds, "RescaleIntercept", "-1000"), ["RescaleIntercept"]),
        (lambda ds: setattr(ds, "ImagePositionPatient", [0, 0, 1]), ["ImagePositionPatient"]),
        (lambda ds: setattr(ds, "StudyComments", "seen"), ["StudyComments"]),
        (lambda ds: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"), ["PhotometricInterpretation"]),
        (lambda ds: setattr(ds, "PixelRepresentation", 1), ["PixelRepresentation"]),
    ],
)
def test_any_other_value_is_named_by_its_element_and_never_quoted(
    tmp_path: Path, change: Change, names: list[str]
) -> None:
    assert differences(tmp_path, change) == names


def test_the_same_bytes_under_another_character_set_are_other_letters(tmp_path: Path) -> None:
    ds = slice_of_chest()
    before = written(tmp_path, "before.dcm", ds)
    content = Path(before).read_bytes()
    assert content.count(b"ISO_IR 100") == 1
    after = tmp_path / "after.dcm"
    after.write_bytes(content.replace(b"ISO_IR 100", b"ISO_IR 144"))
    assert list_differences(before, str(after)) == ["ProcedureCodeSequence", "PatientName"]


def test_a_zero_is_not_a_space(tmp_path: Path) -> None:
    def spaced(ds: Dataset) -> None:
        # As bytes, 32 is a space and a zero: what pads text.
        ds.WindowCenter, ds.HighBit = [0, 40], 32

    assert differences(tmp_path, spaced) == ["HighBit", "WindowCenter"]


# In its process, warnings are silent.
@pytest.mark.filterwarnings("ignore:Failed to decode byte string:UserWarning")
def test_text_that_nobody_can_read_is_not_the_same(tmp_path: Path) -> None:
    ds = slice_of_chest()
    before = written(tmp_path, "before.dcm", ds, ImplicitVRLittleEndian)
    content = Path(before).read_bytes()
    # Latin letters under the name of another character set, as many devices send them.
    assert content.count(b"M\xfcller") == 1
    files = []
    for name, letters in (("one.dcm", b"M\xfcller"), ("other.dcm", b"M\xf6ller")):
        text = content.replace(b"ISO_IR 100", b"ISO_IR 192").replace(b"M\xfcller", letters)
        (tmp_path / name).write_bytes(text)
        files.append(str(tmp_path / name))
    assert list_differences(*files) == ["PatientName"]


def test_the_same_bytes_of_another_vr_are_another_number(tmp_path: Path) -> None:
    ds = slice_of_chest()
    ds.add_new("PixelPaddingValue", "US", 63536)
    before = written(tmp_path, "before.dcm", ds)
    del ds["PixelPaddingValue"]
    ds.add_new("PixelPaddingValue", "SS", -2000)
    assert list_differences(before, written(tmp_path, "after.dcm", ds)) == ["PixelPaddingValue"]


def test_the_picture_in_an_item_is_compared_too(tmp_path: Path) -> None:
    def with_icon(value: bytes) -> Dataset:
        ds, icon = slice_of_chest(), Dataset()
        icon.add_new("PixelData", "OB", value)
        ds.IconImageSequence = [icon]
        return ds

    files = [written(tmp_path, name, with_icon(value)) for name, value in (("one", b"ab"), ("other", b"ac"))]
    assert list_differences(*files) == ["IconImageSequence"]


def test_objects_without_pixels_are_compared_by_their_elements(tmp_path: Path) -> None:
    ds = slice_of_chest()
    del ds.PixelData
    before = written(tmp_path, "before.dcm", ds)
    assert list_differences(before, written(tmp_path, "same.dcm", ds, ImplicitVRLittleEndian)) == []
    ds.PatientID = "another"
    assert list_differences(before, written(tmp_path, "after.dcm", ds)) == ["PatientID"]


def test_what_cannot_be_read_is_no_sameness(tmp_path: Path) -> None:
    ds = slice_of_chest()
    here = written(tmp_path, "here.dcm", ds)
    with pytest.raises(FileUnreadable):
        list_differences(str(tmp_path / "gone.dcm"), here)
    del ds.PixelData
    with pytest.raises(NotFound):
        list_differences(written(tmp_path, "blind.dcm", ds), here)
