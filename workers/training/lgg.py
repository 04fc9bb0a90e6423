"""The TCGA-LGG slices (kaggle_3m) as axial stacks on the network's grid, each with its mask."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.networks.tumour_unet import MATRIX, PIXEL_MM
from workers.pipelines.axial_stack import (
    AxialStack,
    center_window,
    crop_plane,
    mark_head,
    shrink_stack,
    standardize,
)

# The TIFs have no geometry. Their heads are 212 x 169 pixels (medians of 110 patients); a head of 199 x 158 mm then
# has pixels of 0.9375 mm, which is a field of view of 240 mm.
KAGGLE_PIXEL_MM = 0.9375
# Nor is the distance of slices known: the stacks, of 20 to 88 slices, are taken to cover about as much of a head.
KAGGLE_COVERED_MM = 150.0
FLAIR = 1
PATIENT = re.compile(r"TCGA_[A-Z]{2}_[A-Z0-9]{4}")
SLICE_NUMBER = re.compile(r"_(\d+)\.tif$")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedHead:
    """One patient on the network's grid.

    Attributes
    ----------
    patient
        Patient key.
    channels
        (slices, 3, rows, columns) float16: pre, FLAIR, post; a channel that is absent is zero.
    mask
        (slices, rows, columns) float16, the fraction of the pixel inside the drawn abnormality.
    head
        (slices, rows, columns) bool.
    slice_mm
        Distance of slices, mm, > 0.
    """

    patient: str
    channels: NDArray[np.float16]
    mask: NDArray[np.float16]
    head: NDArray[np.bool_]
    slice_mm: float


def read_lgg(folder: Path) -> list[MarkedHead]:
    """Read every patient under ``<folder>/TCGA_*``."""
    return [read_patient(path) for path in sorted(folder.glob("TCGA_*"))]


def read_patient(folder: Path) -> MarkedHead:
    """Read one patient's slices, which run from the neck upwards, nose up, patient's left to the right.

    Raises
    ------
    ValueError
        If the folder's name holds no patient key.
    """
    match = PATIENT.match(folder.name)
    if match is None:
        raise ValueError(f"{folder.name}: expected TCGA_<site>_<patient>_<date>")
    paths = sorted(
        (path for path in folder.glob("*.tif") if not path.stem.endswith("_mask")),
        key=lambda path: int(SLICE_NUMBER.findall(path.name)[0]),
    )
    pixels = np.stack([_read_tif(path) for path in paths])
    drawn = np.stack([_read_tif(path.with_name(f"{path.stem}_mask.tif")) for path in paths])
    stacks = [_shrink(pixels[..., channel]) for channel in range(3)]
    head = mark_head(stacks[FLAIR])
    corner = center_window(head, MATRIX)
    channels = [np.zeros_like(stacks[FLAIR]) if _is_copy(pixels, c) else standardize(stacks[c]) for c in range(3)]
    return MarkedHead(
        patient=match.group(),
        channels=np.stack([crop_plane(c, corner, MATRIX) for c in channels], axis=1).astype(np.float16),
        mask=crop_plane(_shrink((drawn > 0).astype(np.float32)), corner, MATRIX).astype(np.float16),
        head=crop_plane(head.astype(np.float32), corner, MATRIX) > 0.5,
        slice_mm=KAGGLE_COVERED_MM / len(paths),
    )


def _read_tif(path: Path) -> NDArray[np.float32]:
    with Image.open(path) as image:
        return np.asarray(image, np.float32)


def _is_copy(pixels: NDArray[np.float32], channel: int) -> bool:
    """Tell whether a channel is the FLAIR again, which the data set puts where a sequence is absent."""
    return channel != FLAIR and bool((pixels[..., channel] == pixels[..., FLAIR]).all())


def _shrink(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = KAGGLE_COVERED_MM / len(voxels), KAGGLE_PIXEL_MM, KAGGLE_PIXEL_MM
    affine[3, 3] = 1
    return shrink_stack(AxialStack(voxels=voxels, affine=affine), pixel_mm=PIXEL_MM).voxels
