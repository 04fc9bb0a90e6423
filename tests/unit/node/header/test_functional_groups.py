"""Functional groups of multi-frame images tell rules and pages where the Frames lie, as single slices do themselves."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from struct import pack

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    MRImageStorage,
    SegmentationStorage,
)

from node.domain.frame_groups import MAX_FRAMES
from node.domain.series_summary import summarize_series
from node.domain.study import CONTRAST_GIVEN, FRAME_POSITIONS, Attributes, SeriesState, list_frame_positions
from node.domain.uids import SeriesUID
from node.errors import NotDicom, TooComplex
from node.header.elements import ElementReader
from node.header.groups import FRAMES_GROUPS, PLANE_POSITION
from node.header.scan import scan_data_set, scan_file
from node.ledger.closeups import CloseupLedger, height_of
from node.rules.readings import (
    read_contrast,
    read_orientation,
    read_pixel_spacing,
    read_slice_count,
    read_slice_spacing,
)
from tests.analyses import SPACING_MM, make_slices
from tests.enhanced import enhance
from tests.ledgers import STUDY, Books, copy_ledger, make_facts


def write(ds: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    buffer = BytesIO()
    ds.file_meta.TransferSyntaxUID = syntax
    ds["PixelData"].VR = "OW"
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def scan(ds: Dataset) -> Attributes:
    return scan_file(write(ds)).attributes


def positions_of(slices: list[Dataset]) -> list[list[float]]:
    return [[float(value) for value in ds.ImagePositionPatient] for ds in slices]


def leave_lengths_open(ds: Dataset) -> None:
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                leave_lengths_open(item)


def item(**attributes: object) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("is_open", [True, False])
def test_what_places_frames_is_kept_as_of_single_slices(syntax: UID, *, is_shared: bool, is_open: bool) -> None:
    slices = make_slices()
    ds = enhance(slices, is_shared=is_shared)
    if is_open:
        leave_lengths_open(ds)
    attributes = scan_file(write(ds, syntax)).attributes
    assert list_frame_positions(attributes) == positions_of(slices)
    assert attributes["ImageOrientationPatient"] == [1, 0, 0, 0, 1, 0]
    assert attributes["PixelSpacing"] == list(SPACING_MM[1:])
    assert attributes["SliceThickness"] == slices[0].SliceThickness
    assert "ImagePositionPatient" not in attributes


def test_a_header_in_two_pieces_tells_the_same() -> None:
    content = write(enhance(make_slices()))
    whole = scan_file(content)
    cut = content[whole.data_set_offset :]
    assert scan_data_set(cut, transfer_syntax_uid=whole.transfer_syntax_uid).attributes == whole.attributes


def of_a_segmentation(ds: Dataset) -> None:
    ds.SOPClassUID = SegmentationStorage


def without_one_position(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence


def with_letters(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient = [1, 2]


def with_fewer_items(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence = list(ds.PerFrameFunctionalGroupsSequence)[:-1]


def with_endless_digits(ds: Dataset) -> None:
    plane = ds.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0]
    plane.add_new("ImagePositionPatient", "UC", "0\\0\\" + "1" * 2**20)


def with_a_place_beyond_all_patients(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 1e9]


@pytest.mark.parametrize(
    "damage",
    [
        of_a_segmentation, without_one_position, with_letters, with_fewer_items, with_endless_digits,
        with_a_place_beyond_all_patients,
    ],
)  # fmt: skip
def test_where_not_every_frame_tells_its_place_none_is_kept(damage: Callable[[Dataset], None]) -> None:
    ds = enhance(make_slices())
    damage(ds)
    assert FRAME_POSITIONS not in scan_file(write(ds)).attributes


def test_a_coordinate_that_all_frames_share_is_kept_once() -> None:
    slices = make_slices()
    x, y, z = scan(enhance(slices))[FRAME_POSITIONS]
    assert [x, y] == [[float(value)] for value in slices[0].ImagePositionPatient[:2]]
    assert z == [float(ds.ImagePositionPatient[2]) for ds in slices]


def test_a_place_that_frames_share_is_that_of_each() -> None:
    ds = enhance(make_slices()[:1])
    (shared,), (frame,) = ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence
    shared.PlanePositionSequence = frame.PlanePositionSequence
    del frame.PlanePositionSequence
    assert list_frame_positions(scan(ds)) == positions_of(make_slices()[:1])


def test_what_groups_say_goes_before_what_stands_beside_them() -> None:
    slices = make_slices()
    ds = enhance(slices)
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.KVP = [1, 2, 3], [0, 1, 0, 0, 0, -1], 80
    ds.SharedFunctionalGroupsSequence[0].CTXRayDetailsSequence = [item(KVP=100)]
    ds.PerFrameFunctionalGroupsSequence[0].CTXRayDetailsSequence = [item(KVP=120)]
    attributes = scan(ds)
    assert "ImagePositionPatient" not in attributes
    assert attributes["ImageOrientationPatient"] == [1, 0, 0, 0, 1, 0]
    assert attributes["KVP"] == 120
    assert list_frame_positions(attributes) == positions_of(slices)


def test_the_anatomy_of_frames_is_that_of_a_series() -> None:
    ds = enhance(make_slices())
    code = item(CodeValue="818983003", CodingSchemeDesignator="SCT", CodeMeaning="Abdomen")
    ds.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [item(AnatomicRegionSequence=[code])]
    assert scan(ds)["AnatomicRegionSequence"] == ["SCT:818983003"]


def make_converted(**kept: object) -> Dataset:
    ds = enhance(make_slices())
    ds.SOPClassUID = LegacyConvertedEnhancedCTImageStorage
    ds.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = [item(**kept)]
    return ds


NORMAL = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
PROJECTION = ["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"]


@pytest.mark.parametrize(
    ("image_type", "frame_types", "read"),
    [
        (NORMAL, [NORMAL], NORMAL),
        (NORMAL, [LOCALIZER], LOCALIZER),
        (None, [PROJECTION], PROJECTION),
        (NORMAL, [[]], NORMAL),
        (None, [[]], None),
        (NORMAL, [["DERIVED", "SECONDARY"]], ["DERIVED", "SECONDARY", "VOLUME", "NONE"]),
        (["ORIGINAL", "PRIMARY"], [NORMAL], NORMAL),
        # Of Frames that differ none stands for all; values 2 and 3 are never mixed (PS3.3 C.8.16.1).
        (["MIXED", "PRIMARY", "VOLUME", "MIXED"], [NORMAL, PROJECTION], ["MIXED", "PRIMARY", "VOLUME", "MIXED"]),
        (["MIXED", "PRIMARY", "VOLUME", "MIXED"], [NORMAL], ["MIXED", "PRIMARY", "VOLUME", "MIXED"]),
        (NORMAL, [NORMAL, PROJECTION], ["MIXED", "PRIMARY", "VOLUME", "MIXED"]),
        (NORMAL, [LOCALIZER, NORMAL], NORMAL),
        (LOCALIZER, [LOCALIZER, NORMAL], LOCALIZER),
        (None, [LOCALIZER, NORMAL], ["ORIGINAL", "PRIMARY", "MIXED", "NONE"]),
    ],
)
def test_rules_read_of_frames_what_type_they_are(
    image_type: list[str] | None, frame_types: list[list[str]], read: list[str] | None
) -> None:
    ds = enhance(make_slices())
    ds.ImageType = image_type
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.CTImageFrameTypeSequence[0].FrameType = frame_types[0]
    ds.PerFrameFunctionalGroupsSequence[-1].CTImageFrameTypeSequence[0].FrameType = frame_types[-1]
    assert scan(ds).get("ImageType") == read


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_type_that_frames_share_is_that_of_those_without_one(syntax: UID) -> None:
    ds = enhance(make_slices())
    ds.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence = [item(FrameType=LOCALIZER)]
    for frame in ds.PerFrameFunctionalGroupsSequence[1:]:
        del frame.CTImageFrameTypeSequence
    assert scan_file(write(ds, syntax)).attributes["ImageType"] == NORMAL
    del ds.PerFrameFunctionalGroupsSequence[0].CTImageFrameTypeSequence
    assert scan_file(write(ds, syntax)).attributes["ImageType"] == LOCALIZER


def test_a_type_of_other_modalities_frames_is_read_too() -> None:
    ds = enhance(make_slices(MRImageStorage, Modality="MR"))
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.MRImageFrameTypeSequence[0].FrameType = LOCALIZER
    assert scan(ds)["ImageType"] == LOCALIZER


def test_effective_echo_time_of_frames_is_their_echo_time() -> None:
    ds = enhance(make_slices(MRImageStorage, Modality="MR", EchoTime="80"))
    ds.SharedFunctionalGroupsSequence[0].MREchoSequence = [item(EffectiveEchoTime=101.5)]
    attributes = scan(ds)
    assert attributes["EchoTime"] == 101.5
    assert "EffectiveEchoTime" not in attributes


def test_what_a_conversion_kept_is_read_unless_it_is_said_elsewhere() -> None:
    ds = make_converted(BodyPartExamined="ABDOMEN", ConvolutionKernel="B70f", PatientID="OTHER", SOPInstanceUID="1.9")
    ds.ConvolutionKernel = "B30f"
    header = scan_file(write(ds))
    assert (header.attributes["BodyPartExamined"], header.attributes["ConvolutionKernel"]) == ("ABDOMEN", ["B30f"])
    assert (header.attributes["PatientID"], header.sop_instance_uid) == (ds.PatientID, ds.SOPInstanceUID)


def contrast_of(ds: Dataset) -> str:
    """``present``, ``absent`` or, where it is open, ``open``."""
    facts = make_facts(1, **scan(ds))
    reading = read_contrast(summarize_series([replace(facts, sop_class_uid=str(ds.SOPClassUID))], SeriesState.SETTLED))
    return "absent" if reading is None else "open" if reading.is_open else "present"


def test_an_agent_of_frames_is_named_by_its_sequence() -> None:
    ds = enhance(make_slices())
    ds.SOPClassUID = EnhancedMRImageStorage
    assert contrast_of(ds) == "absent"
    ds.ContrastBolusAgentSequence = []
    assert contrast_of(ds) == "absent"
    ds.ContrastBolusAgentSequence = [Dataset()]
    assert contrast_of(ds) == "open"
    ds.ContrastBolusAgentSequence = [item(CodeValue="C-B0300", CodingSchemeDesignator="SRT")]
    assert contrast_of(ds) == "present"
    ds.PerFrameFunctionalGroupsSequence[0].ContrastBolusUsageSequence = [item(ContrastBolusAgentAdministered="NO")]
    assert contrast_of(ds) == "open"


def test_contrast_is_open_where_the_groups_cannot_be_read() -> None:
    ds = enhance(make_slices())
    del ds.PerFrameFunctionalGroupsSequence
    assert CONTRAST_GIVEN not in scan(ds)
    assert contrast_of(ds) == "open"


def test_contrast_of_a_conversion_is_what_it_kept_of_the_slices() -> None:
    assert contrast_of(make_converted(ContrastBolusAgent="Iomeron")) == "present"
    assert contrast_of(make_converted(ContrastBolusAgent="none")) == "absent"
    assert contrast_of(make_converted(KVP=120)) == "absent"
    bare = make_converted()
    del bare.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence
    assert contrast_of(bare) == "open"


def encode_item(value: bytes) -> bytes:
    return pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def encode_sequence(tag: int, value: bytes) -> bytes:
    return pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, len(value)) + value


PLACED = encode_sequence(PLANE_POSITION, encode_item(pack("<HH2sH", 0x0020, 0x0032, b"DS", 6) + b"0\\0\\5 "))
PRIVATE = encode_sequence(0x2005140F, encode_item(b"".join(pack("<HH2sH", 0x2005, n, b"LO", 0) for n in range(90))))


def encode_frames(count: int, frame: bytes, sop_class_uid: UID = EnhancedMRImageStorage) -> bytes:
    """Return a multi-frame image of nothing but groups."""
    ds = Dataset()
    ds.SOPClassUID, ds.NumberOfFrames = sop_class_uid, count
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.4", "1.2.5"
    buffer = BytesIO()
    dcmwrite(buffer, ds, implicit_vr=False, little_endian=True)
    return buffer.getvalue() + encode_sequence(FRAMES_GROUPS, encode_item(frame) * count)


@pytest.mark.parametrize(("count", "has_places"), [(MAX_FRAMES, True), (MAX_FRAMES + 1, False)])
def test_nothing_is_kept_of_more_frames_than_are_read(count: int, *, has_places: bool) -> None:
    attributes = scan_data_set(encode_frames(count, PLACED), transfer_syntax_uid=ExplicitVRLittleEndian).attributes
    assert (FRAME_POSITIONS in attributes, CONTRAST_GIVEN in attributes) == (has_places, has_places)
    assert len(json.dumps(attributes)) < 1000


def test_to_look_into_a_sequence_counts_no_element_twice() -> None:
    encoded = encode_sequence(FRAMES_GROUPS, encode_item(PLACED + PRIVATE) * 20)
    # An Item, two groups, an Item and 90 elements in the private one.
    for allowed, is_enough in ((20 * 94, True), (20 * 94 - 1, False)):
        for looks in (True, False):
            reader = ElementReader(encoded, implicit=False, little_endian=True, max_elements=allowed)
            with nullcontext() if is_enough else pytest.raises(TooComplex):
                for sequence in reader.find({FRAMES_GROUPS}):
                    assert not looks or len(list(reader.look_into(sequence, {PLANE_POSITION}, most=20))) == 20


@pytest.mark.parametrize("class_uid", [EnhancedMRImageStorage, SegmentationStorage])
def test_an_instance_is_never_refused_for_what_rules_want(class_uid: UID) -> None:
    """Damage that hides nothing of what follows; the class of the second is looked into by nobody."""
    for frame in (PLACED[:-3], PLACED * 2, encode_sequence(PLANE_POSITION, b"x" * 600), PLACED + PRIVATE[:-5], b"x"):
        scan_data_set(encode_frames(3, frame, class_uid), transfer_syntax_uid=ExplicitVRLittleEndian)


def test_what_is_cut_is_refused_as_ever() -> None:
    with pytest.raises(NotDicom, match="cut"):
        scan_data_set(encode_frames(3, PLACED)[:-7], transfer_syntax_uid=ExplicitVRLittleEndian)


def test_rules_read_frames_as_they_read_slices() -> None:
    slices = make_slices()
    halves = [enhance(slices[:6], "first"), enhance(slices[6:], "second")]
    facts = [make_facts(number, **scan_file(write(ds)).attributes) for number, ds in enumerate(halves, start=1)]
    series = summarize_series(facts, SeriesState.SETTLED)
    count, spacing = read_slice_count(series), read_slice_spacing(series)
    orientation, pixels = read_orientation(series), read_pixel_spacing(series)
    assert count is not None
    assert spacing is not None
    assert orientation is not None
    assert pixels is not None
    assert count.number == len(slices)
    assert spacing.number == pytest.approx(SPACING_MM[0])
    assert (orientation.texts, pixels.number) == (("axial",), max(SPACING_MM[1:]))


def test_frames_are_slices_of_a_page_in_the_order_of_the_body(tmp_path: Path) -> None:
    books = Books(copy_ledger(tmp_path))
    slices = make_slices()
    books.instances.record_instance(make_facts(1, **scan_file(write(enhance(slices))).attributes))
    books.instances.record_instance(make_facts(2, NumberOfFrames=4, ImagePositionPatient=[0.0, 0.0, 0.0]))
    found = CloseupLedger(books.engine).slices_of(make_facts().study_instance_uid, SeriesUID(f"{STUDY}.1"))
    frames = [one for one in found if one.frames == len(slices)]
    assert [one.position_mm for one in frames] == [
        tuple(map(float, slices[one.frame - 1].ImagePositionPatient)) for one in frames
    ]
    assert len(found) == len(slices) + 1
    assert [height_of(one) for one in found if one.frames == 4] == [None]
    books.close()
