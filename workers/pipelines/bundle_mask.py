"""What a segmenting bundle answers: label maps or channels, on the grid of the Series it was asked about."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray

from node.domain.codes import MORPHOLOGICALLY_ABNORMAL
from node.domain.finding import Finding
from node.errors import ModelOutputInvalid
from node.manifest import Label
from node.models import ModelCard
from workers.axes import reversed_axes
from workers.inference.answers import is_finite
from workers.measurements import Region, find_regions, measure_region, note_limits
from workers.pipelines.base import Analysis
from workers.resampling import pick_nearest
from workers.stopwatch import stage
from workers.volume import Volume

# From axes of NIfTI and RAS back to those of a Volume.
VOLUME_AXES = (2, 1, 0)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A channel above it is marked; bundles end in 0 and 1.
MARKED = 0.5
# Of all voxels; what fills more is no organ and no lesion.
MAX_SHARE = 0.95
WHOLE_TOLERANCE = 1e-3
SMALL = 256  # values of eight bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Where the labels of a card are marked.

    Attributes
    ----------
    numbers
        (slices, rows, columns) unsigned: n where the n-th label is, from 1; where several are, the last of them.
    shares
        Number of a label to the share of all voxels that are marked as it, also where a later one covers it.
    """

    numbers: NDArray[np.unsignedinteger]
    shares: Mapping[int, float]


def read_mask(answers: Sequence[Any], card: ModelCard, volume: Volume) -> tuple[Marks, tuple[str, ...]]:
    """Return where each label is marked, and what the report owes its reader.

    Parameters
    ----------
    answers
        One of the whole volume, (channels, columns, rows, slices), or one a slice, (channels, columns, rows).

    Raises
    ------
    ModelOutputInvalid
        If it is no mask of that volume, lacks the channel of a label, or marks nothing but what has no label.
    """
    for answer in answers:
        if not isinstance(answer, torch.Tensor) or not is_finite(answer):
            raise ModelOutputInvalid(f"the bundle {card.name} answers with no mask, or with NaN; see [bundle] output")
    if len(answers) > 1 or answers[0].ndim < 4:
        channels = np.stack([np.asarray(answer) for answer in answers], axis=-1)
    else:
        channels = bring_home(answers[0], volume)
    if channels.shape[:0:-1] != volume.voxels.shape:
        found = " x ".join(map(str, channels.shape[:0:-1]))
        raise ModelOutputInvalid(
            f"the bundle {card.name} answers with a mask of {found} voxels for a volume of "
            f"{' x '.join(map(str, volume.voxels.shape))}; its postprocessing lacks Invertd"
        )
    marks, strange = _read_numbers(channels[0], card) if len(channels) == 1 else _read_channels(channels, card)
    return marks, tell_unlabeled(strange, card, is_found=any(marks.shares.values()))


def tell_unlabeled(numbers: Sequence[int], card: ModelCard, *, is_found: bool) -> tuple[str, ...]:
    """Return what the report owes its reader where a model marked what has no label.

    Raises
    ------
    ModelOutputInvalid
        If nothing else `is_found`: an answer without Findings would say that nothing is there.
    """
    if not numbers:
        return ()
    said = ", ".join(map(str, numbers))
    if not is_found:
        known = ", ".join(f"{label.value} = {label.name}" for label in card.labels)
        raise ModelOutputInvalid(
            f"the bundle {card.name} marks {said}, for which there is no label, and nothing of {known}: that is no "
            "answer that nothing is there; label each number that it marks, see [[labels]] of model.toml"
        )
    return (f"The model marked {said} too, for which there is no label.",)


def find_segments(marks: Marks, card: ModelCard, volume: Volume, *, notes: tuple[str, ...]) -> Analysis:
    """Return a Finding for each label that is marked; a later label covers an earlier one.

    Raises
    ------
    ModelOutputInvalid
        If one label fills the volume.
    """
    max_share = float(card.numbers.get("thresholds", {}).get("max_share", MAX_SHARE))
    for number, share in marks.shares.items():
        if share > max_share:
            raise ModelOutputInvalid(
                f"the bundle {card.name} marks {share:.0%} of all voxels as {card.labels[number - 1].name}; the input "
                "is unlike what it has learned, or its weights are damaged"
            )
    regions = find_regions(volume, marks.numbers)
    return build_analysis([(card.labels[n - 1], regions[n]) for n in sorted(regions)], card, volume, notes=notes)


