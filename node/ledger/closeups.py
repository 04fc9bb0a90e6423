"""One Study from near: whose it is, when its last Instance came, and the slices of a Series in their order."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import RowMapping, func, select

from node.domain.study import Attributes, list_frame_positions
from node.domain.uids import SeriesUID, StudyUID
from node.ledger.engine import Desk
from node.ledger.schema import instances, study_entries

Point = tuple[float, float, float]
NUMBERS_OF_A_POINT, NUMBERS_OF_AN_ORIENTATION, NUMBERS_OF_A_SPACING = 3, 6, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How the Instances of a Study came.

    Attributes
    ----------
    last_at
        When the last one came; None where none is kept.
    """

    last_at: datetime | None
    instances: int
    associations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One image of a Series, or one Frame of a multi-frame image, as far as it can be placed.

    Attributes
    ----------
    digest
        Of its content.
    number
        Instance Number (0020,0013), or that of the Frame.
    frames, frame
        How many Frames its Instance holds, and which it is, from 1.
    position_mm
        Image Position (Patient) (0020,0032); None where it is absent.
    orientation
        Image Orientation (Patient) (0020,0037), six cosines; empty where it is absent.
    spacing_mm
        Pixel Spacing (0028,0030), between rows and between columns; empty where it is absent.
    """

    sop_instance_uid: str
    digest: str
    number: int | None
    rows: int
    columns: int
    frames: int
    position_mm: Point | None
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    attributes: Attributes
    frame: int = 1


class CloseupLedger(Desk):
    """What a page about one Study shows beside its story."""

    def attributes_of(self, study_instance_uid: StudyUID) -> Attributes:
        """Return what is searched of a Study, patient and all; empty where nothing of it is kept any more."""
        statement = select(study_entries.c.attributes).where(study_entries.c.study_instance_uid == study_instance_uid)
        with self.reading() as connection:
            found: Mapping[str, Any] | None = connection.execute(statement).scalar_one_or_none()
            return MappingProxyType(dict(found or {}))

    def arrival_of(self, study_instance_uid: StudyUID, *, before: datetime | None = None) -> Arrival:
        """Return how the Instances came that are kept; only those until `before`, where it is given."""
        conditions = [instances.c.study_instance_uid == study_instance_uid]
        if before is not None:
            conditions.append(instances.c.received_at <= before)
        received_at = instances.c.received_at
        statement = select(
            func.max(received_at, type_=received_at.type),
            func.count(),
            func.count(instances.c.association_id.distinct()),
        ).where(*conditions)
        with self.reading() as connection:
            last_at, count, associations = connection.execute(statement).one()
            return Arrival(last_at=last_at, instances=count, associations=associations)

    def slices_of(self, study_instance_uid: StudyUID, series_instance_uid: SeriesUID) -> tuple[Slice, ...]:
        """Return the images of a Series, along its normal where each says where it lies, else by Instance Number."""
        statement = select(instances.c.sop_instance_uid, instances.c.digest, instances.c.attributes).where(
            instances.c.study_instance_uid == study_instance_uid,
            instances.c.series_instance_uid == series_instance_uid,
        )
        with self.reading() as connection:
            found = [one for row in connection.execute(statement).mappings() for one in _to_slices(row)]
        numbered = sorted(found, key=lambda one: (one.number is None, one.number or 0, one.sop_instance_uid))
        heights = [height_of(one) for one in numbered]
        if any(height is None for height in heights):
            return tuple(numbered)
        return tuple(sorted(numbered, key=lambda one: height_of(one) or 0.0))


def height_of(one: Slice, point: Point | None = None) -> float | None:
    """Return how high a slice, or a point (LPS, mm), lies along the normal of the slice, mm.

    None where the slice does not say.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1
    """
    place = one.position_mm if point is None else point
    if place is None or len(one.orientation) != NUMBERS_OF_AN_ORIENTATION:
        return None
    (a, b, c), (d, e, f) = one.orientation[:3], one.orientation[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return sum(along * at for along, at in zip(normal, place, strict=True))


def _to_slices(row: RowMapping) -> list[Slice]:
    """Return an image, or each Frame of one that says where they lie."""
    whole = _to_slice(row)
    positions = list_frame_positions(row["attributes"])
    if len(positions) != whole.frames:
        # Of several Frames the position of one is not that of all.
        return [whole if whole.frames == 1 else replace(whole, position_mm=None)]
    return [
        replace(whole, number=number if whole.frames > 1 else whole.number, frame=number, position_mm=(x, y, z))
        for number, (x, y, z) in enumerate(positions, start=1)
    ]


def _to_slice(row: RowMapping) -> Slice:
    attributes = row["attributes"]
    position = _numbers(attributes, "ImagePositionPatient", NUMBERS_OF_A_POINT)
    number = attributes.get("InstanceNumber")
    return Slice(
        sop_instance_uid=row["sop_instance_uid"],
        digest=row["digest"],
        number=int(number) if isinstance(number, int | float) else None,
        rows=_count(attributes, "Rows"),
        columns=_count(attributes, "Columns"),
        frames=_count(attributes, "NumberOfFrames") or 1,
        position_mm=(position[0], position[1], position[2]) if position else None,
        orientation=_numbers(attributes, "ImageOrientationPatient", NUMBERS_OF_AN_ORIENTATION),
        spacing_mm=_numbers(attributes, "PixelSpacing", NUMBERS_OF_A_SPACING),
        attributes=attributes,
    )


def _numbers(attributes: Attributes, keyword: str, count: int) -> tuple[float, ...]:
    """Return the numbers of an attribute; none unless there are so many."""
    found = attributes.get(keyword)
    values = found if isinstance(found, list) else []
    numbers = tuple(float(value) for value in values if isinstance(value, int | float))
    return numbers if len(numbers) == len(values) == count else ()


def _count(attributes: Attributes, keyword: str) -> int:
    found = attributes.get(keyword)
    return int(found) if isinstance(found, int | float) else 0
