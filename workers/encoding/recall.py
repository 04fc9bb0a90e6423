"""An Analysis, read back from what was written of it; and what is left of it when a person strikes findings."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.domain.finding import Finding
from node.domain.job import Job
from node.errors import InputMissing
from workers.encoding.quiet import quiet_libraries
from workers.frames import name_slice
from workers.instances import choose_slices, read_values
from workers.pipelines.base import Analysis, number_segment
from workers.radiograph import read_radiograph
from workers.volume import FEWEST_FOR_GEOMETRY, Volume, read_volume

# Segmentation Type (0062,0001) of a heat map (`workers.encoding.heat_map`).
HEAT_MAP_TYPE = "FRACTIONAL"


def recall_analysis(
    job: Job, inputs: Mapping[str, Sequence[Dataset]], *, report: Dataset, segmentation: Dataset | None
) -> Analysis:
    """Return the Analysis that a COMPLETED Job reported; without the heat map, which is kept nowhere.

    Parameters
    ----------
    inputs
        Role to the Instances of the Job.
    report, segmentation
        Its SR and SEG as they were written. The heat map of a radiograph is a SEG too, but nothing is read from it.

    Raises
    ------
    InputMissing
        If an Instance that the Results refer to is no longer there.
    """
    findings = tuple(Finding.from_json(entry) for entry in job.findings)
    if segmentation is None or segmentation.SegmentationType == HEAT_MAP_TYPE:
        radiograph = read_radiograph(_find(inputs, [_read_image(report)])[0])
        return Analysis(findings=findings, radiograph=radiograph, threshold=job.threshold, notes=job.notes)
    (series,) = segmentation.ReferencedSeriesSequence
    named = [str(item.ReferencedSOPInstanceUID) for item in series.ReferencedInstanceSequence]
    volume = read_volume(_find(inputs, named), min_slices=FEWEST_FOR_GEOMETRY)
    mask = _read_mask(segmentation, volume)
    return Analysis(findings=findings, reference=volume, mask=mask, threshold=job.threshold, notes=job.notes)


def strike_entries(job: Job, labels: Collection[str]) -> Job:
    """Return the Job as a corrected report tells it: without these findings, Segments numbered anew."""
    kept = [entry for entry in job.findings if entry["label"] not in labels]
    numbered = [
        entry if entry["segment_number"] is None else {**entry, "segment_number": number}
        for number, entry in enumerate(kept, start=1)
    ]
    return replace(job, findings=tuple(numbered))


def strike_findings(analysis: Analysis, labels: Collection[str]) -> Analysis:
    """Return the Analysis without these findings; Segments are numbered anew, labels stay as people know them."""
    kept = [finding for finding in analysis.findings if finding.label not in labels]
    # What was said of a finding goes with it.
    notes = tuple(note for note in analysis.notes if not any(label in note for label in labels))
    analysis = replace(analysis, notes=notes)
    if analysis.mask is None:
        return replace(analysis, findings=tuple(kept))
    renumbered = np.zeros(np.iinfo(np.uint8).max + 1, np.uint8)
    for number, finding in enumerate(kept, start=1):
        renumbered[number_segment(finding)] = number
    mask = renumbered[analysis.mask]
    numbered = tuple(replace(finding, segment_number=number) for number, finding in enumerate(kept, start=1))
    return replace(analysis, findings=numbered, mask=mask if kept else None)


def _read_image(report: Dataset) -> str:
    """Return the SOP Instance UID of the first image that a measurement group names."""
    for content in report.ContentSequence:
        for element in content.iterall():
            if element.keyword == "ReferencedSOPSequence":
                return str(element.value[0].ReferencedSOPInstanceUID)
    raise InputMissing(f"report {report.SOPInstanceUID} names no image; process the Study again")


def _find(inputs: Mapping[str, Sequence[Dataset]], uids: Sequence[str]) -> Sequence[Dataset]:
    """Return the slices of some Instances of one role."""
    wanted = set(uids)
    most = max((choose_slices(slices, wanted) for slices in inputs.values()), key=len, default=())
    gone = wanted.difference(read_values(most, "SOPInstanceUID"))
    if gone:
        raise InputMissing(f"instance {min(gone)} is gone from the store; send it again")
    return most


def _read_mask(segmentation: Dataset, volume: Volume) -> NDArray[np.uint8]:
    mask = np.zeros(volume.voxels.shape, np.uint8)
    places: dict[str, dict[int | None, int]] = defaultdict(dict)
    for place, ds in enumerate(volume.datasets):
        named = name_slice(ds)
        places[named.sop_instance_uid][named.frame_number] = place
    whole = {uid: frames.pop(None) for uid, frames in places.items() if None in frames}
    with quiet_libraries():
        seg = hd.seg.Segmentation.from_dataset(segmentation, copy=False)
        if whole:
            mask[list(whole.values())] = seg.get_pixels_by_source_instance(
                source_sop_instance_uids=list(whole), combine_segments=True, assert_missing_frames_are_empty=True
            )
        for uid, frames in places.items():
            if frames:
                mask[list(frames.values())] = seg.get_pixels_by_source_frame(
                    uid,
                    [number for number in frames if number is not None],
                    combine_segments=True,
                    assert_missing_frames_are_empty=True,
                )
    return mask
