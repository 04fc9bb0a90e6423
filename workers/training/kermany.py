"""The Kermany pediatric chest radiographs as arrays, each with its patient."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.networks.xray_densenet import MATRIX
from workers.pipelines.chest_xray import crop_square, shrink
from workers.radiograph import CLIP_PERCENTILES

FOLDERS = ("NORMAL", "PNEUMONIA")  # the index is the label
# NORMAL2-IM-0545 may or may not be the child of IM-0545: they count as one patient, on the safe side.
PATIENT = re.compile(r"(?:NORMAL2-)?(person\d+|IM-\d+)")
CAUSES = ("bacteria", "virus")
SQUASHED = (224, 224)  # rows and columns of what the public copy holds of most films, whatever shape they had


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledRadiographs:
    """Radiographs at the network's matrix.

    Attributes
    ----------
    pixels
        (images, rows, columns) float16, 0..1, bright is dense, not yet standardized.
    labels
        (images,) int64, 1 is pneumonia.
    patients
        One key an image.
    names
        File name of each image.
    squashed
        (images,) bool: whether it came as a square of 224 pixels, in which no child has its own proportions.
    """

    pixels: NDArray[np.float16]
    labels: NDArray[np.int64]
    patients: tuple[str, ...]
    names: tuple[str, ...]
    squashed: NDArray[np.bool_]


def name_cause(name: str) -> str:
    """Return what a file name says of its film: ``bacteria``, ``virus``, or ``normal``."""
    return next((cause for cause in CAUSES if f"_{cause}_" in name), "normal")


def patient_key(name: str) -> str:
    """Return the key of the patient that a file name or a line of the exclusion list means.

    Raises
    ------
    ValueError
        If the name follows no known pattern; guessing could leak a patient.
    """
    match = PATIENT.match(name)
    if match is None:
        raise ValueError(f"{name}: expected IM-<n>, NORMAL2-IM-<n> or person<n>; add its pattern")
    return match.group(1)


def read_jpeg(path: Path) -> NDArray[np.float32]:
    """Return the gray values of a JPEG, 0..1, clipped as a DICOM radiograph is."""
    with Image.open(path) as image:
        return clip_film(np.asarray(image.convert("L"), np.float32))


def clip_film(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return gray values (rows, columns) as 0..1, clipped as a DICOM radiograph is."""
    low, high = np.percentile(pixels, CLIP_PERCENTILES)
    return np.asarray(np.clip((pixels - low) / (high - low), 0, 1), np.float32)


def read_kermany(folder: Path, *, matrix: int = MATRIX) -> LabeledRadiographs:
    """Read ``<folder>/NORMAL`` and ``<folder>/PNEUMONIA``, all shrunk to (`matrix`, `matrix`)."""
    pixels, squashed = [], []
    found = tuple(_walk(folder))
    for _, path in found:
        gray = read_jpeg(path)
        pixels.append(shrink(crop_square(gray), matrix=matrix).astype(np.float16))
        squashed.append(gray.shape == SQUASHED)
    names = tuple(path.name for _, path in found)
    return LabeledRadiographs(
        pixels=np.stack(pixels),
        labels=np.array([label for label, _ in found], np.int64),
        patients=tuple(patient_key(name) for name in names),
        names=names,
        squashed=np.array(squashed),
    )


def _walk(folder: Path) -> Iterator[tuple[int, Path]]:
    for label, name in enumerate(FOLDERS):
        for path in sorted((folder / name).iterdir()):
            yield label, path
