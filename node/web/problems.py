"""Every error as problem+json (RFC 9457): what was refused, and why, without traceback and patient values."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response

from node.errors import (
    Broken,
    DecoderDied,
    FileUnreadable,
    NodeError,
    NotAuthenticated,
    NotFound,
    RequestMalformed,
    Transient,
)

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:radnode:error:"
# When one whose request met something that passes by itself should come again.
RETRY_AFTER_S = 30
# Nobody hears it; the log has a name for it (nginx's).
CLIENT_CLOSED_REQUEST = 499
# Nothing below is a page.
FOR_PROGRAMS = ("/dicom-web/", "/api/", "/fhir")
LOGIN = "/login"
REALM = 'realm="radnode"'


class Problem(JSONResponse):
    """The response to a request that failed."""

    media_type = PROBLEM_JSON


def problem_of(exc: NodeError, *, status: int | None = None) -> Problem:
    """Return the response that tells of `exc`.

    Parameters
    ----------
    status
        HTTP status; None: that of the error.
    """
    shown = exc.http_status if status is None else status
    headers = {"Retry-After": str(RETRY_AFTER_S)} if isinstance(exc, Transient) else None
    return _problem(shown, exc.code, _title_of(type(exc)), str(exc), headers)


def install_problems(app: FastAPI) -> None:
    """Let `app` answer every error with a problem."""
    app.add_exception_handler(NodeError, _answer_node_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)


def problem_of_fault(exc: Exception) -> Problem:
    """Return the response that tells of an error which is our fault, and log it with its traceback."""
    kind = type(exc).__name__
    logger.error("request broke the node", exc_info=exc, extra={"error_type": kind})
    return problem_of(Broken(f"{kind}; see the node's log"))


async def _answer_node_error(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, NodeError):
        raise exc
    if isinstance(exc, FileUnreadable | DecoderDied):
        # The ledger knows the Instance, so that these are UIDs; the operator looks at it by them.
        named = {f"{level}_uid": request.path_params.get(level) for level in ("study", "series", "instance")}
        logger.error("instance not read", extra={"reason_code": exc.code, **named})
    logger.info("request refused", extra={"reason_code": exc.code, "status": exc.http_status})
    return _ask_for_login(request, exc) if isinstance(exc, NotAuthenticated) else problem_of(exc)


def _ask_for_login(request: Request, exc: NotAuthenticated) -> Response:
    """Return what leads a person to the login, and tells a program what to show."""
    path = request.url.path
    if "text/html" in request.headers.get("accept", "") and not path.startswith(FOR_PROGRAMS):
        # Without its query, which may name a patient and would stand in the log of every proxy.
        way_back = f"?next={quote(path, safe='/')}" if request.method == "GET" else ""
        return RedirectResponse(LOGIN + way_back, status_code=HTTPStatus.SEE_OTHER)
    problem = problem_of(exc)
    problem.headers.append("WWW-Authenticate", f"Bearer {REALM}")
    if "sec-fetch-mode" not in request.headers:
        # A browser would ask the person, who has no token, and then send what was typed to whoever asks.
        problem.headers.append("WWW-Authenticate", f"Basic {REALM}")
    return problem


async def _answer_invalid(_request: Request, exc: Exception) -> Response:
    if not isinstance(exc, RequestValidationError):
        raise exc
    # What was sent may name a patient; where it stood, and what should have stood there, does not.
    said = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors())
    return problem_of(RequestMalformed(said))


async def _answer_http_error(_request: Request, exc: Exception) -> Response:
    if not isinstance(exc, HTTPException):
        raise exc
    phrase = HTTPStatus(exc.status_code).phrase
    code = phrase.lower().replace(" ", "-")
    title = _title_of(NotFound) if exc.status_code == HTTPStatus.NOT_FOUND else f"{phrase}."
    detail = "there is no such resource; see docs/dicomweb.md and docs/api.md" if code == NotFound.code else phrase
    return _problem(exc.status_code, code, title, detail, exc.headers)


async def _answer_nobody(_request: Request, _exc: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def _problem(status: int, code: str, title: str, detail: str, headers: Mapping[str, str] | None) -> Problem:
    content = {"type": f"{TYPE_PREFIX}{code}", "title": title, "status": status, "detail": detail, "code": code}
    return Problem(content, status_code=status, headers=None if headers is None else dict(headers))


def _title_of(kind: type[NodeError]) -> str:
    return (kind.__doc__ or kind.code).strip().splitlines()[0]
