"""Frames of a Segmentation: which there are, what they show, and what is said of each (PS3.3 C.7.6.16)."""

import struct
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.valuerep import DSfloat

from workers.encoding.jpegls import compress_labels
from workers.encoding.raw_elements import write_element, write_elements, write_sequence, write_text
from workers.frames import gather_frames

# Dimension Index Values (0020,9157): (Segment Number, place of the slice), or the place alone; both count from 1.
FrameIndex = tuple[int, ...]
# Eight Frames end at a byte, whatever their matrix: Frames of bits follow each other without a gap (PS3.5 8.1.1).
FRAMES_TO_A_BYTE = 8


def pack_segments(slices: Sequence[NDArray[np.uint8]], *, segments: int) -> tuple[list[FrameIndex], bytes]:
    """Return a Frame for each Segment on each slice where it is, in that order, and their Pixel Data, one bit a pixel.

    Parameters
    ----------
    slices
        (rows, columns) uint8 each, value n = Segment Number n.
    segments
        How many there are.
    """
    indices: list[FrameIndex] = []
    packed = []
    waiting = np.empty((FRAMES_TO_A_BYTE, *slices[0].shape), np.bool_)
    count = 0
    present = [_list_present(labels) for labels in slices]
    for segment in range(1, segments + 1):
        for place, labels in enumerate(slices, start=1):
            if not present[place - 1][segment]:
                continue
            np.equal(labels, segment, out=waiting[count])
            indices.append((segment, place))
            count += 1
            if count == FRAMES_TO_A_BYTE:
                packed.append(np.packbits(waiting, bitorder="little").data)
                count = 0
    packed.append(np.packbits(waiting[:count], bitorder="little").data)
    return indices, _pad(b"".join(packed))


def _list_present(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each number of eight bits is on a slice, in one pass however many there are."""
    present = np.zeros(np.iinfo(np.uint8).max + 1, np.bool_)
    rows = np.flatnonzero(labels.any(axis=1))
    if rows.size:
        present[labels[rows[0] : rows[-1] + 1]] = True
    return present


def compress_slices(slices: Sequence[NDArray[np.uint8]]) -> tuple[list[FrameIndex], bytes]:
    """Return a Frame for each slice and their encapsulated Pixel Data, JPEG-LS (PS3.5 A.4.3)."""
    indices: list[FrameIndex] = [(place,) for place in range(1, len(slices) + 1)]
    return indices, encapsulate([compress_labels(labels) for labels in slices])


def write_frame_groups(model: Dataset, sources: Sequence[Dataset], indices: Iterable[FrameIndex]) -> list[bytes]:
    """Return the Items of Per-Frame Functional Groups Sequence (5200,9230).

    Parameters
    ----------
    model
        The Item of one Frame as highdicom makes it: what it says of derivation and purpose holds for all Frames.
    sources
        The source slice at each place.

    References
    ----------
    DICOM PS3.3 C.7.6.16.2.2, C.7.6.16.2.3, C.7.6.16.2.6, C.8.20.3.1
    """
    derivations = _write_derivations(model, sources)
    positions = [_write_position(ds) for ds in sources]
    names_segment = "SegmentIdentificationSequence" in model
    return [
        derivations[index[-1] - 1]
        + _write_index(index)
        + positions[index[-1] - 1]
        + (_write_segment(index[0]) if names_segment else b"")
        for index in indices
    ]


def refer_to_instances(slices: Sequence[Dataset]) -> list[bytes]:
    """Return the Items of a Sequence that refers to the Instances of these slices (PS3.3 10.8, Table 10-11)."""
    return [_write_reference(*named) for named in gather_frames(slices)]


def refer_to_images(slices: Sequence[Dataset]) -> list[bytes]:
    """Return the Items of a Sequence that refers to these slices, an Item an Instance (PS3.3 10.3, Table 10-3)."""
    return [_write_reference(*named) + write_frame_numbers(numbers) for named, numbers in gather_frames(slices).items()]


def write_frame_numbers(numbers: Sequence[int]) -> bytes:
    """Return Referenced Frame Number (0008,1160); nothing where a reference is to a whole Instance."""
    return write_text("ReferencedFrameNumber", "IS", "\\".join(map(str, numbers))) if numbers else b""


def _write_reference(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    return write_text("ReferencedSOPClassUID", "UI", sop_class_uid) + write_text(
        "ReferencedSOPInstanceUID", "UI", sop_instance_uid
    )


def _write_derivations(model: Dataset, sources: Sequence[Dataset]) -> list[bytes]:
    derivation = model.DerivationImageSequence[0]
    source = derivation.SourceImageSequence[0]
    said_of_source = write_elements(source, [tag for tag in sorted(source.keys()) if tag.group != 0x0008])
    code = write_elements(derivation, [derivation["DerivationCodeSequence"].tag])
    return [
        write_sequence(
            "DerivationImageSequence",
            [write_sequence("SourceImageSequence", [reference + said_of_source]) + code],
        )
        for reference in (refer_to_images([ds])[0] for ds in sources)
    ]


def _write_position(ds: Dataset) -> bytes:
    # Digits as the source has them, but no more than a DS may hold.
    text = "\\".join(str(DSfloat(value, auto_format=True)) for value in ds.ImagePositionPatient)
    return write_sequence("PlanePositionSequence", [write_text("ImagePositionPatient", "DS", text)])


def _write_index(index: FrameIndex) -> bytes:
    values = struct.pack(f"<{len(index)}I", *index)
    return write_sequence("FrameContentSequence", [write_element("DimensionIndexValues", "UL", values)])


def _write_segment(number: int) -> bytes:
    value = struct.pack("<H", number)
    return write_sequence("SegmentIdentificationSequence", [write_element("ReferencedSegmentNumber", "US", value)])


def _pad(value: bytes) -> bytes:
    return value + b"\0" * (len(value) % 2)
