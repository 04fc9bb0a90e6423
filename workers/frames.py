"""Frames of a multi-frame Instance, each as a slice that reads like a single-frame Instance (PS3.3 C.7.6.16)."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, overload

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

from node.domain.frame_groups import (
    FRAME_GROUPS,
    MAX_FRAMES,
    PLACING_KEYWORDS,
    UNASSIGNED_KEYWORDS,
    UNASSIGNED_OF_FRAME,
    UNASSIGNED_SHARED,
)
from node.errors import NotEligible, TooLarge
from workers.pixels import FrameHeader, decode_frame

# Of one Frame, and without functional groups (PS3.3 A.2, A.3, A.4, A.21, A.26).
SINGLE_FRAME = frozenset({
    CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage, ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation, DigitalXRayImageStorageForProcessing,
})  # fmt: skip
# Functional group to what is read of it. What a sender puts there besides must not name another patient or Instance.
GROUPS = {Tag(keyword): frozenset(map(Tag, known)) for keyword, known in FRAME_GROUPS.items()}
CONVERTED = frozenset(map(Tag, UNASSIGNED_KEYWORDS))
UNASSIGNED = {Tag(keyword): CONVERTED for keyword in (UNASSIGNED_SHARED, UNASSIGNED_OF_FRAME)}
# Of all Frames, or of none: what counts and sorts them, and what has its place in a group and would lie elsewhere.
LEFT_OUT = tuple(
    Tag(keyword)
    for keyword in (
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "NumberOfFrames",
        "DimensionOrganizationSequence",
        "DimensionIndexSequence",
        *PLACING_KEYWORDS,
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "PixelData",
        "FloatPixelData",
        "DoubleFloatPixelData",
    )
)
# What a Frame calls its Image Type.
FRAME_TYPE, IMAGE_TYPE = Tag("FrameType"), Tag("ImageType")
CT = "CT"
RESCALE = ("RescaleSlope", "RescaleIntercept")

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
    """Return SOP Class and Instance UID of each Instance, once, in order, with the numbers of its named Frames.

    There are none where all that the Instance holds is meant.

    References
    ----------
    DICOM PS3.3 Table 10-3, C.18.4
    """
    gathered: dict[tuple[str, str], dict[int, None]] = {}
    counts: dict[tuple[str, str], int] = {}
    for ds in slices:
        named = name_slice(ds)
        uids = named.sop_class_uid, named.sop_instance_uid
        numbers = gathered.setdefault(uids, {})
        if named.frame_number is not None:
            numbers[named.frame_number] = None
        counts[uids] = ds.frame_count if isinstance(ds, FrameHeader) else 1
    return {uids: list(numbers) if len(numbers) < counts[uids] else [] for uids, numbers in gathered.items()}


def whole_of(ds: Dataset) -> Dataset:
    """Return the header of the Instance that a slice is of, with its functional groups."""
    return ds.whole() if isinstance(ds, FrameHeader) else ds


def keeps_slices(ds: Dataset) -> bool:
    """Tell whether a conversion kept, with a Frame or for all, what its single slice said and groups have no names for.

    References
    ----------
    DICOM PS3.3 C.7.6.16.2.25
    """
    whole, place = whole_of(ds), (number_frame(ds) or 1) - 1
    items = [*(whole.get("SharedFunctionalGroupsSequence") or ())[:1], *_list_items(whole)[place : place + 1]]
    return any(tag in item for item in items for tag in UNASSIGNED)


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
    NotEligible, TooLarge
        As `split_instance`.
    """
    if not any(map(holds_frames, datasets)):
        return datasets
    return [slice_ for ds in datasets for slice_ in spread_instance(ds)]


def spread_instance(ds: Dataset) -> Sequence[Dataset]:
    """Return the slices of one Instance that is in memory; as `spread_frames`."""
    return split_instance(ds, partial(decode_frame, ds)) if holds_frames(ds) else [ds]


