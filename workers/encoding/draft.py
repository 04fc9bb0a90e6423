"""What an optional Result is made from: the Analysis and what was already written about it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from node.domain.finding import Finding, Presence
from workers.drawing.canvas import Drawing
from workers.frames import name_slice
from workers.pipelines.base import Analysis, find_key_slice, require_mask
from workers.provenance import Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An Analysis on its way to Results.

    Attributes
    ----------
    source
        The Instance from which patient and Study are taken: the first reference slice, or the radiograph.
    segmentation
        The SEG; None when nothing was segmented.
    report
        The SR.
    page, picture
        The summary page, and the Secondary Capture that was made of it.
    """

    analysis: Analysis
    provenance: Provenance
    source: Dataset
    segmentation: Dataset | None
    report: Dataset
    page: Drawing
    picture: Dataset


def list_key_images(analysis: Analysis) -> list[tuple[Finding, Dataset]]:
    """Return each Finding that is present with the source slice that shows it best; empty when nothing was found.

    Raises
    ------
    ResultCheckFailed
        If a segmented Finding has no mask to stand on.
    """
    present = [finding for finding in analysis.findings if finding.presence is Presence.PRESENT]
    if analysis.radiograph is not None:
        return [(finding, analysis.radiograph.dataset) for finding in present]
    if analysis.reference is None or not present:
        return []
    volume, mask = require_mask(analysis)
    return [(finding, volume.datasets[find_key_slice(finding, mask)]) for finding in present]


def each_once(images: Sequence[tuple[Finding, Dataset]]) -> list[Dataset]:
    """Return the slices of `list_key_images`, each once, in the order of their first Finding."""
    return list({name_slice(ds): ds for _, ds in images}.values())
