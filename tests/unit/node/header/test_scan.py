"""The header scan tells what an object is, and refuses what is not whole."""

import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from struct import pack

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.data import get_charset_files, get_testdata_file

from node.domain.study import CODED_KEYWORDS
from node.errors import BadIdentifier, NotDicom, TooComplex, TooLarge
from node.header.codes import MAX_CODES
from node.header.elements import MAX_DEPTH, ElementReader
from node.header.part10 import IMPLEMENTATION_CLASS_UID, file_meta, read_part10
from node.header.scan import MAX_INFLATED_BYTES, scan_beginning, scan_data_set, scan_file
from node.header.values import kept_tags
from tests.instances import (
    BIG_ENDIAN,
    CT_IMAGE_STORAGE,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    INSTANCE,
    JPEG_2000,
    SERIES,
    STUDY,
    ct_slice,
    encode,
)

EVERY_ENCODING = [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG_2000]


@pytest.mark.parametrize("transfer_syntax_uid", EVERY_ENCODING)
def test_attributes_are_the_same_in_every_encoding(transfer_syntax_uid: str) -> None:
    header = scan_data_set(encode(ct_slice(), transfer_syntax_uid), transfer_syntax_uid=transfer_syntax_uid)
    assert (header.study_instance_uid, header.series_instance_uid) == (STUDY, SERIES)
    assert (header.sop_instance_uid, header.sop_class_uid) == (INSTANCE, CT_IMAGE_STORAGE)
    found = dict(header.attributes)
    assert found["PatientName"] == "Grün^Käthe"
    assert found["ImageType"] == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert found["ImagePositionPatient"] == [-10.5, 20.0, 30.25]
    assert (found["SliceThickness"], found["InstanceNumber"], found["Rows"]) == (2.5, 3, 4)
    assert "SamplesPerPixel" not in found


