"""How every request to the API is read and answered: rights, JSON bodies of bounded size, entity tags."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from node.errors import MediaTypeNotSupported, PreconditionFailed, RequestMalformed, TooLarge
from node.web.body import replay
from node.web.negotiation import parse_media_type
from node.web.payload import NOT_MODIFIED, is_known
from node.web.rights import Right, Visitor, authorize, identify

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

JSON = "application/json"
MAX_BODY_BYTES = 64 * 1024
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
TAG_CHARACTERS = 32
UID = r"^[0-9]+(\.[0-9]+)*$"
JOB = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
# No control characters: PostgreSQL takes no NUL, and none of our names has one.
LINE = r"^[^\x00-\x1f\x7f]*$"

Reader = Annotated[Visitor, Depends(authorize(Right.READ))]
Operator = Annotated[Visitor, Depends(authorize(Right.OPERATE))]
Deleter = Annotated[Visitor, Depends(authorize(Right.DELETE))]
Manager = Annotated[Visitor, Depends(authorize(Right.MANAGE))]

StudyPath = Annotated[str, Path(description="Study Instance UID (0020,000D).", pattern=UID, max_length=64)]
ObjectPath = Annotated[str, Path(description="SOP Instance UID (0008,0018).", pattern=UID, max_length=64)]
JobPath = Annotated[str, Path(description="Id of a Job.", pattern=JOB)]
NamePath = Annotated[str, Path(description="Name in the settings.", pattern=LINE, min_length=1, max_length=64)]


class ApiRoute(APIRoute):
    """One operation.

    What changes something must come as JSON, which no form of another site can send, and is read to its bounded end
    before anything is done. What is told by GET carries the tag of its content, and is not sent to who has it. Nothing
    of a query is asked twice: of two answers, one would have been passed over.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            _require_each_once(request)
            if request.method in WITH_BODY:
                # Nobody whom the node does not know makes it read anything.
                await run_in_threadpool(identify, request)
                request = await _read(request)
            response = await answer(request)
            return _validated(request, response) if request.method == "GET" else response

        return handle


def new_router(tag: str) -> APIRouter:
    """Return a router for operations that the description of the API shows under `tag`."""
    return APIRouter(route_class=ApiRoute, tags=[tag], generate_unique_id_function=lambda route: route.name)


def tag_of(resource: "DataclassInstance") -> str:
    """Return the entity tag of what is told of a thing (RFC 9110 8.8.3)."""
    content = json.dumps(jsonable_encoder(asdict(resource)), sort_keys=True)
    return _tag(content.encode())


def require_match(asked: str | None, tag: str) -> None:
    """Return where a request has no If-Match, or one that names the present state.

    Raises
    ------
    PreconditionFailed
        If it names another one.

    References
    ----------
    RFC 9110 13.1.1
    """
    if asked is None or asked.strip() == "*":
        return
    if tag not in [one.strip() for one in asked.split(",")]:
        raise PreconditionFailed("somebody changed it since you asked for it; look at it again, then order it again")


def _require_each_once(request: Request) -> None:
    if len(request.query_params.multi_items()) > len(request.query_params.keys()):
        raise RequestMalformed("a parameter stands twice in the query; say each once")


async def _read(request: Request) -> Request:
    """Return the same request with its whole body in memory."""
    declared = request.headers.get("content-type", "")
    if declared and parse_media_type(declared).name != JSON:
        raise MediaTypeNotSupported(f"what changes something is sent as {JSON}; say so in Content-Type")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise MediaTypeNotSupported("a body is read without Content-Encoding only; send it as it is")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"the body has more than {MAX_BODY_BYTES} bytes; no order of the API is so long")
    if body and not declared:
        raise MediaTypeNotSupported(f"the body has no Content-Type; say {JSON}")
    return Request(request.scope, replay(bytes(body), request.receive))


def _validated(request: Request, response: Response) -> Response:
    body = getattr(response, "body", None)
    if response.status_code != 200 or body is None:
        return response
    tag = response.headers.setdefault("ETag", _tag(bytes(body)))
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Accept, Authorization, Cookie"
    if not is_known(request, tag):
        return response
    kept = {name: response.headers[name] for name in ("ETag", "Cache-Control", "Vary")}
    return Response(status_code=NOT_MODIFIED, headers=kept)


def _tag(content: bytes) -> str:
    return f'"{sha256(content).hexdigest()[:TAG_CHARACTERS]}"'
