"""Small Series with what a Pipeline would say of them, made by hand: the encoder is tested without a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset, dcmread, dcmwrite
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from node.domain.codes import (
    ANATOMICAL_STRUCTURE,
    BRAIN,
    EDEMA,
    ENHANCING_LESION,
    LEFT,
    LUNG,
    NEOPLASM,
    NODULE,
    PNEUMONIA,
    RIGHT,
    Code,
)
from node.domain.finding import Finding, Presence
from node.domain.job import JobID, digest_inputs
from node.domain.result import OptionalResult, ResultKind, ResultWishes, SegmentationForm
from node.domain.retraction import RejectionReason, Retraction, RetractionOrder
from node.domain.uids import InstanceUID, derive_uid
from node.models import ModelCard
from workers.encoding.encoder import EncodedResult, encode
from workers.encoding.rejection import encode_rejection
from workers.pipelines.base import Analysis
from workers.provenance import Provenance
from workers.radiograph import read_radiograph
from workers.volume import Volume, read_volume

Point = tuple[float, float, float]
Inputs = Mapping[str, Sequence[Dataset]]

ACCEPTED = datetime(2026, 11, 21, 1, 30, 5, tzinfo=UTC)
WEIGHTS = "3f9c" * 16
# Slice distance, rows, columns; all differ so that no two can be confused. Slice Thickness lies on purpose.
SPACING_MM = (2.0, 0.8, 0.7)
SLICE_THICKNESS_MM = "3.0"
ORIGIN_MM = (-21.0, -30.0, 12.5)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# Turned about the patient's left-right axis, as real head scans are.
TILTED = (1.0, 0.0, 0.0, 0.0, float(np.cos(np.radians(10.8))), -float(np.sin(np.radians(10.8))))
MODALITIES: Mapping[str, str] = {CTImageStorage: "CT", MRImageStorage: "MR", ComputedRadiographyImageStorage: "CR"}
SLICES, ROWS, COLUMNS = 12, 64, 56
SPLEEN, LIVER = Code("78961009", "SCT", "Spleen"), Code("10200004", "SCT", "Liver")
# What a made-up model of each Pipeline calls itself, and what it looks for.
TITLES = {"chest_xray": "Chest X-ray"}
LOOKED_FOR = {"lung_nodules": (NODULE,), "brain_tumour": (NEOPLASM,), "chest_xray": (PNEUMONIA,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ball:
    """A region with a known answer: all voxels within `radius_mm` of `center_mm` (LPS)."""

    center_mm: Point
    radius_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One Analysis with its sources and provenance."""

    analysis: Analysis
    inputs: Inputs
    provenance: Provenance
    balls: tuple[Ball, ...] = field(default=())

    def encode(
        self, *optional: OptionalResult, segmentation: SegmentationForm = SegmentationForm.BINARY
    ) -> tuple[EncodedResult, ...]:
        """Return the Results, with these optional ones."""
        wishes = ResultWishes(segmentation=segmentation, optional=frozenset(optional))
        return encode(self.analysis, self.provenance, self.inputs, wishes)


@cache
def known(name: str) -> tuple[Case, tuple[EncodedResult, ...]]:
    """Return a Case and its Results, made once a test run: do not change them.

    Parameters
    ----------
    name
        ``ct``, ``tilted``, ``mr`` or ``xray``; all with a picture.
    """
    case = {
        "ct": ct_case,
        "tilted": lambda: ct_case(orientation=TILTED),
        "mr": mr_case,
        "xray": xray_case,
    }[name]()
    return case, case.encode(OptionalResult.PICTURE)


def read_results(results: Sequence[EncodedResult]) -> dict[ResultKind, Dataset]:
    """Return what the bytes of each Result hold."""
    return {result.kind: dcmread(BytesIO(result.content)) for result in results}


