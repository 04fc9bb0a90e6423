"""What a segmenting bundle answers: label maps or channels, on the grid of the Series it was asked about."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage

from node.domain.codes import MORPHOLOGICALLY_ABNORMAL
from node.domain.finding import Finding
from node.errors import ModelOutputInvalid
from node.manifest import Label
from node.models import ModelCard
from workers.axes import reversed_axes
from workers.inference.answers import is_finite
from workers.measurements import Region, cut_region, measure_region, note_limits
from workers.pipelines.base import Analysis
from workers.volume import Volume

# From axes of NIfTI and RAS back to those of a Volume.
VOLUME_AXES = (2, 1, 0)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A channel above it is marked; bundles end in 0 and 1.
MARKED = 0.5
# Of all voxels; what fills more is no organ and no lesion.
MAX_SHARE = 0.95
WHOLE_TOLERANCE = 1e-3

Marks = dict[int, NDArray[np.bool_]]


def read_mask(answers: Sequence[Any], card: ModelCard, volume: Volume) -> tuple[Marks, tuple[str, ...]]:
    """Return where each label is marked, (slices, rows, columns), and what the report owes its reader.

    Parameters
    ----------
    answers
        One of the whole volume, (channels, columns, rows, slices), or one a slice, (channels, columns, rows).

    Raises
    ------
    ModelOutputInvalid
        If it is no mask of that volume.
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
    marks = _split(channels, card)
    known = {label.value for label in card.labels}
    strange = sorted(value for value in marks if value not in known)
    notes = (f"The model marked {', '.join(map(str, strange))} too, for which there is no label.",) if strange else ()
    return marks, notes


def find_segments(marks: Marks, card: ModelCard, volume: Volume, *, notes: tuple[str, ...]) -> Analysis:
    """Return a Finding for each label that is marked; a later label covers an earlier one.

    Raises
    ------
    ModelOutputInvalid
        If one label fills the volume.
    """
    max_share = float(card.numbers.get("thresholds", {}).get("max_share", MAX_SHARE))
    mask = np.zeros(volume.voxels.shape, np.uint16)
    for number, label in enumerate(card.labels, 1):
        marked = marks.get(label.value)
        if marked is None:
            continue
        share = np.count_nonzero(marked) / marked.size
        if share > max_share:
            raise ModelOutputInvalid(
                f"the bundle {card.name} marks {share:.0%} of all voxels as {label.name}; the input is unlike what it "
                "has learned, or its weights are damaged"
            )
        np.copyto(mask, number, where=marked)
    # The values of a whole volume take longer to sort than its voxels to compare with each label that is there.
    left = ((label, mask == number) for number, label in enumerate(card.labels, 1) if label.value in marks)
    found = [(label, marked) for label, marked in left if marked.any()]
    return build_analysis(found, card, volume, notes=notes)


def build_analysis(
    found: Sequence[tuple[Label, NDArray[np.bool_]]],
    card: ModelCard,
    volume: Volume,
    *,
    notes: tuple[str, ...],
    names: Sequence[str] = (),
    scores: Sequence[float] = (),
) -> Analysis:
    """Return the Analysis of marked regions, one Segment each, in their order.

    Parameters
    ----------
    names
        Words for each region; empty: those of its label.
    scores
        Certainty of each, 0..1; empty: none is given.
    """
    mask = np.zeros(volume.voxels.shape, np.uint8)
    findings, measured = [], {}
    for number, (label, marked) in enumerate(found, 1):
        np.copyto(mask, number, where=marked)
        region: Region = cut_region(volume, marked)
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
    return np.stack([ndimage.affine_transform(one, matrix[:3, :3], matrix[:3, 3], shape, order=0) for one in channels])


def _split(channels: NDArray[np.generic], card: ModelCard) -> Marks:
    """Return the voxels of each value that is there: of one channel its numbers, of several the number of each.

    Parameters
    ----------
    channels
        (channels, columns, rows, slices).
    """
    if len(channels) > 1:
        known = {label.value for label in card.labels}
        marked = ((number, channel > MARKED) for number, channel in enumerate(channels))
        return {n: reversed_axes(one) for n, one in marked if (n in known or n > 0) and one.any()}
    values = np.rint(channels[0])
    off = values - channels[0]
    if max(off.max(), -off.min()) > WHOLE_TOLERANCE:
        raise ModelOutputInvalid(
            f"the bundle {card.name} answers with fractions where labels are due; its postprocessing lacks AsDiscreted"
        )
    found = np.unique(values[values != 0]).tolist()
    # The smaller a number, the sooner is it somewhere else.
    numbers = reversed_axes(values.astype(np.uint8 if all(0 < value < 256 for value in found) else np.int64))
    return {int(value): numbers == int(value) for value in found}
