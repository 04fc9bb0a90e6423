"""Whether the web process lives, and whether the node can do its work."""

from collections.abc import Callable, Mapping
from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from node.domain.uids import StudyUID
from node.errors import NodeError
from node.web.services import Services

OK = "ok"
RECEIVERS_ABSENT = "receivers-absent"
# Any question does that must read; nobody has such a Study.
NO_STUDY = StudyUID("0")


def router(services: Services) -> APIRouter:
    """Return ``/healthz`` and ``/readyz``."""
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": OK})

    @routes.get("/readyz")
    def readyz() -> JSONResponse:
        checks = _look_at(services)
        is_ready = all(found == OK for found in checks.values())
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse({"status": "ready" if is_ready else "not ready", "checks": checks}, status_code=status)

    return routes


def _look_at(services: Services) -> Mapping[str, str]:
    """Return ``ok`` or the code of what is wrong, for each thing without which nothing is taken in."""
    return {
        "ledger": _judge(lambda: services.view.patient_id(NO_STUDY)),
        "store": _judge(services.store.check_space),
        "receivers": OK if services.are_receivers_ready() else RECEIVERS_ABSENT,
    }


def _judge(check: Callable[[], object]) -> str:
    try:
        check()
    except NodeError as exc:
        return exc.code
    return OK
