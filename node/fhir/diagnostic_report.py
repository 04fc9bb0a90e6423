"""The answer of one Job as FHIR R4 Bundle: DiagnosticReport, Observations, ImagingStudy, Patient, Device."""

from collections.abc import Sequence

from node.domain.answer import UNVERIFIED, tell_found
from node.domain.finding import Finding
from node.domain.job import Job
from node.domain.result import OWN_MANUFACTURER, Result
from node.domain.study import StudyFacts
from node.fhir.coding import LOINC, Resource, dicom_uid, full_url, reference
from node.fhir.imaging_study import accession, build_imaging_study
from node.fhir.naming import answer_id, resource_id
from node.fhir.observation import Context, build_observation
from node.fhir.patient import build_patient, to_date

RADIOLOGY = {
    "coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology"},
    ]
}
# What was examined, by Modality of the first input (LOINC).
PROCEDURES = {
    "CT": ("25045-6", "CT unspecified body region"),
    "MR": ("25056-3", "MRI unspecified body region"),
    "DX": ("43468-8", "XR Unspecified body region Views"),
    "CR": ("43468-8", "XR Unspecified body region Views"),
}
ANY_PROCEDURE = ("18748-4", "Diagnostic imaging study")


def build_bundle(study: StudyFacts, job: Job, results: Sequence[Result]) -> Resource:
    """Return the Bundle (type collection) that tells what a COMPLETED Job found in a Study.

    The same Job gives the same Bundle, ids included.

    Parameters
    ----------
    results
        The Results of the Job that stand.

    References
    ----------
    FHIR R4 DiagnosticReport, Observation, ImagingStudy
    """
    patient = build_patient(study.attributes)
    imaging_study = build_imaging_study(study, results, patient=patient)
    device = build_device(job)
    context = Context(job=job, patient=patient, imaging_study=imaging_study, device=device)
    observations = [build_observation(Finding.from_json(entry), context) for entry in job.findings]
    report = build_report(study, context, observations, results)
    resources = [report, *observations, imaging_study, patient, device]
    return {
        "resourceType": "Bundle",
        "id": answer_id("Bundle", job),
        "type": "collection",
        "entry": [{"fullUrl": full_url(resource), "resource": resource} for resource in resources],
    }


def build_report(
    study: StudyFacts, context: Context, observations: Sequence[Resource], results: Sequence[Result]
) -> Resource:
    """Return the DiagnosticReport of a Job: preliminary, with what was observed and the objects that say the same."""
    job = context.job
    number = accession(study)
    resource: Resource = {
        "resourceType": "DiagnosticReport",
        "id": answer_id("DiagnosticReport", job),
        "identifier": [dicom_uid(result.sop_instance_uid) for result in results],
        "status": "preliminary",
        "category": [RADIOLOGY],
        "code": _procedure(study, job),
        "subject": reference(context.patient),
        "imagingStudy": [reference(context.imaging_study)],
        "conclusion": _conclude(job),
    }
    if number is not None:
        resource["basedOn"] = [{"type": "ServiceRequest", "identifier": number}]
    if observations:
        resource["result"] = [reference(observation) for observation in observations]
    examined = to_date(study.attributes.get("StudyDate"))
    if examined is not None:
        resource["effectiveDateTime"] = examined
    if job.finished_at is not None:
        resource["issued"] = job.finished_at.isoformat(timespec="milliseconds")
    return resource


def build_device(job: Job) -> Resource:
    """Return the model that answered."""
    order = job.order
    return {
        "resourceType": "Device",
        "id": resource_id("Device", order.model, order.model_version, job.model_sha256 or ""),
        "status": "active",
        "manufacturer": OWN_MANUFACTURER,
        "deviceName": [{"name": f"{order.pipeline}: {order.model}", "type": "model-name"}],
        "version": [{"value": order.model_version}],
    }


def _procedure(study: StudyFacts, job: Job) -> Resource:
    asked = set(job.order.inputs.values())
    modalities = [str(s.attributes.get("Modality") or "") for s in study.series if s.series_instance_uid in asked]
    code, display = PROCEDURES.get(modalities[0] if modalities else "", ANY_PROCEDURE)
    return {"coding": [{"system": LOINC, "code": code, "display": display}], "text": display}


def _conclude(job: Job) -> str:
    answer = f"{job.order.pipeline}: {tell_found([Finding.from_json(entry) for entry in job.findings])}."
    return " ".join([UNVERIFIED, answer, *job.notes])
