"""What the images of a Series say of how many there are: holes between slices, and Images in Acquisition."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from node.domain.completeness import Doubt, Evidence

# Fewer have no pattern.
FEWEST = 4
# A distance beyond so many times the usual one is a hole; more of them than this part of all are no accident.
HOLE = 1.5
MOST_HOLES = 0.25
# Distances that differ by less, mm, are those of one place: phases, echoes.
SAME_MM = 0.01
NORMAL_VALUES, POSITION_VALUES = 6, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an Instance lies among the others, as its header says.

    Attributes
    ----------
    position_mm
        Image Position (Patient) (0020,0032) along the normal of Image Orientation (Patient) (0020,0037), mm.
    number
        Instance Number (0020,0013).
    acquisition, in_acquisition
        Acquisition Number (0020,0012) and Images in Acquisition (0020,1002).
    """

    position_mm: float | None
    number: int | None
    acquisition: int | None
    in_acquisition: int | None

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> "Place":
        """Return the place that kept attributes tell; what they do not tell is None."""
        return cls(
            position_mm=_along(attributes.get("ImageOrientationPatient"), attributes.get("ImagePositionPatient")),
            number=_whole(attributes.get("InstanceNumber")),
            acquisition=_whole(attributes.get("AcquisitionNumber")),
            in_acquisition=_whole(attributes.get("ImagesInAcquisition")),
        )


def doubt_series(places: Sequence[Place], heeded: frozenset[Evidence]) -> Doubt | None:
    """Return what the images of a Series say against its being complete; None where they say nothing."""
    lack = _lack_in_acquisition(places) if Evidence.IN_ACQUISITION in heeded else None
    if lack is not None:
        return Doubt(evidence=Evidence.IN_ACQUISITION, text=lack)
    gap = _find_gap(places) if Evidence.SLICE_GAPS in heeded else None
    return None if gap is None else Doubt(evidence=Evidence.SLICE_GAPS, text=gap)


def _lack_in_acquisition(places: Sequence[Place]) -> str | None:
    held = Counter(one.acquisition for one in places)
    told = {one.acquisition: one.in_acquisition for one in places if one.in_acquisition}
    for acquisition, expected in told.items():
        if expected and held[acquisition] < expected:
            return f"held {held[acquisition]} of {expected} Images in Acquisition (0020,1002)"
    return None


def _find_gap(places: Sequence[Place]) -> str | None:
    """Return a hole; where positions are known, numbers are not asked: they follow other things than places, too."""
    positions = [one.position_mm for one in places if one.position_mm is not None]
    if len(positions) == len(places) and len(places) >= FEWEST:
        return _gap_between_slices(positions)
    numbers = sorted({one.number for one in places if one.number is not None})
    return _gap_in_numbers(numbers) if len(numbers) >= FEWEST else None


def _gap_between_slices(positions_mm: Sequence[float]) -> str | None:
    steps = [after - before for before, after in pairwise(sorted(positions_mm)) if after - before > SAME_MM]
    if not steps:
        return None
    usual = median(steps)
    holes = [step for step in steps if step > HOLE * usual]
    if not holes or len(holes) > MOST_HOLES * len(steps):
        return None
    return f"{len(holes)} hole{'s' * (len(holes) > 1)} of {max(holes):g} mm among slices {usual:g} mm apart"


def _gap_in_numbers(numbers: Sequence[int]) -> str | None:
    steps = [after - before for before, after in pairwise(numbers)]
    usual = min(steps)
    holes = [step for step in steps if step > usual]
    if not holes or len(holes) > MOST_HOLES * len(steps):
        return None
    missing = sum(step // usual - 1 for step in holes)
    return f"{missing} Instance Number{'s' * (missing > 1)} (0020,0013) missing between {numbers[0]} and {numbers[-1]}"


def _along(orientation: object, position: object) -> float | None:
    if not (_has_numbers(orientation, NORMAL_VALUES) and _has_numbers(position, POSITION_VALUES)):
        return None
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]  # type: ignore[index]  # checked to be a list
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return float(sum(n * p for n, p in zip(normal, position, strict=True)))  # type: ignore[call-overload]  # the same


def _has_numbers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(isinstance(one, int | float) for one in value)


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None
