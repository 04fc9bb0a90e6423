"""A frontal chest X-ray, projected through the chest of the CT phantom, with or without an opacity."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation

from node.rehearsal.chest import Chest, Opacity, draw_chest, draw_hu
from node.rehearsal.headers import (
    Patient,
    SeriesHeader,
    StudyHeader,
    code_item,
    codes,
    new_instance,
    set_pixels,
)
from node.rehearsal.shapes import Floats, Grid, blur_plane, centered_axis

# Children: of an adult's film, the X-ray model says nothing but that it was not made for adults.
CLARA = Patient(name="Phantom^Clara", patient_id="PH-0003", birth_date="20210808")
COLLECTED_BIRTH_DATE = "20220331"
FIELD_MM = 372.0
# Finer rays and steps cost seconds and change no gray value visibly.
RAY_SPACING_MM = 0.9
RAY_STEP_MM = 2.5
# Bone absorbs more than its density says, because of calcium, at the energies of a film.
BONE_EXCESS = 0.95
BONE_FROM_HU = 120.0
# Water-equivalent path (mm) that is shown black and white, before the contrast curve.
BLACK_MM, WHITE_MM = 10.0, 222.0
# Film processing lifts detail finer than this over the broad shadows.
DETAIL_MM = 14.0
BROAD_GAIN, DETAIL_GAIN = 0.86, 1.5
GRAY_BITS = 12
MARKER_ROWS = ("11110", "10001", "10001", "11110", "10100", "10010", "10001")

PhotometricInterpretation = Literal["MONOCHROME1", "MONOCHROME2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChestXrayPhantom:
    """A chest X-ray and what is in it.

    Attributes
    ----------
    dataset
        The Instance.
    opacity
        The consolidated lung, or None.
    """

    dataset: FileDataset
    opacity: Opacity | None

    @property
    def has_opacity(self) -> bool:
        """Return whether a part of the lung is consolidated."""
        return self.opacity is not None


def chest_xray(
    *,
    seed: int = 11,
    with_opacity: bool = True,
    matrix: int = 1024,
    photometric_interpretation: PhotometricInterpretation = "MONOCHROME2",
    patient: Patient = CLARA,
) -> ChestXrayPhantom:
    """Return a PA chest X-ray (DX); the same arguments give the same bytes.

    Parameters
    ----------
    seed
        Draws the body, the opacity and the noise; with and without opacity it is the same body.
    with_opacity
        Whether a lower lung is consolidated.
    matrix
        Rows and columns; the field stays 372 mm.
    photometric_interpretation
        MONOCHROME2 shows dense as bright, MONOCHROME1 stores the opposite.
    patient
        Whose name it carries.
    """
    gray, opacity = chest_xray_pixels(seed=seed, with_opacity=with_opacity, matrix=matrix)
    stored = np.rint(gray * (2**GRAY_BITS - 1)).astype(np.uint16)
    if photometric_interpretation == "MONOCHROME1":
        stored = np.uint16(2**GRAY_BITS - 1) - stored
    key = f"chest-xray/{seed}/{opacity!r}/{matrix}/{photometric_interpretation}"
    ds = _new_film(key, patient=patient, accession_number=f"DX{seed:06d}")
    ds.ImagerPixelSpacing = [round(FIELD_MM / matrix, 4)] * 2
    set_pixels(
        ds,
        stored,
        bits_stored=GRAY_BITS,
        photometric_interpretation=photometric_interpretation,
    )
    _describe_gray_scale(ds, photometric_interpretation, bits=GRAY_BITS)
    return ChestXrayPhantom(dataset=ds, opacity=opacity)


def chest_xray_pixels(*, seed: int, with_opacity: bool, matrix: int = 1024) -> tuple[Floats, Opacity | None]:
    """Return the film of `chest_xray` without DICOM around it.

    Returns
    -------
    tuple
        (rows, columns) float32, 0..1, dense is bright, patient's right on the left; and the opacity.
    """
    chest = draw_chest(seed)
    opacity = draw_opacity(chest) if with_opacity else None
    path_mm = _project(chest, opacity)
    rng = np.random.default_rng([seed, 0xF11])
    return _develop(_resample(path_mm, matrix), rng), opacity


def draw_opacity(chest: Chest) -> Opacity:
    """Return a consolidation in a lower lung, at a place and of a size that the seed picks."""
    rng = np.random.default_rng([chest.seed, 0x09AC])
    side = 1.0 if rng.random() < 0.5 else -1.0
    across, back = rng.uniform((60, -15), (92, 40))
    center = (side * float(across), float(back), float(rng.uniform(-58, -18)))
    wide, deep, high = (float(v) for v in rng.uniform((34, 36, 30), (52, 56, 48)))
    return Opacity(center_mm=center, axes_mm=(wide, deep, high), density=float(rng.uniform(0.75, 1.0)))


def wrap_film(pixels: npt.NDArray[np.uint8], *, name: str, patient: Patient | None = None) -> FileDataset:
    """Return a gray film that came as a plain picture as a DX Instance.

    Parameters
    ----------
    pixels
        (rows, columns) uint8, dense is bright.
    name
        What the UIDs and the Patient ID are made from; one name, one Study.
    patient
        Whose name it carries; None makes up a child.
    """
    person = patient or Patient(name="Film^Collection", patient_id=name[:64], birth_date=COLLECTED_BIRTH_DATE, sex="O")
    ds = _new_film(f"film/{name}", patient=person, accession_number="")
    set_pixels(ds, np.ascontiguousarray(pixels), bits_stored=8)
    ds.ImagerPixelSpacing = [0.2, 0.2]
    _describe_gray_scale(ds, "MONOCHROME2", bits=8)
    return ds


def wrap_film_file(path: Path) -> FileDataset:
    """Return a picture file (JPEG, PNG) of a film as a DX Instance, named after the file."""
    with Image.open(path) as picture:
        return wrap_film(np.asarray(picture.convert("L")), name=path.stem)


def _project(chest: Chest, opacity: Opacity | None) -> Floats:
    """Return the water-equivalent path of parallel rays from back to front, mm: (z, x) ascending."""
    count = int(FIELD_MM / RAY_SPACING_MM)
    grid = Grid(
        z=centered_axis(count=count, spacing_mm=RAY_SPACING_MM, center_mm=2.0),
        y=centered_axis(count=int(260 / RAY_STEP_MM), spacing_mm=RAY_STEP_MM, center_mm=5.0),
        x=centered_axis(count=count, spacing_mm=RAY_SPACING_MM),
    )
    hu = draw_hu(grid, chest, opacity=opacity)
    path = np.zeros((count, count), dtype=np.float32)
    for k, plane in enumerate(hu):
        excess = np.clip(plane - np.float32(BONE_FROM_HU), 0, None) * np.float32(BONE_EXCESS)
        path[k] = ((plane + excess) / 1000 + 1).sum(axis=0) * RAY_STEP_MM
    return path


def _resample(path_mm: Floats, matrix: int) -> Floats:
    """Return the path on the detector, head up: (matrix, matrix)."""
    place = (np.arange(matrix) + 0.5) / matrix * len(path_mm) - 0.5
    return np.ascontiguousarray(_interpolate(path_mm, place)[::-1])


def _interpolate(plane: Floats, place: npt.NDArray[np.float64]) -> Floats:
    """Return a square plane at fractional indices, the same along rows and columns."""
    knots = np.arange(len(plane))
    wide = np.stack([np.interp(place, knots, row) for row in plane])
    tall: Floats = np.stack([np.interp(place, knots, column) for column in wide.T], axis=1).astype(np.float32)
    return tall


def _develop(path_mm: Floats, rng: np.random.Generator) -> Floats:
    """Return the film: scatter, detail lifted, contrast curve, grain, marker; 0..1, dense is bright."""
    matrix = len(path_mm)
    pixel_mm = FIELD_MM / matrix
    broad = _blur_broadly(path_mm, sigma_px=DETAIL_MM / pixel_mm)
    processed = BROAD_GAIN * broad + DETAIL_GAIN * (path_mm - broad)
    processed = blur_plane(processed.astype(np.float32), sigma_px=max(0.35 / pixel_mm, 0.3))
    level = (processed - BLACK_MM) / (WHITE_MM - BLACK_MM)
    # Fewer quanta arrive behind dense tissue, so its grain is coarser.
    grain = rng.standard_normal(level.shape, dtype=np.float32)
    grain = blur_plane(grain, sigma_px=0.7) * (0.007 + 0.011 * np.clip(level, 0, 1))
    soft = 1 / (1 + np.exp(-(np.clip(level, -0.5, 2) - 0.52) * 4.6))
    low, high = (1 / (1 + np.exp(-(end - 0.52) * 4.6)) for end in (0.0, 1.12))
    film: Floats = np.clip((soft - low) / (high - low) + grain, 0, 1).astype(np.float32)
    _stamp_marker(film)
    return film


def _blur_broadly(plane: Floats, *, sigma_px: float) -> Floats:
    """Return a plane under a wide Gaussian, by way of a smaller copy."""
    step = max(1, int(sigma_px // 4))
    usable = len(plane) // step * step
    small = plane[:usable, :usable].reshape(usable // step, step, usable // step, step)
    small = blur_plane(small.mean(axis=(1, 3)), sigma_px=sigma_px / step)
    return _interpolate(small, (np.arange(len(plane)) + 0.5) / step - 0.5)


def _stamp_marker(film: Floats) -> None:
    """Write the lead letter R beside the patient's right shoulder, in place."""
    size = max(1, len(film) // 190)
    letter = np.array([[int(c) for c in row] for row in MARKER_ROWS], dtype=np.float32)
    large = np.kron(letter, np.ones((size, size), dtype=np.float32))
    top, left = len(film) // 20, len(film) // 24
    part = film[top : top + large.shape[0], left : left + large.shape[1]]
    np.maximum(part, large * np.float32(0.97), out=part)


def _new_film(key: str, *, patient: Patient, accession_number: str) -> FileDataset:
    """Return a DX Instance without pixels, PS3.3 A.26 (Digital X-Ray Image IOD)."""
    study = StudyHeader(
        key=f"{key}/{patient.patient_id}",
        patient=patient,
        description="Chest PA",
        accession_number=accession_number,
    )
    series = SeriesHeader(
        sop_class_uid=DigitalXRayImageStorageForPresentation,
        modality="DX",
        number=1,
        description="Chest PA",
        body_part="CHEST",
        model_name="Phantom DX",
    )
    ds = new_instance(study, series, 1)
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.PatientOrientation = ["L", "F"]
    ds.ImageLaterality = "U"
    ds.AnatomicRegionSequence = codes(code_item("51185008", "SCT", "Chest"))
    ds.ViewPosition = "PA"
    ds.ViewCodeSequence = codes(code_item("399348003", "SCT", "postero-anterior"))
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = codes()
    ds.PatientOrientationCodeSequence = codes(code_item("10904000", "SCT", "erect"))
    ds.AcquisitionContextSequence = codes()
    ds.KVP, ds.Exposure = 120, 2
    ds.PositionerType = ""
    ds.DetectorType = "DIRECT"
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    return ds


def _describe_gray_scale(ds: FileDataset, photometric_interpretation: PhotometricInterpretation, *, bits: int) -> None:
    """Write how stored values become gray, in place, PS3.3 C.8.11.3."""
    inverse = photometric_interpretation == "MONOCHROME1"
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1 if inverse else 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    ds.WindowCenter, ds.WindowWidth = 2 ** (bits - 1), 2**bits
