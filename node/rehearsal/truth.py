"""Findings held against what a phantom really contains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from node.rehearsal.shapes import Point

CENTER_TOLERANCE_MM = 3.0
MIN_DICE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the findings are true, and the figure that says so."""

    is_true: bool
    said: str


def judge_nodules(findings: Sequence[Mapping[str, Any]], centers_mm: Sequence[Point]) -> Verdict:
    """Compare finding centers with the phantom's, LPS mm; every nodule must be found, and nothing else."""
    found = [np.asarray(finding["center_mm"], float) for finding in findings if finding["center_mm"] is not None]
    if not found:
        return Verdict(is_true=not centers_mm, said=f"0 of {len(centers_mm)} nodules")
    distances = [min(float(np.linalg.norm(center - np.asarray(true))) for center in found) for true in centers_mm]
    hits = sum(distance <= CENTER_TOLERANCE_MM for distance in distances)
    said = f"{hits} of {len(centers_mm)} nodules, centers off by at most {max(distances, default=0.0):.1f} mm"
    false = len(found) - hits
    if false > 0:
        said += f", {false} false"
    return Verdict(is_true=hits == len(centers_mm) and false == 0, said=said)


def judge_lesion(seg: Path | None, source: Sequence[Dataset], lesion: npt.NDArray[np.bool_] | None) -> Verdict:
    """Compare a delivered SEG with the lesion, voxel by voxel.

    Parameters
    ----------
    seg
        Part 10 file as the PACS received it; None when none came.
    source
        The Instances that it refers to, in the order of the first axis of `lesion`.
    lesion
        (slices, rows, columns) bool; None for a healthy phantom.
    """
    if lesion is None:
        return Verdict(is_true=seg is None, said="healthy, nothing marked" if seg is None else "healthy, but marked")
    if seg is None:
        return Verdict(is_true=False, said="lesion not marked")
    marked = _union_of_segments(dcmread(seg), source, lesion.shape)
    dice = 2.0 * float((marked & lesion).sum()) / float(marked.sum() + lesion.sum())
    return Verdict(is_true=dice >= MIN_DICE, said=f"lesion Dice {dice:.2f}")


def judge_label(findings: Sequence[Mapping[str, Any]], *, is_abnormal: bool) -> Verdict:
    """Compare the classifier's label with whether the phantom holds an opacity."""
    presence = {str(finding["presence"]) for finding in findings}
    expected = "present" if is_abnormal else "absent"
    return Verdict(is_true=presence == {expected}, said=f"label {', '.join(sorted(presence))}, expected {expected}")


def _union_of_segments(seg: Dataset, source: Sequence[Dataset], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    index = {ds.SOPInstanceUID: number for number, ds in enumerate(source)}
    marked = np.zeros(shape, bool)
    frames = seg.pixel_array.reshape(-1, *shape[1:])
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        marked[index[image.ReferencedSOPInstanceUID]] |= frame > 0
    return marked
