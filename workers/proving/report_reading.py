"""A Measurement Report of anybody as it reads: its groups, and what each measures, outlines and refers to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.multival import MultiValue

from workers.encoding.header_values import read_plain, read_text
from workers.proving.originals import SlicePlace
from workers.proving.segment_reading import list_frame_numbers, read_side

IMAGE_LIBRARY, MEASUREMENT_GROUP = "111028", "125007"
TRACKING_IDENTIFIER, TRACKING_UID = "112039", "112040"
SOURCE_SERIES = "121232"
LATERALITY = ("272741003", "G-C171")
FINDING_SITE = ("363698007", "G-C0E3")
DERIVATION = ("121401",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMeasurement:
    """One NUM content item.

    Attributes
    ----------
    concept, unit, derivation
        Code Value; empty where absent.
    value
        Numeric Value (0040,A30A); None where there is none.
    floating
        Floating Point Value (0040,A161); None where absent.
    """

    concept: str
    unit: str
    unit_scheme: str
    derivation: str
    value: float | None
    floating: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOutline:
    """One SCOORD content item.

    Attributes
    ----------
    graphic_type
        Graphic Type (0070,0023).
    points
        (column, row) from the corner of the first pixel, as Graphic Data (0070,0022) holds them.
    place
        The image that it is selected from, and which Frame of it, from 1; no UID where none is named.
    """

    graphic_type: str
    points: tuple[tuple[float, float], ...]
    place: SlicePlace


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadGroup:
    """One Measurement Group (PS3.16 TID 1410, 1411, 1501).

    Attributes
    ----------
    name
        ``group 2``: no text of the object is quoted.
    answers
        Code Value of each CODE item by that of its concept name.
    segments
        SOP Instance UID and Segment Number of each Referenced Segment.
    is_planar
        True where only some Frames of the Segment are meant.
    is_spatial
        True where it has an outline in three dimensions (SCOORD3D).
    side
        As in `workers.proving.segment_reading.ReadSegment`.
    """

    name: str
    tracking_uid: str
    tracking_id: str
    measurements: tuple[ReadMeasurement, ...]
    answers: Mapping[str, str]
    segments: tuple[tuple[str, int], ...]
    is_planar: bool
    is_spatial: bool
    outlines: tuple[ReadOutline, ...]
    source_series_uids: tuple[str, ...]
    side: str

    def find_number(self, concept: str) -> float | None:
        """Return what is measured under a Code Value; None where nothing is."""
        return next((one.value for one in self.measurements if one.concept == concept), None)


def walk_content(ds: Dataset) -> Iterator[Dataset]:
    """Yield every content item below `ds`, parents first; of the Image Library only the container.

    The library repeats headers of images, and is larger than all the rest.
    """
    for item in ds.get("ContentSequence") or ():
        yield item
        if read_name(item) != IMAGE_LIBRARY:
            yield from walk_content(item)


def read_code(item: Dataset, keyword: str) -> tuple[str, str]:
    """Return Code Value and Coding Scheme Designator of the first item of a code sequence; empty where absent."""
    codes = item.get(keyword)
    if not codes:
        return "", ""
    value = read_plain(codes[0], "CodeValue") or read_plain(codes[0], "LongCodeValue")
    return value, read_plain(codes[0], "CodingSchemeDesignator")


def read_name(item: Dataset) -> str:
    """Return the Code Value of the concept name of a content item; empty where it has none."""
    return read_code(item, "ConceptNameCodeSequence")[0]


def read_groups(sr: Dataset) -> list[ReadGroup]:
    """Return the Measurement Groups of an SR in their order.

    Raises
    ------
    AttributeError, IndexError, TypeError, ValueError
        If a content item lacks an element that it must have.

    References
    ----------
    DICOM PS3.16 TID 1500
    """
    items = [item for item in walk_content(sr) if read_name(item) == MEASUREMENT_GROUP]
    return [_read_group(item, f"group {number}") for number, item in enumerate(items, start=1)]


def _read_group(item: Dataset, name: str) -> ReadGroup:
    children = [(read_name(child), child) for child in item.get("ContentSequence") or ()]
    segments, is_planar = [], False
    for _, child in children:
        image = child.ReferencedSOPSequence[0] if child.ValueType == "IMAGE" else Dataset()
        for number in _list_numbers(image.get("ReferencedSegmentNumber")):
            segments.append((str(image.ReferencedSOPInstanceUID), number))
            is_planar |= image.get("ReferencedFrameNumber") is not None
    uids = [(code, str(child.UID)) for code, child in children if child.ValueType == "UIDREF"]
    return ReadGroup(
        name=name,
        tracking_uid=next((uid for code, uid in uids if code == TRACKING_UID), ""),
        tracking_id=next(
            (read_text(child, "TextValue") for code, child in children if code == TRACKING_IDENTIFIER), ""
        ),
        measurements=tuple(_read_measurement(child) for _, child in children if child.ValueType == "NUM"),
        answers={
            code: read_code(child, "ConceptCodeSequence")[0] for code, child in children if child.ValueType == "CODE"
        },
        segments=tuple(segments),
        is_planar=is_planar,
        is_spatial=any(child.ValueType == "SCOORD3D" for _, child in children),
        outlines=tuple(_read_outline(child) for _, child in children if child.ValueType == "SCOORD"),
        source_series_uids=tuple(uid for code, uid in uids if code == SOURCE_SERIES),
        side=_find_side([child for code, child in children if code in FINDING_SITE]),
    )


def _list_numbers(value: object) -> list[int]:
    if value is None:
        return []
    return [int(one) for one in value] if isinstance(value, MultiValue | list) else [int(str(value))]


def _read_measurement(item: Dataset) -> ReadMeasurement:
    measured = (item.get("MeasuredValueSequence") or [Dataset()])[0]
    unit, unit_scheme = read_code(measured, "MeasurementUnitsCodeSequence")
    modifiers = (child for child in item.get("ContentSequence") or () if read_name(child) in DERIVATION)
    value, floating = measured.get("NumericValue"), measured.get("FloatingPointValue")
    return ReadMeasurement(
        concept=read_name(item),
        unit=unit,
        unit_scheme=unit_scheme,
        derivation=next((read_code(child, "ConceptCodeSequence")[0] for child in modifiers), ""),
        value=None if value is None else float(value),
        floating=None if floating is None else float(floating),
    )


def _read_outline(item: Dataset) -> ReadOutline:
    numbers = [float(value) for value in item.GraphicData]
    images = [child for child in item.get("ContentSequence") or () if child.ValueType == "IMAGE"]
    named = images[0].ReferencedSOPSequence[0] if images else Dataset()
    return ReadOutline(
        graphic_type=str(item.GraphicType),
        points=tuple(zip(numbers[::2], numbers[1::2], strict=True)),
        place=(str(named.get("ReferencedSOPInstanceUID") or ""), next(iter(list_frame_numbers(named)), 1)),
    )


def _find_side(sites: list[Dataset]) -> str:
    for site in sites:
        for child in site.get("ContentSequence") or ():
            side = read_side(child.get("ConceptCodeSequence")) if read_name(child) in LATERALITY else ""
            if side:
                return side
    return ""
