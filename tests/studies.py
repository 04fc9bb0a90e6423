"""Studies as the ledger shows them to rules, made by hand: any mess, one line a Series."""

from types import MappingProxyType
from typing import Any

from node.domain.study import SeriesFacts, SeriesState, StudyFacts
from node.domain.uids import InstanceUID, SeriesUID, StudyUID

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
STUDY_UID = StudyUID("1.2.3")


def make_series(
    number: int,
    sop_class_uid: str = CT,
    *,
    count: int = 40,
    spacing_mm: float | None = 1.0,
    is_own_result: bool = False,
    **attributes: Any,
) -> SeriesFacts:
    """Return the Series ``1.2.3.<number>``; an attribute given as None is absent."""
    kept = {"SeriesNumber": float(number), "ImageOrientationPatient": list(AXIAL), **attributes}
    spacing = spacing_mm if count > 1 else None
    return SeriesFacts(
        series_instance_uid=SeriesUID(f"{STUDY_UID}.{number}"),
        study_instance_uid=STUDY_UID,
        state=SeriesState.SETTLED,
        attributes=MappingProxyType({key: value for key, value in kept.items() if value is not None}),
        sop_class_uids=(sop_class_uid,),
        sop_instance_uids=tuple(InstanceUID(f"{STUDY_UID}.{number}.{i}") for i in range(1, count + 1)),
        slice_positions_mm=() if spacing is None else tuple(i * spacing for i in range(count)),
        slice_spacing_mm=spacing,
        calling_aet="MODALITY",
        is_own_result=is_own_result,
    )


def make_study(*series: SeriesFacts, **attributes: Any) -> StudyFacts:
    """Return a settled Study of `series`, in order of their Series Numbers."""
    ordered = tuple(sorted(series, key=lambda one: one.attributes.get("SeriesNumber", 0.0)))
    return StudyFacts(
        study_instance_uid=STUDY_UID,
        state=SeriesState.SETTLED,
        attributes=MappingProxyType(attributes),
        series=ordered,
    )


def chest_ct_series(number: int = 2, **changes: Any) -> SeriesFacts:
    """Return axial slices of a chest, 1 mm apart."""
    return make_series(
        number, **{"Modality": "CT", "BodyPartExamined": "CHEST", "SeriesDescription": "Thorax 1.0", **changes}
    )


def brain_mr_series(number: int, description: str, **changes: Any) -> SeriesFacts:
    """Return axial slices of a head, 5 mm apart."""
    basis = {
        "Modality": "MR",
        "BodyPartExamined": "BRAIN",
        "SeriesDescription": description,
        "count": 22,
        "spacing_mm": 5.0,
    }
    return make_series(number, MR, **{**basis, **changes})


def chest_xray_series(number: int = 1, sop_class_uid: str = DX, **changes: Any) -> SeriesFacts:
    """Return one frontal radiograph of a chest."""
    basis = {
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "count": 1,
        "ImageOrientationPatient": None,
    }
    return make_series(number, sop_class_uid, **{**basis, **changes})
