"""The web application: every router under its errors, its log, and its rights."""

from fastapi import FastAPI

from node.version import product_version
from node.web import frames, health, qido, stow, viewing, wado
from node.web.access import AccessLog
from node.web.console import static_files
from node.web.edge import HeadAsGet, HostGuard, Manners
from node.web.places import DICOM_WEB
from node.web.problems import install_problems
from node.web.services import Services

# Each has `router(services)`; a path belongs to the first that knows it.
ROOMS = (health, stow, qido, wado, frames, viewing, static_files)


def create_app(services: Services) -> FastAPI:
    """Return the application that serves everything over HTTP."""
    app = FastAPI(title="radnode", version=product_version(), docs_url=None, redoc_url=None, openapi_url=None)
    install_problems(app)
    for room in ROOMS:
        app.include_router(room.router(services))
    # The last one is the outermost.
    app.add_middleware(HeadAsGet)
    app.add_middleware(HostGuard, names=(services.settings.web.bind, *services.settings.web.hosts))
    app.add_middleware(AccessLog)
    app.add_middleware(Manners, prefix=DICOM_WEB)
    return app