def make_slices(
    sop_class_uid: str = CTImageStorage,
    *,
    series: str = "1",
    orientation: Sequence[float] = AXIAL,
    gray: float = -800.0,
    **elements: Any,
) -> list[Dataset]:
    """Return the Instances of a Series of 12 slices of 64 × 56, in a shuffled order."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    slices = []
    for number in range(SLICES):
        position = np.array(ORIGIN_MM) + normal * SPACING_MM[0] * number
        ds = _make_instance(sop_class_uid, f"{series}/{number}", series, rows=ROWS, columns=COLUMNS)
        ds.InstanceNumber = SLICES - number
        ds.FrameOfReferenceUID = derive_uid("test", "frame")
        ds.ImagePositionPatient = [f"{value:.6f}" for value in position]
        ds.ImageOrientationPatient = [f"{value:.8f}" for value in orientation]
        ds.PixelSpacing = [str(SPACING_MM[1]), str(SPACING_MM[2])]
        ds.SliceThickness = SLICE_THICKNESS_MM
        ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
        texture = (np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) * 7) % 90
        ds.PixelData = (texture + gray + 1024).astype(np.uint16).tobytes()
        put(ds, elements)
        slices.append(ds)
    return slices[1::2] + slices[::2]


def make_radiograph(**elements: Any) -> Dataset:
    """Return a CR Image of 96 × 80 pixels, bright in the middle."""
    ds = _make_instance(ComputedRadiographyImageStorage, "film", "9", rows=96, columns=80)
    ds.InstanceNumber = 1
    ds.ViewPosition, ds.BodyPartExamined, ds.PatientOrientation = "PA", "CHEST", ["L", "F"]
    ds.ImagerPixelSpacing = ["2", "2"]
    away = np.add.outer(np.abs(np.arange(96) - 48), np.abs(np.arange(80) - 40))
    ds.PixelData = (900 - 9 * away).clip(0).astype(np.uint16).tobytes()
    put(ds, elements)
    return ds


def put(ds: Dataset, elements: Mapping[str, Any]) -> None:
    """Set elements by keyword, also to values that their VR forbids: real headers hold such."""
    for keyword, value in elements.items():
        ds.add(DataElement(Tag(keyword), dictionary_VR(keyword), value, validation_mode=IGNORE))


def resend(ds: Dataset) -> Dataset:
    """Return what another node reads after `ds` was written; text is bytes in its own character set then."""
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()))


def fill_ball(volume: Volume, ball: Ball) -> NDArray[np.bool_]:
    """Return the voxels of a ball, (slices, rows, columns) bool."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.voxels.shape), indexing="ij"), axis=-1)
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    within: NDArray[np.bool_] = np.linalg.norm(points - np.array(ball.center_mm), axis=-1) <= ball.radius_mm
    return within


def describe_ball(volume: Volume, region: NDArray[np.bool_], ball: Ball, finding: Finding) -> Finding:
    """Return a Finding with the measures of its region."""
    measured = {
        "long_axis_mm": 2 * ball.radius_mm,
        "short_axis_mm": 2 * ball.radius_mm,
        "volume_mm3": float(region.sum()) * float(np.prod(SPACING_MM)),
    }
    if volume.datasets[0].Modality == "CT":
        measured["mean_hu"] = float(volume.voxels[region].mean())
    key_slice = int(region.sum(axis=(1, 2)).argmax())
    return replace(finding, center_mm=ball.center_mm, measurements=measured, key_slice=key_slice)


def make_provenance(pipeline: str, inputs: Inputs, *, series_offset: int, **changes: Any) -> Provenance:
    """Return the provenance of a made-up model."""
    card = ModelCard(
        name=f"{pipeline}-model",
        version="1.2.0",
        pipeline=pipeline,
        licence="CC0-1.0",
        intended_use="Tests",
        notice="Reference model, not for diagnosis",
        series_offset=series_offset,
        weights=Path("weights.safetensors"),
        weights_sha256=WEIGHTS,
        required_roles=tuple(inputs),
        optional_roles=(),
        numbers={"thresholds": {"finding": 0.5}},
        title=TITLES.get(pipeline, ""),
        looked_for=LOOKED_FOR.get(pipeline, ()),
    )
    uids = {role: [InstanceUID(str(ds.SOPInstanceUID)) for ds in datasets] for role, datasets in inputs.items()}
    provenance = Provenance(
        node_aet="RADNODE",
        pipeline=pipeline,
        model=card,
        accepted_at=ACCEPTED,
        content=digest_inputs(uids),
        software_version="0.1.0",
    )
    return replace(provenance, **changes)


def rejection_note(case: Case, reason: RejectionReason) -> EncodedResult:
    """Return the note that takes back all Results of a Case."""
    order = RetractionOrder(reason=reason, comment="A rib end.", struck=(), ordered_by="reader")
    retraction = Retraction(retraction_id="r", job_id=JobID("job"), order=order, ordered_at=ACCEPTED, done_at=None)
    return encode_rejection(list(read_results(case.encode()).values()), retraction, case.provenance)


def ct_case(*, with_nodules: bool = True, orientation: Sequence[float] = AXIAL, **elements: Any) -> Case:
    """Return a chest CT with a nodule in each lung, or with none."""
    inputs = {"ct": make_slices(BodyPartExamined="CHEST", orientation=orientation, **elements)}
    volume = read_volume(inputs["ct"])
    provenance = make_provenance("lung_nodules", inputs, series_offset=1)
    notes = ("12 of 12 slices were read, 2.00 mm apart.",)
    if not with_nodules:
        return Case(
            analysis=Analysis(findings=(), reference=volume, threshold=0.5, notes=notes),
            inputs=inputs,
            provenance=provenance,
        )
    balls = (
        Ball(center_mm=volume.to_patient_mm((4, 22, 16)), radius_mm=3.7),
        Ball(center_mm=volume.to_patient_mm((8, 40, 41)), radius_mm=2.6),
    )
    findings = (
        Finding(label="Nodule 1", code=NODULE, confidence=0.97, site=LUNG, laterality=RIGHT, segment_number=1),
        Finding(label="Nodule 2", code=NODULE, confidence=0.81, site=LUNG, laterality=LEFT, segment_number=2),
    )
    return Case(analysis=_segmented(volume, balls, findings, notes), inputs=inputs, provenance=provenance, balls=balls)


