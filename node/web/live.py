"""The event stream of the console: that something changed, and nothing of what (HTML Standard 9.2)."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response, StreamingResponse

from node.ledger.changes import ChangeLedger
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

RETRY_AFTER_S = 30
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}


def router(services: Services) -> APIRouter:
    """Return ``/live``."""
    routes, changes = APIRouter(), ChangeLedger(services.engine)
    audience = services.audience

    @routes.get("/live")
    async def live(visitor: Annotated[Visitor, Depends(authorize(Right.READ, is_use=False))]) -> Response:
        listener = audience.join(changes.sign, visitor=visitor.name)
        if listener is None:
            return Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": str(RETRY_AFTER_S)})
        return StreamingResponse(audience.tell(listener), media_type="text/event-stream", headers=HEADERS)

    return routes
