"""A Finding as FHIR R4 Observation."""

from dataclasses import dataclass

from node.domain.codes import CERTAINTY, FINDING, PRESENCE, Code
from node.domain.finding import Finding
from node.domain.job import Job
from node.domain.measures import MEASURES, PRESENCE_VALUES
from node.fhir.coding import UCUM, Resource, concept, reference
from node.fhir.naming import answer_id

IMAGING = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "imaging",
            "display": "Imaging",
        }
    ]
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every Observation of one Job refers to."""

    job: Job
    patient: Resource
    imaging_study: Resource
    device: Resource


def build_observation(finding: Finding, context: Context) -> Resource:
    """Return the Observation of one Finding: preliminary, made by a device, nobody has verified it.

    References
    ----------
    FHIR R4 Observation; DICOM PS3.16 TID 1500
    """
    resource: Resource = {
        "resourceType": "Observation",
        "id": answer_id("Observation", context.job, finding.label),
        "status": "preliminary",
        "category": [IMAGING],
        "code": concept(FINDING),
        "subject": reference(context.patient),
        "derivedFrom": [reference(context.imaging_study)],
        "device": reference(context.device),
        "valueCodeableConcept": {**concept(finding.code), "text": finding.label},
        "component": _components(finding),
    }
    if context.job.finished_at is not None:
        resource["issued"] = context.job.finished_at.isoformat(timespec="milliseconds")
    if finding.site is not None:
        resource["bodySite"] = _site(finding.site, finding.laterality)
    return resource


def _components(finding: Finding) -> list[Resource]:
    told: list[Resource] = [
        {"code": concept(PRESENCE), "valueCodeableConcept": concept(PRESENCE_VALUES[finding.presence])}
    ]
    if finding.confidence is not None:
        told.append({"code": concept(CERTAINTY), "valueQuantity": _quantity(100 * finding.confidence, "%", "%")})
    for key, measure in MEASURES.items():
        if key in finding.measurements:
            value = _quantity(finding.measurements[key], measure.unit, measure.shown)
            told.append({"code": concept(measure.code), "valueQuantity": value})
    return told


def _quantity(value: float, unit: str, shown: str) -> Resource:
    return {"value": round(value, 2), "unit": shown, "system": UCUM, "code": unit}


def _site(site: Code, laterality: Code | None) -> Resource:
    """Return a place and its side; R4 has one CodeableConcept for both."""
    if laterality is None:
        return concept(site)
    both = [concept(code)["coding"][0] for code in (site, laterality)]
    return {"coding": both, "text": f"{site.meaning}, {laterality.meaning.lower()}"}
