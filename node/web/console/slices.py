"""The slices that a Job has read, with the outlines of its SEG: what a page scrolls through.

Outlines are drawn only where the SEG lies on the very pixels of its images; otherwise nothing is drawn, and the summary
picture says what was found.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import dist
from threading import Condition
from typing import Any

from node.domain.job import Job
from node.domain.result import Result
from node.errors import PixelsUndecodable
from node.ledger.closeups import CloseupLedger, Slice, height_of
from node.web.console.answers import MINUS
from node.web.look import Window
from node.web.pixels import PixelPool
from node.web.places import DICOM_WEB

# As the summary picture shows them.
LUNG, BRAIN, SOFT_TISSUE = Window(center=-400, width=1400), Window(center=40, width=80), Window(center=40, width=400)
CT_WINDOWS: Mapping[str, Window] = dict.fromkeys(("BRAIN", "HEAD", "SKULL"), BRAIN) | dict.fromkeys(
    ("ABDOMEN", "PELVIS", "ABDOMENPELVIS", "LIVER", "KIDNEY", "SPLEEN", "PANCREAS", "NECK"), SOFT_TISSUE
)
# What headers write with so many digits is the same place.
PLACE_MM, COSINE, SPACING_MM = 0.01, 1e-4, 1e-3
KEPT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The slices of one Series in their order.

    Attributes
    ----------
    start
        Index of the one that is shown first.
    window
        None: the image's own.
    """

    series_instance_uid: str
    slices: tuple[Slice, ...]
    start: int
    window: Window | None

    @property
    def first(self) -> Slice:
        """The slice that is shown first."""
        return self.slices[self.start]

    @property
    def numbers(self) -> tuple[int | str | None, ...]:
        """The number of each slice as a page shows it; of a Frame beside other Instances ``2 frame 12``."""
        is_only = len({one.sop_instance_uid for one in self.slices}) == 1
        return tuple(one.number if is_only or one.frames == 1 else _name_frame(one) for one in self.slices)

    @property
    def name(self) -> str:
        """Series Number and Description, as far as there are some."""
        attributes = self.first.attributes
        number, words = attributes.get("SeriesNumber"), attributes.get("SeriesDescription", "")
        return " · ".join(part for part in (f"Series {number}" if number is not None else "", str(words)) if part)

    @property
    def sides(self) -> tuple[str, str]:
        """The patient's sides at the left and the right border; both empty where orientation does not say."""
        if len(self.first.orientation) == 0:
            return "", ""
        x, y, z = self.first.orientation[:3]
        if abs(x) <= max(abs(y), abs(z)):
            return "", ""
        # In the patient's system (LPS) x grows to the left side.
        return ("R", "L") if x > 0 else ("L", "R")

    @property
    def geometry(self) -> str:
        """Distance of slices and size of a pixel, in words; empty where they are not known."""
        heights = [height_of(one) for one in self.slices[:2]]
        parts = []
        if len(heights) == 2 and None not in heights:
            parts.append(f"{abs((heights[1] or 0.0) - (heights[0] or 0.0)):.1f} mm")
        if self.first.spacing_mm:
            parts.append(f"{self.first.spacing_mm[0]:.3f} mm/px")
        return " · ".join(parts)

    @property
    def window_words(self) -> str:
        """Center and width, in words; empty where the image's own are used."""
        if self.window is None:
            return ""
        return f"L {self.window.center:g} W {self.window.width:g}".replace("-", MINUS)


def stack_of(ledger: CloseupLedger, job: Job) -> Stack | None:
    """Return the slices of the first role of a Job, on which its findings lie as a rule; None where it has no stack."""
    return next(_stacks_of(ledger, job), None)


def stack_under(ledger: CloseupLedger, job: Job, told: Mapping[str, Any]) -> Stack:
    """Return the slices on which a SEG lies.

    Parameters
    ----------
    told
        As `read_contours` tells it.

    Raises
    ------
    PixelsUndecodable
        If it lies on none that the Job has read, and that are still kept.
    """
    named = {(frame["sop_instance_uid"], frame["frame"]) for frame in told["frames"]}
    for stack in _stacks_of(ledger, job):
        if named <= {(one.sop_instance_uid, one.frame) for one in stack.slices}:
            return stack
    raise PixelsUndecodable(
        "the SEG lies on no stack of slices that is kept of what its Job has read; nothing is drawn"
    )


def _stacks_of(ledger: CloseupLedger, job: Job) -> Iterator[Stack]:
    for role, series in job.order.inputs.items():
        if job.order.study_of(role) != job.order.study_instance_uid:
            continue
        slices = ledger.slices_of(job.order.study_instance_uid, series)
        if len(slices) > 1 and all(height_of(one) is not None for one in slices):
            start, window = _start(slices, job), choose_window(slices[0])
            yield Stack(series_instance_uid=series, slices=slices, start=start, window=window)


def choose_window(one: Slice) -> Window | None:
    """Return the window of a CT by its body part; None: the image's own."""
    if one.attributes.get("Modality") != "CT":
        return None
    return CT_WINDOWS.get(str(one.attributes.get("BodyPartExamined", "")).upper(), LUNG)


