"""Findings and lesions of one scan in the same terms, and which finding hits which lesion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.evaluation.truth import Lesion, Truth, split_lesions
from workers.pipelines.base import Analysis
from workers.volume import Volume

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A finding or a lesion.

    Attributes
    ----------
    center_mm
        LPS.
    diameter_mm
        Of a finding its long axis; NaN where it was not measured.
    score
        Certainty of a finding, 0..1; NaN of a lesion.
    bounds_mm
        Low and high corner along slices, rows and columns of the Volume, (6,).
    box, mask
        On the Volume's grid; None where only a point is known.
    """

    center_mm: tuple[float, float, float]
    diameter_mm: float
    score: float
    bounds_mm: Floats
    box: tuple[slice, slice, slice] | None
    mask: NDArray[np.bool_] | None


def list_lesions(truth: Truth, volume: Volume) -> list[Spot] | None:
    """Return the lesions of a scan; None where the truth says nothing of any."""
    if truth.lesions is not None:
        lesions = truth.lesions(volume)
    elif truth.marks is not None:
        lesions = split_lesions(truth.marks(volume), volume)
    else:
        return None
    return [_place_lesion(lesion, volume) for lesion in lesions]


def list_findings(analysis: Analysis, volume: Volume, *, label: str) -> list[Spot]:
    """Return what a model found that is somewhere, all of it or only what it calls `label` (and `label 2`, …)."""
    boxes = [] if analysis.mask is None else ndimage.find_objects(analysis.mask)
    spots = []
    for finding in analysis.findings:
        if finding.center_mm is None or not (not label or finding.label.startswith(label)):
            continue
        number = finding.segment_number
        box = boxes[number - 1] if number is not None and number <= len(boxes) else None
        diameter = finding.measurements.get("long_axis_mm", math.nan)
        place = None if box is None else (box[0], box[1], box[2])
        spots.append(
            Spot(
                center_mm=finding.center_mm,
                diameter_mm=diameter,
                score=1.0 if finding.confidence is None else finding.confidence,
                bounds_mm=_bound(place, finding.center_mm, diameter, volume),
                box=place,
                mask=None if place is None or analysis.mask is None else np.asarray(analysis.mask[place] == number),
            )
        )
    return spots


def _place_lesion(lesion: Lesion, volume: Volume) -> Spot:
    return Spot(
        center_mm=lesion.center_mm,
        diameter_mm=lesion.diameter_mm,
        score=math.nan,
        bounds_mm=_bound(lesion.box, lesion.center_mm, lesion.diameter_mm, volume),
        box=lesion.box,
        mask=lesion.mask,
    )


def _bound(
    box: tuple[slice, slice, slice] | None, center_mm: Sequence[float], diameter_mm: float, volume: Volume
) -> Floats:
    spacing = np.array(volume.spacing_mm)
    if box is not None:
        low, high = (np.array([getattr(part, end) for part in box], float) - 0.5 for end in ("start", "stop"))
        return np.concatenate([low * spacing, high * spacing])
    middle = np.array(volume.to_index(center_mm)) * spacing
    half = (0.0 if math.isnan(diameter_mm) else diameter_mm) / 2
    return np.concatenate([middle - half, middle + half])


def hits(finding: Spot, lesion: Spot, volume: Volume) -> bool:
    """Tell whether a finding's center lies on a lesion: within its radius (as LUNA16), or on its mask."""
    if math.dist(finding.center_mm, lesion.center_mm) < lesion.diameter_mm / 2:
        return True
    if lesion.box is None or lesion.mask is None:
        return False
    index = np.rint(volume.to_index(finding.center_mm)).astype(int) - [part.start for part in lesion.box]
    return bool((index >= 0).all() and (index < lesion.mask.shape).all() and lesion.mask[tuple(index)])


def overlap_boxes(findings: Sequence[Spot], lesions: Sequence[Spot]) -> Floats:
    """Return intersection over union of the boxes, (findings, lesions)."""
    table = np.zeros((len(findings), len(lesions)))
    for i, one in enumerate(findings):
        for j, other in enumerate(lesions):
            low = np.maximum(one.bounds_mm[:3], other.bounds_mm[:3])
            high = np.minimum(one.bounds_mm[3:], other.bounds_mm[3:])
            common = float(np.prod(np.maximum(high - low, 0)))
            whole = sum(float(np.prod(spot.bounds_mm[3:] - spot.bounds_mm[:3])) for spot in (one, other)) - common
            table[i, j] = common / whole if whole else 0.0
    return table


def overlap_masks(findings: Sequence[Spot], lesions: Sequence[Spot]) -> Floats:
    """Return intersection over union of the masks, (findings, lesions); 0 where one has none."""
    table = np.zeros((len(findings), len(lesions)))
    for i, one in enumerate(findings):
        for j, other in enumerate(lesions):
            if one.mask is not None and other.mask is not None:
                common = _count_common(one, other)
                table[i, j] = common / (int(one.mask.sum()) + int(other.mask.sum()) - common)
    return table


def _count_common(one: Spot, other: Spot) -> int:
    if one.box is None or other.box is None or one.mask is None or other.mask is None:
        return 0
    both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one.box, other.box, strict=True)]
    if any(part.start >= part.stop for part in both):
        return 0
    cut = [
        mask[tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(both, box, strict=True))]
        for mask, box in ((one.mask, one.box), (other.mask, other.box))
    ]
    return int(np.count_nonzero(cut[0] & cut[1]))
