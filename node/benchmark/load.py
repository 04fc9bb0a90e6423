"""What is sent to receivers: CT Images whose pixels are noise, and whether they were kept byte by byte."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from math import sqrt
from os import urandom
from pathlib import Path
from re import fullmatch

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.domain.uids import derive_uid
from node.errors import NotDicom, SettingsInvalid
from node.header.part10 import read_part10

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
KILOBYTE = 1000
# What stands before the pixels, File Meta Information included.
HEADER_BYTES = 830
BYTES_A_PIXEL = 2
# Rows (0028,0010) and Columns (0028,0011) are unsigned shorts.
MAX_KILOBYTES = 0xFFFF**2 * BYTES_A_PIXEL // KILOBYTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent in one round, written as ``300x525``.

    Attributes
    ----------
    instances
        How many CT Images, >= 1.
    kilobytes
        Length of the file of each, to a per cent; 10^3 bytes, >= 2.
    """

    instances: int
    kilobytes: int

    def __str__(self) -> str:
        """Return it as people write it."""
        return f"{self.instances}x{self.kilobytes}"


def parse_load(text: str) -> Load:
    """Return the load that ``INSTANCESxKILOBYTES`` names.

    Raises
    ------
    SettingsInvalid
        If the text has another form.
    """
    found = fullmatch(r"(\d+)x(\d+)", text.strip())
    load = Load(instances=int(found[1]), kilobytes=int(found[2])) if found else Load(instances=0, kilobytes=0)
    if load.instances < 1 or not HEADER_BYTES < load.kilobytes * KILOBYTE <= MAX_KILOBYTES * KILOBYTE:
        raise SettingsInvalid(f"load {text!r}: expected INSTANCESxKILOBYTES, such as 300x525")
    return load


class Sent:
    """The files of a load, in a folder, and what is known of them.

    Parameters
    ----------
    folder
        Made when absent; files that are there already are taken as they are.
    """

    def __init__(self, folder: Path, load: Load) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.files: Sequence[Path] = [folder / f"{number:05}.dcm" for number in range(load.instances)]
        for number, file in enumerate(self.files):
            if not file.exists():
                _ct_image(number, load).save_as(file, enforce_file_format=True)

    @cached_property
    def digests(self) -> Sequence[str]:
        """SHA-256 of each file's data set, in the order of `files`."""
        return [_data_set_digest(file) for file in self.files]

    def size_bytes(self, instances: int) -> int:
        """Return the length of the first files together."""
        return sum(file.stat().st_size for file in self.files[:instances])

    def count_kept(self, kept: Iterable[Path], instances: int) -> int:
        """Return how many of the first data sets are in one of the files `kept`, the same to the last byte."""
        found = set()
        for path in kept:
            try:
                found.add(_data_set_digest(path))
            except NotDicom:
                continue  # a database of the receiver, or an Instance that is cut
        return len(found.intersection(self.digests[:instances]))


def _data_set_digest(path: Path) -> str:
    content = path.read_bytes()
    return sha256(memoryview(content)[read_part10(content).data_set_offset :]).hexdigest()


def _ct_image(number: int, load: Load) -> Dataset:
    pixels = (load.kilobytes * KILOBYTE - HEADER_BYTES) / BYTES_A_PIXEL
    columns = round(sqrt(pixels))
    rows = round(pixels / columns)
    ds = ct_header(rows=rows, columns=columns, number=number)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PixelData = urandom(rows * columns * BYTES_A_PIXEL)
    return ds


def ct_header(*, rows: int, columns: int, number: int) -> Dataset:
    """Return a CT Image without its pixels, 16 bits of each.

    Parameters
    ----------
    number
        From 0; it is one of a Series that has a slice at every millimetre.
    """
    ds = Dataset()
    size = f"{rows}x{columns}"
    ds.SOPClassUID = UID(CT_IMAGE_STORAGE)
    ds.SOPInstanceUID = UID(derive_uid("benchmark", "instance", size, str(number)))
    ds.StudyInstanceUID = derive_uid("benchmark", "study", size)
    ds.SeriesInstanceUID = derive_uid("benchmark", "series", size)
    ds.Modality, ds.PatientID, ds.PatientName = "CT", "BENCHMARK", "Benchmark^Receive"
    ds.StudyDate, ds.StudyTime, ds.InstanceNumber = "20250114", "120000", number + 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.7, 0.7], 1
    ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    return ds