def build_analysis(
    found: Sequence[tuple[Label, Region]],
    card: ModelCard,
    volume: Volume,
    *,
    notes: tuple[str, ...],
    names: Sequence[str] = (),
    scores: Sequence[float] = (),
) -> Analysis:
    """Return the Analysis of regions that have no voxel in common, one Segment each, in their order.

    Parameters
    ----------
    names
        Words for each region; empty: those of its label.
    scores
        Certainty of each, 0..1; empty: none is given.
    """
    mask = np.zeros(volume.voxels.shape, np.uint8)
    findings, measured = [], {}
    for number, (label, region) in enumerate(found, 1):
        np.copyto(mask[region.box], number, where=region.mask)
        with stage("measure"):
            measures = measure_region(volume, region)
        name = names[number - 1] if names else label.name
        measured[name] = measures
        findings.append(
            Finding(
                label=name,
                code=label.code,
                category=label.category or MORPHOLOGICALLY_ABNORMAL,
                confidence=scores[number - 1] if scores else None,
                center_mm=measures.center_mm,
                measurements=measures.values,
                site=label.site,
                segment_number=number,
                key_slice=measures.key_slice,
            )
        )
    thresholds = card.numbers.get("thresholds", {})
    return Analysis(
        findings=tuple(findings),
        reference=volume,
        mask=mask if findings else None,
        threshold=float(thresholds["finding"]) if scores and "finding" in thresholds else None,
        notes=(*notes, *note_limits(volume, measured)),
    )


def bring_home(answer: torch.Tensor, volume: Volume) -> NDArray[np.generic]:
    """Return an answer on the voxels of the volume, nearest neighbor where it is on others."""
    channels: NDArray[np.generic] = np.asarray(answer)
    home = RAS_TO_LPS @ volume.affine[:, [*VOLUME_AXES, 3]]
    shape = tuple(volume.voxels.shape[axis] for axis in VOLUME_AXES)
    if not isinstance(answer, MetaTensor):
        return channels
    matrix = np.linalg.inv(np.asarray(answer.affine, float)) @ home
    if channels.shape[1:] == shape and np.allclose(matrix, np.eye(4), atol=WHOLE_TOLERANCE):
        return channels
    return np.stack([pick_nearest(one, matrix, shape) for one in channels])


def _read_channels(channels: NDArray[np.generic], card: ModelCard) -> tuple[Marks, list[int]]:
    """Return what several channels (channels, columns, rows, slices) mark, and which of them mark without a label."""
    numbers = np.zeros(channels.shape[:0:-1], _type_for(card))
    shares: dict[int, float] = {}
    for number, label in enumerate(card.labels, 1):
        if label.value >= len(channels):
            raise ModelOutputInvalid(
                f"the bundle {card.name} answers {len(channels)} channels, and label {label.name} is number "
                f"{label.value}"
            )
        marked = channels[label.value] > MARKED
        shares[number] = np.count_nonzero(marked) / marked.size
        np.copyto(numbers, number, where=reversed_axes(marked))
    known = {label.value for label in card.labels}
    strange = [n for n in range(1, len(channels)) if n not in known and bool((channels[n] > MARKED).any())]
    return Marks(numbers=numbers, shares=shares), strange


def _read_numbers(channel: NDArray[np.generic], card: ModelCard) -> tuple[Marks, list[int]]:
    """Return what the numbers of one channel (columns, rows, slices) mark, and which have no label."""
    values = np.rint(channel)
    off = values - channel
    if max(off.max(), -off.min()) > WHOLE_TOLERANCE:
        raise ModelOutputInvalid(
            f"the bundle {card.name} answers with fractions where labels are due; its postprocessing lacks AsDiscreted"
        )
    found = _list_values(values)
    known = {label.value: number for number, label in enumerate(card.labels, 1) if label.value in found}
    numbers = np.zeros(values.shape[::-1], _type_for(card))
    if min(found, default=0) >= 0 and max(found, default=0) < SMALL:
        table = np.zeros(SMALL, numbers.dtype)
        table[list(known)] = list(known.values())
        # The smaller a number, the sooner is it somewhere else.
        np.take(table, reversed_axes(values.astype(np.uint8)), out=numbers)
    else:
        for value, number in known.items():
            np.copyto(numbers, number, where=reversed_axes(values == value))
    shares = {number: found[value] / values.size for value, number in known.items()}
    return Marks(numbers=numbers, shares=shares), sorted(found.keys() - known.keys())


def _list_values(values: NDArray[np.generic]) -> dict[int, int]:
    """Return how many voxels have each whole number but 0; plane by plane, since what is there is sorted."""
    found: Counter[int] = Counter()
    for plane in values:
        seen, counts = np.unique(plane[plane != 0], return_counts=True)
        found.update(dict(zip(map(int, seen.tolist()), counts.tolist(), strict=True)))
    return dict(found)


def _type_for(card: ModelCard) -> type[np.unsignedinteger]:
    return np.uint8 if len(card.labels) < SMALL else np.uint16
