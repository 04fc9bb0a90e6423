"""Frames of multi-frame Instances are read as the slices that they are, bit by bit, or refused by what is wrong."""

import copy
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.domain.study import list_frame_positions
from node.errors import (
    InputMissing,
    MixedGeometry,
    NodeError,
    NotEligible,
    PixelsUndecodable,
    SliceDoubled,
    TooFewSlices,
    TooLarge,
)
from tests.analyses import make_slices, resend
from tests.enhanced import enhance, keep_files
from workers.decoding.pool import DecoderLimits, DecoderPool
from workers.frames import name_slice, spread_frames
from workers.instances import StoredSeries
from workers.pixels import decode_pixels, rescale_pixels
from workers.radiograph import read_radiograph
from workers.volume import read_volume

COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    opened = DecoderPool(DecoderLimits(processes=2))
    yield opened
    opened.close()


def store_files(datasets: list[Dataset], folder: Path, pool: DecoderPool, *how: Any, **more: Any) -> StoredSeries:
    """Return a Series as a Job finds it."""
    return StoredSeries(keep_files(datasets, folder, pool, *how, **more), pool)


def make_frames(*, spread: float = 0.1) -> list[Dataset]:
    """Return shuffled slices with a rescaling of their own each, as PET and MR have."""
    slices = make_slices()
    for number, ds in enumerate(slices):
        ds.RescaleSlope, ds.RescaleIntercept = f"{1 + spread * number:.6f}", str(-1024 - number)
        values = np.frombuffer(ds.PixelData, np.uint16) + number
        ds.PixelData = values.astype(np.uint16).tobytes()
    return slices


def test_shuffled_frames_are_the_volume_of_their_slices() -> None:
    slices = make_frames()
    plain, volume = read_volume(slices), read_volume([enhance(slices)])
    assert volume.voxels.tobytes() == plain.voxels.tobytes()
    assert np.array_equal(volume.affine, plain.affine)
    assert volume.spacing_mm == plain.spacing_mm
    assert [ds.ImagePositionPatient for ds in volume.datasets] == [ds.ImagePositionPatient for ds in plain.datasets]
    numbers = {str(ds.ImagePositionPatient): number for number, ds in enumerate(slices, start=1)}
    named = [name_slice(ds) for ds in volume.datasets]
    assert [one.frame_number for one in named] == [numbers[str(ds.ImagePositionPatient)] for ds in volume.datasets]
    assert len({one.sop_instance_uid for one in named}) == 1


def test_a_frame_reads_like_a_single_frame_instance() -> None:
    slices = make_frames()
    frames = spread_frames([enhance(slices, is_shared=False)])
    for frame, ds in zip(frames, slices, strict=True):
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows"):
            assert frame[keyword].value == ds[keyword].value
        assert (frame.PatientID, frame.RescaleType, frame.ImageType[0]) == (ds.PatientID, "HU", "ORIGINAL")
        assert np.array_equal(rescale_pixels(frame), rescale_pixels(ds))
        assert "NumberOfFrames" not in frame
        assert "PixelData" not in frame


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, *COMPRESSED])
def test_frames_of_the_store_are_those_that_pydicom_reads(tmp_path: Path, pool: DecoderPool, syntax: UID) -> None:
    """One Instance holds the even slices, another the odd ones, as concatenations may."""
    slices = sorted(make_frames(), key=lambda ds: float(ds.ImagePositionPatient[2]))
    series = store_files([enhance(slices[::2], "even"), enhance(slices[1::2], "odd")], tmp_path, pool, syntax)
    files = [dcmread(tmp_path / "0.dcm"), dcmread(tmp_path / "1.dcm")]
    stored, plain = read_volume(series), read_volume(files)
    assert stored.voxels.tobytes() == plain.voxels.tobytes() == read_volume(slices).voxels.tobytes()
    assert np.array_equal(stored.affine, plain.affine)
    assert [name_slice(ds) for ds in stored.datasets] == [name_slice(ds) for ds in plain.datasets]
    pixels = files[0].pixel_array
    for number, ds in enumerate(series[: len(pixels)]):
        assert np.array_equal(decode_pixels(ds), pixels[number])


def test_a_legacy_converted_series_is_read_as_what_it_was(tmp_path: Path, pool: DecoderPool) -> None:
    slices = make_frames()
    for ds in slices:
        ds.ImageType, ds.PatientPosition, ds.PositionReferenceIndicator = ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS", ""
        ds.Laterality, ds.AcquisitionNumber, ds.KVP = None, 1, "120"
        ds.ContentDate, ds.ContentTime = "20250114", "094100"
    converted = hd.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=slices,
        series_instance_uid="1.2.3",
        series_number=1,
        sop_instance_uid="1.2.3.4",
        instance_number=1,
    )
    (kept,) = keep_files([resend(converted)], tmp_path, pool)
    stored, plain = read_volume(StoredSeries([kept], pool)), read_volume(slices)
    assert stored.voxels.tobytes() == plain.voxels.tobytes()
    assert np.array_equal(stored.affine, plain.affine)
    # What no functional group is made for, the converter keeps as it was.
    assert {ds.KVP for ds in stored.datasets} == {120}
    assert len(list_frame_positions(kept.facts.attributes)) == len(slices)


