"""No other site may let a browser do something here: where a request comes from, and what its form sends back."""

from collections.abc import Collection
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from node.accounts.doorkeeper import csrf_of
from node.accounts.secret import is_same
from node.errors import ForgedRequest, NodeError, TooLarge
from node.web.body import replay
from node.web.problems import problem_of
from node.web.rights import session_cookie

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# A page of ours, or a person who typed the address.
OWN_SITES = frozenset({"same-origin", "none"})
FORM = "application/x-www-form-urlencoded"
FIELD, HEADER = "csrf", "x-csrf-token"
MAX_FORM_BYTES = 256 * 1024
MAX_FIELDS = 1000


class ForgeryGuard:
    """Refuses what another site lets a browser send; before any route, so that none forgets it.

    A bearer token is never sent by a browser on its own; a request with one passes. Every other one that changes
    something must not come from another site, by what the browser says of it (Sec-Fetch-Site, Origin). If it comes with
    a session, it must show that a page of this session has made it: field ``csrf`` of a form, or ``X-CSRF-Token``.
    A WebSocket is opened for pages of our own site only, and for whoever shows a token.

    Parameters
    ----------
    without_session
        Paths, or beginnings of paths that end with ``/``, whose forms are for people who have no session yet.
    """

    def __init__(self, app: ASGIApp, *, without_session: Collection[str]) -> None:
        self._app = app
        self._without_session = without_session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._open_channel(scope, receive, send)
            return
        request = Request(scope, receive)
        authorization = request.headers.get("authorization", "")
        if request.method in SAFE or authorization.lower().startswith("bearer "):
            await self._app(scope, receive, send)
            return
        try:
            _require_own_site(request.headers)
            secret = session_cookie(request)
            if secret and not authorization and not self._is_without_session(request.url.path):
                receive = await _require_proof(request, receive, csrf_of(secret))
        except NodeError as exc:
            await problem_of(exc)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _open_channel(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open a WebSocket, or refuse it: a browser opens one for any site, and shows its cookies."""
        headers = Headers(scope=scope)
        try:
            if not headers.get("authorization", "").lower().startswith("bearer "):
                _require_own_site(headers)
        except NodeError as exc:
            await problem_of(exc)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_without_session(self, path: str) -> bool:
        return any(path == open_path or (open_path[-1] == "/" and path.startswith(open_path))
                   for open_path in self._without_session)  # fmt: skip


def _require_own_site(headers: Headers) -> None:
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in OWN_SITES:
        raise ForgedRequest("another site sent this; open the page here and send it again")
    if origin is not None and _place_of(origin) != headers.get("host", "").lower():
        raise ForgedRequest("Origin is another site than this one; a proxy in between has to pass Host on")


def _place_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError as exc:
        raise ForgedRequest("Origin is no site; correct the client") from exc


async def _require_proof(request: Request, receive: Receive, wanted: str) -> Receive:
    """Return what gives the body once more to whoever reads it next.

    Raises
    ------
    ForgedRequest
        If the proof is absent, or that of another session.
    TooLarge
        If a form is larger than any page of ours sends.
    """
    shown, again = request.headers.get(HEADER), receive
    if shown is None and request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
        body = await _read_form(receive)
        shown, again = _field_of(body), replay(body, receive)
    if shown is None or not is_same(shown, wanted):
        raise ForgedRequest("this page is of another login than the present one; load it again, then send it")
    return again


async def _read_form(receive: Receive) -> bytes:
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body += message.get("body", b"")
        is_more = message["type"] == "http.request" and message.get("more_body", False)
        if len(body) > MAX_FORM_BYTES:
            raise TooLarge(f"no form of this node is larger than {MAX_FORM_BYTES} bytes")
    return body


def _field_of(body: bytes) -> str | None:
    try:
        fields = parse_qs(body.decode("ascii", "replace"), max_num_fields=MAX_FIELDS)
    except ValueError as exc:
        raise ForgedRequest(f"no form of this node has more than {MAX_FIELDS} fields") from exc
    found = fields.get(FIELD, [])
    return found[0] if len(found) == 1 else None
