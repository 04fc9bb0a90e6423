"""Outlines of the Segments of a SEG, in pixels of the images that it was made of; runs in the pool only.

A corner of an image is (0, 0), its first pixel reaches from there to (1, 1). An outline goes through the middles of the
edges between pixels that belong to the Segment and those that do not: where it lies, the Segment ends.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.decoding import Source, decode_frame, open_source
from node.errors import PixelsUndecodable

BINARY, LABELMAP = "BINARY", "LABELMAP"
BACKGROUND = 0
# Of one Frame; what has more is no region that a person could follow.
MAX_EDGES = 200_000
# Of one SEG; a browser draws so many, and a page is not worth more memory.
MAX_POINTS = 500_000
Point = tuple[float, float]
# From one corner of a pixel to the next.
Corner = tuple[int, int]


def read_contours(path: str) -> bytes:
    """Return the Segments of a SEG and the outlines of each of its Frames, as JSON.

    Returns
    -------
    content
        ``rows``, ``columns``; ``segments``: number, label and tracking_uid; ``frames``: sop_instance_uid of the image,
        frame, which of its Frames, position_mm, orientation and spacing_mm, and outlines by Segment Number.

    Raises
    ------
    PixelsUndecodable
        If it is no SEG with one Segment a pixel, a Frame does not say which image it lies on, or cannot be decoded, or
        its outlines have more than `MAX_POINTS` points.

    References
    ----------
    DICOM PS3.3 A.51, C.8.20.2, C.7.6.16.2.6
    """
    with open_source(path) as source:
        header = source.header
        kind = str(header.get("SegmentationType", ""))
        if kind not in (BINARY, LABELMAP):
            raise PixelsUndecodable(f"instance {source.uid} has no outlines: Segmentation Type {kind or 'absent'}")
        groups = header.PerFrameFunctionalGroupsSequence
        if len(groups) != source.frames:
            raise PixelsUndecodable(f"instance {source.uid}: {len(groups)} descriptions of {source.frames} Frames")
        told = {
            "rows": int(header.Rows),
            "columns": int(header.Columns),
            "segments": [_read_segment(item) for item in header.SegmentSequence],
            "frames": _read_frames(source, kind),
        }
    return json.dumps(told).encode()


def trace(region: NDArray[np.bool_]) -> list[list[Point]]:
    """Return the outlines of a region, (rows, columns) bool; each is closed, holes have one of their own.

    Raises
    ------
    PixelsUndecodable
        If it has more edges than `MAX_EDGES`.
    """
    ways = _edges_of(np.pad(region, 1))
    outlines = []
    while ways:
        corners = _walk(ways)
        middles = [((a[1] + b[1]) / 2, (a[0] + b[0]) / 2) for a, b in pairwise([*corners, corners[0]])]
        outlines.append(_simplify(middles))
    return outlines


def _read_frames(source: Source, kind: str) -> list[dict[str, Any]]:
    frames, points = [], 0
    for number in range(1, source.frames + 1):
        frame = _read_frame(source, number, kind)
        points += sum(len(outline) for outlines in frame["outlines"].values() for outline in outlines)
        if points > MAX_POINTS:
            raise PixelsUndecodable(
                f"instance {source.uid}: outlines of more than {MAX_POINTS} points by Frame {number}; none are drawn"
            )
        frames.append(frame)
    return frames


def _read_frame(source: Source, number: int, kind: str) -> dict[str, Any]:
    labels = np.asarray(decode_frame(source, number))
    if kind == BINARY:
        segment = _macro(source, number, "SegmentIdentificationSequence").ReferencedSegmentNumber
        regions = {int(segment): labels != BACKGROUND}
    else:
        regions = {int(value): labels == value for value in np.unique(labels) if value != BACKGROUND}
    uid, frame = _source_of(source, number)
    return {
        "sop_instance_uid": uid,
        "frame": frame,
        "position_mm": _numbers(_macro(source, number, "PlanePositionSequence").ImagePositionPatient),
        "orientation": _numbers(_macro(source, number, "PlaneOrientationSequence").ImageOrientationPatient),
        "spacing_mm": _numbers(_macro(source, number, "PixelMeasuresSequence").PixelSpacing),
        "outlines": {segment: trace(region) for segment, region in regions.items()},
    }


def _macro(source: Source, number: int, keyword: str) -> Dataset:
    """Return what is said of a Frame, by itself or of all of them together (PS3.3 C.7.6.16.1)."""
    header = source.header
    own, shared = header.PerFrameFunctionalGroupsSequence[number - 1], header.SharedFunctionalGroupsSequence[0]
    found: Dataset = (own.get(keyword) or shared[keyword].value)[0]
    return found


def _numbers(values: Iterable[Any]) -> list[float]:
    return [float(value) for value in values]


def _read_segment(item: Dataset) -> dict[str, Any]:
    return {
        "number": int(item.SegmentNumber),
        "label": str(item.get("SegmentLabel", "")),
        "tracking_uid": str(item.get("TrackingUID", "")),
    }


def _source_of(source: Source, number: int) -> tuple[str, int]:
    """Return SOP Instance UID and Frame of the image that a Frame lies on."""
    derivations = source.header.PerFrameFunctionalGroupsSequence[number - 1].get("DerivationImageSequence") or []
    named = {
        (str(image.ReferencedSOPInstanceUID), str(image.get("ReferencedFrameNumber") or 1))
        for derivation in derivations
        for image in derivation.get("SourceImageSequence") or []
    }
    if len(named) != 1:
        raise PixelsUndecodable(f"instance {source.uid}: Frame {number} lies on {len(named)} images, not on one")
    ((uid, frame),) = named
    if not frame.isdigit():
        raise PixelsUndecodable(f"instance {source.uid}: Frame {number} lies on several Frames of an image, not on one")
    return uid, int(frame)


def _edges_of(padded: NDArray[np.bool_]) -> dict[Corner, list[Corner]]:
    """Return from which corner to which the region's edges lead, the region on the right hand."""
    above, here = padded[:-1], padded[1:]
    before, behind = padded[:, :-1], padded[:, 1:]
    # Corner (r, c) is the upper left one of pixel (r, c) of the region without its margin.
    edges: list[tuple[Corner, Corner]] = []
    for mask, is_upper in ((here & ~above, True), (above & ~here, False)):
        for row, column in np.argwhere(mask).tolist():
            left, right = (row, column - 1), (row, column)
            edges.append((left, right) if is_upper else (right, left))
    for mask, is_left in ((behind & ~before, True), (before & ~behind, False)):
        for row, column in np.argwhere(mask).tolist():
            top, bottom = (row - 1, column), (row, column)
            edges.append((bottom, top) if is_left else (top, bottom))
    if len(edges) > MAX_EDGES:
        raise PixelsUndecodable(f"a Segment has {len(edges)} edges on one Frame, at most {MAX_EDGES} are drawn")
    ways: dict[Corner, list[Corner]] = {}
    for begin, end in edges:
        ways.setdefault(begin, []).append(end)
    return ways