def _code(value: str, scheme: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "Meaning"
    return item


@pytest.mark.parametrize("is_undefined_length", [False, True])
@pytest.mark.parametrize("transfer_syntax_uid", EVERY_ENCODING)
def test_codes_are_read_from_their_sequences(transfer_syntax_uid: str, *, is_undefined_length: bool) -> None:
    ds = ct_slice()
    ds.AnatomicRegionSequence = [_code("51185008", "SCT")]
    ds.ProcedureCodeSequence = [_code("CTCH2", "99LOCAL"), _code("", "99LOCAL"), _code("P5-1", "SRT")]
    ds.ProcedureCodeSequence[1].LongCodeValue = "L" * 40
    for keyword in ("AnatomicRegionSequence", "ProcedureCodeSequence"):
        ds[keyword].is_undefined_length = is_undefined_length
        for item in ds[keyword].value:
            item.is_undefined_length_sequence_item = is_undefined_length
    found = scan_data_set(encode(ds, transfer_syntax_uid), transfer_syntax_uid=transfer_syntax_uid).attributes
    assert found["AnatomicRegionSequence"] == ["SCT:51185008"]
    assert found["ProcedureCodeSequence"] == ["99LOCAL:CTCH2", f"99LOCAL:{'L' * 40}", "SRT:P5-1"]
    assert "RequestedProcedureCodeSequence" not in found


def test_code_sequences_that_hold_no_code_are_left_out() -> None:
    ds = ct_slice()
    ds.AnatomicRegionSequence = []
    ds.ProcedureCodeSequence = [_code(str(number), "99LOCAL") for number in range(MAX_CODES + 1)]
    ds.RequestedProcedureCodeSequence = [Dataset()]
    ds.RequestedProcedureCodeSequence[0].LongCodeValue = "x" * 100
    found = scan_data_set(encode(ds), transfer_syntax_uid=EXPLICIT).attributes
    assert not found.keys() & set(CODED_KEYWORDS)


@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_pixel_data_offset_points_at_the_first_pixel(transfer_syntax_uid: str) -> None:
    encoded = encode(ct_slice(level=0x1234), transfer_syntax_uid)
    header = scan_data_set(encoded, transfer_syntax_uid=transfer_syntax_uid)
    assert header.pixel_data_offset == len(encoded) - 48
    assert scan_data_set(encode(ct_slice(), DEFLATED), transfer_syntax_uid=DEFLATED).pixel_data_offset is None


def test_file_written_around_a_data_set_is_read_by_pydicom_and_by_the_scan() -> None:
    encoded = encode(ct_slice(), IMPLICIT)
    meta = file_meta(sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid=INSTANCE, transfer_syntax_uid=IMPLICIT)
    ds = pydicom.dcmread(BytesIO(meta + encoded))
    assert ds.file_meta.TransferSyntaxUID == IMPLICIT
    assert ds.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert ds.file_meta.FileMetaInformationGroupLength == len(meta) - 144
    assert scan_file(meta + encoded).data_set_offset == len(meta)
    assert read_part10(meta + encoded).transfer_syntax_uid == IMPLICIT


@pytest.mark.parametrize("transfer_syntax_uid", EVERY_ENCODING)
def test_header_read_from_the_first_bytes_is_the_one_of_the_whole(transfer_syntax_uid: str) -> None:
    encoded = encode(ct_slice(), transfer_syntax_uid)
    meta, whole = b"M" * 100, scan_data_set(encoded, transfer_syntax_uid=transfer_syntax_uid)
    beginnings = [scan_beginning(encoded[:length], transfer_syntax_uid=transfer_syntax_uid) for length in range(999)]
    for begun in beginnings:
        header = scan_data_set(meta + encoded, transfer_syntax_uid=transfer_syntax_uid, start=100, begun=begun)
        assert (header.attributes, header.data_set_offset) == (whole.attributes, 100)
        assert (header.pixel_data_offset or 0) == (whole.pixel_data_offset or -100) + 100
    assert (beginnings[-1] is None) == (transfer_syntax_uid == DEFLATED)
    assert beginnings[100] is None


@pytest.mark.parametrize("transfer_syntax_uid", [EXPLICIT, JPEG_2000])
def test_what_is_cut_behind_the_first_bytes_is_refused(transfer_syntax_uid: str) -> None:
    encoded = encode(ct_slice(), transfer_syntax_uid)
    begun = scan_beginning(encoded[:-10], transfer_syntax_uid=transfer_syntax_uid)
    assert begun is not None
    for lost in range(1, 10):
        with pytest.raises(NotDicom, match="cut"):
            scan_data_set(encoded[:-lost], transfer_syntax_uid=transfer_syntax_uid, begun=begun)


@pytest.mark.parametrize("transfer_syntax_uid", EVERY_ENCODING)
def test_data_set_cut_anywhere_is_refused(transfer_syntax_uid: str) -> None:
    """Only between two elements before Bits Allocated would a cut data set look like a whole one without pixels."""
    encoded = encode(ct_slice(), transfer_syntax_uid)
    taken = []
    for length in range(len(encoded)):
        try:
            taken.append(scan_data_set(encoded[:length], transfer_syntax_uid=transfer_syntax_uid))
        except (NotDicom, BadIdentifier):
            continue
    assert all("BitsAllocated" not in header.attributes for header in taken)
    boundaries_before_bits_allocated = 20
    assert len(taken) < boundaries_before_bits_allocated


def test_pixel_data_shorter_than_rows_times_columns_is_refused() -> None:
    ds = ct_slice()
    ds.PixelData = b"\0" * 46
    with pytest.raises(NotDicom, match="46 bytes where 48 are announced"):
        scan_data_set(encode(ds), transfer_syntax_uid=EXPLICIT)


def test_pixel_data_padded_beyond_the_last_pixel_is_taken() -> None:
    ds = ct_slice()
    ds.PixelData = b"\0" * 64
    assert scan_data_set(encode(ds) + b"\0" * 7, transfer_syntax_uid=EXPLICIT).sop_instance_uid == INSTANCE


def test_subsampled_chrominance_counts_two_thirds() -> None:
    ds = ct_slice()
    ds.SamplesPerPixel, ds.BitsAllocated, ds.PhotometricInterpretation = 3, 8, "YBR_FULL_422"
    assert scan_data_set(encode(ds), transfer_syntax_uid=EXPLICIT).pixel_data_offset is not None
    ds.PhotometricInterpretation = "YBR_FULL"
    with pytest.raises(NotDicom, match="where 72 are announced"):
        scan_data_set(encode(ds), transfer_syntax_uid=EXPLICIT)


def test_encapsulated_pixel_data_without_a_fragment_is_refused() -> None:
    encoded = encode(ct_slice(), JPEG_2000)
    begin = scan_data_set(encoded, transfer_syntax_uid=JPEG_2000).pixel_data_offset
    assert begin is not None
    empty = encoded[:begin] + pack("<HHI", 0xFFFE, 0xE000, 0) + pack("<HHI", 0xFFFE, 0xE0DD, 0)
    with pytest.raises(NotDicom, match="no fragment"):
        scan_data_set(empty, transfer_syntax_uid=JPEG_2000)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_missing_uid_is_refused_by_name(keyword: str) -> None:
    ds = ct_slice()
    delattr(ds, keyword)
    with pytest.raises(BadIdentifier, match=keyword):
        scan_data_set(encode(ds), transfer_syntax_uid=EXPLICIT)


@pytest.mark.parametrize("wrong", [b"CS\n\0ISO\0IR 100", b"US\n\0ISO_IR 100"])
def test_character_set_that_is_no_code_string_is_refused(wrong: bytes) -> None:
    encoded = encode(ct_slice()).replace(b"CS\n\0ISO_IR 100", wrong)
    with pytest.raises(NotDicom, match="Specific Character Set"):
        scan_data_set(encoded, transfer_syntax_uid=EXPLICIT)


@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize("before", [b"\0\0", b"  "])
def test_what_stands_before_a_uid_belongs_to_it(before: bytes, transfer_syntax_uid: str) -> None:
    encoded = encode(ct_slice(sop_instance_uid="1.2.3.4"), transfer_syntax_uid)
    begin = encoded.index(b"1.2.3.4\0")
    with pytest.raises(BadIdentifier, match="SOPInstanceUID"):
        scan_data_set(
            encoded[:begin] + before + b"1.2.3\0" + encoded[begin + 8 :], transfer_syntax_uid=transfer_syntax_uid
        )


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.3\\1.2.4", "1.2.x", "1" * 65, "1..2", "/1.2"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.filterwarnings("ignore:The value length")
def test_hostile_uid_is_refused(uid: str) -> None:
    encoded = encode(ct_slice(sop_instance_uid="1." + "7" * (len(uid) - 2)))
    hostile = encoded.replace(b"1." + b"7" * (len(uid) - 2), uid.encode())
    with pytest.raises(BadIdentifier, match="SOPInstanceUID"):
        scan_data_set(hostile, transfer_syntax_uid=EXPLICIT)


def test_pixel_data_that_may_hold_one_frame_more_than_the_header_says_is_refused() -> None:
    ds = ct_slice()
    ds.PixelData = b"\0" * 96
    with pytest.raises(NotDicom, match="96 bytes where 1 Frames of 4 x 6 pixels take 48"):
        scan_data_set(encode(ds), transfer_syntax_uid=EXPLICIT)


def test_pixel_data_that_comes_twice_is_refused() -> None:
    encoded = encode(ct_slice())
    pixels = encoded[-60:]
    with pytest.raises(NotDicom, match="twice"):
        scan_data_set(encoded + pixels[:-8], transfer_syntax_uid=EXPLICIT)


@pytest.mark.parametrize(("written", "announced"), [(EXPLICIT, JPEG_2000), (JPEG_2000, EXPLICIT)])
def test_pixel_data_in_the_form_of_another_transfer_syntax_is_refused(written: str, announced: str) -> None:
    with pytest.raises(NotDicom, match=r"against its Transfer Syntax"):
        scan_data_set(encode(ct_slice(), written), transfer_syntax_uid=announced)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "Rows", "SpecificCharacterSet"])
