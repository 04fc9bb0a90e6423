"""The metrics, on the one HTTP port."""

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from node.metrics.exposition import CONTENT_TYPE, render_metrics
from node.web.rights import Right, authorize
from node.web.services import Services

PATH = "/metrics"


def router(services: Services) -> APIRouter:
    """Return ``/metrics``, for whoever may read."""
    routes = APIRouter(dependencies=[Depends(authorize(Right.READ))])

    @routes.get(PATH)
    def metrics() -> Response:
        body = render_metrics(services.settings, services.engine)
        return Response(body, media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

    return routes
