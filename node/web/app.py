"""The web application: every router under its errors, its log, and its rights."""

from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from node.version import product_version
from node.web import (
    deletion,
    fhir,
    figures,
    frames,
    health,
    live,
    qido,
    stow,
    viewer,
    viewing,
    wado,
    workitem_channel,
    workitems,
)
from node.web.access import AccessLog
from node.web.api import rooms as api
from node.web.console import (
    about,
    audit,
    destinations,
    feedback,
    flow,
    login,
    models,
    provider_login,
    rules,
    settings,
    static_files,
    study,
    study_orders,
    worklist,
)
from node.web.console.page import Pages
from node.web.console.problem import ProblemPages
from node.web.edge import HeadAsGet, HostGuard, Manners, NetworkGuard, ProxySpeaksTls
from node.web.forgery import ForgeryGuard
from node.web.places import DICOM_WEB
from node.web.problems import install_problems
from node.web.services import Services

# Each has `router(services)`; a path belongs to the first that knows it.
ROOMS = (
    health,
    api,
    figures,
    stow,
    qido,
    wado,
    deletion,
    workitems,
    workitem_channel,
    fhir,
    frames,
    viewing,
    viewer,
    login,
    provider_login,
    worklist,
    live,
    static_files,
    study,
    study_orders,
    feedback,
    flow,
    destinations,
    models,
    rules,
    audit,
    settings,
    about,
)

# Any path does.
HOME = "/"
# Forms of people who are not logged in yet.
WITHOUT_SESSION = ("/login", "/welcome/")


def create_app(services: Services) -> FastAPI:
    """Return the application that serves everything over HTTP."""
    app = FastAPI(title="radnode", version=product_version(), docs_url=None, redoc_url=None, openapi_url=None)
    web = services.settings.web
    app.state.doorkeeper = services.doorkeeper
    install_problems(app)
    for room in ROOMS:
        app.include_router(room.router(services))
    for route in app.routes:
        # FastAPI puts a router together when the first request comes by, which would wait for all of them.
        route.matches({"type": "http", "method": "GET", "path": HOME, "root_path": "", "headers": []})
    # The last one is the outermost.
    app.add_middleware(HeadAsGet)
    app.add_middleware(ForgeryGuard, without_session=WITHOUT_SESSION)
    app.add_middleware(HostGuard, names=(web.bind, *web.hosts))
    if web.behind_proxy:
        app.add_middleware(NetworkGuard, networks=services.settings.security.allowed_networks)
    app.add_middleware(AccessLog)
    app.add_middleware(ProblemPages, pages=Pages(services))
    app.add_middleware(Manners, prefix=DICOM_WEB, body_s=services.settings.node.dimse_timeout_s)
    if web.behind_proxy:
        app.add_middleware(ProxySpeaksTls)
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=[str(one) for one in web.trusted_proxies])
    return app