def test_attribute_that_comes_twice_is_refused(keyword: str) -> None:
    encoded = encode(ct_slice())
    (tag,) = (tag for tag, name in kept_tags().items() if name == keyword)
    begin = encoded.index(pack("<HH", tag >> 16, tag & 0xFFFF))
    end = begin + 8 + int.from_bytes(encoded[begin + 6 : begin + 8], "little")
    with pytest.raises(NotDicom, match=rf"{tag & 0xFFFF:04X}\) comes twice"):
        scan_data_set(encoded[:end] + encoded[begin:], transfer_syntax_uid=EXPLICIT)


def test_unknown_value_representation_is_refused() -> None:
    """Its length may have 16 or 32 bits: who guesses wrong reads another data set."""
    encoded = encode(ct_slice())
    with pytest.raises(NotDicom, match="no Value Representation"):
        scan_data_set(encoded.replace(b"\x40\x11SQ", b"\x40\x11SP"), transfer_syntax_uid=EXPLICIT)


@pytest.mark.parametrize("wrong", [-2, 2])
def test_item_of_a_length_that_its_elements_do_not_have_is_refused(wrong: int) -> None:
    inner = pack("<HHI", 0x0008, 0x0100, 2) + b"AB" + pack("<HHI", 0x0008, 0x0102, 2) + b"DC"
    item = pack("<HHI", 0xFFFE, 0xE000, len(inner) + wrong) + inner
    sequence = pack("<HHI", 0x0007, 0x0010, 0xFFFFFFFF) + item + pack("<HHI", 0xFFFE, 0xE0DD, 0)
    with pytest.raises(NotDicom):
        scan_data_set(sequence + encode(ct_slice(), IMPLICIT), transfer_syntax_uid=IMPLICIT)


