"""From single Instances to what rules may ask of a Series and a Study."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from statistics import median
from typing import Any

from node.domain.result import OWN_MANUFACTURER
from node.domain.study import (
    PATIENT_KEYWORDS,
    InstanceFacts,
    SeriesFacts,
    SeriesState,
    StudyFacts,
    list_frame_positions,
)
from node.domain.uids import SeriesUID, StudyUID

STUDY_KEYWORDS = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "AccessionNumber", "InstitutionName", "RequestedProcedureDescription",
)  # fmt: skip


def summarize_series(instances: Sequence[InstanceFacts], state: SeriesState) -> SeriesFacts:
    """Return the facts of one Series; `instances` is not empty and of one Series."""
    ordered = sorted(instances, key=_instance_order)
    first = ordered[0]
    positions = _slice_positions_mm(ordered)
    versions = sorted((i.sop_instance_uid, i.says) for i in ordered)
    steps = [after - before for before, after in pairwise(positions)]
    return SeriesFacts(
        series_instance_uid=first.series_instance_uid,
        study_instance_uid=first.study_instance_uid,
        state=state,
        attributes=first.attributes,
        sop_class_uids=tuple(sorted({i.sop_class_uid for i in ordered})),
        sop_instance_uids=tuple(uid for uid, _ in versions),
        says=tuple(says for _, says in versions),
        disputed=_find_disputed(ordered),
        slice_positions_mm=positions,
        slice_spacing_mm=median(steps) if steps else None,
        calling_aet=first.calling_aet,
        is_own_result=any(i.attributes.get("Manufacturer") == OWN_MANUFACTURER for i in ordered),
    )


def summarize_study(
    study_instance_uid: StudyUID,
    instances: Iterable[InstanceFacts],
    *,
    state: SeriesState = SeriesState.SETTLED,
    series_states: dict[SeriesUID, SeriesState] | None = None,
    revision: int = 0,
) -> StudyFacts:
    """Return the facts of one Study from all its Instances."""
    ordered = sorted(instances, key=lambda i: i.series_instance_uid)
    grouped = [
        summarize_series(list(group), (series_states or {}).get(uid, state))
        for uid, group in groupby(ordered, key=lambda i: i.series_instance_uid)
    ]
    grouped.sort(key=lambda s: (_number(s.attributes.get("SeriesNumber")), s.series_instance_uid))
    attributes: dict[str, Any] = {}
    for one in grouped:
        for keyword in STUDY_KEYWORDS:
            if keyword in one.attributes:
                attributes.setdefault(keyword, one.attributes[keyword])
    return StudyFacts(
        study_instance_uid=study_instance_uid,
        state=state,
        attributes=attributes,
        series=tuple(grouped),
        revision=revision,
    )


def _find_disputed(instances: Sequence[InstanceFacts]) -> Mapping[str, frozenset[str]]:
    said = {
        keyword: frozenset(str(i.attributes[keyword]).strip() for i in instances if i.attributes.get(keyword))
        for keyword in PATIENT_KEYWORDS
    }
    return {keyword: values for keyword, values in said.items() if len(values) > 1}


def _instance_order(instance: InstanceFacts) -> tuple[float, str]:
    return _number(instance.attributes.get("InstanceNumber")), instance.sop_instance_uid


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("inf")


def _slice_positions_mm(instances: Sequence[InstanceFacts]) -> tuple[float, ...]:
    orientation = instances[0].attributes.get("ImageOrientationPatient")
    if not isinstance(orientation, list) or len(orientation) != 6:
        return ()
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    found = (i.attributes.get("ImagePositionPatient") for i in instances)
    positions = [position for position in found if isinstance(position, list) and len(position) == 3]
    for instance in instances:
        positions += list_frame_positions(instance.attributes)
    return tuple(sorted(sum(n * p for n, p in zip(normal, position, strict=True)) for position in positions))
