"""Functional groups of multi-frame images tell rules and pages where the Frames lie, as single slices do themselves."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, SegmentationStorage

from node.domain.series_summary import summarize_series
from node.domain.study import FRAME_POSITIONS, SeriesState
from node.domain.uids import SeriesUID
from node.header.scan import scan_data_set, scan_file
from node.ledger.closeups import CloseupLedger, height_of
from node.rules.readings import read_orientation, read_pixel_spacing, read_slice_count, read_slice_spacing
from tests.analyses import SPACING_MM, make_slices
from tests.enhanced import enhance
from tests.ledgers import STUDY, Books, copy_ledger, make_facts


def write(ds: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    buffer = BytesIO()
    ds.file_meta.TransferSyntaxUID = syntax
    ds["PixelData"].VR = "OW"
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def flat(slices: list[Dataset]) -> list[float]:
    return [float(value) for ds in slices for value in ds.ImagePositionPatient]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("is_shared", [True, False])
def test_what_places_frames_is_kept_as_of_single_slices(syntax: UID, *, is_shared: bool) -> None:
    slices = make_slices()
    attributes = scan_file(write(enhance(slices, is_shared=is_shared), syntax)).attributes
    assert attributes[FRAME_POSITIONS] == flat(slices)
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


@pytest.mark.parametrize("damage", [of_a_segmentation, without_one_position, with_letters, with_fewer_items])
def test_where_not_every_frame_tells_its_place_none_is_kept(damage: Callable[[Dataset], None]) -> None:
    ds = enhance(make_slices())
    damage(ds)
    assert FRAME_POSITIONS not in scan_file(write(ds)).attributes


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
