"""Style sheets, scripts and pictures of the console."""

from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from node.web.console.page import STATIC
from node.web.services import Services

# The URL changes with the content.
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


def router(_services: Services) -> APIRouter:
    """Return ``/static/…``; who asks needs no right."""
    routes = APIRouter()
    names = frozenset(path.name for path in STATIC.iterdir())

    @routes.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in names:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        return FileResponse(STATIC / name, headers=FOREVER)

    return routes