@pytest.mark.parametrize("number", [0xE000, 0xE00D, 0xE0DD])
@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT])
def test_item_outside_of_a_sequence_is_refused(transfer_syntax_uid: str, number: int) -> None:
    encoded = pack("<HHI", 0xFFFE, number, 0) + encode(ct_slice(), transfer_syntax_uid)
    with pytest.raises(NotDicom, match="outside of a sequence"):
        scan_data_set(encoded, transfer_syntax_uid=transfer_syntax_uid)


def test_encapsulated_pixel_data_of_empty_fragments_is_refused() -> None:
    encoded = encode(ct_slice(), JPEG_2000)
    begin = scan_data_set(encoded, transfer_syntax_uid=JPEG_2000).pixel_data_offset
    assert begin is not None
    empty = encoded[:begin] + pack("<HHI", 0xFFFE, 0xE000, 0) * 5 + pack("<HHI", 0xFFFE, 0xE0DD, 0)
    with pytest.raises(NotDicom, match="empty ones only"):
        scan_data_set(empty, transfer_syntax_uid=JPEG_2000)


def nested(levels: int, *, of_sequence: bool, of_item: bool, vr: bytes = b"") -> bytes:
    """Return sequences in sequences, each of defined or undefined length."""
    encoded = b""
    for _ in range(levels):
        end = b"" if of_item else pack("<HHI", 0xFFFE, 0xE00D, 0)
        encoded = pack("<HHI", 0xFFFE, 0xE000, len(encoded) if of_item else 0xFFFFFFFF) + encoded + end
        end = b"" if of_sequence else pack("<HHI", 0xFFFE, 0xE0DD, 0)
        length = pack("<I", len(encoded) if of_sequence else 0xFFFFFFFF)
        head = pack("<HH", 0x0040, 0xA730) + (vr + b"\0\0" if vr else b"") + length
        encoded = head + encoded + end
    return encoded


