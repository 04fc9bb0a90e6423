"""An answer as FHIR R4 transaction: told twice, it is there once, and corrected in its place.

What radnode says is updated by its identifier; what belongs to others (Patient, ImagingStudy) is created where it is
absent, and left as it is where it is there.
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from node.domain.answer import UNVERIFIED, Answer, AnswerState, ToldFinding
from node.domain.finding import Presence
from node.domain.job import Priority
from node.fhir.coding import Resource, full_url, reference
from node.fhir.diagnostic_report import build_device, build_report
from node.fhir.imaging_study import accession_identifier, build_imaging_study
from node.fhir.naming import resource_id
from node.fhir.observation import Context, build_observation
from node.fhir.patient import build_patient

URI_SYSTEM = "urn:ietf:rfc:3986"
NUMBER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
ABNORMAL, VERY_ABNORMAL = ("A", "Abnormal"), ("AA", "Critical abnormal")
# Codes of http://hl7.org/fhir/request-priority.
PRIORITIES: Mapping[Priority, str] = {
    Priority.STAT: "stat",
    Priority.HIGH: "urgent",
    Priority.ROUTINE: "routine",
    Priority.LOW: "routine",
}
WITHDRAWN = "entered-in-error"
STATUSES: Mapping[AnswerState, str] = {
    AnswerState.FIRST: "preliminary",
    AnswerState.CORRECTED: "amended",
    AnswerState.TAKEN_BACK: WITHDRAWN,
    AnswerState.MISPLACED: WITHDRAWN,
}
# Signs that mean something in the value of a search by token (FHIR R4 search 3.1.1.4.1).
SIGNS = re.compile(r"([\\,|$])")


def build_transaction(answer: Answer) -> Resource:
    """Return the Bundle (type transaction) that tells how an answer stands; the same answer gives the same one.

    References
    ----------
    FHIR R4 http 3.1.0.11 (transaction), 3.1.0.8.1 (conditional create), 3.1.0.4.3 (conditional update)
    """
    patient = _find_patient(answer)
    imaging_study = build_imaging_study(answer.study, answer.results, patient=patient)
    device = _named(build_device(answer.job))
    context = Context(job=answer.job, patient=patient, imaging_study=imaging_study, device=device)
    standing = [_observe(one, answer, context) for one in answer.findings]
    withdrawn = [{**_observe(one, answer, context), "status": WITHDRAWN} for one in answer.withdrawn]
    report = _report(answer, context, standing)
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            *(_create(one) for one in (patient, imaging_study, device)),
            *(_update(one) for one in (*standing, *withdrawn, report)),
        ],
    }


def _find_patient(answer: Answer) -> Resource:
    """Return the Patient; one without a number is that of the Study alone."""
    patient = build_patient(answer.study.attributes)
    if "identifier" in patient:
        return patient
    return _named({**patient, "id": resource_id("Patient of", answer.study.study_instance_uid)})


def _observe(one: ToldFinding, answer: Answer, context: Context) -> Resource:
    """Return the Observation of a finding, under the name that its place has."""
    resource = {
        **build_observation(one.finding, context),
        "id": resource_id("Observation", *answer.key, str(one.place)),
        "status": STATUSES[answer.state],
        "issued": answer.since.isoformat(timespec="milliseconds"),
    }
    if one.finding.presence is Presence.PRESENT:
        code, display = VERY_ABNORMAL if answer.is_urged else ABNORMAL
        coding = {"system": INTERPRETATION, "code": code, "display": display}
        resource["interpretation"] = [{"coding": [coding]}]
    return _named(resource)


def _report(answer: Answer, context: Context, observations: Sequence[Resource]) -> Resource:
    told = build_report(answer.study, context, observations, answer.results)
    objects = told.pop("identifier")
    named = _named({**told, "id": resource_id("DiagnosticReport", *answer.key)})
    return {
        **named,
        "identifier": [*named["identifier"], *objects],
        "status": STATUSES[answer.state],
        "issued": answer.since.isoformat(timespec="milliseconds"),
        "conclusion": " ".join((UNVERIFIED, *answer.conclude())),
        "contained": [_request(answer, context.patient)],
        "basedOn": [{"reference": "#order", "type": "ServiceRequest"}],
    }


def _request(answer: Answer, patient: Resource) -> Resource:
    """Return the order, as urgent as the Study is now; who has it himself finds it by its numbers."""
    order = answer.order
    numbers = [accession_identifier(answer.accession_number)] if answer.accession_number else []
    if order is not None:
        kinds = (("PLAC", order.placer_order_number), ("FILL", order.filler_order_number))
        numbers += [
            {"type": {"coding": [{"system": NUMBER_TYPES, "code": kind}]}, "value": value}
            for kind, value in kinds
            if value
        ]
    resource: Resource = {
        "resourceType": "ServiceRequest",
        "id": "order",
        "status": "active",
        "intent": "order",
        "priority": PRIORITIES[answer.priority],
        "subject": reference(patient),
    }
    return {**resource, "identifier": numbers} if numbers else resource


def _named(resource: Resource) -> Resource:
    """Return a resource with its id as identifier, by which it is found again."""
    return {**resource, "identifier": [{"system": URI_SYSTEM, "value": full_url(resource)}]}


def _create(resource: Resource) -> Resource:
    """Return the entry that creates a resource unless there is one of its first identifier."""
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": _search(resource)}
    return _entry(resource, request)


def _update(resource: Resource) -> Resource:
    """Return the entry that creates a resource, or updates the one of its first identifier."""
    return _entry(resource, {"method": "PUT", "url": f"{resource['resourceType']}?{_search(resource)}"})


def _entry(resource: Resource, request: Resource) -> Resource:
    # The server gives ids; by one of ours it would have to allow that clients do.
    content = {key: value for key, value in resource.items() if key != "id"}
    return {"fullUrl": full_url(resource), "resource": content, "request": request}


def _search(resource: Resource) -> str:
    first = resource["identifier"][0]
    parts = [SIGNS.sub(r"\\\1", first[key]) for key in ("system", "value") if key in first]
    return "identifier=" + "|".join(quote(part, safe=":/") for part in parts)
