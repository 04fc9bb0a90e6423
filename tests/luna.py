"""A LUNA16 of our own: MetaImage files written byte by byte, with balls in noise whose places are known."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float, float]
AIR_HU, BALL_HU = -850, 40


@dataclass(frozen=True, kw_only=True)
class Ball:
    center_mm: Point
    diameter_mm: float


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A CT as it is written.

    Attributes
    ----------
    shape
        Voxels along x, y, z.
    axes
        Columns are the directions of the axes of voxels, LPS.
    """

    balls: tuple[Ball, ...]
    shape: tuple[int, int, int] = (40, 44, 36)
    spacing_mm: Point = (1.0, 0.9, 1.2)
    origin_mm: Point = (-21.0, -95.5, 130.25)
    axes: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))

    def voxels(self, rng: np.random.Generator) -> NDArray[np.int16]:
        """Return (z, y, x) HU."""
        index = np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), axis=-1)
        points = (index * self.spacing_mm) @ self.axes.T + self.origin_mm
        hu = rng.normal(AIR_HU, 25, self.shape)
        for ball in self.balls:
            hu[np.linalg.norm(points - ball.center_mm, axis=-1) <= ball.diameter_mm / 2] = BALL_HU
        return np.rint(hu).astype(np.int16).transpose(2, 1, 0)


def write_mhd(folder: Path, uid: str, volume: Volume, *, compressed: bool = False, seed: int = 0) -> Path:
    """Write ``<uid>.mhd`` and its voxels, as ``.raw`` or as ``.zraw``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = volume.voxels(np.random.default_rng(seed)).astype("<i2").tobytes()
    data = folder / f"{uid}.{'zraw' if compressed else 'raw'}"
    packed = zlib.compress(content) if compressed else content
    data.write_bytes(packed)
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": str(compressed),
        **({"CompressedDataSize": str(len(packed))} if compressed else {}),
        # MetaIO has the direction of each axis of voxels in a row of its own.
        "TransformMatrix": _numbers(volume.axes.T.ravel()),
        "Offset": _numbers(volume.origin_mm),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": _numbers(volume.spacing_mm),
        "DimSize": " ".join(map(str, volume.shape)),
        "ElementType": "MET_SHORT",
        "ElementDataFile": data.name,
    }
    path = folder / f"{uid}.mhd"
    path.write_text("".join(f"{key} = {value}\n" for key, value in fields.items()))
    return path


def write_luna(folder: Path, volumes: Mapping[str, Volume], *, others: Mapping[str, Iterable[Point]]) -> Path:
    """Write a data set: every second CT in another subset, every third one compressed."""
    marked = ["seriesuid,coordX,coordY,coordZ,diameter_mm"]
    candidates = ["seriesuid,coordX,coordY,coordZ,class"]
    for number, (uid, volume) in enumerate(volumes.items()):
        write_mhd(folder / f"subset{number % 2}", uid, volume, compressed=number % 3 == 2, seed=number)
        for ball in volume.balls:
            place = ",".join(map(str, ball.center_mm))
            marked.append(f"{uid},{place},{ball.diameter_mm}")
            candidates.append(f"{uid},{place},1")
        candidates += [f"{uid},{','.join(map(str, point))},0" for point in others.get(uid, ())]
    (folder / "annotations.csv").write_text("\n".join([*marked, "1.2.3.absent,1,2,3,4.5"]) + "\n")
    (folder / "candidates.csv").write_text("\n".join(candidates) + "\n")
    return folder


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{float(value):.6g}" for value in values)