@pytest.mark.parametrize("vr", [b"", b"SQ"])
@pytest.mark.parametrize("of_item", [True, False])
@pytest.mark.parametrize("of_sequence", [True, False])
def test_sequences_nest_as_deep_as_is_sane_and_no_deeper(vr: bytes, *, of_sequence: bool, of_item: bool) -> None:
    syntax = EXPLICIT if vr else IMPLICIT
    encoded = encode(ct_slice(), syntax)
    begin = encoded.index(pack("<HH", 0x0028, 0x0002))

    def scan(levels: int) -> str:
        inner = nested(levels, of_sequence=of_sequence, of_item=of_item, vr=vr)
        return scan_data_set(encoded[:begin] + inner + encoded[begin:], transfer_syntax_uid=syntax).sop_instance_uid

    assert scan(MAX_DEPTH) == INSTANCE
    for levels in (MAX_DEPTH + 1, 2000):
        with pytest.raises(TooComplex, match=f"deeper than {MAX_DEPTH}"):
            scan(levels)


def test_nesting_without_end_is_refused() -> None:
    opened = pack("<HHI", 0x0008, 0x1140, 0xFFFFFFFF) + pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(TooComplex, match=f"deeper than {MAX_DEPTH}"):
        scan_data_set(opened * 50_000, transfer_syntax_uid=IMPLICIT)


def test_bytes_of_unknown_meaning_that_begin_like_an_item_are_kept_as_they_are() -> None:
    ds = ct_slice()
    ds.add_new(0x00290010, "LO", "PHANTOM WORKS")
    ds.add_new(0x00291001, "OB", pack("<HHI", 0xFFFE, 0xE000, 2000) + b"\xff" * 2000)
    for syntax in (EXPLICIT, IMPLICIT):
        assert scan_data_set(encode(ds, syntax), transfer_syntax_uid=syntax).sop_instance_uid == INSTANCE


def test_elements_without_end_are_refused() -> None:
    empty = pack("<HHI", 0x0029, 0x1000, 0)
    sequence = pack("<HHI", 0x0029, 0x1001, 0xFFFFFFFF)
    item = pack("<HHI", 0xFFFE, 0xE000, 0)
    for flood in (empty * 1001, sequence + item * 1001, sequence + item[:4] + b"\xff" * 4 + empty * 1001):
        reader = ElementReader(flood, implicit=True, little_endian=True, max_elements=1000)
        with pytest.raises(TooComplex, match="more than 1000 elements"):
            list(reader.find(()))


def test_bytes_behind_a_deflated_stream_are_ignored() -> None:
    for rest in (b"\0", b"\0" * 300_000):
        whole = encode(ct_slice(), DEFLATED) + rest
        assert scan_data_set(whole, transfer_syntax_uid=DEFLATED).sop_instance_uid == INSTANCE


