"""Proof of a SEG: each Frame lies where its source slice lies and shows what the mask shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from workers.encoding.proof import require
from workers.encoding.segmentation import require_mask
from workers.pipelines.base import Analysis

# A DS holds 16 characters: positions agree to far better than this.
POSITION_TOLERANCE_MM = 1e-3
ORIENTATION_TOLERANCE = 1e-3
SPACING_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenSegment:
    """One Segment as read from the SEG.

    Attributes
    ----------
    volume_mm3
        Voxels × slice distance × pixel spacing, from the sources' headers.
    tracking_uid
        Tracking UID (0062,0021).
    """

    volume_mm3: float
    tracking_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The reference Series as its headers tell it, beside the mask."""

    slices: Mapping[str, tuple[int, Dataset]]
    mask: NDArray[np.uint8]


def prove_segmentation(
    seg: Dataset, analysis: Analysis, inputs: Mapping[str, Sequence[Dataset]]
) -> dict[int, ProvenSegment]:
    """Return what each Segment holds, after proving that it is true.

    Raises
    ------
    ResultCheckFailed
        If a Frame, a Segment or the geometry contradicts the source.
    """
    volume, mask = require_mask(analysis)
    slices = {str(ds.SOPInstanceUID): (n, ds) for n, ds in enumerate(volume.datasets)}
    handed = {str(ds.SOPInstanceUID) for datasets in inputs.values() for ds in datasets}
    require(slices.keys() <= handed, "SEG: the reference volume holds Instances that were no input")
    source = _Source(slices=slices, mask=mask)
    _prove_series(seg, volume.datasets)
    voxels = _count_voxels(seg, source)
    voxel_mm3 = measure_voxel(volume.datasets)
    proven = {}
    touched = mask[mask.any(axis=(1, 2))]
    for item in seg.SegmentSequence:
        number = int(item.SegmentNumber)
        require(voxels.get(number), f"SEG: segment {number} is empty")
        require(voxels[number] == int((touched == number).sum()), f"SEG: segment {number} lost voxels of the mask")
        proven[number] = ProvenSegment(volume_mm3=voxels[number] * voxel_mm3, tracking_uid=str(item.get("TrackingUID")))
    expected = set(range(1, len(analysis.findings) + 1))
    require(proven.keys() == expected, f"SEG: segments {sorted(proven)} where findings are {sorted(expected)}")
    require(voxels.keys() == expected, "SEG: a Frame belongs to a Segment that is not described")
    return proven


def measure_voxel(datasets: Sequence[Dataset]) -> float:
    """Return the volume of one voxel, mm³, from Image Position (Patient) and Pixel Spacing alone."""
    orientation = np.asarray([float(v) for v in datasets[0].ImageOrientationPatient])
    normal = np.cross(orientation[:3], orientation[3:])
    places = [float(np.dot(normal, [float(v) for v in ds.ImagePositionPatient])) for ds in datasets]
    distance = (max(places) - min(places)) / (len(places) - 1)
    row_mm, column_mm = (float(v) for v in datasets[0].PixelSpacing)
    return distance * row_mm * column_mm


def _prove_series(seg: Dataset, datasets: Sequence[Dataset]) -> None:
    first = datasets[0]
    require(seg.get("FrameOfReferenceUID") == first.FrameOfReferenceUID, "SEG: Frame of Reference is not the source's")
    require((seg.Rows, seg.Columns) == (first.Rows, first.Columns), "SEG: the matrix is not the source's")
    shared = seg.SharedFunctionalGroupsSequence[0]
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    require(np.allclose(_floats(spacing), _floats(first.PixelSpacing), rtol=SPACING_TOLERANCE), "SEG: Pixel Spacing")
    orientation = _floats(shared.PlaneOrientationSequence[0].ImageOrientationPatient)
    for ds in datasets:
        is_same = np.allclose(orientation, _floats(ds.ImageOrientationPatient), atol=ORIENTATION_TOLERANCE)
        require(is_same, "SEG: Image Orientation is not the source's")
    series = seg.ReferencedSeriesSequence
    require(len(series) == 1 and series[0].SeriesInstanceUID == first.SeriesInstanceUID, "SEG: another source Series")
    listed = {str(item.ReferencedSOPInstanceUID) for item in series[0].ReferencedInstanceSequence}
    require(listed == {str(ds.SOPInstanceUID) for ds in datasets}, "SEG: the source Series is not listed whole")


def _count_voxels(seg: Dataset, source: _Source) -> dict[int, int]:
    """Return voxels by Segment Number; every Frame is compared with its slice of the mask."""
    frames = seg.PerFrameFunctionalGroupsSequence
    require(len(frames) == int(seg.NumberOfFrames), "SEG: Number of Frames is not the number of functional groups")
    size = int(seg.Rows) * int(seg.Columns)
    require(len(seg.PixelData) * 8 >= len(frames) * size, "SEG: Pixel Data is shorter than its Frames")
    shared = seg.SharedFunctionalGroupsSequence[0]
    voxels: dict[int, int] = {}
    seen = set()
    for number, frame in enumerate(frames):
        segment = _read_segment(frame, shared)
        uid = str(frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
        require(uid in source.slices, f"SEG: frame {number + 1} names no slice of the reference volume")
        require((segment, uid) not in seen, f"SEG: frame {number + 1} doubles another")
        seen.add((segment, uid))
        index, ds = source.slices[uid]
        position = _floats(frame.PlanePositionSequence[0].ImagePositionPatient)
        is_there = np.allclose(position, _floats(ds.ImagePositionPatient), rtol=0, atol=POSITION_TOLERANCE_MM)
        require(is_there, f"SEG: frame {number + 1} does not lie where its source slice lies")
        pixels = _unpack(seg.PixelData, number, size).reshape(int(seg.Rows), int(seg.Columns))
        require(
            np.array_equal(pixels, source.mask[index] == segment),
            f"SEG: frame {number + 1} does not show segment {segment} of its slice",
        )
        voxels[segment] = voxels.get(segment, 0) + int(pixels.sum())
    return voxels


def _read_segment(frame: Dataset, shared: Dataset) -> int:
    groups = frame if "SegmentIdentificationSequence" in frame else shared
    return int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _unpack(pixel_data: bytes, frame: int, size: int) -> NDArray[np.bool_]:
    """Return one Frame of bit-packed Pixel Data; Frames need not begin at a byte (PS3.5 8.1.1)."""
    first, last = frame * size, (frame + 1) * size
    packed = np.frombuffer(pixel_data, np.uint8, count=(last + 7) // 8 - first // 8, offset=first // 8)
    bits = np.unpackbits(packed, bitorder="little")
    return bits[first % 8 : first % 8 + size].astype(bool)


def _floats(values: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray([float(value) for value in values])
