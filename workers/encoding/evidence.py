"""The Instances that a report rests on (PS3.3 C.17.2.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from pydicom import Dataset

from workers.encoding.raw_elements import write_sequence, write_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a report rests on: an Item for each Study.

    Attributes
    ----------
    current
        Of Current Requested Procedure Evidence Sequence (0040,A375): the Study that is reported.
    other
        Of Pertinent Other Evidence Sequence (0040,A385): earlier ones.
    """

    current: list[bytes]
    other: list[bytes]


def list_evidence(
    inputs: Mapping[str, Sequence[Dataset]], segmentation: Dataset | None, *, study_instance_uid: str
) -> Evidence:
    """Return the Studies that a report rests on.

    Parameters
    ----------
    inputs
        Role to source Instances; each Instance is listed once.
    segmentation
        The SEG that the report refers to, if there is one.
    study_instance_uid
        The Study that is reported.
    """
    used = chain(*(inputs[role] for role in sorted(inputs)), () if segmentation is None else (segmentation,))
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for ds in used:
        series = studies.setdefault(str(ds.StudyInstanceUID), {}).setdefault(str(ds.SeriesInstanceUID), {})
        series[str(ds.SOPInstanceUID)] = str(ds.SOPClassUID)
    written = {uid: _write_study(uid, series) for uid, series in studies.items()}
    return Evidence(
        current=[item for uid, item in written.items() if uid == study_instance_uid],
        other=[item for uid, item in written.items() if uid != study_instance_uid],
    )


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