def test_deflate_bomb_is_refused_before_it_fills_the_memory() -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    # After a full flush a block stands for itself and may be repeated.
    mebibyte = deflater.compress(b"\0" * 2**20) + deflater.flush(zlib.Z_FULL_FLUSH)
    bomb = mebibyte * (MAX_INFLATED_BYTES // 2**20 + 1) + deflater.flush()
    assert len(bomb) < 2**20
    with pytest.raises(TooLarge, match="larger than"):
        scan_data_set(bomb, transfer_syntax_uid=DEFLATED)


def test_file_sent_in_place_of_a_data_set_is_refused() -> None:
    whole_file = file_meta(sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid=INSTANCE, transfer_syntax_uid=EXPLICIT)
    for content in (whole_file + encode(ct_slice()), whole_file[132:] + encode(ct_slice())):
        with pytest.raises(NotDicom):
            scan_data_set(content, transfer_syntax_uid=EXPLICIT)


def test_data_set_that_would_lengthen_the_file_meta_information_is_refused() -> None:
    """In Big Endian (0200,0000) has the first bytes of (0002,0000) in Little Endian."""
    encoded = pack(">HH2sH", 0x0200, 0, b"CS", 0) + encode(ct_slice(), BIG_ENDIAN)
    with pytest.raises(NotDicom, match="begins like File Meta Information"):
        scan_data_set(encoded, transfer_syntax_uid=BIG_ENDIAN)


def test_unknown_transfer_syntax_is_refused() -> None:
    with pytest.raises(NotDicom, match=r"1\.2\.840\.113619\.5\.2 is unknown"):
        scan_data_set(encode(ct_slice()), transfer_syntax_uid="1.2.840.113619.5.2")


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_values_that_break_their_representation_are_left_out_and_the_rest_is_kept() -> None:
    encoded = encode(ct_slice())
    broken = encoded.replace(b"2.5 ", b"2,5 ").replace(b"-10.5\\20", b"-10.5 20")
    found = scan_data_set(broken, transfer_syntax_uid=EXPLICIT).attributes
    assert "SliceThickness" not in found
    assert "ImagePositionPatient" not in found
    assert found["InstanceNumber"] == 3


@pytest.mark.parametrize("path", [p for p in get_charset_files("chr*.dcm") if "SQEncoding" not in p])
def test_names_in_every_character_set_are_what_pydicom_reads(path: str) -> None:
    ds = pydicom.dcmread(path)
    content = Path(path).read_bytes()
    if "BitsAllocated" in ds and "PixelData" not in ds:
        # Some of these files were stripped of their pixels.
        size = ds.Rows * ds.Columns * ds.get("SamplesPerPixel", 1) * ds.BitsAllocated // 8
        is_explicit = ds.file_meta.TransferSyntaxUID == EXPLICIT
        content += pack("<HH", 0x7FE0, 0x10) + (b"OW\0\0" if is_explicit else b"") + pack("<I", size) + b"\0" * size
    assert scan_file(content).attributes["PatientName"] == str(ds.PatientName).strip()


def test_unknown_character_set_does_not_stop_an_instance() -> None:
    encoded = encode(ct_slice()).replace(b"ISO_IR 100", b"ISO_IR 999")
    assert scan_data_set(encoded, transfer_syntax_uid=EXPLICIT).attributes["PatientID"] == "P1"


def test_real_multi_frame_object_is_scanned() -> None:
    path = get_testdata_file("rtdose.dcm", download=False)
    assert isinstance(path, str)
    assert scan_file(Path(path).read_bytes()).attributes["NumberOfFrames"] == 15


@pytest.mark.parametrize("content", [b"", b"no DICOM", b"\0" * 200, b"GET / HTTP/1.1\r\n" * 20])
def test_file_that_is_no_dicom_is_refused(content: bytes) -> None:
    with pytest.raises(NotDicom):
        scan_file(content)


def test_sequence_of_unknown_vr_is_walked_in_implicit_vr() -> None:
    inner = pack("<HHI", 0x0008, 0x0100, 2) + b"AB" + pack("<HHI", 0xFFFE, 0xE00D, 0)
    item = pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner
    unknown = pack("<HH2sxxI", 0x0007, 0x0010, b"UN", 0xFFFFFFFF) + item + pack("<HHI", 0xFFFE, 0xE0DD, 0)
    assert scan_data_set(unknown + encode(ct_slice()), transfer_syntax_uid=EXPLICIT).sop_instance_uid == INSTANCE


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_end_in_a_header_or_in_a_refusal(data: st.DataObject) -> None:
    transfer_syntax_uid = data.draw(st.sampled_from(EVERY_ENCODING))
    encoded = bytearray(ENCODED[transfer_syntax_uid])
    for _ in range(data.draw(st.integers(1, 8))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with suppress(NotDicom, BadIdentifier):
        scan_data_set(bytes(encoded), transfer_syntax_uid=transfer_syntax_uid)


ENCODED = {uid: encode(ct_slice(), uid) for uid in EVERY_ENCODING}


def test_report_without_pixel_data_has_no_offset() -> None:
    ds = ct_slice()
    del ds.PixelData, ds.BitsAllocated
    assert scan_data_set(encode(ds), transfer_syntax_uid=EXPLICIT).pixel_data_offset is None


def test_image_that_ends_before_its_pixels_is_refused() -> None:
    ds = ct_slice()
    del ds.PixelData
    with pytest.raises(NotDicom, match="none came"):
        scan_data_set(encode(ds), transfer_syntax_uid=EXPLICIT)
