"""What a large CT costs to encode, in CPU seconds: the promise is 0.15 s for SEG and SR of three nodules."""

import time
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.domain.codes import LUNG, NODULE, RIGHT
from node.domain.finding import Finding
from node.domain.result import ResultKind
from node.domain.uids import derive_uid
from tests.analyses import Case, make_provenance, read_results
from tests.reports import encode_report_of
from workers.pipelines.base import Analysis
from workers.proving.check import check_results
from workers.volume import Volume

SLICES, MATRIX = 400, 512
SPACING_MM = (0.8, 0.7, 0.7)
PROMISED_CPU_S = 0.15
ROUNDS = 5
MAX_SR_BYTES = 130_000
# Center as (slice, row, column), radius in mm.
NODULES = (((100, 200, 150), 5.0), ((210, 300, 340), 4.0), ((320, 180, 370), 6.0))


def make_slice(number: int) -> Dataset:
    """Return the header of a slice as it is received; its pixels are nobody's business here."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, derive_uid("cost", str(number))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = derive_uid("cost", "study"), derive_uid("cost", "series")
    ds.FrameOfReferenceUID, ds.Modality, ds.Manufacturer = derive_uid("cost", "frame"), "CT", "Phantom Works"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Case^Test", "T-1", "19620331", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20250114", "094100", "S1", "A-1"
    ds.Rows = ds.Columns = MATRIX
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelSpacing, ds.SliceThickness = [str(SPACING_MM[1]), str(SPACING_MM[2])], "1.0"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = ["-180", "-180", f"{number * SPACING_MM[0]:.2f}"], [*"100010"]
    return ds


def large_case() -> Case:
    """Return three nodules on 400 slices of 512 rows and columns."""
    slices = [make_slice(number) for number in range(SLICES)]
    affine = np.array([[0, 0, 0.7, -180], [0, 0.7, 0, -180], [0.8, 0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(
        voxels=np.zeros((SLICES, MATRIX, MATRIX), np.float32),
        affine=affine,
        spacing_mm=SPACING_MM,
        frame_of_reference_uid=str(slices[0].FrameOfReferenceUID),
        datasets=tuple(slices),
    )
    mask = np.zeros(volume.voxels.shape, np.uint8)
    findings = []
    for number, (center, radius_mm) in enumerate(NODULES, start=1):
        low = [int(c - radius_mm / mm) - 1 for c, mm in zip(center, SPACING_MM, strict=True)]
        high = [int(c + radius_mm / mm) + 2 for c, mm in zip(center, SPACING_MM, strict=True)]
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        index = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1)
        ball = np.linalg.norm((index - np.array(center)) * SPACING_MM, axis=-1) <= radius_mm
        mask[box][ball] = number
        sizes = {"long_axis_mm": 2 * radius_mm, "short_axis_mm": 2 * radius_mm}
        sizes |= {"volume_mm3": float(ball.sum() * np.prod(SPACING_MM)), "mean_hu": 0.0}
        findings.append(
            Finding(
                label=f"Nodule {number}",
                code=NODULE,
                confidence=0.9,
                site=LUNG,
                laterality=RIGHT,
                segment_number=number,
                key_slice=center[0],
                measurements=sizes,
            )
        )
    inputs = {"ct": slices}
    return Case(
        analysis=Analysis(findings=tuple(findings), reference=volume, mask=mask, threshold=0.5),
        inputs=inputs,
        provenance=make_provenance("lung_nodules", inputs, series_offset=1),
    )


@pytest.fixture(scope="module")
def large() -> Case:
    return large_case()


@pytest.fixture(scope="module")
def files(large: Case) -> list[bytes]:
    """Return the slices as they lie in the store."""
    written = []
    for ds in large.inputs["ct"]:
        buffer = BytesIO()
        dcmwrite(buffer, ds, enforce_file_format=True)
        written.append(buffer.getvalue())
    return written


def receive(case: Case, files: Sequence[bytes]) -> Case:
    """Return the Case with headers as they come from files, none of their elements read yet."""
    received = tuple(dcmread(BytesIO(content)) for content in files)
    volume = case.analysis.reference
    assert volume is not None
    analysis = replace(case.analysis, reference=replace(volume, datasets=received))
    return replace(case, analysis=analysis, inputs={"ct": received})


def test_three_nodules_on_400_slices_cost_what_was_promised(large: Case, files: Sequence[bytes]) -> None:
    spent_s = []
    for _ in range(ROUNDS):
        case = receive(large, files)
        before = time.process_time()
        encode_report_of(case)
        spent_s.append(time.process_time() - before)
    # The least of some rounds: what else runs on the machine makes a round dearer, never cheaper.
    assert min(spent_s) <= PROMISED_CPU_S, spent_s


def test_what_is_cheap_is_true_as_well(large: Case, files: Sequence[bytes]) -> None:
    case = receive(large, files)
    results = encode_report_of(case)
    check_results(results, case.analysis, case.inputs)
    sr = read_results(results)[ResultKind.SR]
    (study,) = sr.CurrentRequestedProcedureEvidenceSequence
    assert sum(len(series.ReferencedSOPSequence) for series in study.ReferencedSeriesSequence) == SLICES + 1
    assert {result.kind: len(result.content) for result in results}[ResultKind.SR] < MAX_SR_BYTES
