"""What the input autoencoders learn from: the planes of patients, and of the patients that the rehearsal draws."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread

from node.rehearsal.brain_mr import brain_mr
from node.rehearsal.chest_ct import CtScan, chest_ct_voxels
from node.rehearsal.chest_xray import chest_xray_pixels
from workers.networks.input_autoencoder import MATRIX
from workers.pipelines.axial_stack import AxialStack, turn_volume
from workers.pipelines.input_views import view_chest, view_film, view_head
from workers.pipelines.lung_candidates import COARSE_MM, coarsen
from workers.training.kermany import read_kermany
from workers.training.lgg import FLAIR, KAGGLE_PIXEL_MM, PATIENT, SLICE_NUMBER
from workers.volume import Volume, read_volume

Planes = NDArray[np.float32]

# Other seeds than those of demo, rehearsal and tests, which are small.
DRAWN_FILMS = range(9100, 9116)
DRAWN_HEADS = range(9200, 9224)
DRAWN_CHESTS = range(9300, 9316)
FILM_MATRIX = 256
SLICE_MM = 5.0  # of the heads; planes are shown one by one, and it plays no part
DRAWN_SCAN = CtScan(slices=40, slice_distance_mm=5.0, matrix=128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One input of one patient, as the autoencoder is shown it: (planes, rows, columns) float32."""

    patient: str
    planes: Planes


def read_films(folder: Path) -> Iterator[Shown]:
    """Yield each film of Kermany's NORMAL and PNEUMONIA under `folder`."""
    films = read_kermany(folder, matrix=MATRIX)
    for patient, pixels in zip(films.patients, films.pixels, strict=True):
        yield Shown(patient=patient, planes=view_film(pixels.astype(np.float32)))


def read_heads(folder: Path) -> Iterator[Shown]:
    """Yield the FLAIR of each patient under ``<folder>/TCGA_*``."""
    affine = np.diag([0.0, KAGGLE_PIXEL_MM, 0.0, 1.0])
    affine[2, 0], affine[0, 2] = SLICE_MM, KAGGLE_PIXEL_MM
    for path in sorted(folder.glob("TCGA_*")):
        match = PATIENT.match(path.name)
        if match is None:
            msg = f"{path.name}: expected TCGA_<site>_<patient>_<date>"
            raise ValueError(msg)
        slices = sorted(
            (one for one in path.glob("*.tif") if not one.stem.endswith("_mask")),
            key=lambda one: int(SLICE_NUMBER.findall(one.name)[0]),
        )
        voxels = np.stack([_read_flair(one) for one in slices])
        yield Shown(patient=match.group(), planes=view_head(AxialStack(voxels=voxels, affine=affine)))


def read_chests(folder: Path) -> Iterator[Shown]:
    """Yield each CT Series under `folder`, its patient named by Patient ID."""
    series: dict[str, list[Dataset]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        ds = dcmread(path)
        series.setdefault(str(ds.SeriesInstanceUID), []).append(ds)
    for datasets in series.values():
        yield Shown(patient=str(datasets[0].PatientID), planes=show_chest(read_volume(datasets)))


def show_chest(volume: Volume) -> Planes:
    """Return what the Pipeline shows of a chest CT."""
    coarse = coarsen(volume)
    affine = volume.affine.copy()
    affine[:3, :3] *= COARSE_MM / np.asarray(volume.spacing_mm)
    return view_chest(coarse.voxels, affine)


def draw_films() -> Iterator[Planes]:
    """Yield films of the rehearsal, with and without opacity."""
    for seed in DRAWN_FILMS:
        pixels, _ = chest_xray_pixels(seed=seed, with_opacity=seed % 2 == 0, matrix=FILM_MATRIX)
        yield view_film(np.asarray(pixels, np.float32))


def draw_heads() -> Iterator[Planes]:
    """Yield FLAIRs of the rehearsal, with and without lesion."""
    for seed in DRAWN_HEADS:
        head = brain_mr(seed=seed, with_lesion=seed % 3 != 0)
        yield view_head(turn_volume(read_volume(head.flair))[0])


def draw_chests() -> Iterator[Planes]:
    """Yield chest CTs of the rehearsal, whole and as slabs."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = DRAWN_SCAN.slice_distance_mm, *(DRAWN_SCAN.pixel_spacing_mm,) * 2
    affine[3, 3] = 1
    for seed in DRAWN_CHESTS:
        hu, _ = chest_ct_voxels(seed=seed, scan=DRAWN_SCAN)
        yield view_chest(np.asarray(hu, np.float32), affine)


def _read_flair(path: Path) -> NDArray[np.float32]:
    with Image.open(path) as image:
        return np.asarray(image, np.float32)[..., FLAIR]
