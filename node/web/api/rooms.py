"""The API under one roof: its routes, their description, and what is told of methods that a path has not."""

import json
from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from node.web.api import (
    accounts,
    audit,
    deliveries,
    destinations,
    events,
    jobs,
    models,
    node_facts,
    pipelines,
    pulls,
    results,
    reviews,
    rules,
    studies,
)
from node.web.api.conduct import JSON, ApiRoute, Reader
from node.web.api.contract import allowed_methods, describe
from node.web.services import Services

PREFIX = "/api/v1"
# Each has `router(services)`; its paths begin behind the prefix.
ROOMS = (
    studies,
    jobs,
    reviews,
    results,
    deliveries,
    destinations,
    pulls,
    rules,
    models,
    pipelines,
    events,
    audit,
    accounts,
    node_facts,
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"})
METHOD_NOT_ALLOWED = 405


def router(services: Services) -> APIRouter:
    """Return ``/api/v1/…``."""
    routes = APIRouter(prefix=PREFIX, route_class=ApiRoute)
    for room in ROOMS:
        routes.include_router(room.router(services))
    document = describe(routes)
    content = json.dumps(document, ensure_ascii=False).encode()

    @routes.get("/openapi.json", include_in_schema=False)
    def description(_reader: Reader) -> Response:
        return Response(content, media_type=JSON)

    for path, methods in allowed_methods(document).items():
        others, below = sorted(METHODS - methods), path.removeprefix(PREFIX)
        refuse = _refuse(sorted(methods))
        # Its body is nobody's business.
        routes.add_api_route(below, refuse, methods=others, include_in_schema=False, route_class_override=APIRoute)
    return routes


def _refuse(methods: list[str]) -> Callable[[Request], Response]:
    # Two operations on one path are two routes, of which each knows its own method only.
    def refuse(_request: Request) -> Response:
        raise HTTPException(METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(methods)})

    return refuse