def picture_url(study: str, stack: Stack, one: Slice) -> str:
    """Return where a slice is had as a picture."""
    image = f"{DICOM_WEB}/studies/{study}/series/{stack.series_instance_uid}/instances/{one.sop_instance_uid}"
    place = f"{image}/rendered" if one.frames == 1 else f"{image}/frames/{one.frame}/rendered"
    window = stack.window
    return place if window is None else f"{place}?window={window.center:g},{window.width:g},linear"


class Outlines:
    """What the pool reads of each SEG, kept as it came, and read by one request at a time: the object never changes.

    Parameters
    ----------
    kept_bytes
        Of what was asked for last so much is kept.
    """

    def __init__(self, pool: PixelPool, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._pool = pool
        self._kept_bytes = kept_bytes
        self._changed = Condition()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._under_way: set[str] = set()

    def read(self, result: Result, path: str) -> Mapping[str, Any]:
        """Return the outlines of a SEG; raises as `PixelPool.frame` does."""
        key = result.sha256
        with self._changed:
            self._changed.wait_for(lambda: key not in self._under_way)
            content = self._kept.pop(key, None)
            if content is None:
                self._under_way.add(key)
            else:
                self._kept[key] = content
        if content is None:
            content = self._fetch(key, path)
        told: Mapping[str, Any] = json.loads(content)
        return told

    def _fetch(self, key: str, path: str) -> bytes:
        content = None
        try:
            content = self._pool.contours(path)
            return content
        finally:
            with self._changed:
                self._under_way.discard(key)
                if content is not None:
                    self._kept[key] = content
                    while sum(map(len, self._kept.values())) > self._kept_bytes:
                        self._kept.popitem(last=False)
                self._changed.notify_all()


def describe(study: str, stack: Stack, told: Mapping[str, Any], numbers: Mapping[int, int]) -> dict[str, Any]:
    """Return what the page's script draws: the slices with what is written over them, and the outlines on each.

    Parameters
    ----------
    told
        As `read_contours` tells it, all of it on these slices.
    numbers
        Segment Number to number of the finding.

    Raises
    ------
    PixelsUndecodable
        If the SEG does not lie on the pixels of these slices.
    """
    places = {(one.sop_instance_uid, one.frame): index for index, one in enumerate(stack.slices)}
    drawn: dict[int, list[dict[str, Any]]] = {}
    areas: dict[int, dict[int, float]] = {}
    for frame in told["frames"]:
        index = places[frame["sop_instance_uid"], frame["frame"]]
        _require_same_place(told, frame, stack.slices[index])
        for segment, outlines in frame["outlines"].items():
            number = numbers.get(int(segment))
            if number is not None:
                drawn.setdefault(index, []).extend({"finding": number, "points": points} for points in outlines)
                areas.setdefault(number, {})[index] = abs(sum(map(_area, outlines)))
    first = stack.first
    return {
        "name": stack.name,
        "sides": stack.sides,
        "window": stack.window_words,
        "geometry": stack.geometry,
        "rows": first.rows,
        "columns": first.columns,
        "ratio": round(first.columns * first.spacing_mm[1] / (first.rows * first.spacing_mm[0]), 5),
        "start": stack.start,
        "slices": [
            {"number": number, "src": picture_url(study, stack, one)}
            for number, one in zip(stack.numbers, stack.slices, strict=True)
        ],
        "outlines": drawn,
        "keys": {number: max(found, key=lambda index: found[index]) for number, found in areas.items()},
    }


def _name_frame(one: Slice) -> str:
    number = one.attributes.get("InstanceNumber")
    return f"frame {one.frame}" if number is None else f"{number} frame {one.frame}"


def _start(slices: Sequence[Slice], job: Job) -> int:
    """Return the index of the slice nearest to the first finding that has a place, or the middle."""
    center = next((entry["center_mm"] for entry in job.findings if entry["center_mm"] is not None), None)
    if center is None:
        return len(slices) // 2
    at = height_of(slices[0], (center[0], center[1], center[2])) or 0.0
    return min(range(len(slices)), key=lambda index: abs((height_of(slices[index]) or 0.0) - at))


def _require_same_place(told: Mapping[str, Any], frame: Mapping[str, Any], one: Slice) -> None:
    is_same = (
        (told["rows"], told["columns"]) == (one.rows, one.columns)
        and one.position_mm is not None
        and dist(frame["position_mm"], one.position_mm) < PLACE_MM
        and _is_near(frame["orientation"], one.orientation, COSINE)
        and _is_near(frame["spacing_mm"], one.spacing_mm, SPACING_MM)
    )
    if not is_same:
        raise PixelsUndecodable("the SEG has another matrix or place than its image; nothing is drawn")


def _is_near(found: Sequence[float], wanted: Sequence[float], tolerance: float) -> bool:
    return len(found) == len(wanted) and all(abs(a - b) < tolerance for a, b in zip(found, wanted, strict=True))


def _area(points: Sequence[Sequence[float]]) -> float:
    """Return the signed area within an outline, pixels: that of a hole has the other sign."""
    behind = [*points[1:], points[0]]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, behind, strict=True)) / 2
