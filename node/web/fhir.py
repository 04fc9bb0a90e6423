"""FHIR R4 in: orders of a RIS or HIS are created here, and read back as they were given."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request, Response

from node.errors import MediaTypeNotSupported, NodeError, NotFound, ResourceRefused, TooLarge, Transient
from node.fhir.coding import Resource
from node.fhir.service_request import BUNDLE, KINDS, SERVICE_REQUEST, TASK, read_given, read_json
from node.ledger.imaging_orders import OrderLedger, Told
from node.version import product_version
from node.web.body import Basket, Body
from node.web.problems import RETRY_AFTER_S
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

FHIR_JSON = "application/fhir+json"
MEDIA_TYPES = frozenset({FHIR_JSON, "application/json", ""})
FHIR_VERSION = "4.0.1"
PREFIX = "/fhir"
MAX_BYTES = 4 * 1024 * 1024
# As many requests are worked on at a time.
MAX_WRITERS = 4
# FHIR issue types of errors that are not about an element.
ISSUES: Mapping[type[NodeError], str] = {TooLarge: "too-long", NotFound: "not-found", Transient: "transient"}

Writer = Annotated[Visitor, Depends(authorize(Right.STORE))]
Reader = Annotated[Visitor, Depends(authorize(Right.READ))]


def router(services: Services) -> APIRouter:
    """Return the routes of FHIR."""
    routes, clerk = APIRouter(prefix=PREFIX), Clerk(services)

    @routes.get("/metadata")
    def tell_capabilities(_: Reader) -> Response:
        return _fhir(_capabilities(services), HTTPStatus.OK)

    @routes.post("")
    async def take_bundle(request: Request, _: Writer) -> Response:
        return await clerk.take(request, (BUNDLE,))

    @routes.post("/Bundle")
    async def keep_bundle(request: Request, _: Writer) -> Response:
        return await clerk.take(request, (BUNDLE,))

    @routes.post("/ServiceRequest")
    async def take_service_request(request: Request, _: Writer) -> Response:
        return await clerk.take(request, (SERVICE_REQUEST,))

    @routes.post("/Task")
    async def take_task(request: Request, _: Writer) -> Response:
        return await clerk.take(request, (TASK,))

    @routes.get("/ServiceRequest/{resource}")
    def read_service_request(resource: str, _: Reader) -> Response:
        return clerk.read(resource, SERVICE_REQUEST)

    @routes.get("/Task/{resource}")
    def read_task(resource: str, _: Reader) -> Response:
        return clerk.read(resource, TASK)

    return routes


class Clerk:
    """Takes orders, and gives them back."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ledger = OrderLedger(services.engine)
        self._limiter = CapacityLimiter(MAX_WRITERS)

    async def take(self, request: Request, wanted: Sequence[str]) -> Response:
        """Return the answer to a request that creates, after what it creates is durable."""
        body = Body(request, silence_s=self._services.settings.node.dimse_timeout_s, limiter=self._limiter)
        try:
            _check_media_type(request)
            basket = Basket(MAX_BYTES)
            await body.pour(basket.put)
            return await run_sync(self._keep, bytes(basket.content), wanted, limiter=self._limiter)
        except NodeError as exc:
            await body.drain()
            return outcome_of(exc)

    def read(self, resource_id: str, kind: str) -> Response:
        """Return a resource as it was given, under the id that it got here."""
        try:
            found = self._ledger.read_resource(resource_id, kind)
        except NodeError as exc:
            return outcome_of(exc)
        return _fhir({**found, "id": resource_id}, HTTPStatus.OK)

    def _keep(self, encoded: bytes, wanted: Sequence[str]) -> Response:
        resource = read_json(encoded)
        given = read_given(resource, wanted)
        told = Told(
            orders=tuple(one.order for one in given),
            resources=tuple(json.dumps(one.resource, ensure_ascii=False) for one in given),
        )
        ids = [one.resource_id for one in self._ledger.record(told, now=self._services.clock())]
        kept = [(one.resource["resourceType"], resource_id) for one, resource_id in zip(given, ids, strict=True)]
        if resource["resourceType"] != BUNDLE:
            ((kind, resource_id),) = kept
            location = {"Location": f"{PREFIX}/{kind}/{resource_id}"}
            return _fhir({**given[0].resource, "id": resource_id}, HTTPStatus.CREATED, location)
        entries = [{"response": {"status": "201 Created", "location": f"{kind}/{one}"}} for kind, one in kept]
        answer = {"resourceType": BUNDLE, "type": "transaction-response", "entry": entries}
        return _fhir(answer, HTTPStatus.OK)


def outcome_of(exc: NodeError) -> Response:
    """Return an error as OperationOutcome."""
    kind = next((issue for error, issue in ISSUES.items() if isinstance(exc, error)), "processing")
    issue: Resource = {
        "severity": "error",
        "code": exc.kind if isinstance(exc, ResourceRefused) else kind,
        "details": {"text": exc.code},
        "diagnostics": str(exc),
    }
    if isinstance(exc, ResourceRefused) and exc.expression:
        issue["expression"] = [exc.expression]
    headers = {"Retry-After": str(RETRY_AFTER_S)} if isinstance(exc, Transient) else {}
    return _fhir({"resourceType": "OperationOutcome", "issue": [issue]}, exc.http_status, headers)


def _check_media_type(request: Request) -> None:
    name = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if name not in MEDIA_TYPES:
        raise MediaTypeNotSupported(f"the node reads {FHIR_JSON}; correct the client")


def _fhir(content: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    encoded = json.dumps(content, ensure_ascii=False).encode()
    return Response(encoded, status_code=status, headers=dict(headers or {}), media_type=FHIR_JSON)


def _capabilities(services: Services) -> Resource:
    interactions = [{"code": "create"}, {"code": "read"}]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": services.clock().isoformat(timespec="seconds"),
        "kind": "instance",
        "software": {"name": "radnode", "version": product_version()},
        "implementation": {"description": "Orders for images in"},
        "fhirVersion": FHIR_VERSION,
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "resource": [{"type": kind, "interaction": interactions} for kind in KINDS],
                "interaction": [{"code": "transaction"}],
            }
        ],
    }