@pytest.mark.parametrize("has_table", [True, False], ids=["with offset table", "without"])
def test_frames_in_several_fragments_are_told_apart_by_the_offset_table(
    tmp_path: Path, pool: DecoderPool, has_table: bool
) -> None:
    slices = make_frames()
    series = store_files([enhance(slices)], tmp_path, pool, RLELossless, fragments=3, has_table=has_table)
    if has_table:
        assert read_volume(series).voxels.tobytes() == read_volume(slices).voxels.tobytes()
    else:
        with pytest.raises(PixelsUndecodable, match="does not tell them apart"):
            read_volume(series)


def test_a_codestream_that_is_none_is_refused_by_its_instance(tmp_path: Path, pool: DecoderPool) -> None:
    slices = make_frames()
    series = store_files([enhance(slices)], tmp_path, pool, JPEGLSLossless)
    path = tmp_path / "0.dcm"
    content = path.read_bytes()
    middle = content.rindex(b"\xff\xd8\xff\xf7")
    path.write_bytes(content[:middle] + bytes(40) + content[middle + 40 :])
    with pytest.raises(PixelsUndecodable, match=str(series[0].SOPInstanceUID)):
        read_volume(series)


def test_a_file_that_shrank_or_went_is_refused(tmp_path: Path, pool: DecoderPool) -> None:
    series = store_files([enhance(make_frames())], tmp_path, pool)
    path = tmp_path / "0.dcm"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(PixelsUndecodable, match=r"send it again|resend it"):
        read_volume(series)
    path.unlink()
    with pytest.raises(InputMissing):
        read_volume(series)


def test_a_frame_of_the_only_one_is_named_without_number() -> None:
    """A reference to all that an Instance holds names no Frame (PS3.3 Table 10-3)."""
    instances = [enhance([ds], str(number)) for number, ds in enumerate(make_frames())]
    volume = read_volume(instances)
    assert {name_slice(ds).frame_number for ds in volume.datasets} == {None}
    assert len({name_slice(ds) for ds in volume.datasets}) == len(instances)


def test_a_group_says_what_its_macro_is_for_and_nothing_else() -> None:
    """Whose image it is, and which, the Instance says."""
    ds = enhance(make_frames())
    for keyword in ("FrameContentSequence", "PlanePositionSequence", "UnassignedPerFrameConvertedAttributesSequence"):
        item = Dataset()
        item.PatientID, item.SOPInstanceUID, item.Rows, item.KVP = "OTHER", "1.2.3.4", 7, "90"
        item.ImagePositionPatient = make_frames()[0].ImagePositionPatient
        setattr(ds.PerFrameFunctionalGroupsSequence[0], keyword, [item])
    frame = spread_frames([ds])[0]
    assert (frame.PatientID, frame.SOPInstanceUID, frame.Rows) == (ds.PatientID, ds.SOPInstanceUID, ds.Rows)
    assert frame.KVP == 90


def test_what_is_empty_above_hides_nothing_that_a_conversion_kept() -> None:
    ds = enhance(make_slices())
    ds.ContrastBolusAgent, ds.ProtocolName = "", "of all"
    kept = Dataset()
    kept.ContrastBolusAgent, kept.ProtocolName = "GAD", "of one"
    ds.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = [kept]
    (frame, *_) = spread_frames([ds])
    assert (frame.ContrastBolusAgent, frame.ProtocolName) == ("GAD", "of all")


