"""The port that every Pipeline implements, and what it hands over to the encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.domain.finding import Finding
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
