"""Proof of a heat map: its Frame shows what the Analysis holds, on the radiograph that was read."""

import numpy as np
from pydicom import Dataset

from node.domain.codes import CLASS_ACTIVATION
from workers.encoding.heat_map import require_heat
from workers.pipelines.base import Analysis
from workers.proving.proof import require
from workers.proving.segment_reading import iterate_frames

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
STATED = (
    ("SOPClassUID", SEGMENTATION_STORAGE),
    ("SegmentationType", "FRACTIONAL"),
    ("SegmentationFractionalType", "PROBABILITY"),
    ("NumberOfFrames", 1),
)
# Half a step, and what float32 makes of it.
ROUNDING = 0.5001


def prove_heat_map(seg: Dataset, analysis: Analysis) -> None:
    """Prove a SEG that shows where a classifier saw evidence.

    Raises
    ------
    ResultCheckFailed
        If a fraction is further than half a step from the heat map, or the SEG names another image or a disease.
    """
    heat = require_heat(analysis)
    if heat is None or analysis.radiograph is None:
        require(holds=False, complaint="SEG: a heat map of an analysis that has none")
        return
    source = analysis.radiograph.dataset
    for keyword, value in STATED:
        require(seg.get(keyword) == value, f"SEG: {keyword} of the heat map is not {value}")
    require((seg.Rows, seg.Columns) == heat.shape, "SEG: the heat map has not the matrix of the radiograph")
    require(len(seg.PixelData) >= heat.size, "SEG: Pixel Data is shorter than its Frame")
    off = np.abs(next(iterate_frames(seg)).astype(np.float32) - heat * int(seg.MaximumFractionalValue))
    require(float(off.max()) <= ROUNDING, "SEG: the heat map does not show what the classifier answered")
    derivation = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
    listed = [item for series in seg.ReferencedSeriesSequence for item in series.ReferencedInstanceSequence]
    named = {str(item.ReferencedSOPInstanceUID) for item in (*derivation, *listed)}
    require(named == {str(source.SOPInstanceUID)}, "SEG: the heat map names another image than the one that was read")
    codes = [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in seg.SegmentSequence]
    require(codes == [CLASS_ACTIVATION.value], "SEG: the heat map says of its one segment more than it knows")
