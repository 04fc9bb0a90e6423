"""Proof of a SEG of anybody against its originals: every Frame lies on its slice, no Segment is empty or unknown."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import dist

from pydicom import Dataset

from node.codecs import DECODER_ERRORS
from workers.proving.originals import Original, Originals, Plane, SourceSlice
from workers.proving.pixels import prove_pixel_length
from workers.proving.placed_segments import PlacedSegmentation
from workers.proving.proof import Complaint, Contradiction, Unproven, list_some
from workers.proving.segment_reading import (
    LABELMAP,
    Patch,
    ReadFrame,
    ReadSegmentation,
    cut_patches,
    read_segmentation,
)

# Other software computes positions from the first slice and the distance, and scanners round them: a tenth of a pixel,
# at most a tenth of a millimeter, is the same place.
PLACE_TOLERANCE_PIXELS = 0.1
PLACE_TOLERANCE_MM = 0.1
ORIENTATION_TOLERANCE = 1e-3
SPACING_TOLERANCE = 1e-3
BACKGROUND = 0

Located = tuple[SourceSlice, Plane]


@dataclass(slots=True, kw_only=True)
class _Search:
    """What came of looking for the source slice of each Frame."""

    sources: dict[int, SourceSlice] = field(default_factory=dict)
    displaced_mm: dict[int, float] = field(default_factory=dict)
    turned: list[int] = field(default_factory=list)
    stretched: list[int] = field(default_factory=list)
    stray: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    unplaced: list[int] = field(default_factory=list)


def prove_frames(seg: Dataset, originals: Originals) -> tuple[PlacedSegmentation, list[Complaint]]:
    """Return a SEG on the slices that it was made from, and everything in it that these contradict.

    Raises
    ------
    AttributeError, IndexError, TypeError, ValueError
        If an element that a SEG must have is absent or malformed.

    References
    ----------
    DICOM PS3.3 A.51, C.8.20, C.7.6.16
    """
    reading = read_segmentation(seg)
    search = _find_sources(reading, originals)
    first = next(iter(search.sources.values()), None)
    placed = PlacedSegmentation(
        reading=reading,
        sources=search.sources,
        patches=_read_patches(seg, reading),
        distance_mm=None if first is None else originals.measure_distance(first.original.series_instance_uid),
    )
    complaints = [
        *_prove_numbers(seg, reading),
        *_prove_doubles(reading),
        *_prove_places(search),
        *_prove_grid(placed),
        *_prove_pixels(seg, placed),
    ]
    return placed, complaints


def _prove_numbers(seg: Dataset, reading: ReadSegmentation) -> Iterator[Contradiction]:
    if int(seg.NumberOfFrames) != len(reading.frames):
        yield Contradiction(
            thing="Number of Frames",
            expected=f"{len(reading.frames)}, one for each item of Per-Frame Functional Groups",
            found=str(seg.NumberOfFrames),
            remedy="Describe each Frame once.",
        )
    numbers = [segment.number for segment in reading.segments]
    is_counted = sorted(set(numbers)) == sorted(numbers) if reading.form == LABELMAP else False
    if not is_counted and numbers != list(range(1, len(numbers) + 1)):
        yield Contradiction(
            thing="Segment Number",
            expected="1, 2, 3 and so on, each once" if reading.form != LABELMAP else "each number once",
            found=list_some("number", numbers),
            remedy="Number the items of Segment Sequence anew.",
        )
    unknown = [frame.number for frame in reading.frames if frame.segment is not None and frame.segment not in numbers]
    if unknown:
        yield Contradiction(
            thing=list_some("frame", unknown),
            expected="a Segment that Segment Sequence describes",
            found="another number",
            remedy="Describe every Segment.",
        )


def _prove_doubles(reading: ReadSegmentation) -> Iterator[Contradiction]:
    seen = set()
    doubled = []
    for frame in reading.frames:
        if frame.plane is not None:
            key = (frame.segment, frame.plane.position_mm, frame.plane.orientation)
            if key in seen:
                doubled.append(frame.number)
            seen.add(key)
    if doubled:
        yield Contradiction(
            thing=list_some("frame", doubled),
            expected="one Frame for each Segment at each place",
            found="another Frame of the same Segment at the same place",
            remedy="Write each slice once.",
        )


def _find_sources(reading: ReadSegmentation, originals: Originals) -> _Search:
    search = _Search()
    slices = _Slices(originals)
    for frame in reading.frames:
        named = [one for uid, _ in frame.sources if (one := originals.by_uid.get(uid)) is not None]
        if len(frame.sources) == 1 and not named:
            search.lost.append(frame.number)
        elif len(frame.sources) == 1 and (slice_ := _find_named(frame, named[0])) is not None:
            _compare(frame, slice_, search)
        elif frame.plane is not None:
            series = [one.series_instance_uid for one in named[:1]] or reading.series_instance_uids
            _adopt(frame, frame.plane, slices.find(frame.plane, series), search)
    return search


def _find_named(frame: ReadFrame, original: Original) -> SourceSlice | None:
    """Return the one slice that a Frame names; None where it names an Instance of several Frames as a whole."""
    number = frame.sources[0][1]
    if number is None and len(original.planes) > 1:
        return None
    return SourceSlice(original=original, frame_number=number or 1)


class _Slices:
    """Original slices by their place, for Frames that do not name one of them."""

    def __init__(self, originals: Originals) -> None:
        self._originals = originals
        self._by_series: dict[str, dict[tuple[int, ...], list[Located]]] = {}

    def find(self, plane: Plane, series_instance_uids: Sequence[str]) -> Located | None:
        """Return the slice of one of these Series that lies where `plane` lies."""
        corner = _round_place(plane)
        nearby = [tuple(a + b for a, b in zip(corner, step, strict=True)) for step in product((0, -1, 1), repeat=3)]
        for uid in series_instance_uids:
            by_place = self._by_series.setdefault(uid, self._sort(uid))
            for located in (one for place in nearby for one in by_place.get(place, ())):
                if _measure_shift(plane, located[1]) <= _find_tolerance(located[1]):
                    return located
        return None

    def _sort(self, series_instance_uid: str) -> dict[tuple[int, ...], list[Located]]:
        by_place = defaultdict(list)
        for original in self._originals.by_series.get(series_instance_uid, ()):
            for number, plane in enumerate(original.planes, start=1):
                source = SourceSlice(original=original, frame_number=number)
                by_place[_round_place(plane)].append((source, plane))
        return by_place


def _round_place(plane: Plane) -> tuple[int, ...]:
    return tuple(round(value / PLACE_TOLERANCE_MM) for value in plane.position_mm)


def _measure_shift(plane: Plane, other: Plane) -> float:
    return dist(plane.position_mm, other.position_mm)


def _find_tolerance(plane: Plane) -> float:
    return min(PLACE_TOLERANCE_MM, PLACE_TOLERANCE_PIXELS * min(plane.spacing_mm))


def _compare(frame: ReadFrame, source: SourceSlice, search: _Search) -> None:
    if source.original.planes and source.plane is None:
        # A Frame beyond the last one.
        search.lost.append(frame.number)
        return
    search.sources[frame.number] = source
    expected = source.plane
    if expected is None:
        return
    if frame.plane is None:
        search.unplaced.append(frame.number)
        return
    shift_mm = _measure_shift(frame.plane, expected)
    if shift_mm > _find_tolerance(expected):
        search.displaced_mm[frame.number] = shift_mm
    _compare_axes(frame.number, frame.plane, expected, search)


def _compare_axes(number: int, plane: Plane, expected: Plane, search: _Search) -> None:
    if max(abs(a - b) for a, b in zip(plane.orientation, expected.orientation, strict=True)) > ORIENTATION_TOLERANCE:
        search.turned.append(number)
    if any(abs(a - b) > SPACING_TOLERANCE * b for a, b in zip(plane.spacing_mm, expected.spacing_mm, strict=True)):
        search.stretched.append(number)


def _adopt(frame: ReadFrame, plane: Plane, located: Located | None, search: _Search) -> None:
    if located is None:
        search.stray.append(frame.number)
        return
    search.sources[frame.number] = located[0]
    _compare_axes(frame.number, plane, located[1], search)


def _prove_places(search: _Search) -> Iterator[Complaint]:
    if search.displaced_mm:
        yield Contradiction(
            thing=f"Image Position (Patient) of {list_some('frame', list(search.displaced_mm))}",
            expected="the place of the source slice that each names",
            found=f"up to {max(search.displaced_mm.values()):.2f} mm away from it",
            remedy="Write Frames in the order of the slices that they were made from, at the same positions.",
        )
    for keyword, frames in (("Image Orientation (Patient)", search.turned), ("Pixel Spacing", search.stretched)):
        if frames:
            yield Contradiction(
                thing=f"{keyword} of {list_some('frame', frames)}",
                expected="that of the source slice",
                found="another",
                remedy="Copy the geometry of the source, or resample the mask to it.",
            )
    if search.unplaced:
        yield Contradiction(
            thing=f"geometry of {list_some('frame', search.unplaced)}",
            expected="Image Position, Image Orientation and Pixel Spacing, which the source slice has",
            found="one of them absent",
            remedy="Copy the geometry of the source.",
        )
    if search.stray:
        yield Unproven(
            thing=f"place of {list_some('frame', search.stray)}",
            reason="no one source slice is named, and no original lies there; is the mask resampled?",
        )
    if search.lost:
        yield Unproven(
            thing=f"place of {list_some('frame', search.lost)}", reason="the source slice is not among the originals"
        )


def _prove_grid(placed: PlacedSegmentation) -> Iterator[Contradiction]:
    reading = placed.reading
    sources = {one.original.sop_instance_uid: one.original for one in placed.sources.values()}.values()
    frames_of_reference = {one.frame_of_reference_uid for one in sources} - {""}
    if frames_of_reference and frames_of_reference != {reading.frame_of_reference_uid}:
        yield Contradiction(
            thing="Frame of Reference UID",
            expected=" and ".join(sorted(frames_of_reference)),
            found=reading.frame_of_reference_uid or "none",
            remedy="Copy it from the source: without it no viewer may lay the Segments over the images.",
        )
    matrices = {(one.rows, one.columns) for one in sources}
    if matrices and (reading.rows, reading.columns) not in matrices:
        yield Contradiction(
            thing="Rows and Columns",
            expected=" or ".join(f"{rows} x {columns}" for rows, columns in sorted(matrices)),
            found=f"{reading.rows} x {reading.columns}",
            remedy="Write the mask on the grid of its source.",
        )


def _read_patches(seg: Dataset, reading: ReadSegmentation) -> Mapping[int, tuple[Patch, ...]] | None:
    if any(prove_pixel_length(seg)) or int(seg.NumberOfFrames) != len(reading.frames):
        return None
    patches: dict[int, list[Patch]] = defaultdict(list)
    try:
        for patch in cut_patches(seg, reading.frames):
            patches[patch.segment].append(patch)
    except DECODER_ERRORS:
        return None
    return {number: tuple(some) for number, some in patches.items()}


def _prove_pixels(seg: Dataset, placed: PlacedSegmentation) -> Iterator[Contradiction]:
    wrong = list(prove_pixel_length(seg))
    yield from wrong
    if placed.patches is None:
        if not wrong:
            yield Contradiction(
                thing="Pixel Data",
                expected=f"{len(placed.reading.frames)} frames that can be decoded",
                found="others",
                remedy="Write the object again.",
            )
        return
    described = {segment.number for segment in placed.reading.segments} - {BACKGROUND}
    empty = sorted(described - placed.patches.keys())
    if empty:
        yield Contradiction(
            thing=list_some("segment", empty),
            expected="at least one pixel",
            found="none",
            remedy="Leave an empty Segment out.",
        )
    unknown = sorted(placed.patches.keys() - described)
    if unknown and placed.reading.form == LABELMAP:
        yield Contradiction(
            thing=list_some("pixel value", unknown),
            expected="a Segment that Segment Sequence describes",
            found="none of that number",
            remedy="Describe every Segment.",
        )
