"""The Instances that a report rests on (PS3.3 C.17.2.3)."""

from collections.abc import Mapping, Sequence

from pydicom import Dataset

from workers.encoding.raw_elements import write_sequence, write_text


def list_evidence(inputs: Mapping[str, Sequence[Dataset]], segmentation: Dataset | None) -> list[bytes]:
    """Return the Items of Current Requested Procedure Evidence Sequence (0040,A375): one for each Study.

    Parameters
    ----------
    inputs
        Role to source Instances; each Instance is listed once.
    segmentation
        The SEG that the report refers to, if there is one.
    """
    used = [ds for role in sorted(inputs) for ds in inputs[role]]
    if segmentation is not None:
        used.append(segmentation)
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for ds in used:
        series = studies.setdefault(str(ds.StudyInstanceUID), {}).setdefault(str(ds.SeriesInstanceUID), {})
        series[str(ds.SOPInstanceUID)] = str(ds.SOPClassUID)
    return [_write_study(uid, series) for uid, series in studies.items()]


def _write_study(study_instance_uid: str, series: Mapping[str, Mapping[str, str]]) -> bytes:
    listed = [
        write_sequence(
            "ReferencedSOPSequence",
            [
                write_text("ReferencedSOPClassUID", "UI", sop_class_uid)
                + write_text("ReferencedSOPInstanceUID", "UI", sop_instance_uid)
                for sop_instance_uid, sop_class_uid in sorted(instances.items())
            ],
        )
        + write_text("SeriesInstanceUID", "UI", series_instance_uid)
        for series_instance_uid, instances in series.items()
    ]
    return write_sequence("ReferencedSeriesSequence", listed) + write_text("StudyInstanceUID", "UI", study_instance_uid)
