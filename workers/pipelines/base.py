"""The port that every Pipeline implements, and what it hands over to the encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.domain.finding import Finding
from node.errors import ResultCheckFailed
from workers.radiograph import Radiograph
from workers.volume import Volume

Prepared = TypeVar("Prepared")


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What one Pipeline concluded on one Job.

    Attributes
    ----------
    findings
        Most certain first; empty when nothing was found by a segmenting model.
    reference
        The Volume whose grid `mask` has; None for a radiograph.
    radiograph
        The one image that was read of those that were handed over; None for volumes.
    mask
        (slices, rows, columns) uint8, value n = Segment Number n = ``findings[n - 1]``; None when nothing was found.
    heat
        (rows, columns) float32, 0..1, on the radiograph's own matrix: where the classifier looked; None without a
        positive label.
    threshold
        The certainty (0..1) from which a finding counts as present.
    notes
        Sentences for the report: what was not read, what limits the result.
    """

    findings: tuple[Finding, ...]
    reference: Volume | None = None
    radiograph: Radiograph | None = None
    mask: NDArray[np.uint8] | None = None
    heat: NDArray[np.float32] | None = None
    threshold: float | None = None
    notes: tuple[str, ...] = ()


def number_segment(finding: Finding) -> int:
    """Return the Segment Number of a Finding.

    Raises
    ------
    ResultCheckFailed
        If it has none.
    """
    if finding.segment_number is None:
        raise ResultCheckFailed(f"the finding {finding.label} has no segment in the mask; the Pipeline is at fault")
    return finding.segment_number


def find_key_slice(finding: Finding, mask: NDArray[np.uint8]) -> int:
    """Return the index of the slice that stands for a Finding: its own, else the one where it is largest."""
    key = finding.key_slice
    if key is not None and 0 <= key < len(mask) and (mask[key] == finding.segment_number).any():
        return key
    return max(range(len(mask)), key=lambda index: np.count_nonzero(mask[index] == finding.segment_number))


def require_mask(analysis: Analysis) -> tuple[Volume, NDArray[np.uint8]]:
    """Return the reference Volume and the mask on its grid.

    Raises
    ------
    ResultCheckFailed
        If one is absent, the shapes differ, the mask does not hold labels, or it is empty.
    """
    volume, mask = analysis.reference, analysis.mask
    if volume is None or mask is None or mask.shape != volume.voxels.shape:
        raise ResultCheckFailed("the mask has not the grid of the reference volume; the Pipeline is at fault")
    if mask.dtype != np.uint8:
        # Fractions, NaN and negative numbers are no labels, and rounding them would invent a Segment.
        raise ResultCheckFailed(f"the mask holds {mask.dtype} where labels of uint8 are due; the Pipeline is at fault")
    if not mask.any():
        raise ResultCheckFailed("the mask is empty although something was found; the Pipeline is at fault")
    return volume, mask


class Pipeline(Protocol[Prepared]):
    """One AI routine with its weights loaded; it is warm and serves many Jobs, one at a time."""

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> Prepared:
        """Turn the Instances of each role into what the network reads.

        Parameters
        ----------
        inputs
            Role to the Instances of its Series, in any order; Pixel Data present.

        Raises
        ------
        NotEligible
            If the Series must not be read by this Pipeline.
        PixelsUndecodable
            If an Instance cannot be decoded.
        """
        ...

    def analyze(self, prepared: Prepared) -> Analysis:
        """Run the network and measure what it saw.

        Raises
        ------
        ModelOutputInvalid
            If the network answers with NaN or with a mask that no anatomy has.
        """
        ...
