"""Agreement of a SEG with the Analysis it was made from: it shows the mask, whole, and names the Findings."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from node.domain.codes import Code
from node.domain.finding import Finding
from workers.encoding.segmentation import MAX_SEGMENT_LABEL
from workers.frames import name_slice
from workers.pipelines.base import Analysis, number_segment, require_mask
from workers.proving.frames import BACKGROUND
from workers.proving.inventory import Inventory
from workers.proving.placed_segments import PlacedSegmentation
from workers.proving.proof import require
from workers.proving.segment_reading import SIDES, Patch, ReadSegment

LISTED_IN = "ReferencedSeriesSequence"


def prove_segmentation(placed: PlacedSegmentation, inventory: Inventory, analysis: Analysis) -> None:
    """Prove that a SEG shows what the Analysis found; that it lies where its sources lie was proven before.

    Parameters
    ----------
    placed
        The SEG on the inputs of the Job (`workers.proving.frames.prove_frames`).
    inventory
        What it refers to.

    Raises
    ------
    ResultCheckFailed
        If a Frame, a Segment or the list of sources is not the Analysis's.
    """
    _prove_segments(placed, analysis)
    _prove_pixels(placed, analysis)
    volume, _ = require_mask(analysis)
    listed = {one.sop_instance_uid for one in inventory.references if one.place == LISTED_IN}
    whole = {str(ds.SOPInstanceUID) for ds in volume.datasets}
    require(listed == whole, "SEG: the source Series is not listed whole, or another beside it")


def _prove_segments(placed: PlacedSegmentation, analysis: Analysis) -> None:
    numbers = [segment.number for segment in placed.reading.segments if segment.number != BACKGROUND]
    expected = sorted(number_segment(finding) for finding in analysis.findings)
    require(numbers == expected, f"SEG: segments {numbers} where findings are {expected}")
    for finding in analysis.findings:
        for segment in placed.reading.segments:
            if segment.number == finding.segment_number:
                _prove_description(segment, finding)


def _prove_description(segment: ReadSegment, finding: Finding) -> None:
    """Prove that a Segment is called what its Finding is."""
    facts = (
        ("label", segment.label, finding.label[:MAX_SEGMENT_LABEL].strip()),
        ("category", segment.category, finding.category.value),
        ("type", segment.property_type, finding.code.value),
        ("site", segment.site, "" if finding.site is None else finding.site.value),
        ("laterality", segment.side, name_side(finding.laterality)),
    )
    for words, found, expected in facts:
        require(found == expected, f"SEG: {words} of segment {segment.number} is not the finding's")


def name_side(laterality: Code | None) -> str:
    """Return the side as `workers.proving.segment_reading` reads it."""
    return "" if laterality is None else SIDES.get(laterality.value, laterality.meaning)


def _prove_pixels(placed: PlacedSegmentation, analysis: Analysis) -> None:
    volume, mask = require_mask(analysis)
    places = {name_slice(ds).place: index for index, ds in enumerate(volume.datasets)}
    by_slice: dict[int, list[Patch]] = defaultdict(list)
    for number in (segment.number for segment in placed.reading.segments):
        for patch in placed.list_patches(number):
            place = placed.sources[patch.frame].place
            require(place in places, f"SEG: frame {patch.frame} names no slice of the reference volume")
            by_slice[places[place]].append(patch)
    touched = np.flatnonzero(mask.any(axis=(1, 2))).tolist()
    require(sorted(by_slice) == touched, f"SEG: {len(by_slice)} slices are segmented, the mask has {len(touched)}")
    for index, patches in by_slice.items():
        shown = _paint(patches, mask[index].shape)
        frames = " and ".join(str(patch.frame) for patch in patches)
        require(np.array_equal(shown, mask[index]), f"SEG: frame {frames} does not show the mask of its slice")


def _paint(patches: list[Patch], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the mask of one slice, (rows, columns) uint8, as its Frames show it."""
    shown = np.zeros(shape, np.uint8)
    for patch in patches:
        rows, columns = patch.mask.shape
        shown[patch.top : patch.top + rows, patch.left : patch.left + columns][patch.mask] = patch.segment
    return shown
