"""LUNA16 as it is downloaded: MetaImage volumes in subset folders, nodules and candidates in CSV files.

``DIR/annotations.csv`` (seriesuid, coordX, coordY, coordZ, diameter_mm), ``DIR/candidates_V2.csv`` or
``candidates.csv`` (seriesuid, coordX, coordY, coordZ, class; may be absent), and ``DIR/subset*/<seriesuid>.mhd`` with
its ``.raw`` or ``.zraw`` beside it. World coordinates are those of DICOM: LPS, mm. The data set has one CT a patient,
whose key is the Series Instance UID.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

ANNOTATIONS = "annotations.csv"
CANDIDATES = ("candidates_V2.csv", "candidates.csv")
SERIES_KEY = "seriesuid"
COORDINATES = ("coordX", "coordY", "coordZ")
NOT_A_NODULE = "0"
WINDOW_HU = (-1200.0, 600.0)
EDGE_MM = 1.0

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedNodule:
    """A nodule that readers agreed on: its middle, LPS mm, and its diameter, mm."""

    center_mm: Point
    diameter_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LunaScan:
    """One CT of LUNA16 on disk.

    Attributes
    ----------
    series_instance_uid
        Also the key of the patient.
    path
        The ``.mhd``.
    nodules
        Empty where readers saw none of 3 mm or more.
    others
        Middles of candidates that are no nodule, LPS mm.
    """

    series_instance_uid: str
    path: Path
    nodules: tuple[MarkedNodule, ...]
    others: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A CT in cubes of 1 mm along the axes of the patient.

    Attributes
    ----------
    voxels
        (z, y, x) uint8: 0 at -1200 HU and below, 255 at 600 HU and above.
    origin_mm
        Middle of the first voxel (x, y, z), LPS.
    """

    voxels: NDArray[np.uint8]
    origin_mm: Point

    def to_index(self, point_mm: Point) -> NDArray[np.float64]:
        """Return the fractional (z, y, x) of a point in LPS mm."""
        return np.asarray((np.array(point_mm) - np.array(self.origin_mm))[::-1] / EDGE_MM)

    def to_patient_mm(self, index: Sequence[float]) -> Point:
        """Return where a fractional (z, y, x) lies, LPS mm."""
        x, y, z = (float(i) * EDGE_MM + o for i, o in zip(reversed(index), self.origin_mm, strict=True))
        return x, y, z


def read_luna(folder: Path) -> list[LunaScan]:
    """Return the CTs that lie in ``folder/subset*``, by Series Instance UID; no voxels are read yet.

    Rows of the CSV files about CTs of other subsets are left aside.

    Raises
    ------
    ValueError
        If there is no CT or no ``annotations.csv``, a column is absent, or a number is none.
    """
    paths = {path.stem: path for path in sorted(folder.glob("subset*/*.mhd"))}
    if not paths:
        msg = f"{folder}: expected subset*/<seriesuid>.mhd as LUNA16 has them; name the folder above by --data"
        raise ValueError(msg)
    annotations = folder / ANNOTATIONS
    if not annotations.is_file():
        msg = f"{annotations} is absent; it is part of LUNA16"
        raise ValueError(msg)
    nodules: dict[str, list[MarkedNodule]] = {uid: [] for uid in paths}
    for row in _rows(annotations, (SERIES_KEY, *COORDINATES, "diameter_mm")):
        if row[SERIES_KEY] in nodules:
            nodule = MarkedNodule(
                center_mm=_point(row, annotations), diameter_mm=_number(row, "diameter_mm", annotations)
            )
            nodules[row[SERIES_KEY]].append(nodule)
    others: dict[str, list[Point]] = {uid: [] for uid in paths}
    candidates = next((folder / name for name in CANDIDATES if (folder / name).is_file()), None)
    if candidates is not None:
        for row in _rows(candidates, (SERIES_KEY, *COORDINATES, "class")):
            if row[SERIES_KEY] in others and row["class"].strip() == NOT_A_NODULE:
                others[row[SERIES_KEY]].append(_point(row, candidates))
    return [
        LunaScan(series_instance_uid=uid, path=path, nodules=tuple(nodules[uid]), others=tuple(others[uid]))
        for uid, path in sorted(paths.items())
    ]


def read_block(path: Path) -> Block:
    """Return a MetaImage in HU, whatever its axes, as cubes of 1 mm along the patient's axes.

    Raises
    ------
    ValueError
        If the file, or the one that it names for its voxels, is absent, cut or no volume.
    """
    try:
        image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
    except RuntimeError as exc:  # ITK's only error; its last line says what is wrong
        msg = f"{path} cannot be read as MetaImage ({str(exc).strip().splitlines()[-1]}); download the subset again"
        raise ValueError(msg) from exc
    if image.GetDimension() != len(COORDINATES):
        msg = f"{path}: {image.GetDimension()} dimensions where a volume has three"
        raise ValueError(msg)
    corners = [
        image.TransformContinuousIndexToPhysicalPoint(
            [edge * (size - 1) for edge, size in zip(one, image.GetSize(), strict=True)]
        )
        for one in np.ndindex(2, 2, 2)
    ]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    grid = SimpleITK.ResampleImageFilter()
    grid.SetOutputOrigin(low.tolist())
    grid.SetOutputSpacing([EDGE_MM] * 3)
    grid.SetSize([math.floor(extent / EDGE_MM + 1e-6) + 1 for extent in high - low])
    grid.SetInterpolator(SimpleITK.sitkLinear)
    grid.SetDefaultPixelValue(WINDOW_HU[0])
    resampled = SimpleITK.GetArrayFromImage(grid.Execute(image))
    x, y, z = (float(value) for value in low)
    return Block(voxels=to_window(resampled), origin_mm=(x, y, z))


def to_window(hu: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return HU as 256 levels of the window, steps of 7 HU."""
    low, high = WINDOW_HU
    return np.asarray(np.rint(np.clip((hu - low) / (high - low), 0, 1) * 255), np.uint8)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            msg = f"{path}: column {', '.join(missing)} is absent; LUNA16 has {', '.join(columns)}"
            raise ValueError(msg)
        yield from reader


def _point(row: Mapping[str, str], path: Path) -> Point:
    x, y, z = (_number(row, name, path) for name in COORDINATES)
    return x, y, z


def _number(row: Mapping[str, str], column: str, path: Path) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        msg = f"{path}: {column} of {row[SERIES_KEY]} is {row[column]!r}, which is no number"
        raise ValueError(msg)
    return value
