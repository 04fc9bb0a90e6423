"""Errors as pages: what a person who follows a link is told in place of problem+json."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.web.console.page import Pages
from node.web.problems import FOR_PROGRAMS, PROBLEM_JSON

HTML = "text/html"
# Of the problem, that go with the page, too.
KEPT = ("retry-after", "allow", "connection")


class ProblemPages:
    """Turns the problem that a person would be shown into a page; programs get what they had."""

    def __init__(self, app: ASGIApp, *, pages: Pages) -> None:
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _is_for_person(scope):
            await self._app(scope, receive, send)
            return
        problem: list[Message] = []

        async def send_page(message: Message) -> None:
            if message["type"] == "http.response.start":
                if Headers(raw=message["headers"]).get("content-type", "").startswith(PROBLEM_JSON):
                    problem.append(message)
                    return
            elif problem:
                problem.append(message)
                if not message.get("more_body", False):
                    await self._answer(scope, receive, send, problem)
                return
            await send(message)

        await self._app(scope, receive, send_page)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, problem: list[Message]) -> None:
        start, *parts = problem
        told: Mapping[str, Any] = json.loads(b"".join(part.get("body", b"") for part in parts) or b"{}")
        page = self._pages.render(Request(scope), None, "problem.html", status=start["status"], problem=told)
        headers = Headers(raw=start["headers"])
        for name in KEPT:
            if name in headers:
                page.headers[name] = headers[name]
        await page(scope, receive, send)


def _is_for_person(scope: Scope) -> bool:
    """Return whether a browser follows a link, and nothing that programs are for."""
    accept = Headers(scope=scope).get("accept", "")
    return HTML in accept and not str(scope["path"]).startswith(FOR_PROGRAMS)
