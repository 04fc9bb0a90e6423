"""The description of the API (OpenAPI 3.1), made of its routes; what FastAPI does not know of them stands here."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRouter

from node.domain.account import Right
from node.version import product_version
from node.web.api.examples import EXAMPLES
from node.web.problems import PROBLEM_JSON

SESSION, TOKEN = "session", "token"
# Whatever is asked for, it may end in one of these.
ALWAYS = (400, 401, 403, 421, 503)
WITH_BODY = (413, 415)
PROBLEM = {"$ref": "#/components/schemas/Problem"}
TAGS = (
    ("studies", "What came in, and what became of it."),
    ("jobs", "What runs, ran, or will run: one Pipeline on the Series that it needs of one Study."),
    ("reviews", "What radiologists say of findings."),
    ("results", "DICOM objects that Jobs wrote."),
    ("deliveries", "Objects on their way to Destinations."),
    ("destinations", "Where Results go, and what is taken there."),
    ("pulls", "Studies that are fetched from a PACS."),
    ("rules", "Which Pipeline runs on what, and why."),
    ("models", "The models at hand."),
    ("pipelines", "Which are on, in shadow, or off."),
    ("events", "What happened, and what is wrong now."),
    ("audit", "Who did what to whose Studies (PS3.15 A.5)."),
    ("accounts", "Who may come in: users, and tokens of programs."),
    ("node", "This node: its version and settings."),
)
ABOUT = """What the command line of radnode can do with a node that runs, for programs; see docs/api.md.

Every error is problem+json (RFC 9457); its `code` is stable and stands in docs/errors.md. Lists are read page by page:
follow `next`. Whatever GET tells has an `ETag`. What changes something is sent as JSON, and, with a session instead of
a token, with the header `X-CSRF-Token`."""
PROBLEM_SCHEMA = {
    "type": "object",
    "title": "Problem",
    "description": "What was refused, and why (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "URN of the kind of error."},
        "title": {"type": "string", "description": "What this kind of error is."},
        "status": {"type": "integer", "description": "HTTP status."},
        "detail": {"type": "string", "description": "What was expected, what was found, what to do."},
        "code": {"type": "string", "description": "Stable; see docs/errors.md."},
    },
}
SCHEMES = {
    TOKEN: {"type": "http", "scheme": "bearer", "description": "A token of `radnode tokens add`."},
    SESSION: {
        "type": "apiKey",
        "in": "cookie",
        "name": "radnode",
        "description": "The cookie of a login; over TLS its name is __Host-radnode.",
    },
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "Entity tags that the client has; 304 where one of them is that of the present content.",
    "schema": {"type": "string"},
}
ETAG = {"description": "Tag of the content (RFC 9110 8.8.3).", "schema": {"type": "string"}}


def told(right: Right, *refusals: int, sheet: bool = False, media_type: str = "") -> dict[str, Any]:
    """Return what the description says of an operation beside its types.

    Parameters
    ----------
    right
        That it needs; whoever writes the operation lets its Visitor show it.
    refusals
        HTTP statuses that it may end in, beside those of every operation.
    sheet
        Whether it tells a table, too.
    media_type
        What it tells where that is no JSON of the types; a JSON object all the same.
    """
    responses: dict[int | str, Any] = {status: _problem(status) for status in sorted({*ALWAYS, *refusals})}
    if sheet:
        responses[200] = {"content": {"text/csv": {"schema": {"type": "string"}}}}
    if media_type:
        responses[200] = {"content": {media_type: {"schema": {"type": "object"}}}}
    return {
        "responses": responses,
        "openapi_extra": {"security": [{TOKEN: [right.value]}, {SESSION: []}], "x-radnode-right": right.value},
    }


def describe(routes: APIRouter) -> dict[str, Any]:
    """Return the description of these routes, the same for the same routes."""
    document = get_openapi(
        title="radnode",
        version=product_version(),
        openapi_version="3.1.0",
        description=ABOUT,
        routes=routes.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    for operations in document["paths"].values():
        for method, operation in operations.items():
            _complete(method, operation)
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, schema in schemas.items():
        _explain(schema)
        if name in EXAMPLES:
            schema["examples"] = [EXAMPLES[name]]
    schemas["Problem"] = PROBLEM_SCHEMA
    document["components"]["securitySchemes"] = SCHEMES
    return document


def _problem(status: int) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, "content": {PROBLEM_JSON: {"schema": PROBLEM}}}


def _complete(method: str, operation: dict[str, Any]) -> None:
    """Say of an operation what holds for all of its kind."""
    responses = operation["responses"]
    # A request that is none is told 400.
    responses.pop("422", None)
    summary, _, rest = operation.pop("description", "").partition("\n")
    operation["summary"] = summary.strip().rstrip(".")
    if rest.strip():
        operation["description"] = rest.strip()
    if method == "get":
        responses["304"] = {"description": HTTPStatus(304).phrase}
        responses["200"]["headers"] = {"ETag": ETAG, **responses["200"].get("headers", {})}
        operation.setdefault("parameters", []).append(IF_NONE_MATCH)
    elif method != "delete":
        responses.update({str(status): _problem(status) for status in WITH_BODY})
    responses["default"] = {"description": "Any other error.", "content": {PROBLEM_JSON: {"schema": PROBLEM}}}
    operation["responses"] = dict(sorted(responses.items()))


def _explain(schema: dict[str, Any]) -> None:
    """Let the sections of a docstring be what they are: what the thing is, and what its members are."""
    text, _, members = schema.get("description", "").partition("\n\nAttributes\n----------\n")
    if text:
        schema["description"] = text
    for names, said in _sections(members.splitlines()):
        for name in names:
            if name in schema.get("properties", {}):
                schema["properties"][name]["description"] = said


def _sections(lines: Sequence[str]) -> list[tuple[list[str], str]]:
    found: list[tuple[list[str], list[str]]] = []
    for line in lines:
        if line and not line.startswith(" "):
            found.append(([name.strip() for name in line.split(",")], []))
        elif found and line.strip():
            found[-1][1].append(line.strip())
    return [(names, " ".join(said)) for names, said in found]


def allowed_methods(document: Mapping[str, Any]) -> Mapping[str, frozenset[str]]:
    """Return which methods each path of a description has; HEAD is answered like GET."""
    return {
        path: frozenset(name.upper() for name in operations) | ({"HEAD"} if "get" in operations else frozenset())
        for path, operations in document["paths"].items()
    }
