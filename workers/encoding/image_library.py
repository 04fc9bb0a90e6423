"""The Image Library of an SR: what is known of the images that it describes (PS3.16 TID 1600 to 1604)."""

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.multival import MultiValue

from node.domain import codes
from node.domain.codes import Code
from workers.encoding.content import (
    HAS_ACQ_CONTEXT,
    write_code,
    write_container,
    write_image,
    write_number,
    write_statement,
    write_uid,
)
from workers.volume import Volume

POSITION = (codes.IMAGE_POSITION_X, codes.IMAGE_POSITION_Y, codes.IMAGE_POSITION_Z)
ORIENTATION = (
    codes.IMAGE_ORIENTATION_ROW_X,
    codes.IMAGE_ORIENTATION_ROW_Y,
    codes.IMAGE_ORIENTATION_ROW_Z,
    codes.IMAGE_ORIENTATION_COLUMN_X,
    codes.IMAGE_ORIENTATION_COLUMN_Y,
    codes.IMAGE_ORIENTATION_COLUMN_Z,
)
PATIENT_ORIENTATION = (codes.PATIENT_ORIENTATION_ROW, codes.PATIENT_ORIENTATION_COLUMN)
# PS3.16 CID 29; an image of another Modality is not described.
CROSS_SECTIONAL = {
    code.value: code for code in (codes.COMPUTED_TOMOGRAPHY, codes.MAGNETIC_RESONANCE, codes.POSITRON_EMISSION)
}
PROJECTION = {code.value: code for code in (codes.COMPUTED_RADIOGRAPHY, codes.DIGITAL_RADIOGRAPHY)}


def describe_slices(volume: Volume, indices: Sequence[int]) -> bytes:
    """Return the library of some slices of a Volume: what all share stands once, above them; empty where unknown.

    Parameters
    ----------
    indices
        Positions along the first axis of the Volume; not empty.

    References
    ----------
    DICOM PS3.16 TID 1602, TID 1604
    """
    slices = [volume.datasets[index] for index in indices]
    modality = CROSS_SECTIONAL.get(str(slices[0].Modality))
    if modality is None:
        return b""
    # TID 1602 wants it wherever it is included: once for the group, once for each image.
    named = write_code(codes.MODALITY, modality, relationship=HAS_ACQ_CONTEXT)
    thicknesses_mm = [_read_thickness(ds, volume.spacing_mm[0]) for ds in slices]
    is_even = len(set(thicknesses_mm)) == 1
    entries = []
    for ds, thickness_mm in zip(slices, thicknesses_mm, strict=True):
        own = [named, *(_length(name, float(at)) for name, at in zip(POSITION, ds.ImagePositionPatient, strict=True))]
        own += [] if is_even else [_length(codes.SLICE_THICKNESS, thickness_mm)]
        entries.append(write_image(codes.SOURCE, ds, children=own))
    shared = [_length(codes.SLICE_THICKNESS, thicknesses_mm[0])] if is_even else []
    return _write_library([named, *_describe_grid(volume, slices[0]), *shared], entries)


def describe_radiograph(header: Dataset) -> bytes:
    """Return the library of one projection image; empty where the source lacks what it must say: nothing is invented.

    References
    ----------
    DICOM PS3.16 TID 1602, TID 1603
    """
    modality = PROJECTION.get(str(header.get("Modality")))
    orientation, spacing = _read_pair(header, "PatientOrientation"), _read_pair(header, "ImagerPixelSpacing")
    if modality is None or orientation is None or spacing is None:
        return b""
    described = [write_code(codes.MODALITY, modality, relationship=HAS_ACQ_CONTEXT), *_count_pixels(header)]
    described += [
        write_statement(name, side, relationship=HAS_ACQ_CONTEXT)
        for name, side in zip(PATIENT_ORIENTATION, orientation, strict=True)
    ]
    described += [
        _length(codes.HORIZONTAL_SPACING, float(spacing[1])),
        _length(codes.VERTICAL_SPACING, float(spacing[0])),
    ]
    return _write_library([], [write_image(codes.SOURCE, header, children=described)])


def _write_library(shared: Sequence[bytes], entries: Sequence[bytes]) -> bytes:
    return write_container(codes.IMAGE_LIBRARY, [write_container(codes.IMAGE_LIBRARY_GROUP, [*shared, *entries])])


def _describe_grid(volume: Volume, first: Dataset) -> list[bytes]:
    """Return what `read_volume` has proven to be one and the same on every slice."""
    distance_mm, row_mm, column_mm = volume.spacing_mm
    described = [write_uid(codes.FRAME_OF_REFERENCE, volume.frame_of_reference_uid, relationship=HAS_ACQ_CONTEXT)]
    described += _count_pixels(first)
    described += [_length(codes.HORIZONTAL_SPACING, column_mm), _length(codes.VERTICAL_SPACING, row_mm)]
    described += [
        write_number(name, float(cosine), codes.COSINE, relationship=HAS_ACQ_CONTEXT)
        for name, cosine in zip(ORIENTATION, first.ImageOrientationPatient, strict=True)
    ]
    return [*described, _length(codes.SPACING_BETWEEN_SLICES, distance_mm)]


def _count_pixels(ds: Dataset) -> list[bytes]:
    return [
        write_number(name, int(count), codes.PIXELS, relationship=HAS_ACQ_CONTEXT)
        for name, count in ((codes.ROWS, ds.Rows), (codes.COLUMNS, ds.Columns))
    ]


def _length(name: Code, value_mm: float) -> bytes:
    return write_number(name, value_mm, codes.MILLIMETER, relationship=HAS_ACQ_CONTEXT)


def _read_pair(ds: Dataset, keyword: str) -> tuple[str, str] | None:
    """Return both values of an element, rows first; None where it does not hold two."""
    value = ds.get(keyword)
    if not isinstance(value, MultiValue) or len(value) != len(PATIENT_ORIENTATION):
        return None
    return str(value[0]), str(value[1])


def _read_thickness(ds: Dataset, distance_mm: float) -> float:
    """Return Slice Thickness (0018,0050), mm; the slice distance where it is absent or no number."""
    try:
        thickness_mm = float(ds.get("SliceThickness") or 0.0)
    except (TypeError, ValueError):
        return distance_mm
    return thickness_mm if thickness_mm > 0 else distance_mm