def _walk(ways: dict[Corner, list[Corner]]) -> list[Corner]:
    """Return the corners of one closed way, which is taken out of `ways`."""
    first = next(iter(ways))
    corners, here, came = [first], first, None
    while True:
        following = _take(ways, here, came)
        if following == first:
            return corners
        corners.append(following)
        came, here = here, following


def _take(ways: dict[Corner, list[Corner]], here: Corner, came: Corner | None) -> Corner:
    """Return where the way leads from a corner; where two pixels touch there only, it stays at the same one."""
    choices = ways[here]
    chosen = 0
    if came is not None and len(choices) > 1:
        ahead = (here[0] - came[0], here[1] - came[1])
        to_the_right = (here[0] + ahead[1], here[1] - ahead[0])
        chosen = choices.index(to_the_right) if to_the_right in choices else 0
    following = choices.pop(chosen)
    if not choices:
        del ways[here]
    return following


def _simplify(points: Sequence[Point]) -> list[Point]:
    """Return a closed line without the points that lie straight between their neighbors."""
    return [here for before, here, behind in _neighbors(points) if not _is_straight(before, here, behind)]


def _neighbors(points: Sequence[Point]) -> Iterator[tuple[Point, Point, Point]]:
    return zip([points[-1], *points[:-1]], points, [*points[1:], points[0]], strict=True)


def _is_straight(a: Point, b: Point, c: Point) -> bool:
    return (b[0] - a[0]) * (c[1] - b[1]) == (b[1] - a[1]) * (c[0] - b[0])
