"""Elements written as bytes: what pydicom writes, and reads."""

import struct
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from workers.encoding.raw_elements import (
    keep_raw,
    put_items,
    write_element,
    write_elements,
    write_long_text,
    write_sequence,
    write_text,
)


def as_pydicom_writes(ds: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds, ["utf-8"])
    written: bytes = buffer.getvalue()
    return written


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2"])
def test_uids_are_padded_by_a_null(uid: str) -> None:
    ds = Dataset()
    ds.ReferencedSOPClassUID = uid
    assert write_text("ReferencedSOPClassUID", "UI", uid) == as_pydicom_writes(ds)


@pytest.mark.parametrize("text", ["-180.5\\0\\12", "-180.5\\0\\1"])
def test_text_is_padded_by_a_space(text: str) -> None:
    ds = Dataset()
    ds.ImagePositionPatient = text.split("\\")
    assert write_text("ImagePositionPatient", "DS", text) == as_pydicom_writes(ds)


@pytest.mark.parametrize("text", ["Über 70", "Übers 70"])
def test_long_text_is_utf_8_with_a_long_length(text: str) -> None:
    ds = Dataset()
    ds.TextValue = text
    assert write_long_text("TextValue", "UT", text) == as_pydicom_writes(ds)


def test_sequences_nest() -> None:
    inner = Dataset()
    inner.ReferencedSegmentNumber = 3
    outer = Dataset()
    outer.SegmentIdentificationSequence = Sequence([inner, inner])
    number = write_element("ReferencedSegmentNumber", "US", struct.pack("<H", 3))
    assert write_sequence("SegmentIdentificationSequence", [number, number]) == as_pydicom_writes(outer)


def test_some_elements_of_a_dataset_are_written_as_they_stand() -> None:
    ds = Dataset()
    ds.PatientName, ds.Rows = "Müller^Käthe", 5
    part = Dataset()
    part.PatientName = "Müller^Käthe"
    assert write_elements(ds, [ds["PatientName"].tag]) == as_pydicom_writes(part)


def make_file(*, is_raw: bool) -> bytes:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 192", "Müller^Käthe"
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "1.2.3"
    if is_raw:
        put_items(ds, "SourceImageSequence", [write_text("ReferencedSOPInstanceUID", "UI", "1.2.4")] * 2)
        keep_raw(ds)
    else:
        item = Dataset()
        item.ReferencedSOPInstanceUID = "1.2.4"
        ds.SourceImageSequence = Sequence([item, item])
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def test_items_that_are_bytes_make_the_same_file() -> None:
    assert make_file(is_raw=True) == make_file(is_raw=False)


def test_items_that_are_bytes_read_as_datasets() -> None:
    ds = dcmread(BytesIO(make_file(is_raw=True)))
    assert [item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence] == ["1.2.4", "1.2.4"]
    unwritten = Dataset()
    put_items(unwritten, "SourceImageSequence", [write_text("ReferencedSOPInstanceUID", "UI", "1.2.4")])
    assert unwritten.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.4"
