"""Small Part 10 files to send: valid headers, no pixels worth looking at, UIDs that follow from a key."""

from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
    generate_uid,
)

from node.peers.parcel import Parcel
from node.peers.part10 import read_file_head

CT, SEG, SR = CTImageStorage, SegmentationStorage, ComprehensiveSRStorage


def write_object(
    folder: Path,
    key: str,
    *,
    sop_class_uid: UID = CT,
    transfer_syntax_uid: UID = ExplicitVRLittleEndian,
    patient_name: str = "Send^Me",
    study: str = "study",
    pixel_bytes: int = 512,
) -> Path:
    """Write one object and return its path; the same key gives the same UIDs.

    Parameters
    ----------
    study
        Key of its Study.
    pixel_bytes
        Length of Pixel Data (7FE0,0010); bytes, even.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class_uid
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["instance", study, key])
    meta.TransferSyntaxUID = transfer_syntax_uid
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.dcm"
    ds = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study", study])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["series", study, sop_class_uid])
    ds.PatientName = patient_name
    ds.PatientID = "SEND-1"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20250114", "094100", "A1", "1"
    ds.Modality = {CT: "CT", SEG: "SEG", SR: "SR"}.get(sop_class_uid, "OT")
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    if pixel_bytes:
        _add_pixels(ds, pixel_bytes)
    ds.save_as(path, enforce_file_format=True)
    return path


def _add_pixels(ds: Dataset, length: int) -> None:
    """Give the object pixels that tell a shifted or swapped byte; what makes no whole row is padding."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Columns = min(length, 4096)
    ds.Rows = length // ds.Columns
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    pattern = bytes(range(251))
    ds.PixelData = (pattern * (length // len(pattern) + 1))[:length]


def parcel_of(path: Path, delivery_id: int = 1) -> Parcel:
    """Return the file as the transports take it."""
    head = read_file_head(path)
    return Parcel(
        delivery_id=delivery_id,
        sop_class_uid=head.sop_class_uid,
        sop_instance_uid=head.sop_instance_uid,
        transfer_syntax_uid=head.transfer_syntax_uid,
        path=path,
    )


def data_set_bytes(path: Path) -> bytes:
    """Return what follows the File Meta Information."""
    return path.read_bytes()[read_file_head(path).offset_bytes :]
