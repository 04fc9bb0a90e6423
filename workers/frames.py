"""Frames of a multi-frame Instance, each as a slice that reads like a single-frame Instance (PS3.3 C.7.6.16)."""

from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from node.errors import NotEligible, TooLarge
from workers.pixels import FrameHeader, decode_frame

# Of one Frame, and without functional groups (PS3.3 A.2, A.3, A.4, A.21, A.26).
SINGLE_FRAME = frozenset({
    CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage, ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation, DigitalXRayImageStorageForProcessing,
})  # fmt: skip
# Functional groups that are read. Of a legacy-converted Instance the unassigned ones hold what the slices said besides.
UNASSIGNED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
GROUPS = (
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "FrameContentSequence",
    "FrameAnatomySequence",
    "CTImageFrameTypeSequence",
    "CTReconstructionSequence",
    "CTXRayDetailsSequence",
    "MRImageFrameTypeSequence",
    "PETFrameTypeSequence",
)
# Of all Frames, or of none: what counts and sorts them, and what has its place in a group and would lie elsewhere.
LEFT_OUT = tuple(
    Tag(keyword)
    for keyword in (
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "NumberOfFrames",
        "DimensionOrganizationSequence",
        "DimensionIndexSequence",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "PixelData",
        "FloatPixelData",
        "DoubleFloatPixelData",
    )
)
# 2^30 pixels, as many as are read together, of 256 x 256: each Frame takes a header of some kilobytes.
MAX_FRAMES = 2**14
INSTANCE_NUMBER = Tag("InstanceNumber")
# What a Frame calls its Image Type.
FRAME_TYPE, IMAGE_TYPE = Tag("FrameType"), Tag("ImageType")
CT = "CT"

Elements = dict[BaseTag, DataElement | RawDataElement]


