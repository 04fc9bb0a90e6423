"""A chest CT Series with nodules whose place and size are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage

from node.errors import Misconfigured
from node.rehearsal.chest import Nodule, draw_chest, draw_hu, draw_nodules
from node.rehearsal.headers import (
    Patient,
    SeriesHeader,
    StudyHeader,
    new_instance,
    place_slice,
    set_pixels,
)
from node.rehearsal.hounsfield import AIR_HU
from node.rehearsal.shapes import Floats, Grid, blur_plane, centered_axis

ANNA = Patient(name="Phantom^Anna", patient_id="PH-0001")
FIELD_OF_VIEW_MM = 360.0
# Standard deviation of the noise before the reconstruction kernel; about 20 HU remain in muscle.
RAW_NOISE_HU = 52.0
KERNEL_MM = 0.52
# Share of a slice that comes from each neighbor: the slice profile of a spiral CT.
NEIGHBOR_SHARE = 0.18
RESCALE_INTERCEPT = -1024
TABLE_HU = -120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CtScan:
    """How a phantom is scanned.

    Attributes
    ----------
    slices
        Number of slices, >= 3.
    slice_distance_mm
        Distance between slices, and their thickness, mm.
    matrix
        Rows and columns; the field of view stays 360 mm.
    center_z_mm
        Height of the middle of the stack, mm; the lungs reach from -118 to 118.
    noise
        Noise relative to a usual low-dose scan, >= 0.
    """

    slices: int = 120
    slice_distance_mm: float = 2.0
    matrix: int = 512
    center_z_mm: float = 0.0
    noise: float = 1.0

    @property
    def pixel_spacing_mm(self) -> float:
        """Return the distance of pixels, mm."""
        return FIELD_OF_VIEW_MM / self.matrix

    def grid(self) -> Grid:
        """Return the voxels of the scan."""
        step = self.pixel_spacing_mm
        heights = centered_axis(count=self.slices, spacing_mm=self.slice_distance_mm, center_mm=self.center_z_mm)
        # The patient lies on the table, so the body stands above the middle of the field.
        return Grid(
            z=heights,
            y=centered_axis(count=self.matrix, spacing_mm=step, center_mm=12.0),
            x=centered_axis(count=self.matrix, spacing_mm=step),
        )


DEFAULT_SCAN = CtScan()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChestCtPhantom:
    """A chest CT Series and what is in it.

    Attributes
    ----------
    datasets
        The Instances, from feet to head.
    nodules
        Every nodule of the lungs.
    hu
        (slices, rows, columns) float32, HU, as stored in the Instances.
    """

    datasets: tuple[FileDataset, ...]
    nodules: tuple[Nodule, ...]
    hu: Floats


def chest_ct(
    *,
    seed: int = 7,
    nodules: Sequence[Nodule] | None = None,
    slices: int = 120,
    slice_distance_mm: float = 2.0,
    matrix: int = 512,
    patient: Patient = ANNA,
) -> ChestCtPhantom:
    """Return an axial chest CT; the same arguments give the same bytes.

    Parameters
    ----------
    seed
        Draws the body, its vessels and the noise.
    nodules
        What to put into the lungs; None lets the seed place two, empty gives healthy lungs.
    slices, slice_distance_mm, matrix
        As in `CtScan`.
    patient
        Whose name it carries.

    Raises
    ------
    Misconfigured
        If a nodule lies outside the slices, where the truth would be wrong.
    """
    scan = CtScan(slices=slices, slice_distance_mm=slice_distance_mm, matrix=matrix)
    hu, found = chest_ct_voxels(seed=seed, nodules=nodules, scan=scan)
    study = StudyHeader(
        key=f"chest-ct/{seed}/{found!r}/{scan!r}/{patient.patient_id}",
        patient=patient,
        description="CT Chest",
        accession_number=f"CT{seed:06d}",
    )
    series = SeriesHeader(
        sop_class_uid=CTImageStorage,
        modality="CT",
        number=2,
        description=f"Chest {scan.slice_distance_mm:.1f} mm",
        body_part="CHEST",
        model_name="Phantom CT",
    )
    datasets = tuple(_instance(study, series, scan, plane=plane, index=k) for k, plane in enumerate(hu))
    return ChestCtPhantom(datasets=datasets, nodules=found, hu=hu)


def chest_ct_voxels(
    *, seed: int, nodules: Sequence[Nodule] | None = None, scan: CtScan = DEFAULT_SCAN
) -> tuple[Floats, tuple[Nodule, ...]]:
    """Return the voxels in HU and the nodules of `chest_ct`, without DICOM around them."""
    chest = draw_chest(seed)
    half = (scan.slices - 1) * scan.slice_distance_mm / 2
    if nodules is None:
        nodules = draw_nodules(chest, count=2, half_height_mm=max(8.0, min(60.0, half - 12)))
    for nodule in nodules:
        _require_inside(nodule, scan, half)
    grid = scan.grid()
    hu = draw_hu(grid, chest, nodules=nodules)
    _paint_table(hu, grid)
    _apply_slice_profile(hu)
    rng = np.random.default_rng([seed, 0x0153])
    sigma_px = KERNEL_MM / scan.pixel_spacing_mm
    for plane in hu:
        grain = rng.standard_normal(plane.shape, dtype=np.float32)
        noisy = plane + grain * np.float32(RAW_NOISE_HU * scan.noise)
        plane[...] = blur_plane(noisy, sigma_px=max(sigma_px, 0.3))
    np.clip(np.rint(hu, out=hu), RESCALE_INTERCEPT, 3071, out=hu)
    return hu, tuple(nodules)


def _require_inside(nodule: Nodule, scan: CtScan, half_mm: float) -> None:
    """Refuse a nodule that the slices would cut."""
    off = abs(nodule.center_mm[2] - scan.center_z_mm)
    if off + nodule.diameter_mm / 2 > half_mm:
        raise Misconfigured(
            f"a nodule at {nodule.center_mm} mm does not fit into {scan.slices} slices of "
            f"{scan.slice_distance_mm} mm; move it or scan more slices"
        )


def _paint_table(hu: Floats, grid: Grid) -> None:
    """Draw the curved table top under the patient, the same in each slice, in place."""
    y, x = grid.y[:, None], grid.x[None, :]
    depth = y - (np.float32(129.0) - (x / np.float32(62.0)) ** 2 * np.float32(2.2))
    shell = (np.abs(depth) < 1.4) | (np.abs(depth - 32 + (x / 30.0) ** 2) < 1.2)
    shell &= np.abs(x) < 172
    foam = (depth > 0) & (depth < 32 - (x / 30.0) ** 2) & (np.abs(x) < 172)
    for plane in hu:
        outside = plane <= AIR_HU
        plane[outside & foam] = -960.0
        plane[outside & shell] = TABLE_HU


def _apply_slice_profile(hu: Floats) -> None:
    """Blend each slice with its neighbors, in place, as a scan of finite slice thickness does."""
    if len(hu) < 3:
        return
    share = np.float32(NEIGHBOR_SHARE)
    before = hu[0].copy()
    for k in range(1, len(hu) - 1):
        here = hu[k].copy()
        hu[k] = here * (1 - 2 * share) + (before + hu[k + 1]) * share
        before = here


def _instance(study: StudyHeader, series: SeriesHeader, scan: CtScan, *, plane: Floats, index: int) -> FileDataset:
    """Return one slice, PS3.3 A.3 (CT Image IOD)."""
    ds = new_instance(study, series, index + 1)
    grid = scan.grid()
    x, y, _ = grid.origin_mm
    place_slice(
        ds,
        study,
        position_mm=(x, y, float(grid.z[index])),
        spacing_mm=scan.pixel_spacing_mm,
        thickness_mm=scan.slice_distance_mm,
    )
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.KVP = 120
    ds.ConvolutionKernel = "STANDARD"
    ds.ReconstructionDiameter = FIELD_OF_VIEW_MM
    ds.GantryDetectorTilt = 0
    ds.RotationDirection = "CW"
    ds.ExposureTime, ds.XRayTubeCurrent, ds.Exposure = 500, 120, 60
    ds.SpacingBetweenSlices = scan.slice_distance_mm
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = RESCALE_INTERCEPT, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = [-500, 40], [1500, 400]
    ds.WindowCenterWidthExplanation = ["LUNG", "SOFT TISSUE"]
    set_pixels(ds, (plane - RESCALE_INTERCEPT).astype(np.uint16), bits_stored=12)
    return ds
