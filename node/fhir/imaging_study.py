"""The Study with its Series, and the Series that radnode added, as FHIR R4 ImagingStudy."""

from collections.abc import Iterable, Sequence

from node.domain.result import Result, ResultKind
from node.domain.study import SeriesFacts, StudyFacts
from node.fhir.coding import DCM, Resource, dicom_uid, reference
from node.fhir.naming import resource_id
from node.fhir.patient import to_date

# Modality (0008,0060) of what radnode writes where it is not the kind itself.
MODALITIES = {ResultKind.SC: "OT", ResultKind.REJECTION_NOTE: "KO"}


def build_imaging_study(study: StudyFacts, results: Sequence[Result], *, patient: Resource) -> Resource:
    """Return the ImagingStudy: what was received, and what was written of it.

    References
    ----------
    FHIR R4 ImagingStudy; DICOM PS3.3 C.7.2, C.7.3
    """
    received = [_received(series) for series in study.series if not series.is_own_result]
    series = [*received, *(_written(result) for result in results)]
    modalities = sorted({entry["modality"]["code"] for entry in series})
    resource: Resource = {
        "resourceType": "ImagingStudy",
        "id": resource_id("ImagingStudy", study.study_instance_uid),
        "identifier": _identifiers(study),
        "status": "available",
        "modality": [_modality(code) for code in modalities],
        "subject": reference(patient),
        "numberOfSeries": len(series),
        "numberOfInstances": sum(entry["numberOfInstances"] for entry in series),
        "series": series,
    }
    started = to_date(study.attributes.get("StudyDate"))
    if started is not None:
        resource["started"] = started
    if study.attributes.get("StudyDescription"):
        resource["description"] = str(study.attributes["StudyDescription"])
    return resource


def accession(study: StudyFacts) -> Resource | None:
    """Return the Accession Number as Identifier; None when the Study has none."""
    number = str(study.attributes.get("AccessionNumber") or "")
    return accession_identifier(number) if number else None


def accession_identifier(number: str) -> Resource:
    """Return an Accession Number as Identifier."""
    kind = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN", "display": "Accession ID"}
    return {"type": {"coding": [kind]}, "value": number}


def _identifiers(study: StudyFacts) -> list[Resource]:
    number = accession(study)
    return [dicom_uid(study.study_instance_uid), *([] if number is None else [number])]


def _received(series: SeriesFacts) -> Resource:
    entry: Resource = {
        "uid": series.series_instance_uid,
        "modality": _modality(str(series.attributes.get("Modality") or "OT")),
        "numberOfInstances": len(series.sop_instance_uids),
    }
    if series.attributes.get("SeriesDescription"):
        entry["description"] = str(series.attributes["SeriesDescription"])
    # Which Instance is of which SOP Class is told where there is only one.
    if len(series.sop_class_uids) == 1:
        entry["instance"] = _instances(series.sop_instance_uids, series.sop_class_uids[0])
    return entry


def _written(result: Result) -> Resource:
    return {
        "uid": result.series_instance_uid,
        "modality": _modality(MODALITIES.get(result.kind) or result.kind.value),
        "numberOfInstances": 1,
        "instance": _instances([result.sop_instance_uid], result.sop_class_uid),
    }


def _instances(uids: Iterable[str], sop_class_uid: str) -> list[Resource]:
    sop_class = {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class_uid}"}
    return [{"uid": uid, "sopClass": sop_class} for uid in uids]


def _modality(code: str) -> Resource:
    return {"system": DCM, "code": code}
