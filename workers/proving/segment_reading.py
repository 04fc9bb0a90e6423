"""A SEG of anybody as it reads: its Segments, its Frames, and which pixels each Segment owns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.utils import iter_pixels

from node.codecs import PLUGINS
from workers.encoding.header_values import read_plain, read_text
from workers.proving.originals import Plane, read_plane, spread_groups

BINARY, LABELMAP = "BINARY", "LABELMAP"
# Left, Right, Right and left; SNOMED CT, and SNOMED RT as older objects write it (PS3.16 CID 244).
SIDES: Mapping[str, str] = {
    "7771000": "left", "24028007": "right", "51440002": "both", "G-A101": "left", "G-A100": "right", "G-A102": "both",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSegment:
    """One item of Segment Sequence (0062,0002).

    Attributes
    ----------
    category, property_type, site
        Code Values of Segmented Property Category, Segmented Property Type and the first Anatomic Region; empty where
        absent.
    side
        ``left``, ``right``, ``both``; empty where no laterality is told.
    """

    number: int
    label: str
    category: str
    property_type: str
    site: str
    tracking_uid: str
    tracking_id: str
    side: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFrame:
    """One Frame.

    Attributes
    ----------
    number
        From 1, as Referenced Frame Number counts.
    segment
        Referenced Segment Number (0062,000B); None in a LABELMAP, whose pixels name their Segments.
    sources
        SOP Instance UID and Referenced Frame Number of each Source Image (0008,2112); None where no Frame is named.
    plane
        Where it lies; None where that is not told.
    """

    number: int
    segment: int | None
    sources: tuple[tuple[str, int | None], ...]
    plane: Plane | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """The pixels of one Segment on one Frame.

    Attributes
    ----------
    top, left
        Row and column, from 0, of the corner of `mask` within the Frame.
    mask
        (rows, columns) bool, cut to the box around what is set.
    """

    frame: int
    segment: int
    top: int
    left: int
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSegmentation:
    """A SEG without its pixels.

    Attributes
    ----------
    form
        Segmentation Type (0062,0001).
    """

    sop_instance_uid: str
    form: str
    rows: int
    columns: int
    frame_of_reference_uid: str
    series_instance_uids: tuple[str, ...]
    segments: tuple[ReadSegment, ...]
    frames: tuple[ReadFrame, ...]


def read_segmentation(seg: Dataset) -> ReadSegmentation:
    """Return what a SEG says beside its pixels.

    Raises
    ------
    AttributeError, IndexError, TypeError, ValueError
        If an element that a SEG must have is absent or malformed.

    References
    ----------
    DICOM PS3.3 C.8.20
    """
    shared = (seg.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    form = str(seg.SegmentationType)
    frames = [
        _read_frame(item, shared, number=number, is_labelmap=form == LABELMAP)
        for number, item in enumerate(seg.PerFrameFunctionalGroupsSequence, start=1)
    ]
    return ReadSegmentation(
        sop_instance_uid=str(seg.SOPInstanceUID),
        form=form,
        rows=int(seg.Rows),
        columns=int(seg.Columns),
        frame_of_reference_uid=read_plain(seg, "FrameOfReferenceUID"),
        series_instance_uids=tuple(
            read_plain(item, "SeriesInstanceUID") for item in seg.get("ReferencedSeriesSequence") or ()
        ),
        segments=tuple(_read_segment(item) for item in seg.SegmentSequence),
        frames=tuple(frames),
    )


def cut_patches(seg: Dataset, frames: tuple[ReadFrame, ...]) -> Iterator[Patch]:
    """Yield the pixels of each Segment, Frame by Frame; a Segment without pixels on a Frame yields nothing.

    Raises
    ------
    workers.pixels.DECODER_ERRORS
        If encapsulated Pixel Data cannot be decoded.
    """
    for frame, pixels in zip(frames, iterate_frames(seg), strict=True):
        rows = np.flatnonzero(pixels.any(axis=1))
        if not rows.size:
            continue
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        touched = pixels[top:bottom]
        numbers = _list_values(touched) if frame.segment is None else [frame.segment]
        for number in numbers:
            mask = touched == number if frame.segment is None else touched != 0
            yield _crop(mask, frame=frame.number, segment=number, top=top)


def iterate_frames(seg: Dataset) -> Iterator[NDArray[np.generic]]:
    """Yield (rows, columns) stored values of each Frame; native Pixel Data must be as long as its header says."""
    syntax = seg.file_meta.TransferSyntaxUID
    rows, columns = int(seg.Rows), int(seg.Columns)
    if syntax.is_encapsulated:
        yield from iter_pixels(seg, raw=True, decoding_plugin=PLUGINS.get(syntax, ("",))[0])
    elif int(seg.BitsAllocated) == 1:
        for number in range(int(seg.NumberOfFrames)):
            yield unpack_frame(seg.PixelData, number, rows * columns).reshape(rows, columns)
    else:
        kind = np.uint8 if int(seg.BitsAllocated) <= 8 else np.uint16
        stored = np.frombuffer(seg.PixelData, kind, count=int(seg.NumberOfFrames) * rows * columns)
        yield from stored.reshape(-1, rows, columns)


def unpack_frame(pixel_data: bytes, number: int, size: int) -> NDArray[np.uint8]:
    """Return one Frame of bit-packed Pixel Data, flat, 0 or 1; Frames need not begin at a byte (PS3.5 8.1.1)."""
    first, last = number * size, (number + 1) * size
    packed = np.frombuffer(pixel_data, np.uint8, count=(last + 7) // 8 - first // 8, offset=first // 8)
    return np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + size]


def read_side(modifiers: object) -> str:
    """Return the side that an Anatomic Region Modifier or a Laterality names; empty where it names none."""
    for item in modifiers or ():  # type: ignore[attr-defined]  # a pydicom Sequence, which has no type
        side = SIDES.get(read_plain(item, "CodeValue"))
        if side:
            return side
    return ""


def list_frame_numbers(reference: Dataset) -> list[int]:
    """Return what a reference says in Referenced Frame Number (0008,1160); empty where it is to a whole Instance."""
    value = reference.get("ReferencedFrameNumber")
    if value is None:
        return []
    return [int(one) for one in value] if isinstance(value, MultiValue) else [int(value)]


def _list_values(pixels: NDArray[np.generic]) -> list[int]:
    """Return the values of a LABELMAP Frame that are no background."""
    return [int(value) for value in np.flatnonzero(np.bincount(pixels.ravel())) if value]


def _crop(mask: NDArray[np.bool_], *, frame: int, segment: int, top: int) -> Patch:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # A copy: a view would keep the whole Frame alive.
    return Patch(frame=frame, segment=segment, top=top + int(rows[0]), left=int(columns[0]), mask=box.copy())


def _read_segment(item: Dataset) -> ReadSegment:
    regions = item.get("AnatomicRegionSequence") or ()
    return ReadSegment(
        number=int(item.SegmentNumber),
        label=read_text(item, "SegmentLabel"),
        category=_read_code_value(item, "SegmentedPropertyCategoryCodeSequence"),
        property_type=_read_code_value(item, "SegmentedPropertyTypeCodeSequence"),
        site=_read_code_value(item, "AnatomicRegionSequence"),
        tracking_uid=read_plain(item, "TrackingUID"),
        tracking_id=read_text(item, "TrackingID"),
        side=next((side for one in regions if (side := read_side(one.get("AnatomicRegionModifierSequence")))), ""),
    )


def _read_code_value(item: Dataset, keyword: str) -> str:
    codes = item.get(keyword) or [Dataset()]
    return read_plain(codes[0], "CodeValue") or read_plain(codes[0], "LongCodeValue")


def _read_frame(item: Dataset, shared: Dataset, *, number: int, is_labelmap: bool) -> ReadFrame:
    named = (item.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence") or [None])[0]
    return ReadFrame(
        number=number,
        segment=None if is_labelmap else int(named.ReferencedSegmentNumber),
        sources=tuple(
            (str(source.ReferencedSOPInstanceUID), number)
            for derivation in item.get("DerivationImageSequence") or shared.get("DerivationImageSequence") or ()
            for source in derivation.get("SourceImageSequence") or ()
            for number in list_frame_numbers(source) or (None,)
        ),
        plane=read_plane(*spread_groups(item, shared)),
    )
