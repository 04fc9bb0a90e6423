"""The log of requests: one line each, with the route instead of the path, which may name anything."""

import logging
from collections.abc import MutableMapping
from time import monotonic
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.web.problems import problem_of_fault

logger = logging.getLogger(__name__)

NO_ROUTE = "none"
# Asked every few seconds by whoever watches the node.
QUIET_ROUTES = frozenset({"/healthz", "/metrics", "/readyz"})


class AccessLog:
    """Writes the line of each request when it is over; the outer edge of the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_s, told = monotonic(), _Answer(send)
        try:
            await self._app(scope, receive, told.send)
        except Exception as exc:  # the outer edge: a fault of ours ends one request and no more
            if told.status is None:
                await problem_of_fault(exc)(scope, receive, told.send)
            else:
                # Half an answer is out; whoever hears it must see that it is cut.
                raise
        finally:
            _log(scope, told, monotonic() - begun_s)


class _Answer:
    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.sent_bytes = 0

    async def send(self, message: Message) -> None:
        """Pass `message` on, and take note of it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.sent_bytes += len(message.get("body", b""))
        await self._send(message)


def _log(scope: MutableMapping[str, Any], told: _Answer, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", NO_ROUTE)
    level = logging.DEBUG if route in QUIET_ROUTES else logging.INFO
    peer = (scope.get("client") or ("",))[0]
    said = {"method": scope["method"], "route": route, "status": told.status, "peer": peer}
    logger.log(level, "request served", extra={**said, "bytes": told.sent_bytes, "seconds": round(seconds, 3)})