def mr_case(*, orientation: Sequence[float] = TILTED) -> Case:
    """Return a brain MR of three roles with a lesion that encloses an enhancing part, on tilted slices."""
    inputs = {
        role: make_slices(MRImageStorage, series=role, orientation=orientation, BodyPartExamined="BRAIN", gray=gray)
        for role, gray in (("flair", 0.0), ("t1", 100.0), ("t1c", 200.0))
    }
    volume = read_volume(inputs["flair"])
    center = volume.to_patient_mm((6, 30, 24))
    balls = (Ball(center_mm=center, radius_mm=5.4), Ball(center_mm=center, radius_mm=3.1))
    findings = (
        Finding(label="FLAIR abnormality", code=EDEMA, confidence=0.9, site=BRAIN, laterality=LEFT, segment_number=1),
        Finding(label="Enhancing part", code=ENHANCING_LESION, confidence=0.7, site=BRAIN, segment_number=2),
    )
    return Case(
        analysis=_segmented(volume, balls, findings, ("T1 before and after contrast was read.",)),
        inputs=inputs,
        provenance=make_provenance("brain_tumour", inputs, series_offset=2),
        balls=balls,
    )


def organ_case(*, is_found: bool = True) -> Case:
    """Return an abdominal CT with a spleen, by a Pipeline and a model that radnode does not ship."""
    inputs = {"abdomen": make_slices(BodyPartExamined="ABDOMEN")}
    volume = read_volume(inputs["abdomen"])
    provenance = make_provenance("spleen_segmentation", inputs, series_offset=42)
    card = replace(provenance.model, title="Spleen", looked_for=(SPLEEN, LIVER))
    provenance = replace(provenance, model=card)
    if not is_found:
        return Case(analysis=Analysis(findings=(), reference=volume), inputs=inputs, provenance=provenance)
    balls = (Ball(center_mm=volume.to_patient_mm((5, 30, 28)), radius_mm=7.1),)
    findings = (Finding(label="Spleen", code=SPLEEN, category=ANATOMICAL_STRUCTURE, segment_number=1),)
    analysis = replace(_segmented(volume, balls, findings, ()), threshold=None)
    return Case(analysis=analysis, inputs=inputs, provenance=provenance, balls=balls)


def xray_case(presence: Presence = Presence.PRESENT, *, more: Sequence[Code] = (), **elements: Any) -> Case:
    """Return a chest X-ray with one label, and with `more` absent ones."""
    inputs = {"image": [make_radiograph(**elements)]}
    confidence = {Presence.PRESENT: 0.86, Presence.UNDETERMINED: 0.51, Presence.ABSENT: 0.12}[presence]
    findings = [Finding(label="Pneumonia", code=PNEUMONIA, presence=presence, confidence=confidence, site=LUNG)]
    findings += [
        Finding(label=code.meaning, code=code, presence=Presence.ABSENT, confidence=0.2, site=LUNG) for code in more
    ]
    heat = None
    if presence is Presence.PRESENT:
        rows, columns = np.mgrid[0:96, 0:80]
        heat = np.exp(-(((rows - 60) / 9.0) ** 2) - ((columns - 20) / 7.0) ** 2).astype(np.float32)
    notes = ("View Position is absent; the image was taken to be frontal.",)
    return Case(
        analysis=Analysis(
            findings=tuple(findings),
            radiograph=read_radiograph(inputs["image"][0]),
            heat=heat,
            threshold=0.5,
            notes=notes,
        ),
        inputs=inputs,
        provenance=make_provenance("chest_xray", inputs, series_offset=3),
    )


def _segmented(volume: Volume, balls: Sequence[Ball], findings: Sequence[Finding], notes: tuple[str, ...]) -> Analysis:
    mask = np.zeros(volume.voxels.shape, np.uint8)
    for number, ball in enumerate(balls, start=1):
        mask[fill_ball(volume, ball)] = number
    described = tuple(
        describe_ball(volume, mask == number, ball, finding)
        for number, (ball, finding) in enumerate(zip(balls, findings, strict=True), start=1)
    )
    return Analysis(findings=described, reference=volume, mask=mask, threshold=0.5, notes=notes)


def _make_instance(sop_class_uid: str, key: str, series: str, *, rows: int, columns: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, derive_uid("test", "instance", key)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = derive_uid("test", "study"), derive_uid("test", "series", series)
    ds.Modality = MODALITIES[sop_class_uid]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Case^Test", "T-1", "19620331", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20250114", "094100", "S1", "A-1"
    ds.ReferringPhysicianName, ds.StudyDescription = "Doctor^Test", "Study of a test"
    ds.SeriesNumber, ds.SeriesDescription = 3, "Series of a test"
    ds.Manufacturer, ds.ManufacturerModelName = "Phantom Works", "Model T"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    return ds