class Frames(Sequence[FrameHeader]):
    """The Frames of a multi-frame Instance in the order in which they are stored (`split_instance`).

    The header of one is made each time somebody asks for it, and kept by nobody: copies of what is said of all, for
    each of thousands, would be far longer than the file.
    """

    def __init__(self, whole: Dataset, decode: Callable[[int], NDArray[np.generic]]) -> None:
        self._whole = whole
        self._decode = decode
        shared = next(iter(whole.get("SharedFunctionalGroupsSequence") or ()), Dataset())
        # What the Instance itself says goes before what its slices once said.
        self._common: Elements = (
            _read_groups(shared, UNASSIGNED) | dict(_list_told(whole)) | _read_groups(shared, GROUPS)
        )
        items = _list_items(whole)
        self._own = [_read_groups(item, GROUPS) for item in items]
        self._once = [_read_groups(item, UNASSIGNED) for item in items]
        # Decodes a value once for all Frames.
        self._decoded = self._make(0, self._common.copy())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._own)

    @overload
    def __getitem__(self, index: int) -> FrameHeader: ...

    @overload
    def __getitem__(self, index: slice) -> list[FrameHeader]: ...

    def __getitem__(self, index: int | slice) -> FrameHeader | list[FrameHeader]:
        """Return the header of a Frame, or of some."""
        places = range(len(self))[index]
        return self._read(places) if isinstance(places, int) else [self._read(place) for place in places]

    def glance(self, number: int, keywords: Iterable[str]) -> FrameHeader:
        """Return no more than these attributes of the header of a Frame, from 1."""
        own, once = self._own[number - 1], self._once[number - 1]
        elements: Elements = {}
        for tag in map(Tag, keywords):
            if tag in own:
                elements[tag] = own[tag]
            elif tag in self._decoded:
                elements[tag] = self._decoded[tag]
            elif tag in once:
                elements[tag] = once[tag]
        return self._make(number, elements)

    def _read(self, place: int) -> FrameHeader:
        return self._make(place + 1, self._once[place] | self._common | self._own[place])

    def _make(self, number: int, elements: Elements) -> FrameHeader:
        return FrameHeader(elements, self._whole, number=number, count=len(self), decode=self._decode)


def split_instance(whole: Dataset, decode: Callable[[int], NDArray[np.generic]]) -> Frames:
    """Return the Frames of a multi-frame Instance in the order in which they are stored.

    Each holds what is said of all, and at the same level what its functional groups say: those of the Frame before
    those that all share. It has neither Pixel Data nor the groups.

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
    _require_groups(whole, len(_list_items(whole)))
    frames = Frames(whole, decode)
    if whole.get("Modality") == CT:
        _require_rescale(whole, frames)
    return frames


def require_few(frames: object, name: str) -> None:
    """Go on when there are no more Frames than are read; Raises TooLarge."""
    if isinstance(frames, int) and frames > MAX_FRAMES:
        raise TooLarge(f"{name} has {frames} Frames, at most {MAX_FRAMES} are read together; send a part of it")


def _list_items(whole: Dataset) -> Sequence[Dataset]:
    return tuple(whole.get("PerFrameFunctionalGroupsSequence") or ())


def _read_groups(item: Dataset, groups: Mapping[BaseTag, Container[BaseTag]]) -> Elements:
    """Return the elements of functional groups under the names that a single-frame Instance has for them."""
    elements: Elements = {}
    for tag in item.keys() & groups.keys():
        for group in list(item[tag].value or ())[:1]:
            elements.update(_list_elements(group, groups[tag]))
    return elements


def _list_elements(group: Dataset, known: Container[BaseTag]) -> Iterator[tuple[BaseTag, DataElement | RawDataElement]]:
    for element in group.values():
        if element.tag == FRAME_TYPE and FRAME_TYPE in known:
            yield IMAGE_TYPE, DataElement(IMAGE_TYPE, "CS", group[FRAME_TYPE].value)
        elif element.tag in known:
            yield element.tag, element


def _list_told(whole: Dataset) -> Iterator[tuple[BaseTag, DataElement | RawDataElement]]:
    """Yield elements as they were read, for most are never looked at; what is empty hides nothing that a slice said."""
    for element in whole.values():
        is_hidden = element.tag in CONVERTED and _is_empty(element)
        if element.tag not in LEFT_OUT and not is_hidden:
            yield element.tag, element


def _is_empty(element: DataElement | RawDataElement) -> bool:
    return element.is_empty if isinstance(element, DataElement) else not element.value


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


def _require_rescale(whole: Dataset, frames: Frames) -> None:
    """Refuse Frames of a CT that nothing turns into Hounsfield units (PS3.3 C.7.6.16.2.9, required there)."""
    for number in range(1, len(frames) + 1):
        told = frames.glance(number, RESCALE)
        for keyword in RESCALE:
            if told.get(keyword) in (None, ""):
                raise NotEligible(
                    f"series {whole.get('SeriesInstanceUID')}: {keyword} of Pixel Value Transformation Sequence "
                    f"(0028,9145) is absent in {whole.get('SOPInstanceUID')} frame {number}; correct the sender"
                )
