"""Proof of the Measurement Groups of an SR of anybody: each number is what the Segment on the originals gives."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.errors import PixelsUndecodable
from workers.proving.originals import Originals, SourceSlice
from workers.proving.placed_segments import (
    Box,
    PlacedSegmentation,
    gather_values,
    measure_extent,
    measure_least_extent,
    measure_voxel,
)
from workers.proving.proof import Complaint, Contradiction, Unproven
from workers.proving.report_reading import ReadGroup, ReadMeasurement, ReadOutline
from workers.proving.template import find_quantity

VOLUME_TOLERANCE = 0.01
# Reports round to whole HU.
ATTENUATION_TOLERANCE_HU = 1.0
# Lengths are written with a digit or two, and the extent is sought in steps of direction.
EXTENT_TOLERANCE = 0.01
EXTENT_ROUNDING_MM = 0.1
# Some count pixels from their center, some from their corner.
OUTLINE_MARGIN = 0.5
# An outline may run around its Segment, one pixel outside.
BOX_MARGIN = 1.0
FRACTIONAL = "FRACTIONAL"
CT = "CT"
CIRCLE = "CIRCLE"
MEANS = frozenset({"373098007", "R-00317"})
MINIMA = frozenset({"255605001", "R-404FB"})
MAXIMA = frozenset({"56851009", "G-A437"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """One Segment of which a group speaks."""

    group: ReadGroup
    placed: PlacedSegmentation
    number: int
    originals: Originals

    @property
    def name(self) -> str:
        return f"{self.group.name} (segment {self.number})"


def prove_groups(
    groups: Sequence[ReadGroup], originals: Originals, segmentations: Mapping[str, PlacedSegmentation]
) -> Iterator[Complaint]:
    """Yield what the Segments and the originals contradict in Measurement Groups.

    Parameters
    ----------
    segmentations
        Those at hand to which the SR refers, by SOP Instance UID.

    References
    ----------
    DICOM PS3.16 TID 1410, TID 1411; PS3.3 C.18.6
    """
    for group in groups:
        for uid, number in group.segments:
            placed = segmentations.get(uid)
            if placed is not None:
                yield from _prove_segment(group, placed, number, originals)
        for outline in group.outlines:
            yield from _prove_outline(group, outline, originals, segmentations)
            yield from _prove_planar_lengths(group, outline, originals)
        if group.is_spatial:
            yield Unproven(thing=f"outline of {group.name}", reason="outlines in three dimensions are not read")


def _prove_segment(
    group: ReadGroup, placed: PlacedSegmentation, number: int, originals: Originals
) -> Iterator[Complaint]:
    segment = placed.find_segment(number)
    if segment is None:
        yield Contradiction(
            thing=f"Referenced Segment of {group.name}",
            expected="a Segment that the SEG describes",
            found=f"number {number}",
            remedy="Refer to the Segment that was measured.",
        )
        return
    subject = _Subject(group=group, placed=placed, number=number, originals=originals)
    yield from _prove_tracking(subject)
    yield from _prove_side(subject, segment.side)
    yield from _prove_series(subject)
    if group.is_planar or not placed.list_patches(number):
        return
    if placed.is_placed(number):
        yield from _prove_measurements(subject)
    elif group.measurements:
        yield Unproven(thing=f"measurements of {subject.name}", reason="the slices under the Segment are not at hand")


def _prove_tracking(subject: _Subject) -> Iterator[Contradiction]:
    segment, group = subject.placed.find_segment(subject.number), subject.group
    if segment is None:
        return
    pairs = (
        ("Tracking UID", segment.tracking_uid, group.tracking_uid),
        ("Tracking Identifier", segment.tracking_id, group.tracking_id),
    )
    for thing, expected, found in pairs:
        if expected and found and expected != found:
            yield Contradiction(
                thing=f"{thing} of {subject.name}",
                expected="that of the Segment in the SEG",
                found="another",
                remedy="Give one finding one Tracking UID and one Tracking Identifier in SEG and SR.",
            )


def _prove_side(subject: _Subject, side: str) -> Iterator[Contradiction]:
    if side and subject.group.side and side != subject.group.side:
        yield Contradiction(
            thing=f"laterality of {subject.name}",
            expected=f"{side}, as the SEG says",
            found=subject.group.side,
            remedy="Take it from patient coordinates, once, for SEG and SR.",
        )


def _prove_series(subject: _Subject) -> Iterator[Contradiction]:
    sources = {one.original.series_instance_uid for one in subject.placed.sources.values()}
    named = sources | set(subject.placed.reading.series_instance_uids)
    foreign = [uid for uid in subject.group.source_series_uids if named and uid not in named]
    if foreign:
        yield Contradiction(
            thing=f"source Series of {subject.name}",
            expected=" or ".join(sorted(named)),
            found=foreign[0],
            remedy="Name the Series that was segmented.",
        )


def _prove_measurements(subject: _Subject) -> Iterator[Complaint]:
    for measurement in subject.group.measurements:
        quantity, units = find_quantity(measurement)
        factor = units.get(measurement.unit)
        if measurement.value is None or factor is None:
            continue
        stated = measurement.value * factor
        match quantity:
            case "volume":
                yield from _prove_volume(subject, stated)
            case "length":
                yield from _prove_length(subject, stated)
            case "attenuation":
                yield from _prove_attenuation(subject, stated, measurement)
            case _:
                pass


def _prove_volume(subject: _Subject, stated_mm3: float) -> Iterator[Complaint]:
    thing = f"volume of {subject.name}"
    voxel = measure_voxel(subject.placed, subject.number)
    if voxel is None or subject.placed.reading.form == FRACTIONAL:
        yield Unproven(thing=thing, reason="the SEG is FRACTIONAL" if voxel else "the originals are no stack of slices")
        return
    voxel_mm3, by_thickness_mm3 = voxel
    voxels = subject.placed.count_voxels(subject.number)
    if _is_within(stated_mm3, voxels * voxel_mm3):
        return
    is_classic = by_thickness_mm3 is not None and _is_within(stated_mm3, voxels * by_thickness_mm3)
    yield Contradiction(
        thing=thing,
        expected=f"{voxels * voxel_mm3:.1f} mm3 ({voxels} voxels x Image Position distance x Pixel Spacing)",
        found=f"{stated_mm3:.1f} mm3" + (", which Slice Thickness gives" if is_classic else ""),
        remedy="Measure by the distance between Image Positions, never by Slice Thickness."
        if is_classic
        else "Measure the Segment that is referred to.",
    )


def _is_within(stated: float, measured: float) -> bool:
    return abs(stated - measured) <= VOLUME_TOLERANCE * measured


def _prove_length(subject: _Subject, stated_mm: float) -> Iterator[Complaint]:
    if stated_mm <= measure_least_extent(subject.placed, subject.number):
        return
    extent_mm = measure_extent(subject.placed, subject.number)
    if extent_mm is None:
        yield Unproven(thing=f"length of {subject.name}", reason="the originals are no stack of slices")
    elif stated_mm > extent_mm * (1 + EXTENT_TOLERANCE) + EXTENT_ROUNDING_MM:
        yield Contradiction(
            thing=f"length of {subject.name}",
            expected=f"at most {extent_mm:.1f} mm, from edge to edge of the Segment",
            found=f"{stated_mm:.1f} mm",
            remedy="Measure the Segment that is referred to, in mm of the patient.",
        )


def _prove_attenuation(subject: _Subject, stated_hu: float, measurement: ReadMeasurement) -> Iterator[Complaint]:
    thing = f"attenuation of {subject.name}"
    if any(one.original.modality != CT for one in subject.placed.sources.values()):
        yield Unproven(thing=thing, reason="the originals are no CT")
        return
    try:
        values = gather_values(subject.placed, subject.originals, subject.number)
    except PixelsUndecodable as exc:
        yield Unproven(thing=thing, reason=str(exc))
        return
    name, expected_hu = _derive(measurement.derivation, values)
    if expected_hu is None:
        yield Unproven(thing=thing, reason="it is neither mean, minimum nor maximum")
    elif abs(stated_hu - expected_hu) > ATTENUATION_TOLERANCE_HU:
        yield Contradiction(
            thing=f"{name} {thing}",
            expected=f"{expected_hu:.1f} HU, as the originals hold under the Segment",
            found=f"{stated_hu:.1f} HU",
            remedy="The mask lies elsewhere than it was measured: are slices reversed, or sides swapped?",
        )


def _derive(derivation: str, values: NDArray[np.float32]) -> tuple[str, float | None]:
    if derivation in MINIMA:
        return "minimum", float(values.min())
    if derivation in MAXIMA:
        return "maximum", float(values.max())
    # Without a word the mean is meant (PS3.16 TID 300).
    return "mean", float(values.mean(dtype=np.float64)) if derivation in {"", *MEANS} else None


def _prove_outline(
    group: ReadGroup, outline: ReadOutline, originals: Originals, segmentations: Mapping[str, PlacedSegmentation]
) -> Iterator[Contradiction]:
    image = originals.by_uid.get(outline.place[0])
    if image is None:
        return
    columns, rows = zip(*outline.points, strict=True)
    is_inside = min(columns) >= -OUTLINE_MARGIN and max(columns) <= image.columns + OUTLINE_MARGIN
    if not (is_inside and min(rows) >= -OUTLINE_MARGIN and max(rows) <= image.rows + OUTLINE_MARGIN):
        yield Contradiction(
            thing=f"outline of {group.name}",
            expected=f"points inside {image.rows} rows and {image.columns} columns",
            found="points outside",
            remedy="Write columns before rows, counted in pixels of the image that is named.",
        )
    box = Box(top=min(rows), bottom=max(rows), left=min(columns), right=max(columns))
    for placed, number in _find_tracked(group, segmentations):
        series = {one.original.series_instance_uid for one in placed.sources.values()}
        if image.series_instance_uid not in series or not placed.is_placed(number):
            continue
        boxes = placed.find_boxes(number, outline.place)
        if not any(_overlap(box, other) for other in boxes):
            yield Contradiction(
                thing=f"outline of {group.name}",
                expected=f"to lie on segment {number}, which is tracked by the same UID",
                found="beside it on its slice" if boxes else "on a slice without it",
                remedy="Name the slice on which the outline was drawn; compare the order of slices in SEG and SR.",
            )


def _prove_planar_lengths(group: ReadGroup, outline: ReadOutline, originals: Originals) -> Iterator[Contradiction]:
    """Yield lengths of a planar group that its outline does not have."""
    uid, number = outline.place
    image = originals.by_uid.get(uid)
    plane = None if image is None else SourceSlice(original=image, frame_number=number).plane
    if plane is None or group.segments:
        return
    row_mm, column_mm = plane.spacing_mm
    points = np.array(outline.points) * (column_mm, row_mm)
    reach_mm = max(float(np.linalg.norm(points - point, axis=1).max()) for point in points)
    # Its two points are the center and one on the circle (PS3.3 C.18.6.1.2).
    longest_mm = float(np.hypot(row_mm, column_mm)) + reach_mm * (2 if outline.graphic_type == CIRCLE else 1)
    for measurement in group.measurements:
        quantity, units = find_quantity(measurement)
        stated_mm = (measurement.value or 0.0) * units.get(measurement.unit, 0.0)
        if quantity == "length" and stated_mm > longest_mm + EXTENT_ROUNDING_MM:
            yield Contradiction(
                thing=f"length of {group.name}",
                expected=f"at most {longest_mm:.1f} mm, from end to end of its outline",
                found=f"{stated_mm:.1f} mm",
                remedy="Measure the outline by the Pixel Spacing of its image.",
            )


def _find_tracked(
    group: ReadGroup, segmentations: Mapping[str, PlacedSegmentation]
) -> Iterator[tuple[PlacedSegmentation, int]]:
    for uid, placed in segmentations.items():
        for segment in placed.reading.segments:
            is_tracked = bool(group.tracking_uid) and segment.tracking_uid == group.tracking_uid
            if is_tracked or (uid, segment.number) in group.segments:
                yield placed, segment.number


def _overlap(one: Box, other: Box) -> bool:
    is_beside = one.right < other.left - BOX_MARGIN or other.right + BOX_MARGIN < one.left
    is_above = one.bottom < other.top - BOX_MARGIN or other.bottom + BOX_MARGIN < one.top
    return not is_beside and not is_above
