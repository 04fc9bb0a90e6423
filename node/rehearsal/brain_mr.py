"""Three co-registered MR Series of a head with a lesion whose place, shape and volume are known."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import MRImageStorage

from node.rehearsal.brain import Labels, Lesion, draw_head, draw_lesion
from node.rehearsal.headers import Patient, SeriesHeader, StudyHeader, new_instance, place_slice, set_pixels
from node.rehearsal.shapes import Floats, Grid, blur_plane, centered_axis, cloud

BRUNO = Patient(name="Phantom^Bruno", patient_id="PH-0002", birth_date="19580615", sex="M")
PIXEL_SPACING_MM = 1.0
MIDDLE_Z_MM = 34.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """One MR sequence: what it is called, how it was acquired, how bright each tissue is.

    Attributes
    ----------
    name
        Series Description (0008,103E).
    number
        Series Number (0020,0011).
    scanning_sequence
        Scanning Sequence (0018,0020).
    echo_time_ms, repetition_time_ms, inversion_time_ms
        Sequence timing, ms; inversion time None where there is no inversion.
    contrast_agent
        Contrast/Bolus Agent (0018,0010), empty without.
    signal
        Signal of tissues 0..13.
    """

    name: str
    number: int
    scanning_sequence: str
    echo_time_ms: float
    repetition_time_ms: float
    inversion_time_ms: float | None
    contrast_agent: str
    signal: tuple[int, ...]


# Tissues:              AIR FAT  BONE DIPL CSF  GRAY WHITE MUSC SIN  PLEX EYE  EDEM RIM  CORE
_T1_SIGNAL = (4, 980, 40, 330, 170, 470, 640, 380, 300, 330, 190, 430, 400, 290)
_T1C_SIGNAL = (4, 980, 40, 340, 170, 490, 650, 420, 1050, 900, 200, 440, 1010, 300)
_FLAIR_SIGNAL = (4, 640, 35, 210, 75, 500, 405, 300, 160, 330, 90, 830, 790, 700)
WEIGHTINGS: Mapping[str, Weighting] = MappingProxyType(
    {
        "t1": Weighting(
            name="AX T1 pre",
            number=3,
            scanning_sequence="SE",
            echo_time_ms=10.0,
            repetition_time_ms=550.0,
            inversion_time_ms=None,
            contrast_agent="",
            signal=_T1_SIGNAL,
        ),
        "t1c": Weighting(
            name="AX T1 post gad",
            number=5,
            scanning_sequence="SE",
            echo_time_ms=10.0,
            repetition_time_ms=550.0,
            inversion_time_ms=None,
            contrast_agent="Gadolinium",
            signal=_T1C_SIGNAL,
        ),
        "flair": Weighting(
            name="AX FLAIR",
            number=4,
            scanning_sequence="IR",
            echo_time_ms=120.0,
            repetition_time_ms=9000.0,
            inversion_time_ms=2500.0,
            contrast_agent="",
            signal=_FLAIR_SIGNAL,
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrainMrPhantom:
    """An MR Study of a head and what is in it.

    Attributes
    ----------
    t1, t1c, flair
        The Instances of each Series, from feet to head, on one grid and in one Frame of Reference.
    lesion
        The lesion, or None in a healthy brain.
    """

    t1: tuple[FileDataset, ...]
    t1c: tuple[FileDataset, ...]
    flair: tuple[FileDataset, ...]
    lesion: Lesion | None

    @property
    def datasets(self) -> tuple[FileDataset, ...]:
        """Return the Instances of all three Series."""
        return (*self.t1, *self.flair, *self.t1c)


def brain_mr(
    *,
    seed: int = 5,
    with_lesion: bool = True,
    slices: int = 28,
    slice_distance_mm: float = 5.0,
    matrix: int = 256,
    patient: Patient = BRUNO,
) -> BrainMrPhantom:
    """Return an MR Study of a head; the same arguments give the same bytes.

    Parameters
    ----------
    seed
        Draws head, cortex, lesion, coil and noise; with and without lesion it is the same head.
    with_lesion
        Whether one lesion lies in a hemisphere.
    slices
        Slices of each Series, >= 3; the stack is centered on the ventricles.
    slice_distance_mm
        Distance between slices, mm.
    matrix
        Rows and columns of 1 mm; the head needs 210.
    patient
        Whose name it carries.
    """
    grid = _grid(slices=slices, slice_distance_mm=slice_distance_mm, matrix=matrix)
    images, lesion = brain_mr_voxels(grid, seed=seed, with_lesion=with_lesion)
    study = StudyHeader(
        key=f"brain-mr/{seed}/{with_lesion}/{grid.shape}/{slice_distance_mm}/{patient.patient_id}",
        patient=patient,
        description="MR Brain with and without contrast",
        accession_number=f"MR{seed:06d}",
    )
    series = {
        role: tuple(_instance(study, WEIGHTINGS[role], grid, plane=plane, index=k) for k, plane in enumerate(voxels))
        for role, voxels in images.items()
    }
    return BrainMrPhantom(t1=series["t1"], t1c=series["t1c"], flair=series["flair"], lesion=lesion)


def _grid(*, slices: int, slice_distance_mm: float, matrix: int) -> Grid:
    """Return the voxels that all three Series share."""
    plane = centered_axis(count=matrix, spacing_mm=PIXEL_SPACING_MM)
    heights = centered_axis(count=slices, spacing_mm=slice_distance_mm, center_mm=MIDDLE_Z_MM)
    return Grid(z=heights, y=plane, x=plane)


def brain_mr_voxels(grid: Grid, *, seed: int, with_lesion: bool = True) -> tuple[dict[str, Floats], Lesion | None]:
    """Return the voxels of `brain_mr` by role (t1, t1c, flair) and the lesion, without DICOM.

    Each value is (slices, rows, columns) float32, >= 0, in arbitrary units.
    """
    rng = np.random.default_rng([seed, 0xB12A1])
    labels, depth = draw_head(grid, rng)
    lesion = draw_lesion(labels, depth, grid, rng) if with_lesion else None
    noise = np.random.default_rng([seed, 0x401])
    images = {role: _acquire(labels, grid, weighting, noise) for role, weighting in WEIGHTINGS.items()}
    return images, lesion


def _acquire(labels: Labels, grid: Grid, weighting: Weighting, rng: np.random.Generator) -> Floats:
    """Return one sequence: signal by tissue, partial volume, coil shading, Rician noise."""
    signal = np.array(weighting.signal, dtype=np.float32)[labels]
    texture = cloud(rng, spacing_mm=9.0, reach_mm=190.0).sample(grid)
    signal *= 1 + np.float32(0.018) * texture
    shading = cloud(rng, spacing_mm=95.0, reach_mm=190.0).sample(grid)
    near_coil = (np.hypot(grid.x[None, :], grid.y[:, None]) / 90.0) ** 2
    bias = np.exp(np.float32(0.07) * shading + np.float32(0.06) * near_coil[None])
    image = np.empty_like(signal)
    for k, plane in enumerate(signal * bias):
        clean = blur_plane(plane.astype(np.float32), sigma_px=0.75)
        real, imaginary = rng.standard_normal((2, *plane.shape), dtype=np.float32) * np.float32(15)
        image[k] = np.hypot(clean + real, imaginary)
    return image


def _instance(study: StudyHeader, weighting: Weighting, grid: Grid, *, plane: Floats, index: int) -> FileDataset:
    """Return one slice, PS3.3 A.4 (MR Image IOD)."""
    series = SeriesHeader(
        sop_class_uid=MRImageStorage,
        modality="MR",
        number=weighting.number,
        description=weighting.name,
        body_part="BRAIN",
        model_name="Phantom MR",
    )
    ds = new_instance(study, series, index + 1)
    x, y, _ = grid.origin_mm
    step = float(grid.z[1] - grid.z[0])
    place_slice(
        ds,
        study,
        position_mm=(x, y, float(grid.z[index])),
        spacing_mm=PIXEL_SPACING_MM,
        thickness_mm=step,
    )
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.ScanningSequence = weighting.scanning_sequence
    ds.SequenceVariant = "NONE" if weighting.inversion_time_ms is None else "SK"
    ds.ScanOptions = ""
    ds.MRAcquisitionType = "2D"
    ds.EchoTime, ds.RepetitionTime = weighting.echo_time_ms, weighting.repetition_time_ms
    ds.EchoTrainLength = 1 if weighting.inversion_time_ms is None else 16
    if weighting.inversion_time_ms is not None:
        ds.InversionTime = weighting.inversion_time_ms
    if weighting.contrast_agent:
        ds.ContrastBolusAgent = weighting.contrast_agent
    ds.MagneticFieldStrength = 1.5
    ds.SpacingBetweenSlices = step
    ds.WindowCenter, ds.WindowWidth = 500, 1000
    pixels = np.clip(np.rint(plane), 0, 4095).astype(np.uint16)
    set_pixels(ds, pixels, bits_stored=12)
    return ds