class ImageReference(NamedTuple):
    """What names one slice: its Instance, and which Frame of it where it has several.

    Attributes
    ----------
    frame_number
        Referenced Frame Number (0008,1160), from 1; None where the reference is to all that the Instance holds.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None

    @property
    def place(self) -> tuple[str, int]:
        """SOP Instance UID and number of the Frame, which is 1 of a single one."""
        return self.sop_instance_uid, self.frame_number or 1


def name_slice(ds: Dataset) -> ImageReference:
    """Return what names a slice in references.

    References
    ----------
    DICOM PS3.3 Table 10-3, C.18.4 (a Frame is named where the reference is not to all Frames)
    """
    return ImageReference(
        sop_class_uid=str(ds.SOPClassUID), sop_instance_uid=str(ds.SOPInstanceUID), frame_number=number_frame(ds)
    )


def number_frame(ds: Dataset) -> int | None:
    """Return which Frame of its Instance a slice is, from 1; None where the Instance holds nothing else."""
    return ds.frame_number if isinstance(ds, FrameHeader) and ds.frame_count > 1 else None


def gather_frames(slices: Sequence[Dataset]) -> dict[tuple[str, str], list[int]]:
    """Return SOP Class and Instance UID of each Instance, once, in order, with the numbers of its named Frames."""
    gathered: dict[tuple[str, str], list[int]] = {}
    for ds in slices:
        named = name_slice(ds)
        numbers = gathered.setdefault((named.sop_class_uid, named.sop_instance_uid), [])
        if named.frame_number is not None and named.frame_number not in numbers:
            numbers.append(named.frame_number)
    return gathered


def whole_of(ds: Dataset) -> Dataset:
    """Return the header of the Instance that a slice is of, with its functional groups."""
    return ds.whole() if isinstance(ds, FrameHeader) else ds


def holds_frames(ds: Dataset) -> bool:
    """Tell whether an Instance has several Frames, or functional groups, as one of a single Frame may have too.

    References
    ----------
    DICOM PS3.3 C.7.6.16
    """
    return "PerFrameFunctionalGroupsSequence" in ds or str(ds.get("NumberOfFrames") or 1) != "1"


def spread_frames(datasets: Sequence[Dataset]) -> Sequence[Dataset]:
    """Return the slices of Instances that are in memory: themselves, and the Frames of those that have several.

    Raises
    ------
    NotEligible
        As `split_instance`.
    """
    if not any(map(holds_frames, datasets)):
        return datasets
    return [slice_ for ds in datasets for slice_ in _spread(ds)]


def _spread(ds: Dataset) -> Sequence[Dataset]:
    return split_instance(ds, partial(decode_frame, ds)) if holds_frames(ds) else [ds]


def split_instance(whole: Dataset, decode: Callable[[int], NDArray[np.generic]]) -> list[FrameHeader]:
    """Return the Frames of a multi-frame Instance in the order in which they are stored.

    Each holds what is said of all, and at the same level what its functional groups say: those of the Frame before
    those that all share. It has neither Pixel Data nor the groups, and for Instance Number the number of the Frame.

    Parameters
    ----------
    decode
        Returns the stored values of the Frame of a number, from 1.

    Raises
    ------
    NotEligible
        If the Instance lacks the groups that place Frames, or the attributes that rescale those of a CT, or has not
        as many Items of them as Frames, or is of a SOP Class that knows of none.
    TooLarge
        If there are more than `MAX_FRAMES`.

    References
    ----------
    DICOM PS3.3 C.7.6.16
    """
    require_few(whole.get("NumberOfFrames"), _name(whole))
    frames = list(whole.get("PerFrameFunctionalGroupsSequence") or ())
    _require_groups(whole, len(frames))
    shared = next(iter(whole.get("SharedFunctionalGroupsSequence") or ()), Dataset())
    common: Elements = dict(_list_raw(whole, LEFT_OUT))
    for keyword in UNASSIGNED:
        # What the Instance itself says goes before what its slices once said.
        common = dict(_list_elements(keyword, shared)) | common
    for keyword in GROUPS:
        common.update(_list_elements(keyword, shared))
    slices = []
    for number, own in enumerate(frames, start=1):
        elements = common.copy()
        for keyword in UNASSIGNED:
            elements = dict(_list_elements(keyword, own)) | elements
        for keyword in GROUPS:
            elements.update(_list_elements(keyword, own))
        elements[INSTANCE_NUMBER] = DataElement(INSTANCE_NUMBER, "IS", number)
        slices.append(FrameHeader(elements, whole, number=number, count=len(frames), decode=decode))
    _require_rescale(slices)
    return slices


def require_few(frames: object, name: str) -> None:
    """Go on when there are no more Frames than are read; Raises TooLarge."""
    if isinstance(frames, int) and frames > MAX_FRAMES:
        raise TooLarge(f"{name} has {frames} Frames, at most {MAX_FRAMES} are read together; send a part of it")


def _list_elements(keyword: str, item: Dataset) -> Iterator[tuple[BaseTag, DataElement | RawDataElement]]:
    """Yield the elements of one functional group under the names that a single-frame Instance has for them."""
    if keyword not in item:
        return
    for group in list(item[keyword].value or ())[:1]:
        yield from _list_raw(group, (FRAME_TYPE,))
        if FRAME_TYPE in group:
            yield IMAGE_TYPE, DataElement(IMAGE_TYPE, "CS", group[FRAME_TYPE].value)


def _list_raw(ds: Dataset, left_out: Container[BaseTag]) -> Iterator[tuple[BaseTag, DataElement | RawDataElement]]:
    """Yield elements as they were read: most are never looked at."""
    for element in ds.values():
        if element.tag not in left_out:
            yield element.tag, element


def tell_groups(whole: Dataset) -> NotEligible:
    """Return the refusal of a single-frame Instance with functional groups: two places may be told of one slice."""
    return NotEligible(
        f"{_name(whole)} has functional groups, which its SOP Class does not know; let the sender convert it to "
        "Enhanced CT, Enhanced MR or single-frame Instances"
    )


def _name(whole: Dataset) -> str:
    return f"series {whole.get('SeriesInstanceUID')}: {whole.get('SOPInstanceUID')}"


def _require_groups(whole: Dataset, items: int) -> None:
    told, name = whole.get("NumberOfFrames"), _name(whole)
    if items and whole.get("SOPClassUID") in SINGLE_FRAME:
        raise tell_groups(whole)
    if not items:
        raise NotEligible(
            f"{name} holds {told or 'no number of'} Frames and no Per-Frame Functional Groups Sequence (5200,9230): "
            "nothing says where each lies; let the sender convert it to Enhanced CT, Enhanced MR or single-frame "
            "Instances"
        )
    if str(told) != str(items):
        raise NotEligible(
            f"{name}: Number of Frames (0028,0008) is {told}, and Per-Frame Functional Groups Sequence (5200,9230) "
            f"describes {items}; correct the sender"
        )


def _require_rescale(slices: Sequence[FrameHeader]) -> None:
    """Refuse Frames of a CT that nothing turns into Hounsfield units (PS3.3 C.7.6.16.2.9, required there)."""
    for ds in slices:
        if ds.get("Modality") != CT:
            continue
        for keyword in ("RescaleSlope", "RescaleIntercept"):
            if ds.get(keyword) in (None, ""):
                raise NotEligible(
                    f"series {ds.get('SeriesInstanceUID')}: {keyword} of Pixel Value Transformation Sequence "
                    f"(0028,9145) is absent in {ds.get('SOPInstanceUID')} frame {ds.frame_number}; correct the sender"
                )
