"""Segmented CT Series that never were, of the size of a real chest: 400 slices of 512 × 512."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from node.domain.codes import LUNG, NODULE
from node.domain.finding import Finding
from node.domain.job import digest_inputs
from node.domain.uids import InstanceUID, derive_uid
from node.models import SHIPPED_MODELS, read_model
from node.version import product_version
from workers.measurements import measure_mask
from workers.pipelines.base import Analysis
from workers.provenance import Provenance
from workers.volume import Volume

ROLE = "ct"
SHAPE = (400, 512, 512)
SPACING_MM = (0.8, 0.703125, 0.703125)
ORIGIN_MM = (-180.0, -180.0, -160.0)
# Center and radius in slices, rows, columns: three nodules of 10 to 16 mm.
NODULES = (
    ((100.0, 200.0, 150.0), (7.0, 8.0, 8.0)),
    ((210.0, 300.0, 350.0), (10.0, 11.0, 11.0)),
    ((300.0, 260.0, 380.0), (6.0, 6.0, 7.0)),
)
# Twenty organs, half of them below the others, each on 200 slices: 4,000 Frames of one Segment, and no slice is empty.
ORGANS = tuple(
    ((99.5 + 200.0 * (n % 2), 60.0 + 90.0 * (n // 5), 60.0 + 90.0 * (n % 5)), (100.0, 40.0, 40.0)) for n in range(20)
)

Point = tuple[float, float, float]
Ellipsoid = tuple[Point, Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An Analysis with all that its Results are made from."""

    analysis: Analysis
    inputs: Mapping[str, Sequence[Dataset]]
    provenance: Provenance


def nodule_case() -> Case:
    """Return three nodules, measured as a Pipeline measures them."""
    return _make_case(NODULES, is_measured=True)


def organ_case() -> Case:
    """Return twenty organs; nothing of them is measured, for nobody asks but the SR."""
    return _make_case(ORGANS, is_measured=False)


def _make_case(ellipsoids: Sequence[Ellipsoid], *, is_measured: bool) -> Case:
    inputs = {ROLE: list(_list_slices())}
    volume = _make_volume(inputs[ROLE])
    mask = _draw(ellipsoids)
    findings = tuple(
        _describe(volume, mask, number=number, key_slice=int(center[0]), is_measured=is_measured)
        for number, (center, _) in enumerate(ellipsoids, start=1)
    )
    uids = {ROLE: [InstanceUID(str(ds.SOPInstanceUID)) for ds in inputs[ROLE]]}
    provenance = Provenance(
        node_aet="RADNODE",
        pipeline="lung_nodules",
        model=read_model(SHIPPED_MODELS / "ct-nodules"),
        accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
        content=digest_inputs(uids),
        software_version=product_version(),
    )
    analysis = Analysis(findings=findings, reference=volume, mask=mask, threshold=0.5)
    return Case(analysis=analysis, inputs=inputs, provenance=provenance)


def _list_slices() -> Iterator[Dataset]:
    slices, rows, columns = SHAPE
    for number in range(slices):
        ds = Dataset()
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, derive_uid("benchmark", "instance", str(number))
        ds.StudyInstanceUID, ds.SeriesInstanceUID = derive_uid("benchmark", "study"), derive_uid("benchmark", "series")
        ds.FrameOfReferenceUID = derive_uid("benchmark", "frame")
        ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CT", 3, number + 1
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Benchmark", "B-1", "19620331", "F"
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20250114", "094100", "S1", "A-1"
        ds.ReferringPhysicianName, ds.Manufacturer, ds.ManufacturerModelName = "", "Benchmark Works", "Model B"
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
        ds.PixelSpacing, ds.SliceThickness = [str(value) for value in SPACING_MM[1:]], "1.0"
        ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        height_mm = ORIGIN_MM[2] + SPACING_MM[0] * number
        ds.ImagePositionPatient = [str(ORIGIN_MM[0]), str(ORIGIN_MM[1]), f"{height_mm:.4f}"]
        yield ds


def _make_volume(datasets: Sequence[Dataset]) -> Volume:
    slice_mm, row_mm, column_mm = SPACING_MM
    affine = np.array(
        [
            [0.0, 0.0, column_mm, ORIGIN_MM[0]],
            [0.0, row_mm, 0.0, ORIGIN_MM[1]],
            [slice_mm, 0.0, 0.0, ORIGIN_MM[2]],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    return Volume(
        voxels=np.zeros(SHAPE, np.float32),
        affine=affine,
        spacing_mm=SPACING_MM,
        frame_of_reference_uid=str(datasets[0].FrameOfReferenceUID),
        datasets=tuple(datasets),
    )


def _draw(ellipsoids: Sequence[Ellipsoid]) -> NDArray[np.uint8]:
    mask = np.zeros(SHAPE, np.uint8)
    for number, (center, radii) in enumerate(ellipsoids, start=1):
        box = tuple(
            slice(max(0, floor(c - r)), min(n, ceil(c + r) + 1)) for c, r, n in zip(center, radii, SHAPE, strict=True)
        )
        axes = (np.arange(part.start, part.stop) - c for part, c in zip(box, center, strict=True))
        along = np.meshgrid(*axes, indexing="ij", sparse=True)
        away = sum(((axis / radius) ** 2 for axis, radius in zip(along, radii, strict=True)), start=np.zeros(()))
        mask[box][away <= 1.0] = number
    return mask


def _describe(volume: Volume, mask: NDArray[np.uint8], *, number: int, key_slice: int, is_measured: bool) -> Finding:
    measures = measure_mask(volume, mask == number) if is_measured else None
    return Finding(
        label=f"Nodule {number}",
        code=NODULE,
        confidence=0.9,
        site=LUNG,
        segment_number=number,
        center_mm=measures.center_mm if measures else None,
        measurements=measures.values if measures else {},
        key_slice=measures.key_slice if measures else key_slice,
    )
