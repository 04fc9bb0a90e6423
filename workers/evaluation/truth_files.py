"""Truth in files: DICOM SEG and SR, NIfTI and numpy masks."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from node.errors import TruthInvalid
from workers.evaluation.truth import Labels, Lesion, Truth, place_labels, require_grid
from workers.frames import name_slice
from workers.proving.objects import UNREADABLE
from workers.proving.originals import Plane
from workers.proving.report_reading import read_name, walk_content
from workers.proving.segment_reading import ReadSegment, cut_patches, read_segmentation
from workers.volume import Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz")
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
AFFINE_SHAPE = (4, 4)
# Diameter and Long Axis: SNOMED CT, and SNOMED RT as older objects write them.
DIAMETERS = ("81827009", "103339001", "M-02550", "G-A185")
MEASUREMENT_GROUP = "125007"
# A Frame belongs to a slice when it lies nearer to it than this share of the slice distance.
SAME_SLICE = 0.5
SLICE_TOLERANCE_MM = 0.01

Filed = tuple[tuple[str, ...], Truth]


def read_truth_file(path: Path, *, label: str) -> Filed | None:
    """Return the names under which a file is filed and what it says; None for a file that is no truth.

    Parameters
    ----------
    label
        The only label that counts, by number or by the name of a Segment; empty: all.

    Raises
    ------
    TruthInvalid
        If the file says that it is one and cannot be read.
    """
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
    stem = path.name.removesuffix(suffix)
    if suffix in NIFTI_SUFFIXES:
        return (stem,), Truth(marks=partial(_read_nifti, path, label=label))
    if suffix == ".npz":
        return (stem,), Truth(marks=partial(_read_npz, path, label=label))
    return _read_dicom(path, label=label)


def _read_nifti(path: Path, volume: Volume, *, label: str) -> Labels:
    try:
        image = nibabel.load(path)
        if not isinstance(image, SpatialImage) or image.affine is None:
            raise TruthInvalid(f"{path} has no place in the patient; write it with its affine")
        labels, affine = np.asanyarray(image.dataobj), image.affine
    except (nibabel.filebasedimages.ImageFileError, OSError, ValueError, EOFError) as exc:
        raise TruthInvalid(f"{path} cannot be read as NIfTI; write the mask again") from exc
    return place_labels(_pick(labels, label, name=str(path)), RAS_TO_LPS @ affine, volume)


def _read_npz(path: Path, volume: Volume, *, label: str) -> Labels:
    try:
        with np.load(path) as arrays:
            labels = arrays["mask"]
            affine = arrays.get("affine")
    except (OSError, ValueError, KeyError, EOFError) as exc:
        raise TruthInvalid(f"{path} holds no array 'mask'; write it with numpy.savez(path, mask=…)") from exc
    labels = _pick(labels, label, name=str(path))
    if affine is None:
        return require_grid(labels, volume, name=str(path))
    if affine.shape != AFFINE_SHAPE:
        raise TruthInvalid(f"{path}: affine is no 4 x 4 matrix; write (slice, row, column, 1) to LPS mm")
    return place_labels(labels, affine, volume)


def _pick(labels: NDArray[np.generic], label: str, *, name: str) -> NDArray[np.generic]:
    if labels.ndim != 3:
        raise TruthInvalid(f"{name}: a mask of {labels.ndim} dimensions; write one of three")
    if not label:
        return np.rint(labels) if labels.dtype.kind == "f" else labels
    if not label.isdigit():
        raise TruthInvalid(f"{name}: a mask of numbers knows no label {label!r}; name it by its number")
    return np.asarray(labels == int(label))


def _read_dicom(path: Path, *, label: str) -> Filed | None:
    try:
        ds = dcmread(path, stop_before_pixels=True)
        modality = str(ds.get("Modality") or "")
        if modality not in {"SEG", "SR"}:
            return None
        study = str(ds.StudyInstanceUID)
        if modality == "SR":
            return (study,), Truth(lesions=partial(_place_groups, _read_points(ds), name=str(path)))
        series = read_segmentation(ds).series_instance_uids
    except InvalidDicomError:
        return None
    except UNREADABLE as exc:
        raise TruthInvalid(f"{path} cannot be read; export it again") from exc
    return series or (study,), Truth(marks=partial(_place_segmentation, path, label=label))


def _place_segmentation(path: Path, volume: Volume, *, label: str) -> Labels:
    try:
        seg = dcmread(path)
        reading = read_segmentation(seg)
        wanted = _choose_segments(reading.segments, label, name=str(path))
        marks = np.zeros(volume.voxels.shape, np.uint16)
        for patch in cut_patches(seg, reading.frames):
            plane = reading.frames[patch.frame - 1].plane
            if patch.segment not in wanted:
                continue
            if plane is None:
                raise TruthInvalid(f"{path}: Frame {patch.frame} has no place; export it with its plane position")
            rows, columns = np.nonzero(patch.mask)
            points = plane.locate((rows + patch.top).astype(float), (columns + patch.left).astype(float))
            _mark(marks, points, plane, volume, patch.segment, name=str(path))
    except (InvalidDicomError, *UNREADABLE) as exc:
        raise TruthInvalid(f"{path} cannot be read; export it again") from exc
    return marks


def _choose_segments(segments: Sequence[ReadSegment], label: str, *, name: str) -> set[int]:
    chosen = {one.number for one in segments if label in {"", str(one.number), one.label}}
    if not chosen:
        known = ", ".join(f"{one.number} {one.label}" for one in segments)
        raise TruthInvalid(f"{name} has no Segment {label!r}; it has {known}")
    return chosen


def _mark(marks: Labels, points: NDArray[np.float64], plane: Plane, volume: Volume, segment: int, *, name: str) -> None:
    """Mark the voxels in which the pixels of one Frame lie, in place; the Frame must have the grid of the slices."""
    spacing = np.array([plane.spacing_mm[0], plane.spacing_mm[1]])
    if (spacing > np.array(volume.spacing_mm[1:]) * (1 + 1e-3)).any():
        raise TruthInvalid(f"{name}: its pixels are larger than those of the Series; draw the truth on the Series")
    thickness = plane.slice_thickness_mm
    if thickness is not None and thickness > 2 * volume.spacing_mm[0] + SLICE_TOLERANCE_MM:
        raise TruthInvalid(f"{name}: its slices are thicker than those of the Series; draw the truth on the Series")
    inverse = np.linalg.inv(volume.affine)
    place = points @ inverse[:3, :3].T + inverse[:3, 3]
    index = np.rint(place).astype(int)
    near = np.abs(place[:, 0] - index[:, 0]) <= SAME_SLICE
    inside = near & (index >= 0).all(axis=1) & (index < np.array(marks.shape)).all(axis=1)
    if not inside.any():
        raise TruthInvalid(f"{name}: it lies outside of the Series that it is the truth of; is it of this Study?")
    marks[tuple(index[inside].T)] = segment


def _read_points(sr: Dataset) -> list[tuple[Dataset, float | None]]:
    """Return what outlines each Measurement Group, and its diameter, mm."""
    found = []
    for group in (item for item in walk_content(sr) if read_name(item) == MEASUREMENT_GROUP):
        children = list(walk_content(group))
        outlines = [child for child in children if child.ValueType in {"SCOORD", "SCOORD3D"}]
        if outlines:
            found.append((outlines[0], next(_list_diameters(children), None)))
    return found


def _list_diameters(children: Sequence[Dataset]) -> Iterator[float]:
    for child in children:
        measured = child.get("MeasuredValueSequence") if child.ValueType == "NUM" else None
        if measured and read_name(child) in DIAMETERS:
            yield float(measured[0].NumericValue)


def _place_groups(groups: Sequence[tuple[Dataset, float | None]], volume: Volume, *, name: str) -> tuple[Lesion, ...]:
    return tuple(_place_group(outline, diameter, volume, name=name) for outline, diameter in groups)


def _place_group(outline: Dataset, diameter_mm: float | None, volume: Volume, *, name: str) -> Lesion:
    numbers = np.array([float(value) for value in outline.GraphicData])
    if outline.ValueType == "SCOORD3D":
        points = numbers.reshape(-1, 3)
    else:
        points = _lift(outline, numbers.reshape(-1, 2), volume, name=name)
    reach = float(np.linalg.norm(points[:, None] - points[None], axis=2).max())
    size_mm = diameter_mm or reach
    if size_mm <= 0:
        raise TruthInvalid(f"{name}: a finding of a single point and without a diameter; add its Diameter or Long Axis")
    x, y, z = np.unique(points, axis=0).mean(axis=0).tolist()
    return Lesion(center_mm=(x, y, z), diameter_mm=size_mm)


def _lift(outline: Dataset, points: NDArray[np.float64], volume: Volume, *, name: str) -> NDArray[np.float64]:
    """Return points of an image, (column, row) from the corner of its first pixel, in LPS mm."""
    images = [child for child in outline.get("ContentSequence") or () if child.ValueType == "IMAGE"]
    named = images[0].ReferencedSOPSequence[0] if images else Dataset()
    place = str(named.get("ReferencedSOPInstanceUID")), int(named.get("ReferencedFrameNumber") or 1)
    slices = {name_slice(ds).place: number for number, ds in enumerate(volume.datasets)}
    if place not in slices:
        raise TruthInvalid(f"{name}: an outline on an image that is not of the Series; is it of this Study?")
    index = np.column_stack([np.full(len(points), slices[place]), points[:, 1] - 0.5, points[:, 0] - 0.5])
    lifted: NDArray[np.float64] = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return lifted
