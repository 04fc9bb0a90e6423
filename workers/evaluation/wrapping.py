"""Pictures that come without DICOM headers, given the least that a Pipeline needs; nothing is made up of a patient."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import FileDataset
from pydicom.uid import MRImageStorage

from node.rehearsal.chest_xray import wrap_film
from node.rehearsal.headers import Patient, SeriesHeader, StudyHeader, new_instance, place_slice, set_pixels

# What the headers of phantoms hold and no picture of a data set tells.
UNKNOWN = ("PatientBirthDate", "PatientSex", "Manufacturer", "ManufacturerModelName")
INVENTED = (
    "PatientAge",
    "StationName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "ViewCodeSequence",
    "KVP",
    "Exposure",
)


def wrap_stack(
    voxels: NDArray[np.uint16], *, key: str, number: int, description: str, spacing_mm: tuple[float, float, float]
) -> Sequence[FileDataset]:
    """Return axial MR slices, from feet to head, nose up, the patient's left to the right.

    Parameters
    ----------
    voxels
        (slices, rows, columns).
    key
        One key, one Study; its Series share a Frame of Reference.
    number
        Series Number.
    spacing_mm
        Distance of slices, rows and columns; the last two are equal.
    """
    study = StudyHeader(
        key=f"wrapped/{key}",
        patient=Patient(name="Head^Collection", patient_id=key[:64], sex="O"),
        description="Brain",
        accession_number="",
    )
    series = SeriesHeader(
        sop_class_uid=MRImageStorage,
        modality="MR",
        number=number,
        description=description,
        body_part="BRAIN",
        model_name="",
    )
    datasets = []
    for index, plane in enumerate(voxels):
        ds = new_instance(study, series, index + 1)
        position = (0.0, 0.0, index * spacing_mm[0])
        place_slice(ds, study, position_mm=position, spacing_mm=spacing_mm[1], thickness_mm=spacing_mm[0])
        ds.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "RM", "NONE", ""
        ds.MRAcquisitionType = "2D"
        set_pixels(ds, plane, bits_stored=16)
        datasets.append(_forget(ds))
    return datasets


def wrap_frontal_film(pixels: NDArray[np.uint8], *, name: str) -> FileDataset:
    """Return an anteroposterior chest film as a DX Instance; its size in mm is not known.

    Parameters
    ----------
    pixels
        (rows, columns), dense is bright.
    name
        One name, one Study.
    """
    ds = _forget(wrap_film(pixels, name=name))
    ds.ViewPosition = "AP"
    del ds.ImagerPixelSpacing
    return ds


def _forget(ds: FileDataset) -> FileDataset:
    for keyword in UNKNOWN:
        setattr(ds, keyword, "")
    for keyword in INVENTED:
        if keyword in ds:
            delattr(ds, keyword)
    return ds
