"""Complete DICOM headers for phantoms: fictional people, UIDs that follow from the seed."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.rehearsal.shapes import Point

# Every phantom UID is a uuid5 in this space: PS3.5 B.2 gives the root 2.25 to UUIDs.
PHANTOM_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "phantom.radnode.invalid")
PHANTOM_IMPLEMENTATION_UID = UID(f"2.25.{uuid.uuid5(PHANTOM_SPACE, 'implementation').int}")
STUDY_DATE = "20250114"
STUDY_TIME = "094100"
INSTITUTION = "Phantom Hospital (fictional)"
# Never the name that marks our own Results: those are not processed again.
MANUFACTURER = "Rehearsal"
SOFTWARE_VERSION = "rehearsal 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A fictional patient.

    Attributes
    ----------
    name
        Patient's Name (0010,0010).
    patient_id
        Patient ID (0010,0020).
    birth_date
        Patient's Birth Date (0010,0030), YYYYMMDD.
    sex
        Patient's Sex (0010,0040): F, M or O.
    """

    name: str
    patient_id: str
    birth_date: str = "19620331"
    sex: str = "F"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyHeader:
    """What all Instances of one phantom Study share.

    Attributes
    ----------
    key
        What the UIDs are made from; the same key gives the same UIDs.
    patient
        Whose Study.
    description
        Study Description (0008,1030).
    accession_number
        Accession Number (0008,0050), at most 16 characters.
    """

    key: str
    patient: Patient
    description: str
    accession_number: str

    def uid(self, *parts: object) -> UID:
        """Return the UID of one part of the Study, such as `uid("series", 2)`."""
        name = "/".join((self.key, *(str(part) for part in parts)))
        return UID(f"2.25.{uuid.uuid5(PHANTOM_SPACE, name).int}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesHeader:
    """What all Instances of one phantom Series share.

    Attributes
    ----------
    sop_class_uid
        SOP Class UID (0008,0016).
    modality
        Modality (0008,0060).
    number
        Series Number (0020,0011), >= 1.
    description
        Series Description (0008,103E).
    body_part
        Body Part Examined (0018,0015).
    model_name
        Manufacturer's Model Name (0008,1090).
    """

    sop_class_uid: UID
    modality: str
    number: int
    description: str
    body_part: str
    model_name: str


def new_instance(study: StudyHeader, series: SeriesHeader, number: int) -> FileDataset:
    """Return an Instance without pixels: patient, Study, Series, equipment and SOP Common.

    Parameters
    ----------
    study, series
        Where it belongs.
    number
        Instance Number (0020,0013), >= 1.

    References
    ----------
    DICOM PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1, C.12.1
    """
    sop_instance_uid = study.uid("series", series.number, "instance", number)
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = series.sop_class_uid
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PHANTOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = "RADNODE_PHANTOM"
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\x00" * 128, is_implicit_VR=False, is_little_endian=True)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = series.sop_class_uid
    ds.SOPInstanceUID = sop_instance_uid
    _describe_study(ds, study)
    _describe_series(ds, study, series)
    ds.InstanceNumber = number
    ds.InstanceCreationDate, ds.InstanceCreationTime = STUDY_DATE, STUDY_TIME
    ds.ContentDate, ds.ContentTime = STUDY_DATE, STUDY_TIME
    ds.AcquisitionDate, ds.AcquisitionTime = STUDY_DATE, STUDY_TIME
    ds.AcquisitionNumber = 1
    return ds


def _describe_study(ds: Dataset, study: StudyHeader) -> None:
    """Write the patient and Study attributes in place."""
    ds.PatientName = study.patient.name
    ds.PatientID = study.patient.patient_id
    ds.PatientBirthDate = study.patient.birth_date
    ds.PatientSex = study.patient.sex
    ds.PatientAge = f"{int(STUDY_DATE[:4]) - int(study.patient.birth_date[:4]):03d}Y"
    ds.StudyInstanceUID = study.uid("study")
    ds.StudyDate, ds.StudyTime = STUDY_DATE, STUDY_TIME
    ds.ReferringPhysicianName = "Fictional^Referrer"
    ds.StudyID = study.accession_number[-8:] or "1"
    ds.AccessionNumber = study.accession_number
    ds.StudyDescription = study.description


def _describe_series(ds: Dataset, study: StudyHeader, series: SeriesHeader) -> None:
    """Write the Series and equipment attributes in place."""
    ds.Modality = series.modality
    ds.SeriesInstanceUID = study.uid("series", series.number)
    ds.SeriesNumber = series.number
    ds.SeriesDate, ds.SeriesTime = STUDY_DATE, STUDY_TIME
    ds.SeriesDescription = series.description
    ds.BodyPartExamined = series.body_part
    ds.ProtocolName = series.description
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = series.model_name
    ds.InstitutionName = INSTITUTION
    ds.StationName = "REHEARSAL"
    ds.DeviceSerialNumber = "0001"
    ds.SoftwareVersions = SOFTWARE_VERSION


def place_slice(ds: Dataset, study: StudyHeader, *, position_mm: Point, spacing_mm: float, thickness_mm: float) -> None:
    """Write Frame of Reference and Image Plane of an axial slice in place.

    Parameters
    ----------
    ds
        The Instance.
    study
        Whose Frame of Reference; all its Series share one.
    position_mm
        Image Position (Patient) (0020,0032), LPS, mm.
    spacing_mm
        Pixel Spacing (0028,0030) of rows and of columns, mm.
    thickness_mm
        Slice Thickness (0018,0050), mm.

    References
    ----------
    DICOM PS3.3 C.7.4.1, C.7.6.2
    """
    ds.FrameOfReferenceUID = study.uid("frame-of-reference")
    ds.PositionReferenceIndicator = ""
    ds.PatientPosition = "HFS"
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [round(value, 4) for value in position_mm]
    ds.SliceLocation = round(position_mm[2], 4)
    ds.PixelSpacing = [spacing_mm, spacing_mm]
    ds.SliceThickness = thickness_mm


def set_pixels(
    ds: Dataset,
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    *,
    bits_stored: int,
    photometric_interpretation: str = "MONOCHROME2",
) -> None:
    """Write the Image Pixel module of one gray image in place.

    Parameters
    ----------
    ds
        The Instance.
    pixels
        (rows, columns) uint8 or uint16, below 2 ** `bits_stored`.
    bits_stored
        Bits Stored (0028,0101).
    photometric_interpretation
        MONOCHROME1 or MONOCHROME2.

    References
    ----------
    DICOM PS3.3 C.7.6.3
    """
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = photometric_interpretation
    ds.Rows, ds.Columns = (int(n) for n in pixels.shape)
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    ds.BitsStored = bits_stored
    ds.HighBit = bits_stored - 1
    ds.PixelRepresentation = 0
    little = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    # PS3.5 A.2: 8 bit pixels go as OB, deeper ones as OW; the length is even.
    ds["PixelData"] = _pixel_element(little, vr="OB" if pixels.dtype.itemsize == 1 else "OW")


def _pixel_element(value: bytes, *, vr: str) -> DataElement:
    """Return Pixel Data (7FE0,0010) of even length."""
    return DataElement(0x7FE00010, vr, value + b"\x00" * (len(value) % 2))


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """Return one item of a code sequence, PS3.3 section 8.8."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def codes(*items: Dataset) -> DicomSequence:
    """Return a sequence of items."""
    return DicomSequence(list(items))


def write_datasets(datasets: Sequence[FileDataset], folder: Path) -> tuple[Path, ...]:
    """Write Instances as Part 10 files `<SOP Instance UID>.dcm` and return where they lie.

    The folder is made if it is absent. Files of the same name are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for ds in datasets:
        path = folder / f"{ds.SOPInstanceUID}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)