def test_thousands_of_frames_do_not_multiply_what_is_said_of_all(tmp_path: Path, pool: DecoderPool) -> None:
    """400 Frames below 2,000 elements: a header each, all kept, would take 28 MiB."""
    ds = enhance(make_frames()[:1])
    ds.SharedFunctionalGroupsSequence[0].update(ds.PerFrameFunctionalGroupsSequence[0])
    ds.PerFrameFunctionalGroupsSequence = [Dataset()] * 400
    ds.NumberOfFrames, ds.Rows, ds.Columns, ds.PixelData = 400, 2, 2, bytes(8 * 400)
    for number in range(2000):
        ds.add_new((0x0009 + 2 * (number // 200), 0x1000 + number % 200), "LO", "ab")
    (kept,) = keep_files([ds], tmp_path, pool)
    assert len(kept.header.PerFrameFunctionalGroupsSequence) == 400
    tracemalloc.start()
    try:
        series = StoredSeries([kept], pool)
        with pytest.raises(SliceDoubled):
            read_volume(series)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(series) == 400
    assert peak < 8 * 2**20


def test_a_copied_frame_still_finds_its_pixels(tmp_path: Path, pool: DecoderPool) -> None:
    series = store_files([enhance(make_frames())], tmp_path, pool)
    assert np.array_equal(decode_pixels(copy.deepcopy(series[3])), decode_pixels(series[3]))


def without_groups(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence


def with_fewer_items(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence = list(ds.PerFrameFunctionalGroupsSequence)[:-1]


def without_position(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence


def without_spacing(ds: Dataset) -> None:
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def without_rescale(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[4].PixelValueTransformationSequence


def with_two_phases(ds: Dataset) -> None:
    frames = ds.PerFrameFunctionalGroupsSequence
    frames[7].PlanePositionSequence = frames[2].PlanePositionSequence


def with_another_orientation(ds: Dataset) -> None:
    plane = Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    ds.PerFrameFunctionalGroupsSequence[3].PlaneOrientationSequence = [plane]


def of_a_single_frame_class(ds: Dataset) -> None:
    ds.SOPClassUID = CTImageStorage


def with_a_million_frames(ds: Dataset) -> None:
    ds.NumberOfFrames, ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 10**6, 1, 1, 8, 8, 7
    ds.PixelData = bytes(10**6)


def in_color(ds: Dataset) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.PixelData = ds.PixelData * 3


def with_a_slope_of_letters(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence[4].PixelValueTransformationSequence[0].RescaleSlope = "0"


DAMAGES: dict[str, tuple[Callable[[Dataset], None], type[NodeError], str]] = {
    "no functional groups": (without_groups, NotEligible, r"Per-Frame Functional Groups Sequence \(5200,9230\)"),
    "fewer Items than Frames": (with_fewer_items, NotEligible, r"Number of Frames \(0028,0008\) is 12.*describes 11"),
    "no position": (without_position, MixedGeometry, "ImagePositionPatient is absent in .* frame 5"),
    "no spacing": (without_spacing, MixedGeometry, "PixelSpacing is absent in .* frame 1"),
    "no rescale": (without_rescale, NotEligible, "RescaleSlope of Pixel Value Transformation Sequence .* frame 5"),
    "two Frames at one place": (with_two_phases, SliceDoubled, "frame 3 and .* frame 8; .* one phase"),
    "two orientations": (with_another_orientation, MixedGeometry, "Image Orientation changes"),
    "a SOP Class of one Frame": (of_a_single_frame_class, NotEligible, "its SOP Class does not know"),
    "a million Frames": (with_a_million_frames, TooLarge, "1000000 Frames, at most 16384"),
    "colors": (in_color, PixelsUndecodable, "gray"),
    "a slope of 0": (with_a_slope_of_letters, PixelsUndecodable, "RescaleSlope is 0"),
}


@pytest.mark.parametrize(("damage", "kind", "words"), DAMAGES.values(), ids=DAMAGES)
def test_what_tells_no_volume_is_refused_by_what_is_wrong(
    tmp_path: Path, pool: DecoderPool, damage: Callable[[Dataset], None], kind: type[NodeError], words: str
) -> None:
    """In the same words whether an Instance is in memory or in the store, where it is gray."""
    ds = enhance(make_frames())
    damage(ds)
    with pytest.raises(kind, match=words) as stored:
        read_volume(store_files([ds], tmp_path, pool))
    with pytest.raises(kind) as held:
        read_volume([dcmread(tmp_path / "0.dcm")])
    assert str(stored.value) == str(held.value) or kind is PixelsUndecodable


def test_one_frame_is_no_volume() -> None:
    with pytest.raises(TooFewSlices):
        read_volume([enhance(make_frames()[:1])])


def test_a_deflated_multi_frame_instance_is_refused(tmp_path: Path, pool: DecoderPool) -> None:
    """Who reads one Frame of it would have to inflate all before it."""
    series = store_files([enhance(make_frames())], tmp_path, pool, DeflatedExplicitVRLittleEndian)
    with pytest.raises(PixelsUndecodable, match="Explicit VR Little Endian"):
        read_volume(series)


def test_a_series_with_frames_that_nothing_places_may_stay_unread(tmp_path: Path, pool: DecoderPool) -> None:
    """A Series in an optional role is refused where it is read, not where the Job's inputs are gathered."""
    ds = enhance(make_frames())
    without_groups(ds)
    series = store_files([ds], tmp_path, pool)
    assert isinstance(series, StoredSeries)
    assert [one.Modality for one in series] == ["CT"]


def test_a_frame_of_several_is_no_radiograph() -> None:
    with pytest.raises(NotEligible, match="12 Frames"):
        read_radiograph(spread_frames([enhance(make_frames())])[0])


def test_another_file_of_the_same_size_is_not_taken_for_it(tmp_path: Path, pool: DecoderPool) -> None:
    (instance,) = keep_files([enhance(make_frames(), "one")], tmp_path, pool)
    (other,) = keep_files([enhance(make_frames(), "two")], tmp_path / "other", pool)
    assert instance.facts.size_bytes == other.facts.size_bytes
    instance.path.write_bytes(other.path.read_bytes())
    with pytest.raises(PixelsUndecodable, match="cannot be read back"):
        read_volume(StoredSeries([instance], pool))
