"""Real images that do not come as DICOM, wrapped as MR Instances: NIfTI volumes and stacks without geometry."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import FileDataset
from pydicom.uid import MRImageStorage

from node.rehearsal.headers import Patient, SeriesHeader, StudyHeader, new_instance, place_slice, set_pixels

# Offsets of a NIfTI-1 header; all files here are little endian and have an s-form.
DIM, DATATYPE, VOX_OFFSET, SROW = slice(40, 56), slice(70, 72), slice(108, 112), slice(280, 328)
INT16 = 4
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
NAMES: Mapping[str, str] = {"flair": "AX FLAIR", "t1": "AX T1 pre", "t1c": "AX T1 post gad"}
# The field of view of the stacks is not known; that of workers/training/lgg.py.
STACK_SPACING_MM = (5.0, 0.9375, 0.9375)
STACK_CHANNELS = ("t1", "flair", "t1c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Voxels and where they lie.

    Attributes
    ----------
    voxels
        (slices, rows, columns) uint16.
    origin_mm
        Center of the first voxel, LPS.
    steps_mm
        (3, 3): from slice to slice, row to row, column to column, LPS.
    """

    voxels: NDArray[np.uint16]
    origin_mm: NDArray[np.float64]
    steps_mm: NDArray[np.float64]


def wrap_nifti_study(folder: Path) -> list[FileDataset]:
    """Return FLAIR, T1 and T1 with contrast of a folder of NIfTI files as one Study."""
    return _wrap_study(folder.name, {role: _read_nifti(folder / f"{role}.nii.gz") for role in NAMES})


def wrap_npz_study(path: Path) -> list[FileDataset]:
    """Return the three channels of an array file as one Study."""
    with np.load(path) as arrays:
        image = arrays["image"]
    slices, rows, columns = STACK_SPACING_MM
    steps = np.array([[0, 0, slices], [0, rows, 0], [columns, 0, 0]])
    stacks = {
        role: Stack(voxels=image[..., channel].astype(np.uint16), origin_mm=np.zeros(3), steps_mm=steps)
        for channel, role in enumerate(STACK_CHANNELS)
    }
    return _wrap_study(path.stem, stacks)


def _wrap_study(key: str, stacks: Mapping[str, Stack]) -> list[FileDataset]:
    patient = Patient(name="Head^Collection", patient_id=key[:64], sex="O")
    study = StudyHeader(key=f"wrapped/{key}", patient=patient, description="Brain", accession_number="")
    return [
        ds
        for number, (role, stack) in enumerate(stacks.items(), start=1)
        for ds in _wrap_series(study, number, NAMES[role], stack)
    ]


def _wrap_series(study: StudyHeader, number: int, name: str, stack: Stack) -> list[FileDataset]:
    series = SeriesHeader(
        sop_class_uid=MRImageStorage,
        modality="MR",
        number=number,
        description=name,
        body_part="BRAIN",
        model_name="Wrapped",
    )
    distances = np.linalg.norm(stack.steps_mm, axis=1)
    row, column = stack.steps_mm[2] / distances[2], stack.steps_mm[1] / distances[1]
    datasets = []
    for index, plane in enumerate(stack.voxels):
        ds = new_instance(study, series, index + 1)
        x, y, z = (float(value) for value in stack.origin_mm + index * stack.steps_mm[0])
        place_slice(ds, study, position_mm=(x, y, z), spacing_mm=1.0, thickness_mm=round(float(distances[0]), 4))
        ds.ImageOrientationPatient = [f"{value:.8f}" for value in (*row, *column)]
        ds.PixelSpacing = [f"{value:.6f}" for value in (distances[1], distances[2])]
        ds.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "RM", "NONE", ""
        ds.MRAcquisitionType, ds.EchoTime, ds.EchoTrainLength = "2D", "", ""
        set_pixels(ds, plane, bits_stored=16)
        datasets.append(ds)
    return datasets


def _read_nifti(path: Path) -> Stack:
    content = gzip.decompress(path.read_bytes())
    columns, rows, slices = (int(n) for n in np.frombuffer(content[DIM], "<i2")[1:4])
    assert int(np.frombuffer(content[DATATYPE], "<i2")[0]) == INT16
    offset = int(np.frombuffer(content[VOX_OFFSET], "<f4")[0])
    voxels = np.frombuffer(content, "<i2", count=columns * rows * slices, offset=offset).reshape(slices, rows, columns)
    placed = RAS_TO_LPS @ np.frombuffer(content[SROW], "<f4").reshape(3, 4).astype(float)
    column, row, slice_, origin = placed.T
    # NIfTI counts rows from the back to the front; an axial slice is shown from the front to the back.
    return Stack(
        voxels=np.ascontiguousarray(voxels[:, ::-1].clip(0).astype(np.uint16)),
        origin_mm=origin + (rows - 1) * row,
        steps_mm=np.stack([slice_, -row, column]),
    )
