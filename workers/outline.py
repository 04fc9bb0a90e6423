"""Outlines of a binary mask along its pixel edges."""

import numpy as np
from numpy.typing import NDArray


def trace_outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the closed outlines of a mask, outer ones and holes, longest first.

    Parameters
    ----------
    mask
        (rows, columns) bool.

    Returns
    -------
    list
        (points, 2) float64 of (column, row); the corner of the first pixel is (0, 0), the last point is the first.
        Only corners where the outline turns.

    References
    ----------
    DICOM PS3.3 C.18.6.1.2 (the origin of image-relative coordinates is the corner of the first pixel)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    # A nodule is some hundred pixels of a quarter of a million.
    top, left = int(rows[0]), int(columns[0])
    following = _list_edges(mask[top : rows[-1] + 1, left : columns[-1] + 1])
    outlines = []
    while following:
        start = min(following)
        outlines.append(np.add(_simplify(_follow(following, start)), (left, top)))
    outlines.sort(key=lambda outline: -abs(area_of(outline)))
    return outlines


def area_of(outline: NDArray[np.float64]) -> float:
    """Return the signed area in pixels of a closed outline: positive around the mask, negative around a hole."""
    x, y = outline[:, 0], outline[:, 1]
    return float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2.0


def _list_edges(mask: NDArray[np.bool_]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return, for each corner, where the edges that leave it end; the mask lies on the right hand of each."""
    padded = np.pad(mask.astype(bool), 1)
    inner = padded[1:-1, 1:-1]
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Neighbor above, right, below, left; start and end corner of the shared edge as (column, row) offsets.
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    for neighbor, (x0, y0), (x1, y1) in sides:
        for row, column in np.argwhere(inner & ~neighbor).tolist():
            following.setdefault((column + x0, row + y0), []).append((column + x1, row + y1))
    return following


def _follow(following: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]) -> list[tuple[int, int]]:
    """Walk one closed outline and take its edges away."""
    corners = [start]
    heading = (1, 0)
    while len(corners) == 1 or corners[-1] != start:
        here = corners[-1]
        ends = following[here]
        # Where two pixels meet at a corner, turn right: they stay two outlines.
        end = min(ends, key=lambda e: _turn(heading, (e[0] - here[0], e[1] - here[1])))
        ends.remove(end)
        if not ends:
            del following[here]
        heading = (end[0] - here[0], end[1] - here[1])
        corners.append(end)
    return corners


def _turn(heading: tuple[int, int], step: tuple[int, int]) -> int:
    """Return -1 for a right turn as seen on the image, 0 for straight on, 1 for left."""
    return -(heading[0] * step[1] - heading[1] * step[0])


def _simplify(corners: list[tuple[int, int]]) -> NDArray[np.float64]:
    points = np.asarray(corners[:-1], dtype=np.float64)
    straight = np.all(np.roll(points, 1, axis=0) + np.roll(points, -1, axis=0) == 2 * points, axis=1)
    kept = points[~straight]
    return np.vstack([kept, kept[:1]])
