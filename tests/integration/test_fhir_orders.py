"""A RIS creates orders by FHIR over HTTP; what is answered are resources, and what is refused is named by its path."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.servicerequest import ServiceRequest
from fhir.resources.R4B.task import Task

from node.domain.account import Right
from node.domain.imaging_order import OrderState
from node.domain.job import Priority
from node.ledger.imaging_orders import OrderLedger
from tests.websites import Website, website

FHIR = {"Content-Type": "application/fhir+json"}
TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"


def number(kind: str, value: str) -> dict[str, Any]:
    return {"type": {"coding": [{"system": TYPES, "code": kind}]}, "system": f"urn:hosp:{kind}", "value": value}


PATIENT = {"resourceType": "Patient", "id": "pat", "identifier": [number("SS", "999"), number("MR", "P1")]}
ORDER: dict[str, Any] = {
    "resourceType": "ServiceRequest",
    "identifier": [
        number("PLAC", "PL1"),
        number("ACSN", "A1"),
        {"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.99.5"},
    ],
    "status": "active",
    "intent": "order",
    "priority": "stat",
    "code": {"coding": [{"system": "http://loinc.org", "code": "24627-2"}], "text": "CT chest"},
    "subject": {"reference": "#pat"},
    "requester": {"display": "Doctor Who"},
    "occurrenceDateTime": "2025-01-14T12:00:00+01:00",
    "contained": [PATIENT],
}
TASK: dict[str, Any] = {
    "resourceType": "Task",
    "identifier": [{"system": "urn:hosp:task", "value": "T1"}],
    "status": "requested",
    "intent": "order",
    "priority": "asap",
    "for": {"identifier": {"value": "P1"}},
    "focus": {"type": "ServiceRequest", "identifier": number("ACSN", "A7")},
}


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def quiet_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    """A site at which nothing is taken."""
    with website(tmp_path_factory.mktemp("quiet")) as running:
        yield running


def post(site: Website, path: str, resource: object) -> tuple[int, dict[str, Any], str]:
    response, body = site.ask("POST", path, body=json.dumps(resource).encode(), headers=FHIR)
    return response.status, json.loads(body), response.headers.get("Location", "")


def orders_of(site: Website) -> Any:
    return OrderLedger(site.services.engine).list_orders(10)


def test_a_service_request_is_taken_and_given_back(site: Website) -> None:
    ServiceRequest.model_validate(ORDER)
    status, created, location = post(site, "/fhir/ServiceRequest", ORDER)
    assert status == 201
    ServiceRequest.model_validate(created)
    response, body = site.ask("GET", location)
    assert (response.status, json.loads(body)) == (200, {**ORDER, "id": created["id"]})
    assert response.headers["Content-Type"] == "application/fhir+json"
    (order,) = orders_of(site)
    assert (order.accession_number, order.study_instance_uid) == ("A1", "1.2.840.99.5")
    assert (order.patient_id, order.patient_id_issuer) == ("P1", "urn:hosp:MR")
    assert (order.priority, order.procedure_codes) == (Priority.STAT, ("LN:24627-2",))
    assert (order.requested_by, order.procedure_text) == ("Doctor Who", "CT chest")
    assert order.scheduled_at is not None


def test_the_same_order_again_changes_it(site: Website) -> None:
    _, _, first = post(site, "/fhir/ServiceRequest", ORDER)
    _, _, second = post(site, "/fhir/ServiceRequest", {**ORDER, "status": "revoked"})
    assert first == second
    (order,) = orders_of(site)
    assert order.state is OrderState.CANCELED


def test_a_task_is_taken(site: Website) -> None:
    Task.model_validate(TASK)
    status, created, location = post(site, "/fhir/Task", TASK)
    assert status == 201
    Task.model_validate(created)
    assert site.ask("GET", location)[0].status == 200
    assert site.ask("GET", location.replace("Task", "ServiceRequest"))[0].status == 404
    (order,) = orders_of(site)
    assert (order.accession_number, order.priority) == ("A7", Priority.HIGH)


@pytest.mark.parametrize("kind", ["transaction", "collection"])
def test_a_bundle_with_its_patient_is_taken_as_a_whole(site: Website, kind: str) -> None:
    request = {**{key: ORDER[key] for key in ORDER if key != "contained"}, "subject": {"reference": "urn:uuid:1"}}
    entries: list[dict[str, Any]] = [
        {"fullUrl": "urn:uuid:1", "resource": PATIENT},
        {"fullUrl": "urn:uuid:2", "resource": request},
        {"resource": {**TASK, "focus": {"reference": "urn:uuid:2"}}},
    ]
    if kind == "transaction":
        entries = [{**one, "request": {"method": "POST", "url": one["resource"]["resourceType"]}} for one in entries]
    bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
    Bundle.model_validate(bundle)
    status, answer, _ = post(site, "/fhir", bundle)
    assert status == 200
    Bundle.model_validate(answer)
    assert {order.accession_number for order in orders_of(site)} == {"A1"}
    entries[2]["resource"] = {**TASK, "status": "wrong", "identifier": [number("ACSN", "A8")]}
    status, answer, _ = post(site, "/fhir", bundle)
    assert (status, answer["issue"][0]["expression"]) == (422, ["Bundle.entry[2].resource.status"])
    assert {order.accession_number for order in orders_of(site)} == {"A1"}


@pytest.mark.parametrize(
    ("changes", "expression", "code"),
    [
        ({"resourceType": "Patient"}, "resourceType", "not-supported"),
        ({"status": "wanted"}, "ServiceRequest.status", "value"),
        ({"status": ""}, "ServiceRequest.status", "required"),
        ({"identifier": []}, "ServiceRequest.identifier", "required"),
        ({"identifier": "PL1"}, "ServiceRequest.identifier", "structure"),
        ({"identifier": [number("PLAC", "PL1")]}, "ServiceRequest.identifier", "required"),
        ({"identifier": [{"system": "urn:dicom:uid", "value": "x"}]}, "ServiceRequest.identifier[0].value", "value"),
        ({"identifier": [number("ACSN", "A" * 65)]}, "ServiceRequest.identifier[0].value", "value"),
        ({"subject": {"reference": "Patient/9"}}, "ServiceRequest.subject", "required"),
        ({"priority": "now"}, "ServiceRequest.priority", "value"),
        ({"occurrenceDateTime": "soon"}, "ServiceRequest.occurrenceDateTime", "value"),
        ({"code": []}, "ServiceRequest.code", "structure"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(
    quiet_site: Website, changes: dict[str, Any], expression: str, code: str
) -> None:
    status, outcome, _ = post(quiet_site, "/fhir/ServiceRequest", {**ORDER, **changes})
    OperationOutcome.model_validate(outcome)
    (issue,) = outcome["issue"]
    assert (status, issue["expression"], issue["code"]) == (422, [expression], code)
    assert orders_of(quiet_site) == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/fhir+json", 422),
        (b"[]", "application/fhir+json", 422),
        (b"{}", "application/fhir+json", 422),
        (b"[" * 100_000, "application/fhir+json", 422),
        (b'{"resourceType": "ServiceRequest", "x": NaN}', "application/fhir+json", 422),
        (b"<ServiceRequest/>", "application/fhir+xml", 415),
        (b" " * (4 * 1024 * 1024 + 1), "application/fhir+json", 413),
    ],
)
def test_what_is_no_resource_is_refused(quiet_site: Website, body: bytes, kind: str, status: int) -> None:
    response, answer = quiet_site.ask("POST", "/fhir/ServiceRequest", body=body, headers={"Content-Type": kind})
    assert response.status == status
    OperationOutcome.model_validate(json.loads(answer))


def test_what_the_service_does_is_told(quiet_site: Website) -> None:
    response, body = quiet_site.ask("GET", "/fhir/metadata")
    assert response.status == 200
    CapabilityStatement.model_validate(json.loads(body))


def test_who_may_not_store_creates_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    with website(tmp_path_factory.mktemp("readers"), rights=frozenset({Right.READ})) as site:
        status, _, _ = post(site, "/fhir/ServiceRequest", ORDER)
        assert status == 403
        assert orders_of(site) == []
    with website(tmp_path_factory.mktemp("nobody"), rights=frozenset()) as site:
        assert post(site, "/fhir/ServiceRequest", ORDER)[0] == 401
